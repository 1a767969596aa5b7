"""`tui-chat generate`: one prompt, one answer, on stdout; and the same for text piped into plain `tui-chat`."""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui_chat.cli.inference import LoadedModel, find_model
from tui_chat.cli.options import (
    Command,
    answer_options,
    config_option,
    current_settings,
    educational_option,
    json_option,
    llm_options,
    model_option,
    sampling_options,
)
from tui_chat.display.cells import bar
from tui_chat.display.figures import percent
from tui_chat.display.text import piece_label, visible
from tui_chat.engine.chain import KEPT_BEST
from tui_chat.engine.decoding import THINK_OPEN, split_reasoning
from tui_chat.engine.types import (
    MAX_SEED,
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    SamplingParams,
    TokensGenerated,
    TokenTrace,
)
from tui_chat.errors import CancelledError, EngineError, UsageError
from tui_chat.language import _
from tui_chat.lessons.documents import dump, trace_document

if TYPE_CHECKING:
    from tui_chat.config import LoadedSettings, Settings
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import ModelInfo

_TABLE = "\0table"
"""What `--trace` without a file stands for; no file has this name."""

_BAR_WIDTH = 10
"""Cells of the bar beside a token's probability."""


@click.command("generate", cls=Command)
@click.argument("prompt", required=False)
@click.option("--raw", is_flag=True, help="Continue PROMPT as it stands, without the chat template.")
@click.option("--system", metavar="TEXT", help="System message; default: inference.system.")
@click.option("--ignore-eos", is_flag=True, help="Ban the end-of-generation tokens, so that only the limits end it.")
@click.option(
    "--trace",
    is_flag=False,
    flag_value=_TABLE,
    metavar="[FILE]",
    help="Print the figures of every token below the answer; with FILE, write all that made the answer there, for "
    "'tui-chat replay'.",
)
@click.option(
    "--show-tokens", is_flag=True, help="Print each token as it comes: id, probability, text; then the answer."
)
@json_option
@model_option
@config_option
@answer_options
@sampling_options
@llm_options
@educational_option
def command(
    prompt: str | None,
    raw: bool,
    system: str | None,
    ignore_eos: bool,
    trace: str | None,
    show_tokens: bool,
    as_json: bool,
    model: str | None,
) -> int:
    """Continue or answer PROMPT and print the result; "-" reads it from standard input.

    What the model thinks before its answer is in the JSON only. The seed is there too, so that any answer can be had
    again.
    """
    if prompt is None and trace is not None:
        prompt, trace = trace, _TABLE  # `generate --trace PROMPT`
    if prompt is None or prompt == _TABLE:
        raise UsageError(_("there is no prompt: give some text to continue"))
    loaded = current_settings()
    text = _standard_input() if prompt == "-" else prompt
    if not text:
        raise UsageError(_("the prompt is empty: give some text to continue"))
    seed = _seed(loaded.settings)
    traced = trace is not None or show_tokens or as_json
    build = _request_builder(text, loaded.settings, seed, raw=raw, system=system, ignore_eos=ignore_eos, trace=traced)
    with LoadedModel(find_model(loaded, model), loaded.settings) as llm:
        answer = _Answer(stream=not as_json, raw=raw, show_tokens=show_tokens)
        for event in llm.generate(build):
            answer.take(event)
        if as_json:
            document = llm.run(lambda engine: _document(answer, engine, seed))
            click.echo(dump(document))
        elif trace == _TABLE:
            click.echo(llm.run(lambda engine: _table(answer.tokens, engine)))
        if trace not in (None, _TABLE):
            _save(answer, llm.info, Path(trace or ""))
        if loaded.settings.ui.educational:
            _log(answer, llm.info)
        for note in answer.notes(build.notes):
            click.echo(f"tui-chat: {note}", err=True)
    return answer.exit_code


def answer_piped(text: str, *, loaded: LoadedSettings, model: str | None) -> int:
    """Answer a text on stdout.

    Args:
        text: One user message.
        loaded: The effective settings.
        model: What `--model` says.

    Returns:
        The exit status.
    """
    build = _request_builder(text.rstrip("\n"), loaded.settings, _seed(loaded.settings))
    with LoadedModel(find_model(loaded, model), loaded.settings) as llm:
        answer = _Answer(stream=True)
        for event in llm.generate(build):
            answer.take(event)
        if loaded.settings.ui.educational:
            _log(answer, llm.info)
        for note in answer.notes(build.notes):
            click.echo(f"tui-chat: {note}", err=True)
    return answer.exit_code


class _RequestBuilder:
    """Makes the request on the engine thread; `notes` then says what the template did to the messages."""

    def __init__(self, make: Callable[[Engine, list[str]], GenerationRequest]) -> None:
        self._make = make
        self.notes: list[str] = []

    def __call__(self, engine: Engine) -> GenerationRequest:
        return self._make(engine, self.notes)


