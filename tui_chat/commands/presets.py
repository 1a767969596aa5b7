"""`/preset`, `/undo` and `/redo`: many settings at once, and the way back."""

from __future__ import annotations

from collections.abc import Sequence

from tui_chat.commands.groups import SAMPLING
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.commands.settings import shown
from tui_chat.config import InferenceSettings
from tui_chat.config.presets import PRESET_FIELDS, Preset, all_presets, find_preset, presets_file, save_preset
from tui_chat.display.text import shortened
from tui_chat.errors import ConfigError, UsageError
from tui_chat.language import N_, _, n_
from tui_chat.lessons.report import Column, Report, Span, Table, Tone, Words

_NAMED = 4
"""So many settings are named when more than those were changed."""


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="preset",
            group=SAMPLING,
            summary=N_("Set the whole sampler chain by a name, or keep it under one"),
            run=_preset,
            arguments=(
                Argument("name", N_("a preset, or save"), _values),
                Argument("as", N_("what to call it, after save")),
            ),
            details=N_(
                "A preset sets temperature, truncation, penalties, DRY, XTC, mirostat, adaptive-p and the order; seed, "
                "grammar, biases, bans and limits stay as they are. Your own are kept in `presets.yaml` beside the "
                "settings file. Compare the bars behind the chain under `precise` and under `chaos`."
            ),
            examples=(
                ("/preset", N_("lists them, and what each sets")),
                ("/preset creative", N_("sets the chain from the next token on")),
                ("/preset save mine", N_("keeps the present settings under a name")),
            ),
            present=_present,
        ),
        Command(
            name="undo",
            group=SAMPLING,
            summary=N_("Take the last change of settings back"),
            run=lambda context, _invocation: _step(context, -1),
            details=N_(
                "Every change of a setting can be taken back, one after another, whether it came from a slider, a key "
                "or a command. In the sampling pane, `u` does the same."
            ),
            examples=(("/undo", N_("goes back by one change")),),
            present=lambda context: _names(context, context.undoable()),
        ),
        Command(
            name="redo",
            group=SAMPLING,
            summary=N_("Bring a change of settings again that was taken back"),
            run=lambda context, _invocation: _step(context, 1),
            examples=(("/redo", N_("goes forward by one change")),),
        ),
    )


def stepped(context: CommandContext, direction: int, names: Sequence[str]) -> str:
    """What to say after a step through the changes.

    Args:
        context: Of the app; the step was made already.
        direction: -1 back, 1 forward.
        names: The settings that were changed by it.
    """
    if not names:
        return _("there is no change to take back") if direction < 0 else _("there is no change to bring again")
    text = _("taken back: {settings}") if direction < 0 else _("again: {settings}")
    return text.format(settings=_names(context, names))


def _step(context: CommandContext, direction: int) -> None:
    context.notify(stepped(context, direction, context.step_settings(direction)))


def _names(context: CommandContext, names: Sequence[str]) -> str:
    parts = [f"{name} {shortened(shown(context.get_setting(name)), 24)}" for name in names[:_NAMED]]
    more = len(names) - _NAMED
    return ", ".join(parts) + (n_(" and {n} more", " and {n} more", more).format(n=more) if more > 0 else "")


def _settings(context: CommandContext) -> InferenceSettings:
    """The present values of what a preset sets."""
    return InferenceSettings().model_copy(update={name: context.get_setting(name) for name in PRESET_FIELDS})


def _present(context: CommandContext) -> str:
    try:
        presets = all_presets()
    except ConfigError:
        return ""
    settings = _settings(context)
    return next((name for name, preset in presets.items() if preset.holds(settings)), _("none of them"))


def _values(context: CommandContext) -> list[tuple[str, str]]:
    try:
        found = [(preset.name, _set_by(preset)) for preset in all_presets().values()]
    except ConfigError as error:
        found = [("precise", str(error))]
    return [*found, ("save", _("keep the present settings"))]


def _set_by(preset: Preset) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in preset.values.items()) or _("the defaults")


def _preset(context: CommandContext, invocation: Invocation) -> None:
    words = invocation.words()
    match words:
        case ():
            context.show_report(f"/{invocation.name}", _all(context))
        case ("save", name):
            path = save_preset(name, _settings(context))
            context.notify(_("kept as {name} in {path}").format(name=name, path=path))
        case ("save", *_rest):
            raise UsageError(_("say what to call it, in one word: {line}").format(line="/preset save mine"))
        case (name,):
            _take(context, find_preset(name.lower()))
        case _:
            raise UsageError(_("/preset takes one name, not {n} words").format(n=len(words)))


def _take(context: CommandContext, preset: Preset) -> None:
    values = preset.settings()
    moved = [name for name, value in values.items() if context.get_setting(name) != value]
    context.set_settings(values)
    text = _("{name}: {settings}").format(name=preset.name, settings=_set_by(preset))
    if reset := [name for name in moved if name not in preset.values]:
        text += " · " + _("back to the default: {settings}").format(settings=", ".join(reset))
    context.notify(text)


def _all(context: CommandContext) -> Report:
    presets, settings = all_presets(), _settings(context)
    rows = []
    for preset in presets.values():
        tone = Tone.STRONG if preset.holds(settings) else Tone.PLAIN
        name = _("{name} (now)").format(name=preset.name) if tone is Tone.STRONG else preset.name
        rows.append((Span(name, tone), Span(_set_by(preset), tone)))
    return Report(
        _("presets"),
        [
            Table((Column(_("preset")), Column(_("sets"), grows=True, wraps=True)), tuple(rows)),
            *(Words(f"`{preset.name}`: {_(preset.why)}", Tone.DIM) for preset in presets.values() if preset.why),
            Words(
                _("What a preset does not name, it sets to the default. Your own are in `{path}`.").format(
                    path=presets_file()
                )
            ),
        ],
        {"presets": {preset.name: dict(preset.values) for preset in presets.values()}},
    )
