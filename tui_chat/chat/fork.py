"""Going on from the middle of an answer: its first tokens stay as they are, others are put behind them by hand.

Ids are spliced, never texts: what is kept are the very tokens, with the figures they were drawn by, and the prompt is
the very prompt. So all but the last token is in the cache already, and one token is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_chat.chat.splice import Piece, PromptVocabulary, encode_text, own_ids
from tui_chat.engine.types import GeneratedToken, GenerationRequest, TokenTrace
from tui_chat.errors import PromptTooLongError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """What an answer begins with, instead of with nothing."""

    ids: tuple[int, ...]
    """The tokens of the other answer."""
    index: int
    """How many of them stay."""
    text: str
    """What they spell."""
    known: tuple[GeneratedToken, ...] = ()
    """The same tokens with their figures, as far as they were kept."""
    forced_before: tuple[int, ...] = ()
    """Which of them, counted from 0, a person put there."""
    forced: tuple[int, ...] | str = ()
    """What is put behind them: tokens, or text that becomes tokens."""
    goes_on: bool = True
    """Let the model go on behind that."""
    prompt_ids: tuple[int, ...] | None = None
    """What stood before the other answer; None where the loaded model did not write it, or it was not kept."""

    @property
    def kept(self) -> tuple[int, ...]:
        """The tokens that stay."""
        return self.ids[: self.index]

    def splice(self, request: GenerationRequest, vocab: PromptVocabulary, n_ctx: int) -> GenerationRequest:
        """The request that goes on from here.

        Args:
            request: For a whole answer to the same messages.
            vocab: Of the loaded model.
            n_ctx: Tokens its context holds.

        Raises:
            UsageError: The tokens are not of this vocabulary, or the text to put in has none.
            PromptTooLongError: The context has no room for them.
        """
        if self.prompt_ids is None and self.kept and own_ids(self.ids, self.text, vocab) is None:
            raise UsageError("another model wrote this answer, with other tokens: load that one, or answer again")
        forced = continuation_ids(self.forced, vocab) if isinstance(self.forced, str) else self.forced
        if isinstance(self.forced, str) and not forced:
            raise UsageError("there is no text to put in: type some")
        outside = [token for token in (*self.kept, *forced) if not 0 <= token < vocab.n_vocab]
        if outside:
            raise UsageError(f"the model has no token {outside[0]}: its vocabulary ends at {vocab.n_vocab - 1}")
        prompt = request.prompt_ids if self.prompt_ids is None else self.prompt_ids
        ids = (*prompt, *self.kept, *forced)
        if len(ids) >= n_ctx:
            raise PromptTooLongError(len(ids), n_ctx)
        # What is kept counts as if it had been drawn again; an answer that is full already may go on as far once more.
        left = request.limits.max_tokens - len(self.kept) - len(forced)
        most = min(left if left > 0 else request.limits.max_tokens, n_ctx - len(ids)) if self.goes_on else 0
        return replace(
            request,
            prompt_ids=ids,
            n_prefilled=len(self.kept) + len(forced),
            kept=self._with_figures(forced[:1], len(prompt), vocab),
            limits=replace(request.limits, max_tokens=most),
        )

    def _with_figures(
        self, forced: tuple[int, ...], n_prompt: int, vocab: PromptVocabulary
    ) -> tuple[GeneratedToken, ...]:
        """The kept tokens and the first forced one, each with its figures where they are known."""
        by_place = {token.trace.position - n_prompt: token for token in self.known if token.trace is not None}
        tokens = [
            by_place[index]
            if index in by_place and by_place[index].id == token
            else GeneratedToken(token, vocab.piece(token), None, index in self.forced_before)
            for index, token in enumerate(self.kept)
        ]
        for token in forced:
            stood = by_place[self.index].trace if self.index in by_place else None
            trace = None if stood is None else trace_of_another(stood, token, vocab.piece(token))
            tokens.append(GeneratedToken(token, vocab.piece(token), trace, forced=True))
        return tuple(tokens)


def continuation_ids(text: str, vocab: PromptVocabulary) -> tuple[int, ...]:
    """The tokens of a text that goes on behind others; names of control tokens in it are only text."""
    return tuple(encode_text(Piece(text, literal=True), vocab, first=False))


def trace_of_another(trace: TokenTrace, token: int, piece: bytes) -> TokenTrace | None:
    """The trace at the same place with another token chosen by hand; None where its logit was not kept.

    Args:
        trace: Of the token that was drawn there.
        token: The one put in its place.
        piece: Its bytes.
    """
    logit = next((logit for other, logit in trace.top if other == token), None)
    if logit is None and token == trace.id:
        logit = trace.logit
    if logit is None or not math.isfinite(logit):
        return None
    rank = trace.rank if token == trace.id else 1 + sum(other > logit for _, other in trace.top)
    return replace(trace, id=token, piece=piece, logit=logit, rank=rank, u=None)


def text_of(pieces: Sequence[bytes]) -> str:
    """The text that tokens spell; bytes that are no whole character are replaced."""
    return b"".join(pieces).decode("utf-8", "replace")
