"""The commands that change a setting: `/temp`, `/top-k`, `/seed`, `/tokens`, ... Without a value they show it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_chat.commands.groups import SAMPLING
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.display.figures import retyped
from tui_chat.engine.types import SamplingParams
from tui_chat.errors import UsageError
from tui_chat.language import N_, _, n_

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch

MAX_TOKENS = 1_000_000
"""Longest answer that may be asked for."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A sampling setting as the commands show it."""

    command: str
    field: str
    range: str
    """The values it takes, in words."""
    off: float | None
    """The value that makes its stage do nothing."""
    summary: str
    details: str
    example: str
    whole: bool = False
    aliases: tuple[str, ...] = ()


KNOBS = (
    Knob(
        "temp",
        "temperature",
        N_("0 to 100"),
        None,
        N_("Set the temperature: how daring the draw is"),
        N_(
            "Divides the logits before the draw. **0** always takes the best token; **1** draws from the model's own "
            "distribution; above it, unlikely tokens gain. Watch the bars after the chain flatten as you raise it."
        ),
        "0.7",
        aliases=("temperature",),
    ),
    Knob(
        "top-k",
        "top_k",
        N_("0 to any size, 0 is off"),
        0,
        N_("Keep only the k best tokens"),
        N_("Everything below the k best tokens is cut. **1** is greedy. Watch the survivors after the top-k stage."),
        "40",
        whole=True,
    ),
    Knob(
        "top-p",
        "top_p",
        N_("0 to 1, 1 is off"),
        1,
        N_("Keep the best tokens that together reach probability p"),
        N_(
            "The smallest set of best tokens whose probabilities sum to p survives: few where the model is sure, many "
            "where it is not. Compare its survivors at a certain and at an open place of the answer."
        ),
        "0.9",
    ),
    Knob(
        "min-p",
        "min_p",
        N_("0 to 1, 0 is off"),
        0,
        N_("Keep tokens with at least this share of the best one's probability"),
        N_("A cut that moves with the model's certainty. **0.05** to **0.1** keeps high temperatures readable."),
        "0.05",
    ),
    Knob(
        "repeat-penalty",
        "repeat_penalty",
        N_("0.01 to 100, 1 is off"),
        1,
        N_("Make tokens less likely that came a short while ago"),
        N_(
            "Divides positive logits of recent tokens and multiplies negative ones. Above about **1.3** it harms "
            "ordinary words that must come again."
        ),
        "1.1",
        aliases=("penalty",),
    ),
)
"""The sampling settings with a command of their own; ranges are those of `SamplingParams`."""


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (*(_knob_command(knob) for knob in KNOBS), _seed(), _tokens())


def show_setting(context: CommandContext, invocation: Invocation, field: str, *about: str) -> None:
    """Say what a setting is, and show what it does to the next token where there is a model.

    Args:
        context: Of the app.
        invocation: What was typed; the card's title.
        field: Name of the setting in `inference`.
        about: Paragraphs of Markdown.
    """
    scene = context.scene()
    if not context.model():
        context.show("\n\n".join(about))
        return
    value = context.get_setting(field)
    # Marked up alike: what stands out there is literal here.
    words = [text.replace("**", "`") for text in about]

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.effect import effect

        return effect(engine, watch, scene, field, value, words)

    context.report(f"/{invocation.name} {invocation.rest}".rstrip(), lesson)


