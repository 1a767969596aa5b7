"""Chat templates: untrusted Jinja from a model file or the settings, rendered in a sandbox and within bounds.

The environment is the one that templates of real models are written for: blocks trimmed, loop controls, `tojson` as
plain JSON, `raise_exception`, `strftime_now`, a `{% generation %}` tag, and no error on an undefined name.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tui_chat.errors import TemplateError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The most common format, for models that come without a template."""

MAX_OUTPUT_CHARS = 4_000_000
"""A rendering longer than this is refused, and so is any text built on the way to it."""

MAX_STEPS = 2_000_000
"""Passes through all loops of one rendering together."""

MAX_SECONDS = 5.0
"""Time one rendering may take."""

_MAX_WIDTH = 10_000
_NAME = "<chat template>"


class _RefusedError(Exception):
    """The template called `raise_exception`."""


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's own words for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Budget:
    """What one rendering has used up."""

    def __init__(self) -> None:
        self.steps = 0
        self.deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise SecurityError(f"its loops run more than {MAX_STEPS:,} times")
        if self.steps % 256 == 0 and time.monotonic() > self.deadline:
            raise SecurityError(f"it takes longer than {MAX_SECONDS:g} seconds")


class _Counted:
    """An iterable whose every item counts against the budget."""

    def __init__(self, items: Any, budget: _Budget) -> None:
        self._items = items
        self._budget = budget

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._budget.step()
            yield item

    def __len__(self) -> int:
        return len(self._items)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with bounds on loops, repetitions and concatenations."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            sized, times = (right, left) if isinstance(left, int) else (left, right)
            if isinstance(sized, str | list | tuple) and isinstance(times, int) and len(sized) * times > 100_000:
                raise SecurityError(f"it repeats something {times:,} times")
        if operator == "**" and isinstance(right, int | float) and abs(right) > 64:
            raise SecurityError(f"it computes a power of {right}")
        if operator == "%" and isinstance(left, str):
            _check_widths(left)
        return bounded(super().call_binop(context, operator, left, right))

    def call(self, __context: jinja2.runtime.Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)  # the sandbox wraps str.format
        if isinstance(owner, str):
            if __obj.__name__ in ("format", "format_map"):
                _check_widths(owner)
            if any(isinstance(arg, int) and arg > _MAX_WIDTH for arg in (*args, *kwargs.values())):
                raise SecurityError("it pads a text to an absurd width")
        return bounded(super().call(__context, __obj, *args, **kwargs))


def _check_widths(form: str) -> None:
    """Refuse a format text that asks for padding to more than `_MAX_WIDTH`."""
    if any(int(run) > _MAX_WIDTH for run in re.findall(r"[0-9]{5,}", form)):
        raise SecurityError("it formats a text to an absurd width")


def _format(form: str, *args: Any, **kwargs: Any) -> Any:
    _check_widths(str(form))
    return bounded(str(form) % (kwargs or args))


def bounded(value: Any) -> Any:
    """`value`, unless it is a text, list or number too large to go on with."""
    if isinstance(value, str | list | tuple) and len(value) > MAX_OUTPUT_CHARS:
        raise SecurityError(f"it builds a text of more than {MAX_OUTPUT_CHARS:,} characters")
    if isinstance(value, int) and value.bit_length() > 4096:
        raise SecurityError("it computes an absurd number")
    return value


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    known = {name: options[name] for name in ("separators", "sort_keys") if name in options}
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **known)


def _refuse(message: object) -> None:
    raise _RefusedError(str(message))


