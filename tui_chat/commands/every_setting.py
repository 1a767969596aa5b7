"""`/set`: any setting of `inference` by its field name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tui_chat.commands.fuzzy import did_you_mean, nearest
from tui_chat.commands.groups import SAMPLING
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.commands.settings import KNOBS, show_setting, shown
from tui_chat.config import parse_setting
from tui_chat.display.text import shortened
from tui_chat.errors import UsageError
from tui_chat.language import N_, _
from tui_chat.lessons.report import Cell, Column, Report, Span, Table, Tone, Words

_VALUE_CHARS = 24
"""Longest value in the list of all settings."""

ABOUT: Mapping[str, str] = {
    **{knob.field: knob.details for knob in KNOBS},
    "typical_p": N_(
        "Keeps the tokens whose surprisal is nearest the entropy, up to this sum of probabilities; 1 is off."
    ),
    "top_n_sigma": N_("Keeps the logits within this many standard deviations of the best; 0 or less is off."),
    "xtc_probability": N_(
        "The chance that XTC acts on a token: it removes all but the least likely of the tokens "
        "above xtc_threshold; 0 is off."
    ),
    "xtc_threshold": N_("The probability above which XTC removes all tokens but the least likely; above 0.5 is off."),
    "repeat_last_n": N_("How many recent tokens the penalties look at; 0 is none, -1 the whole context."),
    "frequency_penalty": N_("Subtracted from a recent token's logit once for each time it came; 0 is off."),
    "presence_penalty": N_("Subtracted once from the logit of each recent token; 0 is off."),
    "dry_multiplier": N_("Strength of DRY, a penalty on tokens that would go on with a repetition; 0 is off."),
    "dry_base": N_("How fast the DRY penalty grows with the length of the repetition."),
    "dry_allowed_length": N_("The longest repetition that DRY lets pass."),
    "dry_penalty_last_n": N_("How many recent tokens DRY looks at; 0 is none, -1 the whole context."),
    "dry_sequence_breakers": N_('Texts that a repetition does not reach across, as DRY sees it, as in `["\\n", ":"]`.'),
    "dynatemp_range": N_("How far the temperature moves to both sides with the entropy of what is left; 0 keeps it."),
    "dynatemp_exponent": N_(
        "How the entropy, as a share of the largest possible, bends on its way to the temperature."
    ),
    "mirostat": N_("1 or 2 cuts so that the surprise stays near mirostat_tau, in place of all truncation; 0 is off."),
    "mirostat_tau": N_("The surprise mirostat aims at, in bits."),
    "mirostat_eta": N_("How fast mirostat corrects itself: the share of the error."),
    "adaptive_target": N_("Adaptive-p prefers tokens whose probability is near this; below 0 is off."),
    "adaptive_decay": N_("How long adaptive-p remembers what was drawn: about 1 / (1 - decay) tokens."),
    "grammar": N_(
        "What an answer must look like: GBNF, a file that holds it, or `json`, `list`, `arithmetic`, `chess`."
    ),
    "json_schema": N_('The answer is JSON that this schema describes, as in `{"type": "array"}` or a file.'),
    "logit_bias": N_("Added to the logits of tokens by id, text or /pattern/, as in `{42: 1.5, however: -inf}`."),
    "ban": N_("What never comes: tokens by id or /pattern/, and texts, as in `[42, however]`."),
    "seed": N_(
        "Every draw is a function of the seed and the token's position; `null` takes a fresh one for each answer."
    ),
    "order": N_(
        "The stages of the sampler chain, as in `top_k, min_p, temperature`; one that is not named does not run."
    ),
    "max_length": N_("An answer has at most so many tokens."),
    "stop": N_('Texts that end an answer and are not part of it, as in `["###", END]`.'),
    "time_limit_s": N_("Seconds after which an answer ends; `null` is no limit."),
    "min_confidence": N_("An answer ends when the best token's probability falls below this; `null` is no limit."),
    "enable_thinking": N_(
        "Passed to chat templates that can switch reasoning: `true`, `false`, or `null` to leave "
        "it to the template. `/think` shows what it changes."
    ),
}
"""What each setting does."""

_OTHER_NAMES = {
    "temp": "temperature",
    "max_tokens": "max_length",
    "penalty": "repeat_penalty",
    "think": "enable_thinking",
}


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="set",
            group=SAMPLING,
            summary=N_("Change any setting by its name"),
            run=_set,
            arguments=(
                Argument("name", N_("a setting"), lambda context: [(name, _value(context, name)) for name in ABOUT]),
                Argument("value", N_("written as in the settings file, or default"), present=_present),
            ),
            details=N_(
                "All of `inference` in the settings; the beginning of a name is enough where no other begins so. "
                "Sampling changes from the next token on, the rest from the next answer on. Without a value the "
                "setting is explained, with what it does to the next token of this conversation."
            ),
            examples=(
                ("/set", N_("lists all settings")),
                ("/set typical_p 0.9", N_("changes one")),
                ('/set ban [" however"]', N_("a list")),
                ("/set presence_penalty", N_("what it is and does")),
                ("/set typical_p default", N_("as when the program began")),
            ),
        ),
    )


def _set(context: CommandContext, invocation: Invocation) -> None:
    typed, _blank, text = invocation.rest.partition(" ")
    text = text.strip()
    if not typed:
        context.show_report(f"/{invocation.name}", _all(context))
        return
    name = setting_name(typed)
    if not text:
        _explain(context, invocation, name)
        return
    value = context.default_setting(name) if text == "default" else parse_setting(f"inference.{name}", text)
    context.set_setting("max_tokens" if name == "max_length" else name, value)
    context.notify(_("{name} is now {value}").format(name=name, value=_value(context, name)))


def _present(context: CommandContext, before: Sequence[str]) -> str:
    """The value of the setting that was named; "" where there is none of that name."""
    try:
        return shortened(_value(context, setting_name(before[0])), _VALUE_CHARS)
    except UsageError:
        return ""


def setting_name(typed: str) -> str:
    """The setting that is meant: its name, or a beginning that no other has.

    Raises:
        UsageError: There is none of that name.
    """
    name = typed.lower().replace("-", "_")
    name = _OTHER_NAMES.get(name, name)
    beginning_so = [known for known in ABOUT if known.startswith(name)]
    if name not in ABOUT and len(beginning_so) == 1:
        return beginning_so[0]
    if name == "system":
        raise UsageError(_("the system text belongs to the conversation: change it with /system"))
    if name not in ABOUT:
        near = nearest(name, ABOUT)
        hint = did_you_mean(near) if near else _("/set lists all")
        raise UsageError(_("there is no setting {name}: {hint}").format(name=typed, hint=hint))
    return name


def _explain(context: CommandContext, invocation: Invocation, name: str) -> None:
    about = (_("**{name}** is **{value}**.").format(name=name, value=_value(context, name)), _(ABOUT[name]))
    if name in ("time_limit_s", "enable_thinking") or (name == "stop" and not context.get_setting(name)):
        context.show("\n\n".join(about))
    else:
        show_setting(context, invocation, name, *about)


def _all(context: CommandContext) -> Report:
    """Every setting, its value, and the one it had when the program began."""
    rows: list[tuple[Cell, ...]] = []
    for name in ABOUT:
        now, before = _value(context, name), shown(context.default_setting(name))
        tone = Tone.PLAIN if now == before else Tone.STRONG
        value = (
            shortened(now, _VALUE_CHARS)
            if now == before
            else _("{now} (was {before})").format(
                now=shortened(now, _VALUE_CHARS), before=shortened(before, _VALUE_CHARS)
            )
        )
        rows.append((Span(name, tone), Span(value, tone)))
    document = {name: context.get_setting(name) for name in ABOUT}
    hint = Words(_("`/set NAME` explains one and shows what it does to the next token; `/set NAME VALUE` changes it."))
    return Report(
        _("settings"), [Table((Column(_("setting")), Column(_("now"))), tuple(rows)), hint], {"settings": document}
    )


def _value(context: CommandContext, name: str) -> str:
    return shown(context.get_setting(name))
