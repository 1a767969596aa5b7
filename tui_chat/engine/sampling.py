"""From logits to a token: the stages applied one at a time, and a draw of our own.

The chain is llama.cpp's (`common_sampler_init`), stage by stage, so that after each one the survivors are known. Then

    token = first one whose cumulative probability, best first, exceeds u        (`draws.uniform`)

so the same seed, prefix and settings give the same token, however one got there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.chain import Run
from tui_chat.engine.draws import XTC, Draws
from tui_chat.engine.draws import uniform as uniform
from tui_chat.engine.feedback import State
from tui_chat.engine.grammar import Grammar, Verdict
from tui_chat.engine.samplers import CandidateArray
from tui_chat.engine.selection import Selection, falling, refuse, select
from tui_chat.engine.shortcut import Shortcut
from tui_chat.engine.stages import REMEMBERING, Stage, make_stages, summed_biases
from tui_chat.engine.stages import penalty_window as penalty_window
from tui_chat.engine.text_bans import TextBans
from tui_chat.engine.types import TRUNCATING, Candidate, SamplingParams, StageTrace
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import SamplingError

Watch = Callable[[str, NDArray[np.void]], None]
"""Takes a stage's name and the candidates it left: (n,) of `CANDIDATE`, in any order, to be read at once."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token, and what it was chosen from."""

    id: int
    u: float | None
    """The draw; None when greedy."""
    stages: tuple[StageTrace, ...]
    ids: NDArray[np.int32]
    """(n_survivors,) the tokens the draw was made from, best first."""
    p: NDArray[np.float64]
    """(n_survivors,) their probabilities; they sum to 1."""
    selection: Selection
    """The best raw logits, at least as many as top-k keeps."""
    verdict: Verdict | None = None
    """What the grammar said, where there is one."""

    @property
    def p_chosen(self) -> float:
        """The probability that `id` was drawn with; `id` is one of `ids`."""
        return float(self.p[self.ids == self.id][0])