@dataclass(frozen=True, slots=True)
class TemplateOrigin:
    """Where a template came from."""

    kind: Literal["settings", "model", "fallback"]
    name: str
    """How to call the source in a sentence: a settings file, a model."""


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: The Jinja text.
        origin: Where it came from; named in errors.
        now: The clock behind `strftime_now`.

    Raises:
        TemplateError: It does not parse; names the line.
    """

    def __init__(
        self, source: str, origin: TemplateOrigin, *, now: Callable[[], datetime] = lambda: datetime.now().astimezone()
    ) -> None:
        self.source = source
        self.origin = origin
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, _GenerationTag]
        )
        environment.filters["tojson"] = _tojson
        environment.filters["bounded"] = bounded
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        environment.filters["format"] = _format
        environment.globals.pop("lipsum", None)
        environment.filters.pop("center", None)  # pads to any width it is told
        self._environment = environment
        try:
            tree = environment.parse(source, filename=_NAME)
            self.variables: frozenset[str] = frozenset(meta.find_undeclared_variables(tree))
            _add_bounds(tree, environment)
            code = environment.compile(tree, filename=_NAME)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"the chat template of {origin.name} does not parse, line {error.lineno}: {error.message}"
            ) from error
        except (jinja2.TemplateError, RecursionError, MemoryError, ValueError) as error:
            raise TemplateError(f"the chat template of {origin.name} does not compile: {error}") from error
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))

    @property
    def single_message(self) -> bool:
        """True for a template of one `{{ message }}`: it shows the last user message and no history."""
        return "message" in self.variables and "messages" not in self.variables

    def render(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        bos_token: str = "",
        eos_token: str = "",
        add_generation_prompt: bool = True,
        enable_thinking: bool | None = None,
    ) -> str:
        """The text the model would see.

        Args:
            messages: Each with `role` and `content`.
            bos_token: Text of the token a prompt begins with.
            eos_token: Text of the token an answer ends with.
            add_generation_prompt: End with the opening of the assistant's turn.
            enable_thinking: Passed on to templates that can switch reasoning; None leaves it to the template.

        Raises:
            TemplateError: The template refused these messages or failed on them; names the line.
        """
        variables: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "bos_token": bos_token,
            "eos_token": eos_token,
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        if enable_thinking is not None:
            variables["enable_thinking"] = enable_thinking
        if self.single_message:
            last = next((message for message in reversed(messages) if message["role"] == "user"), None)
            system = next((message for message in messages if message["role"] == "system"), None)
            variables["message"] = last["content"] if last else ""
            variables["system"] = system["content"] if system else ""
        return self._run(variables)

    def _run(self, variables: dict[str, Any]) -> str:
        budget = _Budget()
        variables["__counted"] = lambda items: _Counted(items, budget)
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(variables):
                budget.step()
                size += len(part)
                if size > MAX_OUTPUT_CHARS:
                    raise SecurityError(f"it renders more than {MAX_OUTPUT_CHARS:,} characters")
                parts.append(part)
        except _RefusedError as error:
            raise TemplateError(f"the chat template of {self.origin.name} refuses these messages: {error}") from error
        except RecursionError as error:
            raise TemplateError(f"the chat template of {self.origin.name} calls itself without end") from error
        except Exception as error:  # foreign code: whatever it raises is its failure
            line = _line(error)
            where = f", line {line}" if line else ""
            raise TemplateError(f"the chat template of {self.origin.name} fails{where}: {error}") from error
        return "".join(parts)


def choose_template(configured: str | None, of_model: str | None, model_name: str) -> ChatTemplate:
    """The configured template, else the model's own, else ChatML; its `origin` says which.

    Raises:
        TemplateError: The one chosen does not parse.
    """
    if configured:
        return ChatTemplate(configured, TemplateOrigin("settings", "the settings (tokenizer.chat_template)"))
    if of_model:
        return ChatTemplate(of_model, TemplateOrigin("model", model_name))
    return ChatTemplate(CHATML, TemplateOrigin("fallback", "ChatML"))


def _add_bounds(tree: nodes.Template, environment: jinja2.Environment) -> None:
    """Make every loop count its steps and every concatenation its length."""
    for loop in tree.find_all(nodes.For):
        counter = nodes.Name("__counted", "load", lineno=loop.lineno)
        loop.iter = nodes.Call(counter, [loop.iter], [], None, None, lineno=loop.iter.lineno)
    for node in list(tree.find_all(nodes.Concat)):
        joined = nodes.Concat(node.nodes, lineno=node.lineno)
        node.nodes = [nodes.Filter(joined, "bounded", [], [], None, None, lineno=node.lineno)]
    tree.set_environment(environment)


def _line(error: BaseException) -> int | None:
    """The line of the template an error came from."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
