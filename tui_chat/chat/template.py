"""Chat templates: untrusted Jinja from a model file or the settings, rendered in a sandbox and within bounds.

The environment is the one that templates of real models are written for: blocks trimmed, loop controls, `tojson` as
plain JSON, `raise_exception`, `strftime_now`, a `{% generation %}` tag, and no error on an undefined name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import jinja2
from jinja2 import meta, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tui_chat.chat.template_budget import (
    ITEM_CHARS,
    MAX_TEXT_CHARS,
    REFUSED_METHODS,
    Budget,
    size_of_method,
    size_of_operation,
    size_of_text,
)
from tui_chat.errors import TemplateError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The most common format, for models that come without a template."""

_FILTERS = frozenset(
    {
        *("abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby"),
        *("int", "items", "last", "length", "lower", "map", "max", "min", "random", "reject", "rejectattr", "reverse"),
        *("safe", "select", "selectattr", "sort", "striptags", "title", "trim", "truncate", "unique", "upper"),
        *("urlencode", "wordcount"),
    }
)
"""Jinja's filters that are there besides our own: those that give no more than they read, or little more."""

_NAME = "<chat template>"


# Filters that no template can name, nor put another in the place of.
_COUNTED, _JOINED, _PAID = "counted!", "joined!", "paid!"

_LISTING = (jinja2.filters.do_sort, jinja2.filters.do_groupby, jinja2.filters.do_unique, jinja2.filters.do_reverse)
"""Filters that may make a list of a text's characters."""


class _RefusedError(Exception):
    """The template called `raise_exception`."""


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's own words for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Counted:
    """An iterable whose every item counts against the budget."""

    def __init__(self, items: Any, budget: Budget) -> None:
        self._items = items
        self._budget = budget

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._budget.step()
            yield item

    def __len__(self) -> int:
        return len(self._items)


class _CodeGenerator(CodeGenerator):
    """Leaves every expression to the rendering, where the budget sees it."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        raise nodes.Impossible


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, in which everything that makes texts or lists is paid for before it is made."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = _CodeGenerator

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[LoopControlExtension, _GenerationTag],
            finalize=self._shown,
        )
        self.budget = Budget()
        own = {
            "format": lambda form, *args, **kwargs: self.call_binop(None, "%", str(form), kwargs or args),
            "join": self._join,
            "replace": self._replace,
            "indent": self._indent,
            "list": lambda items: list(self._items(items)),
            "round": lambda value, precision=0, method="common": jinja2.filters.do_round(
                value, min(max(precision, -30), 30), method
            ),
            "string": lambda value: str(self._shown(value)),
            "tojson": self._tojson,
            _COUNTED: lambda items: _Counted(items, self.budget),
            _JOINED: self._join,
            _PAID: lambda value: self.budget.paid(value),
        }
        kept = {name: self._paid(self.filters[name]) for name in _FILTERS}
        self.filters = {**kept, **own}
        del self.globals["lipsum"]

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.budget.spend(size_of_operation(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)  # the sandbox wraps str.format
        if isinstance(owner, str):
            if __obj.__name__ == "join" and args:
                return self._join(args[0], owner)
            self.budget.spend(size_of_method(owner, __obj.__name__, args, kwargs))
        return self.budget.paid(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in REFUSED_METHODS and super().is_safe_attribute(obj, attr, value)

    def _paid(self, filter_: Callable[..., Any]) -> Callable[..., Any]:
        """The filter, with what it reads and what it gives counted."""

        @functools.wraps(filter_)  # with the marks that say whether it takes the environment first
        def counted(*args: Any, **kwargs: Any) -> Any:
            for arg in (*args, *kwargs.values()):
                if isinstance(arg, str | list | tuple):
                    self.budget.spend(len(arg) * (4 * ITEM_CHARS if filter_ in _LISTING else 1))
            return self.budget.paid(filter_(*args, **kwargs))

        return counted

    def _items(self, items: Any) -> Iterator[Any]:
        if isinstance(items, str):
            self.budget.spend(len(items) * 4 * ITEM_CHARS)
        return iter(_Counted(items, self.budget))

    def _shown(self, value: Any) -> Any:
        self.budget.spend(size_of_text(value))
        return value

    def _join(self, items: Any, between: str = "", attribute: str | None = None) -> str:
        get = jinja2.filters.make_attrgetter(self, attribute) if attribute is not None else None
        texts = [str(self._shown(item if get is None else get(item))) for item in self._items(items)]
        self.budget.spend(len(texts) * len(between))
        return between.join(texts)

    def _replace(self, text: Any, old: Any, new: Any, count: int = -1) -> str:
        self.budget.spend(size_of_method(str(text), "replace", (old, new), {}))
        return str(text).replace(str(old), str(new), count)

    def _indent(self, text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        margin = len(width) if isinstance(width, str) else width
        self.budget.spend(len(text) + (len(text.splitlines()) + 1) * margin)
        return jinja2.filters.do_indent(text, width, first, blank)

    def _tojson(self, value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        known = {name: options[name] for name in ("separators", "sort_keys") if name in options}
        size = size_of_text(value)
        # A control character becomes six; an item has its line, indented as deep as it lies.
        self.budget.spend(6 * size + size * min(size, 100) * (indent or 0))
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
        environment = _Environment()
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        self._environment = environment
        try:
            tree = environment.parse(source, filename=_NAME)
            self.variables: frozenset[str] = frozenset(meta.find_undeclared_variables(tree))
            _add_counters(tree, environment)
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
        self._environment.budget = Budget()
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(variables):
                self._environment.budget.step()
                size += len(part)
                if size > MAX_TEXT_CHARS:
                    raise SecurityError(f"it renders more than {MAX_TEXT_CHARS:,} characters")
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


def _add_counters(tree: nodes.Template, environment: jinja2.Environment) -> None:
    """Make every loop count its steps, and pay for what operators and calls do not: `~` and slices."""

    def through(name: str, node: Any) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)

    for output in tree.find_all(nodes.Output):
        # Plain text is shown like any value: captured in a loop, it can make as much as an expression.
        output.nodes = [
            nodes.Const(part.data, lineno=part.lineno) if isinstance(part, nodes.TemplateData) else part
            for part in output.nodes
        ]
    for loop in tree.find_all(nodes.For):
        loop.iter = through(_COUNTED, loop.iter)
    for joined in list(tree.find_all(nodes.Concat)):
        joined.nodes = [through(_JOINED, nodes.List(joined.nodes, lineno=joined.lineno))]
    for item in list(tree.find_all(nodes.Getitem)):
        if isinstance(item.arg, nodes.Slice):
            item.node = through(_PAID, item.node)
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