class Sampler:
    """The chain of one set of settings, with the history its stages need.

    Args:
        params: The settings.
        n_vocab: Size of the vocabulary.
        n_ctx: Size of the context; what "the whole context" means to penalties.
        history: The tokens so far, oldest first.
        always: Stages to apply and report even where their settings make them do nothing.
        vocab: The tokens; a grammar, banned texts and DRY's sequence breakers need them. Open until `close`.
        n_answer: How many of the last of `history` belong to the answer: a grammar and banned texts look at no more.
        state: What mirostat or adaptive-p had learnt from those (see `state`); None begins anew.

    Raises:
        SamplingError: A setting does not hold for this vocabulary, or the grammar refuses the answer so far.
    """

    def __init__(
        self,
        params: SamplingParams,
        n_vocab: int,
        n_ctx: int,
        history: Sequence[int] = (),
        always: Sequence[str] = (),
        *,
        vocab: Vocabulary | None = None,
        n_answer: int = 0,
        state: State | None = None,
    ) -> None:
        self.params = params
        self._n_vocab = n_vocab
        self._candidates = CandidateArray(n_vocab)
        texts = _banned_texts(params)
        outside = [token for token in summed_biases(params) if not 0 <= token < n_vocab]
        if outside:
            raise SamplingError(f"a logit bias names token {outside[0]}, but the vocabulary ends at {n_vocab - 1}")
        if params.grammar and vocab is None:
            raise SamplingError("a grammar is about texts, and without a model there are none: leave it out")
        if texts and vocab is None:
            raise SamplingError(f"without a model {texts[0]!r} is not a token: name it by id")
        self._history = list(history)
        self._start = len(self._history) - n_answer
        answer = self._history[self._start :]
        self._bans = TextBans(vocab, texts, answer) if texts and vocab is not None else None
        stages = make_stages(params, n_vocab, n_ctx, vocab.handle if vocab else None, self._bans)
        self._shortcut = Shortcut(params, stages, self._moved)
        self._stages = stages
        self._before = stages[: self._shortcut.n_before]
        running = {stage.name: stage for stage in stages}
        self._plan = [(name, running.get(name)) for name in params.order if name in running or name in always]
        window = penalty_window(params.repeat_last_n, n_ctx)
        self._windows = {"penalties": window, "dry": penalty_window(params.dry_penalty_last_n, n_ctx)}
        for stage in stages:
            for token in self._history[-self._windows[stage.name] :] if stage.name in REMEMBERING else ():
                stage.accept(token)
        self._feedback = [stage.feedback for stage in stages if stage.feedback is not None]
        if state:
            self.state = state
        self._grammar: Grammar | None = None
        if any(stage.name == "grammar" for stage in stages) and vocab is not None:
            self._grammar = Grammar(vocab, params.grammar, answer)
        self._u = Draws(params.seed)

    def close(self) -> None:
        """Free the native samplers."""
        for stage in self._stages:
            stage.close()
        if self._grammar is not None:
            self._grammar.close()

    @property
    def state(self) -> State:
        """What mirostat and adaptive-p have learnt; empty without them. It may be given to a sampler made later."""
        return tuple(number for feedback in self._feedback for number in feedback.state)

    @state.setter
    def state(self, state: State) -> None:
        for feedback in self._feedback:
            n = len(feedback.state)
            if len(state) < n:
                return
            feedback.state, state = tuple(state[:n]), state[n:]

    @property
    def refused_by_text(self) -> tuple[tuple[str, NDArray[np.int32]], ...]:
        """The banned texts, each with the ids of the tokens that would complete it here."""
        return () if self._bans is None else self._bans.by_text()

    def allows(self, token: int) -> bool:
        """Whether the grammar, if there is one, lets this token come next."""
        return self._grammar is None or bool(self._grammar.allows(np.array([token]))[0])

    def accept(self, token: int) -> None:
        """Add a token to the history that the stages look at.

        Raises:
            SamplingError: The grammar refuses it; nothing has changed then.
        """
        if self._grammar is not None:
            self._grammar.accept(token)
        self._history.append(token)
        for stage in self._stages:
            stage.accept(token)

    def choose(
        self,
        logits: NDArray[np.float32],
        position: int,
        *,
        show: int = 0,
        prefilter: bool = True,
        watch: Watch | None = None,
    ) -> Choice:
        """Pick the token for `position`.

        Where several logits tie at the border of top-k, which of them stay is up to llama.cpp's partial sort.

        Args:
            logits: (n_vocab,) float32, raw.
            position: Index in the context of the token to pick.
            show: How many candidates each stage reports, best first; -1 all.
            prefilter: Allow the exact shortcut past the candidates that the first truncation would drop anyway. It is
                not taken where every stage's candidates are wanted.
            watch: Called after every stage.

        Raises:
            DecodeError: A logit is NaN or +inf.
            SamplingError: No candidate is left.
        """
        touched = self._touched()
        selection = select(logits, self._shortcut.room + len(touched))
        if not math.isfinite(selection.highest):
            refuse(logits, selection.highest, position)
        early = self._grammar if any(stage.name == "grammar" for stage in self._before) else None
        exact = show != 0 or watch is not None or not prefilter
        pool = None if exact else self._shortcut.pool(logits, selection, touched, early)
        if pool is not None and not len(pool.ids):
            pool = None  # the stages themselves say who took the last one
        number, grammar = position - self._start + 1, self._grammar
        run = Run(self.params, self._before, self._candidates, logits, pool, grammar, number, ask_all=not prefilter)
        stages = []
        for name, stage in self._plan:
            if stage is None:
                note = "mirostat acts in its place" if self.params.mirostat and name in TRUNCATING else ""
            else:
                note = "" if self._rests(stage, position) else run.through(stage)
            if watch is not None:
                watch(name, self._candidates.view())
            shown = _describe(self._candidates.view(), show) if show else ()
            stages.append(StageTrace(name, run.survivors, shown, at_least=run.at_least, note=note))
        return self._draw(tuple(stages), position, selection, run.verdict)

    def _rests(self, stage: Stage, position: int) -> bool:
        """XTC acts by chance; so that a seed and a position decide it, the chance is ours."""
        return stage.name == "xtc" and self._u(position, XTC) >= self.params.xtc_probability

    def _moved(self, logits: NDArray[np.float32], ids: NDArray[np.intp]) -> NDArray[np.float32]:
        """The logits of some tokens behind the biases and penalties that stand before the first truncation."""
        self._candidates.fill(ids, logits[ids])
        for stage in self._before:
            stage.apply(self._candidates)
        return self._candidates.view()["logit"].copy()

    def _touched(self) -> NDArray[np.intp]:
        """Tokens that the stages before the first truncation may single out."""
        touched: set[int] = set()
        for stage in self._before:
            if stage.name == "logit_bias":
                touched.update(summed_biases(self.params))
                touched.update(() if stage.bans is None else stage.bans.refused.tolist())
            elif stage.name in self._windows:
                touched.update(self._history[-self._windows[stage.name] :])
        return np.fromiter(touched, np.intp, len(touched))

    def _draw(
        self, stages: tuple[StageTrace, ...], position: int, selection: Selection, verdict: Verdict | None
    ) -> Choice:
        ids, logits = _sorted(self._candidates.view())
        params = self.params
        if params.temperature == 0 and params.dynatemp_range == 0 and "temperature" in params.order:
            return Choice(int(ids[0]), None, stages, ids[:1], np.ones(1), selection, verdict)
        p = softmax(logits, logits[0])
        u = self._u(position)
        picked = min(int(np.searchsorted(np.cumsum(p), u, side="right")), len(ids) - 1)
        return Choice(int(ids[picked]), u, stages, ids, p, selection, verdict)


def _banned_texts(params: SamplingParams) -> list[str]:
    texts = [(token, bias) for token, bias in params.logit_bias if isinstance(token, str)]
    for text, bias in texts:
        if not text or bias != -math.inf:
            raise SamplingError(f"the text {text!r} cannot be biased by {bias:+g}: bias its tokens, by their ids")
    return [text for text, _ in texts] if "logit_bias" in params.order else []


def softmax(logits: NDArray[np.floating], highest: np.floating | None = None) -> NDArray[np.float64]:
    """Probabilities of (n,) logits, in float64.

    Args:
        logits: In nats; at least one finite.
        highest: The largest of them, if it is known.
    """
    e = logits.astype(np.float64)
    e -= logits.max() if highest is None else highest
    np.exp(e, out=e)
    e /= e.sum()
    return e


def _sorted(view: NDArray[np.void]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and logits of the finite candidates, best first, ties by id."""
    ids, logits = falling(view["id"], view["logit"])
    if len(logits) and logits[-1] == -np.inf:
        alive = np.count_nonzero(logits > -np.inf)
        ids, logits = ids[:alive], logits[:alive]
    return ids, logits


def _describe(view: NDArray[np.void], show: int) -> tuple[Candidate, ...]:
    ids, logits = _sorted(view)
    if not len(ids):
        return ()
    p = softmax(logits)
    count = len(ids) if show < 0 else show
    return tuple(map(Candidate, ids[:count].tolist(), logits[:count].tolist(), p[:count].tolist()))
