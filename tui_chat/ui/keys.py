"""The keys: what can be rebound, where two bindings would meet, and the table of them for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.dom import DOMNode

from tui_chat.ui.screens.chat import ChatScreen
from tui_chat.ui.widgets.composer import MessageInput
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.value_row import ValueRow

if TYPE_CHECKING:
    from textual.app import App

GROUPS: tuple[tuple[str, type[DOMNode]], ...] = (
    ("Everywhere", ChatScreen),
    ("Writing a message", MessageInput),
    ("Tokens", TokenStrip),
    ("Sampling", SamplingPanel),
    ("A setting", ValueRow),
)
"""Where keys act, and the widget that binds them."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One line of the table of keys."""

    group: str
    id: str
    keys: str
    """As they are shown: `^r`, `⇧tab`."""
    description: str


def _bindings(widget: type[DOMNode]) -> list[Binding]:
    found = []
    for binding in widget.__dict__.get("BINDINGS", ()):
        if isinstance(binding, Binding) and binding.id:
            found.append(binding)
    return found


def binding_ids() -> dict[str, str]:
    """Gives the keys of every binding that `ui.keys` may change, by its id."""
    return {binding.id: binding.key for _, widget in GROUPS for binding in _bindings(widget) if binding.id}


def clashes(keymap: Mapping[str, str], changed: set[str]) -> list[str]:
    """Gives a sentence for every key that the changed bindings share with another one that acts at the same place."""
    problems = []
    everywhere = {binding.id for binding in _bindings(ChatScreen)}
    for group, widget in GROUPS:
        here = {binding.id for binding in _bindings(widget)}
        users: defaultdict[str, list[str]] = defaultdict(list)
        for name, keys in keymap.items():
            if name in here or (name in everywhere and name in changed):
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
    rows = []
    for group, widget in GROUPS:
        for binding in _bindings(widget):
            assert binding.id is not None
            keys = keymap.get(binding.id, binding.key)
            shown = [app.get_key_display(Binding(key.strip(), "", "")) for key in keys.split(",")]
            rows.append(KeyRow(group, binding.id, " ".join(shown), binding.description))
    return rows
