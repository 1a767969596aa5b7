"""What an answer may be: `/json` and `/grammar` give it a form, `/ban` and `/bias` single tokens out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from tui_chat.commands.every_setting import ABOUT
from tui_chat.commands.groups import SAMPLING
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.commands.settings import show_setting
from tui_chat.config import InferenceSettings
from tui_chat.display.text import literal, shortened
from tui_chat.engine.gbnf import NAMED, load_grammar
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch

Spec = int | str

_JSON = "json"
_CHARS = 40

_TOKEN = r"""/(?:\\.|[^/\\])+/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_BAN = re.compile(rf"(?P<spec>{_TOKEN}|\S+)(?=\s|$)")
_NUMBER = r"(?:inf|\d+(?:\.\d*)?|\.\d+)"
_BIAS = re.compile(rf"(?P<spec>{_TOKEN}|\S+?)(?:=(?P<equal>[+-]?{_NUMBER})|(?P<signed>[+-]{_NUMBER}))(?=\s|$)")

_NAMED_GRAMMARS = {
    "json": N_("a JSON object"),
    "list": N_("a list with hyphens"),
    "arithmetic": N_("sums and their results"),
    "chess": N_("the moves of a game"),
}


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (_json(), _grammar(), _ban(), _bias())


# The form of an answer


def _json() -> Command:
    def run(context: CommandContext, invocation: Invocation) -> None:
        text = invocation.text()
        if text == "off":
            _set_form(context, "", "")
        elif not text:
            _set_form(context, _JSON, "")
        else:
            from tui_chat.engine.json_schema import load_schema

            load_schema(text)
            _set_form(context, "", text)

    return Command(
        name="json",
        group=SAMPLING,
        summary=N_("Let answers be JSON, of any form or of a schema"),
        run=run,
        arguments=(
            Argument(
                "schema",
                N_("a JSON schema, a file that holds one, or off"),
                lambda _context: [("off", _("any text")), ('{"type": "array"}', _("a schema, as it is written"))],
                rest=True,
            ),
        ),
        details=N_(
            "Tokens that would break the form are refused before the chain cuts anything, so the answer cannot come "
            "out wrong; it can only be cut short. Without an argument any JSON will do. Look at the grammar column of "
            "the waterfall: it says how much probability was refused."
        ),
        examples=(
            ("/json", N_("any JSON")),
            ('/json {"type": "object", "properties": {"name": {"type": "string"}}}', N_("JSON of this form")),
            ("/json off", N_("any text again")),
        ),
        present=_form,
    )


def _grammar() -> Command:
    def run(context: CommandContext, invocation: Invocation) -> None:
        text = invocation.text()
        if not text:
            about = _("Answers must look like: **{form}**.").format(form=literal(_form(context)))
            name = "grammar"
            show_setting(context, invocation, name, about, _(ABOUT[name]))
            return
        if text != "off":
            load_grammar(text)
        _set_form(context, "" if text == "off" else text, "")

    return Command(
        name="grammar",
        group=SAMPLING,
        summary=N_("Say in GBNF what answers must look like"),
        run=run,
        arguments=(
            Argument(
                "grammar",
                N_("a name, a file, GBNF, or off"),
                lambda _context: [("off", _("any text")), *((name, _(_NAMED_GRAMMARS[name])) for name in NAMED)],
                rest=True,
            ),
        ),
        details=N_(
            "GBNF is llama.cpp's notation: rules that say which text may follow, beginning with `root`. An error names "
            "its line and column. Look at how often the model would have written something else."
        ),
        examples=(
            ("/grammar list", N_("one that comes along")),
            ('/grammar root ::= "yes" | "no"', N_("one that is written here")),
            ("/grammar", N_("shows it, and what it refuses of the next token")),
            ("/grammar off", N_("any text again")),
        ),
        present=_form,
    )


def _set_form(context: CommandContext, grammar: str, schema: str) -> None:
    """Give answers a form, one of the two ways, or none."""
    context.set_settings({"grammar": grammar, "json_schema": schema})
    if context.is_answering():
        text = _("from the next answer on: {form}. A grammar cannot change within an answer")
    else:
        text = _("answers must look like this now: {form}")
    context.notify(text.format(form=_form(context)))


def _form(context: CommandContext) -> str:
    grammar, schema = str(context.get_setting("grammar")), str(context.get_setting("json_schema"))
    if schema:
        return _("JSON of {schema}").format(schema=shortened(" ".join(schema.split()), _CHARS))
    return shortened(" ".join(grammar.split()), _CHARS) if grammar else _("any text")


# Single tokens