def _request_builder(
    text: str,
    settings: Settings,
    seed: int,
    *,
    raw: bool = False,
    system: str | None = None,
    ignore_eos: bool = False,
    trace: bool = False,
) -> _RequestBuilder:
    def make(engine: Engine, notes: list[str]) -> GenerationRequest:
        if raw:
            ids = tuple(engine.vocab.tokenize(text, add_special=True, parse_special=True))
        else:
            ids = _chat_ids(engine, text, settings, system, notes)
        limits = replace(settings.inference.limits(), ignore_eos=ignore_eos)
        params = settings.inference.sampling_params(seed, engine.vocab.resolve)
        biases = settings.inference.resolved_biases(engine.vocab.resolve)
        if biases and "logit_bias" not in params.order:
            notes.append("biases and bans do nothing here: the order of the stages leaves out logit_bias")
        else:
            notes.extend(one.words(engine.vocab) for one in biases if isinstance(one.spec, str))
        # What a stage had to keep is known from the figures alone.
        return GenerationRequest(prompt_ids=ids, params=params, limits=limits, inspect=trace or _bans_late(params))

    return _RequestBuilder(make)


def _chat_ids(engine: Engine, text: str, settings: Settings, system: str | None, notes: list[str]) -> tuple[int, ...]:
    from tui_chat.chat.conversation import Conversation, Role
    from tui_chat.chat.prompt import build_prompt
    from tui_chat.chat.template import choose_template

    conversation = Conversation()
    told = system if system is not None else settings.inference.system
    if told:
        conversation.append(Role.SYSTEM, told)
    conversation.append(Role.USER, text)
    template = choose_template(settings.tokenizer.chat_template, engine.info.chat_template, engine.info.name)
    prompt = build_prompt(conversation.path, engine.vocab, template, enable_thinking=settings.inference.enable_thinking)
    notes.extend(map(_, prompt.notes))
    return prompt.ids


class _Answer:
    """An answer as it comes in, written to stdout if wanted; all of it, thinking too, if `raw`.

    With `show_tokens` its tokens are written as they come, and the text behind them.
    """

    def __init__(self, *, stream: bool, raw: bool = False, show_tokens: bool = False) -> None:
        self._stream, self._raw = stream, raw
        self._show_tokens = stream and show_tokens
        self._printed = ""
        self.prompt_ids: tuple[int, ...] = ()
        self.request: GenerationRequest | None = None
        self.text = ""
        self.tokens: list[GeneratedToken] = []
        self.finished: GenerationFinished | None = None

    def take(self, event: object) -> None:
        if isinstance(event, GenerationStarted):
            self.request, self.prompt_ids = event.request, event.request.prompt_ids
            if self._show_tokens:
                click.echo(f"{'#':>4} {'id':>7} {'p':>7} {'':<{_BAR_WIDTH}}  token")
        elif isinstance(event, TokensGenerated):
            self.text += event.text
            if self._show_tokens:
                self._print_tokens(event.tokens)
            self.tokens += event.tokens
            if self._stream and not self._show_tokens:
                self._print()
        elif isinstance(event, GenerationFinished):
            self.finished = event
            if self._show_tokens:
                self._print_tokens(() if event.end is None else (event.end,))
                click.echo()
                self._print()
            if self._stream and self._printed and not self._printed.endswith("\n"):
                click.echo()

    def _print_tokens(self, tokens: Sequence[GeneratedToken]) -> None:
        """Write a line for each new token: place in the answer, id, probability before the chain, visible text."""
        for number, token in enumerate(tokens, start=len(self.tokens) + 1):
            p = _trace_of(token).p
            figures = f"{number:>4} {token.id:>7} {percent(p):>7} {bar(p, _BAR_WIDTH):<{_BAR_WIDTH}}"
            click.echo(f"{figures}  {piece_label(token.piece)}")
        sys.stdout.flush()

    def _print(self) -> None:
        """Write what is new of the answer; what the model thinks before it is left out."""
        answer = self.text if self._raw else split_reasoning(self.text)[1]
        if not self._raw and not self._printed and THINK_OPEN.startswith(answer.strip()):
            return
        fresh, self._printed = answer.removeprefix(self._printed), answer
        # A terminal would obey control sequences in what the model writes; a file or pipe gets the bytes.
        click.echo(visible(fresh) if sys.stdout.isatty() else fresh, nl=False)
        sys.stdout.flush()

    @property
    def done(self) -> GenerationFinished:
        if self.finished is None:
            raise CancelledError("the answer was stopped before it began")
        return self.finished

    @property
    def exit_code(self) -> int:
        return CancelledError.exit_code if self.done.reason is FinishReason.CANCELLED else 0

    def notes(self, of_prompt: list[str]) -> list[str]:
        notes = [*of_prompt, *self._kept()]
        if self.done.reason is FinishReason.LENGTH and self._stream and sys.stderr.isatty():
            notes.append(f"ended after {self.done.usage.generated} tokens: --max-tokens allows more")
        if self.done.reason is FinishReason.EOS and not self.tokens:
            notes.append("the answer is empty: the model ended it at once")
        return notes

    def _kept(self) -> list[str]:
        """The stages that left what they should have removed, each with the tokens where it did."""
        places: dict[str, list[int]] = {}
        for number, token in enumerate(self.tokens, start=1):
            for stage in token.trace.stages if token.trace is not None else ():
                if stage.note == KEPT_BEST:
                    places.setdefault(stage.name, []).append(number)
        return [
            f"{name} at token {numbers[0]}{f' and {len(numbers) - 1} more' if numbers[1:] else ''}: {KEPT_BEST}"
            for name, numbers in places.items()
        ]


