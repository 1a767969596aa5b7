"""`/compare`: the same prompt under several settings or seeds, side by side."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence

from tui_chat.commands.every_setting import setting_name
from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.config import InferenceSettings, parse_setting
from tui_chat.config.presets import all_presets, find_preset
from tui_chat.engine.types import SAMPLING_FIELDS
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

_COMPARED = (*SAMPLING_FIELDS, "ban", "json_schema")
"""The settings that lanes may differ in: those of the sampler chain."""

_NEXT_SETTING = re.compile(r",(?=[A-Za-z][\w-]*=)")


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="compare",
            group=LESSONS,
            summary=N_("Answer under several settings or seeds, side by side"),
            run=_compare,
            arguments=tuple(
                Argument(name, N_("settings as in temp=0.2,top-k=0, a seed, or a preset"), _lanes_offered)
                for name in "ABCD"
            ),
            details=N_(
                "Two to four lanes answer your last message, decoded together in one batch. One lane alone stands "
                "beside the present settings; none at all compares two seeds. Look at ◆, where the lanes first part, "
                "and at how KL grows from there: how differently the model goes on. The keys 1 to 4 on the card keep "
                "a lane as the answer; the others are forgotten."
            ),
            examples=(
                ("/compare temp=0.2 temp=1.2", N_("two temperatures, the same draws")),
                ("/compare seed=1 seed=2 seed=3", N_("three draws of the same settings")),
                ("/compare precise chaos", N_("two presets")),
                ("/compare temp=1.5,min-p=0.2", N_("the present settings beside another")),
            ),
        ),
    )


def _lanes_offered(context: CommandContext) -> Sequence[tuple[str, str]]:
    names = [("temp=0.2", ""), ("temp=1.2", ""), ("top-k=1", ""), ("seed=1", ""), ("seed=2", "")]
    return [*names, *((preset.name, _(preset.why)) for preset in all_presets().values())]


def _compare(context: CommandContext, invocation: Invocation) -> None:
    from tui_chat.lessons.compare import Comparison, LaneSettings

    scene, words = context.scene(), invocation.words()
    present = scene.biased or InferenceSettings()
    seed = present.seed if present.seed is not None else secrets.randbits(32)
    lanes = [LaneSettings(word, *_lane(present, seed, word)) for word in words]
    if len(lanes) < 2:
        lanes.insert(0, LaneSettings(_("present settings"), present, seed))
    if len(lanes) < 2:
        lanes.append(LaneSettings(_("another seed"), present, secrets.randbits(32)))
    context.compare(f"/{invocation.name} {invocation.rest}".rstrip(), Comparison(scene, lanes))


def _lane(present: InferenceSettings, seed: int, word: str) -> tuple[InferenceSettings, int]:
    """The settings and the seed of a lane.

    Raises:
        UsageError: It names no setting of the sampler chain and no preset, or a value does not hold.
    """
    values: Mapping[str, object]
    if "=" in word:
        values = dict(_assignment(part) for part in _NEXT_SETTING.split(word))
    elif word in all_presets():
        values = find_preset(word).settings()
    else:
        text = _("{word!r} is no lane: write settings as in temp=0.2,top-k=0, a seed as in seed=1, or a preset")
        raise UsageError(text.format(word=word))
    chosen = values.get("seed")
    return present.model_copy(update=dict(values)), chosen if isinstance(chosen, int) else seed


def _assignment(text: str) -> tuple[str, object]:
    typed, _equals, value = text.partition("=")
    name = setting_name(typed)
    if name not in _COMPARED:
        raise UsageError(_("lanes may differ in settings of the sampler chain, and {name} is none").format(name=name))
    return name, parse_setting(f"inference.{name}", value)
