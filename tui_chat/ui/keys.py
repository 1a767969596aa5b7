"""The keys: what can be rebound, where two bindings would meet, and the table of them for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

from tui_chat.language import N_
from tui_chat.ui.screens.chat import ChatScreen
from tui_chat.ui.screens.training_keys import RUN_BINDINGS, SAMPLE_BINDINGS, TRAINING_BINDINGS
from tui_chat.ui.widgets.composer import MessageInput
from tui_chat.ui.widgets.lanes_card import LanesCard
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.setting_rows import GroupRow, StageRow, TextRow
from tui_chat.ui.widgets.step_panel import STEP_BINDINGS, StepPanel
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.token_text import TokenText
from tui_chat.ui.widgets.value_row import ValueRow
from tui_chat.ui.widgets.waterfall_table import WaterfallTable

if TYPE_CHECKING:
    from textual.app import App

EVERYWHERE, TRAININGS = N_("Everywhere"), N_("Trainings")

GROUPS: tuple[tuple[str, Sequence[BindingType]], ...] = (
    (EVERYWHERE, [one for one in ChatScreen.BINDINGS if one not in STEP_BINDINGS]),
    (N_("Writing a message"), MessageInput.BINDINGS),
    (N_("Step mode"), [*STEP_BINDINGS, *StepPanel.BINDINGS]),
    (N_("Tokens"), TokenStrip.BINDINGS),
    (N_("Candidates"), WaterfallTable.BINDINGS),
    (N_("The token view"), TokenText.BINDINGS),
    (N_("A report"), ReportCard.BINDINGS),
    (N_("A comparison"), LanesCard.BINDINGS),
    (N_("Sampling"), SamplingPanel.BINDINGS),
    (N_("A setting"), ValueRow.BINDINGS),
    (N_("A setting that is a text"), TextRow.BINDINGS),
    (N_("A group of settings"), GroupRow.BINDINGS),
    (N_("A stage of the chain"), StageRow.BINDINGS),
    (TRAININGS, [*TRAINING_BINDINGS, *RUN_BINDINGS, *SAMPLE_BINDINGS]),
)
"""Where keys act, and what is bound there."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One line of the table of keys."""

    group: str
    id: str
    keys: str
    """As they are shown: `^r`, `⇧tab`."""
    description: str


def _named(bindings: Sequence[BindingType]) -> list[Binding]:
    return [binding for binding in bindings if isinstance(binding, Binding) and binding.id]


def binding_ids() -> dict[str, str]:
    """Gives the keys of every binding that `ui.keys` may change, by its id."""
    return {binding.id: binding.key for _group, bound in GROUPS for binding in _named(bound) if binding.id}


def clashes(keymap: Mapping[str, str], changed: set[str]) -> list[str]:
    """Gives a sentence for every key that the changed bindings share with another one that acts at the same place."""
    problems = []
    everywhere = {binding.id for binding in _named(ChatScreen.BINDINGS)}
    for group, bound in GROUPS:
        here = {binding.id for binding in _named(bound)}
        users: defaultdict[str, list[str]] = defaultdict(list)
        for name, keys in keymap.items():
            if name in here or (name in everywhere and name in changed and group != TRAININGS):
                for key in keys.split(","):
                    users[key.strip()].append(name)
        for key, names in users.items():
            if len(names) > 1 and changed & set(names):
                problems.append(
                    f"ui.keys: {key} is bound to {' and '.join(sorted(names))} ({group.lower()}): choose another"
                )
    return list(dict.fromkeys(problems))


def help_rows(app: App[int]) -> list[KeyRow]:
    """Gives the table of keys as they are now, rebound ones included."""
    keymap = app._keymap
    rows: list[KeyRow] = []
    for group, bound in GROUPS:
        for binding in _named(bound):
            assert binding.id is not None
            if any(row.id == binding.id for row in rows):
                continue  # the same key on another screen
            keys = keymap.get(binding.id, binding.key)
            shown = [app.get_key_display(Binding(key.strip(), "", "")) for key in keys.split(",")]
            rows.append(KeyRow(group, binding.id, " ".join(shown), binding.description))
    return rows