def _ban() -> Command:
    def run(context: CommandContext, invocation: Invocation) -> None:
        present = _bans(context)
        text = invocation.rest
        lifted = re.fullmatch(r"off(?:\s+(.+))?", text, re.DOTALL)
        if lifted is not None:
            gone = set(_specs(lifted[1] or ""))
            if absent := [spec for spec in gone if spec not in present]:
                raise UsageError(_("{spec!r} is not banned: /ban shows what is").format(spec=absent[0]))
            context.set_settings({"ban": tuple(spec for spec in present if gone and spec not in gone)})
        elif text:
            context.set_settings({"ban": tuple(dict.fromkeys((*present, *_specs(text))))})
        if text:
            context.notify(_("banned: {tokens}").format(tokens=_listed(_bans(context))))
        if lifted is None:
            _show(context, invocation, "ban")

    return Command(
        name="ban",
        group=SAMPLING,
        summary=N_("Let texts and tokens never come, and show which tokens that means"),
        run=run,
        arguments=(
            Argument(
                "tokens",
                N_("texts, ids, /patterns/, or off"),
                lambda context: [
                    ("off", _("lift all bans")),
                    *((f"off {_written(spec)}", _("lift this one")) for spec in _bans(context)),
                ],
                rest=True,
            ),
        ),
        details=N_(
            "A banned text never comes, letter for letter, however it would be cut into tokens: what is refused is the "
            "token that would complete it, inside of longer words too. One in quotes is a text even where it is a "
            "number. What stands between slashes is a pattern that is looked for in every token, and those it is found "
            "in never come. Bans add up until `off`. The card shows which tokens are met."
        ),
        examples=(
            ("/ban however", N_("no answer says however")),
            ('/ban " token" 42 /^ [Tt]he$/', N_("a text, an id, a pattern")),
            ("/ban", N_("shows what is banned")),
            ("/ban off", N_("lifts all bans")),
        ),
        present=lambda context: _listed(_bans(context)),
    )


def _bias() -> Command:
    def run(context: CommandContext, invocation: Invocation) -> None:
        text = invocation.rest
        if text == "off":
            context.set_settings({"logit_bias": ()})
        elif text:
            biases = dict(_biases(context))
            for spec, bias in _pairs(text):
                biases.pop(spec, None)
                if bias:
                    biases[spec] = bias
            context.set_settings({"logit_bias": tuple(biases.items())})
        if text:
            context.notify(_("biases: {biases}").format(biases=_present_biases(context)))
        if text != "off":
            _show(context, invocation, "bias")

    return Command(
        name="bias",
        group=SAMPLING,
        summary=N_("Make tokens likelier or less likely, and show which they are"),
        run=run,
        arguments=(
            Argument(
                "biases",
                N_("text=nats, id=nats, /pattern/=nats, or off"),
                lambda _context: [("off", _("no biases"))],
                rest=True,
            ),
        ),
        details=N_(
            "The number is added to the logit: +0.69 doubles the odds, −0.69 halves them, 0 takes the bias away. Texts "
            "stand for the token that they begin with, at the start of a line and behind a space; patterns for every "
            "token they are found in. Watch the token's row in the waterfall."
        ),
        examples=(
            ("/bias piece=+2 word=-1.5", N_("one likelier, one less likely")),
            ('/bias " the"=-0.69', N_("halves its odds")),
            ("/bias", N_("shows the biases")),
            ("/bias off", N_("takes them away")),
        ),
        present=_present_biases,
    )


def _show(context: CommandContext, invocation: Invocation, about: Literal["ban", "bias"]) -> None:
    """Show which tokens are meant, where there is a model to ask."""
    settings = InferenceSettings().model_copy(update={"ban": _bans(context), "logit_bias": _biases(context)})
    if not context.model():
        text = _("Banned: {bans}. Biases: {biases}. Which tokens that means, is seen with a model.")
        context.show(text.format(bans=literal(_listed(settings.ban)), biases=literal(_present_biases(context))))
        return

    def lesson(engine: Engine, _watch: Watch) -> Report:
        from tui_chat.lessons.biases import biases

        return biases(engine, settings, about)

    context.report(f"/{invocation.name} {invocation.rest}".rstrip(), lesson)


def _specs(text: str) -> Iterator[Spec]:
    """The tokens in a line: ids, texts with or without quotes, patterns."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _BAN.match(text, at)
        if found is None:
            raise UsageError(_("there is something wrong at {rest!r}: put texts in quotes").format(rest=text[at:]))
        yield _spec(found["spec"])
        at = found.end()


def _pairs(text: str) -> Iterator[tuple[Spec, float]]:
    """(token, nats) in a line."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _BIAS.match(text, at)
        if found is None or (bias := float(found["equal"] or found["signed"])) == math.inf:
            raise UsageError(
                _("{rest!r} is no bias: write a token and what is added to its logit, as in {line}").format(
                    rest=text[at:], line="/bias piece=+2"
                )
            )
        yield _spec(found["spec"]), bias
        at = found.end()


def _spec(written: str) -> Spec:
    if written[0] in "\"'" and written[-1] == written[0] and len(written) > 2:
        return re.sub(r"\\(.)", r"\1", written[1:-1])
    return int(written) if written.isascii() and written.isdigit() else written


def _written(spec: Spec) -> str:
    """A token as it is typed."""
    if isinstance(spec, int) or (len(spec) > 2 and spec[0] == spec[-1] == "/") or re.fullmatch(r"[^\W\d]\w*", spec):
        return str(spec)
    escaped = spec.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _listed(specs: Sequence[Spec]) -> str:
    return ", ".join(map(_written, specs)) or _("none")


def _bans(context: CommandContext) -> tuple[Spec, ...]:
    bans = context.get_setting("ban")
    return bans if isinstance(bans, tuple) else ()


def _biases(context: CommandContext) -> tuple[tuple[Spec, float], ...]:
    biases = context.get_setting("logit_bias")
    return biases if isinstance(biases, tuple) else ()


def _present_biases(context: CommandContext) -> str:
    return ", ".join(f"{_written(spec)}={bias:+g}" for spec, bias in _biases(context)) or _("none")
