"""The sampling panel: five sliders, the seed and the token limit, with a line that says what the focused one does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from tui_chat.engine.types import MAX_SEED, SamplingParams
from tui_chat.errors import SamplingError
from tui_chat.language import N_
from tui_chat.ui.widgets.slider import Slider
from tui_chat.ui.widgets.value_row import ValueRow, ValueSpec

SETTING_NAMES = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "max_tokens")
"""The settings that the panel shows, in its order."""


def value_specs(defaults: Mapping[str, float | None]) -> tuple[ValueSpec, ...]:
    """Gives the rows of the panel with these defaults (by name: the five sliders, `seed`, `max_tokens`)."""
    return (
        ValueSpec(
            name="temperature", label="temperature", low=0, high=2, step=0.05, coarse=0.25,
            default=defaults["temperature"], hint="Lower is safer; 0 always takes the best.",
        ),
        ValueSpec(
            name="top_k", label="top-k", low=0, high=200, step=1, coarse=10, integer=True, curve=2, off=0,
            default=defaults["top_k"], hint="Keeps only the k best tokens.",
        ),
        ValueSpec(
            name="top_p", label="top-p", low=0, high=1, step=0.01, coarse=0.05, off=1,
            default=defaults["top_p"], hint="Keeps the best tokens until they sum to p.",
        ),
        ValueSpec(
            name="min_p", label="min-p", low=0, high=1, step=0.01, coarse=0.05, curve=2, off=0,
            default=defaults["min_p"], hint="Drops tokens below this share of the best.",
        ),
        ValueSpec(
            name="repeat_penalty", label="repeat penalty", low=1, high=2, step=0.01, coarse=0.05, off=1,
            default=defaults["repeat_penalty"], hint="Makes recent tokens less likely.",
        ),
        ValueSpec(
            name="seed", label="seed", low=0, high=MAX_SEED, step=1, coarse=100, integer=True, track=False,
            default=defaults["seed"], empty="random", hint="Same seed, same answer. Empty is random.",
        ),
        ValueSpec(
            name="max_tokens", label="max tokens", low=1, high=1_000_000, step=16, coarse=128, integer=True,
            track=False, default=defaults["max_tokens"], hint="An answer ends here at the latest.",
        ),
    )  # fmt: skip


def complaint(name: str, value: float | None) -> str | None:
    """Gives why a value does not hold for a setting, or None."""
    if value is None:
        return None
    if name == "max_tokens":
        return None if 1 <= value <= 1_000_000 else f"max tokens must be from 1 to 1,000,000, not {value:g}"
    try:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    except SamplingError as error:
        return str(error)
    return None


class SamplingPanel(VerticalScroll, can_focus=False):
    """Shows and changes how the next token is chosen.

    Args:
        defaults: Default by name, of `temperature top_k top_p min_p repeat_penalty seed max_tokens`.
        values: Present value by name.
    """

    DEFAULT_CSS = """
    SamplingPanel {
        height: auto; scrollbar-size-vertical: 1;
        & > .hint { color: $muted; height: 2; padding: 0 0 0 2; margin: 1 0 0 0; }
        & > .hint.-bad { color: $error; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "row(-1)", N_("Setting above"), show=False, id="sampling.up"),
        Binding("down", "row(1)", N_("Setting below"), show=False, id="sampling.down"),
    ]
    KEYS_HINT: ClassVar[str] = "←→ change · type a value · d default"

    class Changed(Message):
        """The user chose another value for a setting."""

        def __init__(self, panel: SamplingPanel, name: str, value: float | None) -> None:
            super().__init__()
            self.panel = panel
            self.name = name
            self.value = value

        @property
        def control(self) -> Widget:
            return self.panel

    def __init__(
        self, defaults: Mapping[str, float | None], values: Mapping[str, float | None], *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._specs = value_specs(defaults)
        self._values = dict(values)
        self.border_title = "sampling"

    def compose(self) -> ComposeResult:
        for spec in self._specs:
            kind = Slider if spec.track else ValueRow
            yield kind(
                spec,
                self._values[spec.name],
                check=partial(complaint, spec.name),
                id=f"value-{spec.name.replace('_', '-')}",
            )
        yield Static(self.KEYS_HINT, classes="hint", markup=False)

    def set_value(self, name: str, value: float | None) -> None:
        """Shows a value that was changed elsewhere."""
        self._row(name).value = value

    def show_seed_used(self, seed: int) -> None:
        """Shows the seed of the answer under way beside an empty seed."""
        row = self._row("seed")
        row.note = f"last {seed}" if row.value is None else ""

    def focus_first(self) -> None:
        """Moves the focus to the row last used, or the first."""
        self.query(ValueRow).first().focus()

    @on(ValueRow.Changed)
    def _changed(self, event: ValueRow.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, event.row.spec.name, event.value))

    @on(ValueRow.Rejected)
    def _rejected(self, event: ValueRow.Rejected) -> None:
        event.stop()
        self._say(event.reason or f"{event.row.spec.hint}\n{self.KEYS_HINT}", bad=bool(event.reason))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, ValueRow):
            self._say(f"{event.widget.spec.hint}\n{self.KEYS_HINT}", bad=False)

    def action_row(self, step: int) -> None:
        rows = list(self.query(ValueRow))
        focused = next((index for index, row in enumerate(rows) if row.has_focus), None)
        if focused is not None and 0 <= focused + step < len(rows):
            rows[focused + step].focus()

    def _row(self, name: str) -> ValueRow:
        return self.query_one(f"#value-{name.replace('_', '-')}", ValueRow)

    def _say(self, text: str, *, bad: bool) -> None:
        hint = self.query_one(".hint", Static)
        hint.update(text)
        hint.set_class(bad, "-bad")