def _bans_late(params: SamplingParams) -> bool:
    """Whether a ban may meet but few tokens, of which it leaves the best, though that be banned."""
    bans = any(bias == -math.inf for _token, bias in params.logit_bias)
    return bans and "logit_bias" in params.order[1:]


def _document(answer: _Answer, engine: Engine, seed: int) -> dict[str, object]:
    done = answer.done
    return {
        "text": answer.text,
        "ids": [token.id for token in answer.tokens],
        "finish_reason": str(done.reason),
        "usage": {
            "prompt": done.usage.prompt,
            "reused": done.usage.reused,
            "generated": done.usage.generated,
        },
        "timings": {
            "load_s": engine.info.load_s,
            "prefill_s": done.timings.prefill_s,
            "ttft_s": done.timings.ttft_s,
            "decode_s": done.timings.decode_s,
            "tokens_per_s": done.timings.tokens_per_s,
        },
        "tokens": [trace_document(token.trace, engine.vocab.piece) for token in answer.tokens if token.trace],
        "seed": seed,
        "model": engine.info.name,
    }


def _table(tokens: list[GeneratedToken], engine: Engine) -> str:
    rows = [f"{'#':>4} {'id':>7} {'p':>7} {'rank':>5} {'entropy':>7} {'u':>6}  token"]
    for t in map(_trace_of, tokens):
        u = "greedy" if t.u is None else f"{t.u:.4f}"
        figures = f"{t.position:>4} {t.id:>7} {t.p:>7.2%} {t.rank:>5} {t.entropy:>7.3f} {u:>6}"
        notes = "; ".join(f"{stage.name}: {stage.note}" for stage in t.stages if stage.note)
        rows.append(f"{figures}  {piece_label(t.piece)}" + (f"  ({notes})" if notes else ""))
    return "\n".join(rows)


def _trace_of(token: GeneratedToken) -> TokenTrace:
    if token.trace is None:
        raise EngineError("the answer was made without traces")
    return token.trace


def _log(answer: _Answer, info: ModelInfo) -> None:
    """Tell on stderr how the answer came about."""
    from tui_chat.cli.lessons import width
    from tui_chat.lessons.answers import AnswerFigures
    from tui_chat.lessons.drawing import draw, text_of
    from tui_chat.lessons.educational import answer_log

    done = answer.done
    known = AnswerFigures(
        model=info.name,
        reason=done.reason,
        generated=done.usage.generated,
        usage=done.usage,
        timings=done.timings,
    )
    click.echo(err=True)
    for line in draw(answer_log(info, answer.prompt_ids, known).blocks, width()):
        click.echo(text_of(line), err=True)


def _save(answer: _Answer, info: ModelInfo, path: Path) -> None:
    """Write the answer as a trace file."""
    from tui_chat.chat.trace_file import write_trace
    from tui_chat.lessons.recording import recorded

    assert answer.request is not None
    done = answer.done
    write_trace(
        path,
        recorded(
            info,
            prompt_ids=answer.prompt_ids,
            periods=((0, answer.request.params),),
            ignore_eos=answer.request.limits.ignore_eos,
            usage=done.usage,
            tokens=answer.tokens,
            text=answer.text,
            finish_reason=done.reason,
            end=done.end,
        ),
    )


def _seed(settings: Settings) -> int:
    """The configured seed, or a fresh one."""
    # 53 bits, so that a JSON reader with doubles keeps it whole.
    return settings.inference.seed if settings.inference.seed is not None else secrets.randbelow(min(MAX_SEED, 2**53))


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text (byte {error.start}): convert it first") from error