def shown(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(": ".join(map(shown, item)) if isinstance(item, tuple) else shown(item) for item in value) or (
            _("none")
        )
    if isinstance(value, str) and not value.isidentifier():
        return repr(value)
    return _("none") if value is None else str(value)


def _knob_command(knob: Knob) -> Command:
    def present(context: CommandContext) -> str:
        return shown(context.get_sampling(knob.field))

    def run(context: CommandContext, invocation: Invocation) -> None:
        word = _one_word(invocation)
        if word is None:
            show_setting(
                context,
                invocation,
                knob.field,
                _("**{command}** is **{value}** ({range}).").format(
                    command=f"/{knob.command}", value=present(context), range=_(knob.range)
                ),
                _(knob.details),
                _("Change it with `{line}`, back with `{back}`.").format(
                    line=f"/{knob.command} {knob.example}", back=f"/{knob.command} default"
                ),
            )
            return
        value: int | float | None
        if word == "default":
            value = context.default_sampling(knob.field)
        elif word == "off" and knob.off is not None:
            value = int(knob.off) if knob.whole else knob.off
        else:
            value = _number(word, knob.command, whole=knob.whole, example=knob.example)
            SamplingParams(**{knob.field: value})  # type: ignore[arg-type]  # raises SamplingError out of range
        context.set_sampling(knob.field, value)
        context.notify(_("{name} is now {value}").format(name=knob.field, value=shown(value)))

    examples = [(f"/{knob.command} {knob.example}", N_("sets it"))]
    if knob.off is not None:
        examples.append((f"/{knob.command} off", N_("takes the stage out of the chain")))
    examples.append((f"/{knob.command}", N_("shows the present value")))
    return Command(
        name=knob.command,
        aliases=knob.aliases,
        group=SAMPLING,
        summary=knob.summary,
        run=run,
        arguments=(Argument("value", knob.range, _values(knob.field, knob.off is not None)),),
        details=knob.details,
        examples=tuple(examples),
        present=present,
    )


def _values(field: str, has_off: bool) -> Callable[[CommandContext], list[tuple[str, str]]]:
    def values(context: CommandContext) -> list[tuple[str, str]]:
        before = shown(context.default_sampling(field))
        found = [("default", _("back to {value}").format(value=before))]
        return [*found, ("off", _("do nothing"))] if has_off else found

    return values


def _seed() -> Command:
    def present(context: CommandContext) -> str:
        seed = context.get_sampling("seed")
        return _("fresh for each answer") if seed is None else str(seed)

    def run(context: CommandContext, invocation: Invocation) -> None:
        word = _one_word(invocation)
        if word is None:
            show_setting(
                context,
                invocation,
                "seed",
                _("**/seed** is **{value}** (0 to {most}, or `random`, or `fresh`).").format(
                    value=present(context), most=2**64 - 1
                ),
                _("The same seed, messages and settings give the same answer, token for token."),
            )
            return
        seed: int | None
        if word == "fresh" or (word == "default" and context.default_sampling("seed") is None):
            seed = None
        elif word == "default":
            seed = int(context.default_sampling("seed") or 0)
        elif word == "random":
            seed = random.SystemRandom().randrange(2**32)
        else:
            seed = int(_number(word, "seed", whole=True, example="42"))
            SamplingParams(seed=seed)
        context.set_sampling("seed", seed)
        context.notify(_("{name} is now {value}").format(name="seed", value=present(context)))

    return Command(
        name="seed",
        group=SAMPLING,
        summary=N_("Fix the seed, so that an answer can be had again"),
        run=run,
        arguments=(
            Argument(
                "value",
                N_("a whole number, random, or fresh"),
                lambda _context: [
                    ("random", _("draw one now and keep it")),
                    ("fresh", _("another one for each answer")),
                    ("default", _("as in the settings")),
                ],
            ),
        ),
        details=N_(
            "Every draw is a function of the seed and the token's position. The same seed, messages and settings "
            "give the same answer; change one slider and see where the two part."
        ),
        examples=(
            ("/seed 42", N_("makes answers repeatable")),
            ("/seed random", N_("draws a seed now and keeps it")),
            ("/seed fresh", N_("takes another for each answer")),
        ),
        present=present,
    )


def _tokens() -> Command:
    def present(context: CommandContext) -> str:
        return str(context.get_setting("max_tokens"))

    def run(context: CommandContext, invocation: Invocation) -> None:
        word = _one_word(invocation)
        if word is None:
            show_setting(
                context,
                invocation,
                "max_length",
                _("An answer has at most **{n}** tokens. Change it with `/tokens 256`.").format(n=present(context)),
            )
            return
        count = int(_number(word, "tokens", whole=True, example="256"))
        if not 1 <= count <= MAX_TOKENS:
            raise UsageError(_("tokens must be from 1 to {most}, not {n}").format(most=MAX_TOKENS, n=count))
        context.set_setting("max_tokens", count)
        context.notify(
            n_("answers have at most {n} token now", "answers have at most {n} tokens now", count).format(n=count)
        )

    return Command(
        name="tokens",
        aliases=("max-tokens",),
        group=SAMPLING,
        summary=N_("Set how long an answer may become"),
        run=run,
        arguments=(Argument("count", N_("1 to 1000000")),),
        details=N_(
            "An answer ends when the model gives its end token, or here. Room for it is kept free in the context."
        ),
        examples=(("/tokens 256", N_("stops an answer after 256 tokens")), ("/tokens", N_("shows the limit"))),
        present=present,
    )


def _one_word(invocation: Invocation) -> str | None:
    words = invocation.words()
    if len(words) > 1:
        raise UsageError(
            _("{command} takes one value, not {n}: {rest}").format(
                command=f"/{invocation.name}", n=len(words), rest=invocation.rest
            )
        )
    return words[0].lower() if words else None


def _number(word: str, command: str, *, whole: bool, example: str) -> int | float:
    try:
        return int(word) if whole else float(word)
    except ValueError as error:
        if (number := retyped(word, whole=whole)) is not None:
            hint = _("write it without separators") if whole else _("write {number}").format(number=number)
        else:
            hint = _("for example {line}").format(line=f"/{command} {example}")
        text = (
            _("{command} needs a whole number, not {word!r}: {hint}")
            if whole
            else _("{command} needs a number, not {word!r}: {hint}")
        )
        raise UsageError(text.format(command=f"/{command}", word=word, hint=hint)) from error
