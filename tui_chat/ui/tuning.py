"""The settings as they stand: changed, taken back, brought again, and brought to an answer under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_chat.config import InferenceSettings
from tui_chat.engine.bias import Resolve
from tui_chat.engine.types import SAMPLING_FIELDS, Bias, SamplingParams
from tui_chat.errors import TuiChatError
from tui_chat.ui.news import BiasesResolved, BiasSpec

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine

LIVE_FIELDS = tuple(name for name in SAMPLING_FIELDS if name not in ("seed", "logit_bias", "grammar"))
"""The settings that reach an answer under way as they are; biases and bans do so once their tokens are known."""

ONE_CHANGE_S = 1.0
"""Changes of one setting that follow each other as fast as this are taken back together: a slider that was dragged."""

_KEPT = 200
"""So many changes can be taken back."""


def field_of(name: str) -> str:
    """The name in `InferenceSettings` of a setting: `max_tokens` is `max_length` there."""
    return "max_length" if name == "max_tokens" else name


class Tuning:
    """The settings of `inference`, with what they were before.

    Args:
        defaults: What they are when nothing else was chosen.
        clock: Seconds that only grow.
    """

    def __init__(self, defaults: InferenceSettings, clock: Callable[[], float]) -> None:
        self.present = defaults
        """The settings in force."""
        self._clock = clock
        self._before: list[InferenceSettings] = []
        self._after: list[InferenceSettings] = []
        self._last: tuple[tuple[str, ...], float] = ((), 0.0)

    def change(self, values: Mapping[str, object], resolve: Resolve | None, n_vocab: int | None = None) -> None:
        """Changes settings together.

        Args:
            values: By name, as in `InferenceSettings`.
            resolve: Gives the tokens of texts in biases and bans; None where they are not known.
            n_vocab: Tokens there are, where that is known.

        Raises:
            UsageError: A value does not hold, or not beside the others; nothing has changed then.
        """
        settings = self.present.model_copy(update=dict(values))
        names = _differing(self.present, settings)
        _check(settings, names, resolve, n_vocab)
        if not names:
            return
        now = self._clock()
        before, at = self._last
        if not (len(names) == 1 and names == before and now - at < ONE_CHANGE_S and self._before):
            self._before = [*self._before[1 - _KEPT :], self.present]
        self._last = names, now
        self._after.clear()
        self.present = settings

    @property
    def undoable(self) -> tuple[str, ...]:
        """The settings that `undo` would change; empty where there is nothing to take back."""
        return _differing(self._before[-1], self.present) if self._before else ()

    def undo(self) -> tuple[str, ...]:
        """Takes the last change back and names the settings in it; empty where there is none."""
        return self._step(self._before, self._after)

    def redo(self) -> tuple[str, ...]:
        """Brings the change again that was taken back last; empty where there is none."""
        return self._step(self._after, self._before)

    def _step(self, source: list[InferenceSettings], target: list[InferenceSettings]) -> tuple[str, ...]:
        if not source:
            return ()
        target.append(self.present)
        settings = source.pop()
        names = _differing(self.present, settings)
        self.present, self._last = settings, ((), 0.0)
        return names


def live_params(begun: SamplingParams, settings: InferenceSettings, biases: tuple[Bias, ...]) -> SamplingParams:
    """The settings of an answer under way from now on.

    Args:
        begun: Those it has: its seed and its grammar stay, and so does the stage of the grammar.
        settings: The present ones.
        biases: Those of the present settings, by token.
    """
    values = {name: getattr(settings, name) for name in LIVE_FIELDS}
    if begun.grammar and "grammar" not in settings.order:
        values["order"] = begun.order
    return replace(begun, **values, logit_bias=biases)


def bias_spec(settings: InferenceSettings) -> BiasSpec:
    """Biases and bans as they are written."""
    return settings.logit_bias, settings.ban


def resolve_beside(
    settings: InferenceSettings,
    lend: Callable[[], AbstractContextManager[Engine | None]],
    report: Callable[[BiasesResolved], None],
) -> None:
    """Finds the tokens of biases and bans on a thread of its own, and reports them.

    Nothing is reported without a model, nor where a text is no token: the next answer says so.
    """

    def work() -> None:
        with suppress(TuiChatError), lend() as engine:
            if engine is not None:
                found = settings.resolved_biases(engine.vocab.resolve)
                report(BiasesResolved(bias_spec(settings), tuple(bias for one in found for bias in one.biases)))

    threading.Thread(target=work, name="tui-chat-biases", daemon=True).start()


def _differing(one: InferenceSettings, other: InferenceSettings) -> tuple[str, ...]:
    return tuple(name for name in type(one).model_fields if getattr(one, name) != getattr(other, name))


def _check(settings: InferenceSettings, names: tuple[str, ...], resolve: Resolve | None, n_vocab: int | None) -> None:
    values = {name: getattr(settings, name) for name in SAMPLING_FIELDS if name != "logit_bias"}
    constrained = settings.grammar or settings.json_schema
    SamplingParams(**{**values, "seed": settings.seed or 0, "grammar": constrained})
    if {"grammar", "json_schema"} & set(names):
        settings.grammar_text()
    if {"logit_bias", "ban"} & set(names) and resolve is not None:
        settings.resolved_biases(resolve, n_vocab)
