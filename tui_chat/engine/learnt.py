"""What mirostat and adaptive-p had learnt at places that were written once.

Their state follows from the tokens of the answer and from what the model expected at each of them. An answer that goes
on from the middle (after a rewind, a fork, a restart) must find the state that belongs there: it is looked up by the
tokens and the settings; where it is not known, the tokens are evaluated once more, one at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from tui_chat.engine.feedback import State
from tui_chat.engine.types import SamplingParams

_CAPACITY = 65_536


class Learnt:
    """States by prefix; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._states: OrderedDict[tuple[int, int, int], State] = OrderedDict()

    def get(self, key: int, n_answer: int, params: SamplingParams) -> State | None:
        """The state behind the prefix `key` (see `prefix_key`), of which the last `n_answer` tokens are the answer."""
        return self._states.get((key, n_answer, _settings(params)))

    def put(self, key: int, n_answer: int, params: SamplingParams, state: State) -> None:
        """Keep the state of an answer that had these settings from its first token on."""
        self._states[key, n_answer, _settings(params)] = state
        if len(self._states) > _CAPACITY:
            self._states.popitem(last=False)


def _settings(params: SamplingParams) -> int:
    return hash(replace(params, seed=0))
