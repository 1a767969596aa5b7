"""What a grammar lets come next, asked of llama.cpp for no more tokens than the answer needs.

llama.cpp reads every candidate through the grammar (`llama_grammar_apply_impl`): milliseconds at 151,936. What it says
of one token does not depend on the others, so it is asked about the best ones first; `allowed` finds all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.gbnf import check
from tui_chat.engine.llama import log_from_now
from tui_chat.engine.samplers import CandidateArray, NativeSampler
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import GrammarError, SamplingError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a grammar said at one place."""

    allowed: NDArray[np.int32]
    """Tokens it was asked about and allowed."""
    refused: NDArray[np.int32] | None
    """Those it refused; None where `allowed` are all there are."""

    def lost(self, logits: NDArray[np.float32], logsumexp: float) -> tuple[float, float]:
        """Share of the raw probability that it took away: at least, at most.

        Args:
            logits: (n_vocab,) float32, raw.
            logsumexp: Of all of them, nats.
        """
        most = min(1.0, max(0.0, 1.0 - _mass(logits[self.allowed], logsumexp)))
        return (most if self.refused is None else min(most, _mass(logits[self.refused], logsumexp))), most


def _mass(logits: NDArray[np.float32], logsumexp: float) -> float:
    return float(np.exp(logits.astype(np.float64) - logsumexp).sum())


class Grammar:
    """A grammar and how far an answer has come in it. Close it before the model.

    Args:
        vocab: The tokens.
        text: GBNF.
        answer: The tokens of the answer so far.

    Raises:
        GrammarError: The text does not hold.
        SamplingError: The grammar refuses the answer so far.
    """

    def __init__(self, vocab: Vocabulary, text: str, answer: Sequence[int] = ()) -> None:
        facts = check(text)
        for ref in facts.tokens:
            known = (
                ref.id < vocab.n_vocab if ref.id is not None else len(vocab.tokenize(ref.text, parse_special=True)) == 1
            )
            if not known:
                raise GrammarError(f"{ref.text} is no token of this model", line=ref.line, column=ref.column)
        log = log_from_now()
        sampler = NativeSampler.grammar(vocab.handle, text)
        if sampler is None:
            raise GrammarError(f"llama.cpp does not take it: {' '.join(log) or 'it gives no reason'}")
        self._vocab, self._sampler = vocab, sampler
        self._by_prefix = not facts.tokens  # a token named whole says nothing of those that begin with its text
        self._asked = CandidateArray(vocab.n_vocab)
        self._zeros = np.zeros(vocab.n_vocab, np.float32)
        self._accepted = 0
        try:
            for token in answer:
                self.accept(token)
        except SamplingError:
            self.close()
            raise

    def close(self) -> None:
        """Free it."""
        self._sampler.close()

    def allows(self, ids: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which of (n,) tokens may come next."""
        self._asked.fill(ids, self._zeros[: len(ids)])
        self._asked.apply(self._sampler)
        allowed: NDArray[np.bool_] = self._asked.view()["logit"] == 0
        return allowed

    def allowed(self) -> NDArray[np.int32]:
        """All tokens that may come next, ascending; exact, and slow where that is most of the vocabulary."""
        if self._by_prefix:
            return self._vocab.forest.allowed(self.allows)
        everything = np.arange(self._vocab.n_vocab, dtype=np.int32)
        return everything[self.allows(everything)]

    def accept(self, token: int) -> None:
        """Go on behind a token.

        Raises:
            SamplingError: It is refused; nothing has changed then.
        """
        if not self.allows(np.array([token]))[0]:
            text = self._vocab.piece(token).decode("utf-8", "replace")
            raise SamplingError(
                f"the grammar refuses {text!r} as token {self._accepted + 1} of the answer: "
                "take it back, or write on without a grammar"
            )
        self._accepted += 1
        if token not in self._vocab.eog_ids:  # behind the end there is nothing to allow
            self._sampler.accept(token)
