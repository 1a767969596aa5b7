"""The KV cache as a list of token ids: what was evaluated, what can be kept, where to go back to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.learnt import Learnt
from tui_chat.engine.llama import NativeContext
from tui_chat.engine.recent import prefix_key
from tui_chat.errors import CancelledError, PromptTooLongError


class Context:
    """Tokens in llama.cpp's cache, and the only way to add to them or drop some.

    Args:
        native: A fresh context; owned by the caller.
    """

    def __init__(self, native: NativeContext) -> None:
        self._native = native
        self._ids: list[int] = []
        self._keys: list[int] = [prefix_key(())]
        self.learnt = Learnt()
        self._begun: list[int] = []

    @property
    def ids(self) -> Sequence[int]:
        """The tokens in the cache, in order."""
        return self._ids

    def key(self, position: int) -> int:
        """Names the tokens before `position` (see `prefix_key`)."""
        return self._keys[position]

    @property
    def chunks(self) -> tuple[tuple[int, int], ...]:
        """How the tokens came into the cache: (tokens in an evaluation, how many such in a row), from the beginning.

        Rounding depends on it: only the same chunks give the very same logits again.
        """
        sizes = (sum(1 for _ in chunk) for _, chunk in groupby(self._begun))
        return tuple((size, sum(1 for _ in equal)) for size, equal in groupby(sizes))

    @property
    def n_ctx(self) -> int:
        """Tokens the cache holds."""
        return self._native.n_ctx

    @property
    def n_outputs(self) -> int:
        """Most tokens whose logits one evaluation can give."""
        return self._native.n_outputs

    def common_prefix(self, ids: Sequence[int]) -> int:
        """How many tokens `ids` and the cache have in common from the start."""
        n = min(len(ids), len(self._ids))
        if self._ids[:n] == list(ids[:n]):
            return n
        return next(i for i in range(n) if self._ids[i] != ids[i])

    def rewind(self, position: int) -> None:
        """Drop everything from `position` on.

        Models whose state cannot be cut (recurrent ones) lose all of it; `ids` says what is left.
        """
        if position >= len(self._ids):
            return
        if position > 0 and self._native.forget_from(position):
            del self._ids[position:], self._keys[position + 1 :], self._begun[position:]
        else:
            self._forget_all()

    def prefill(self, ids: Sequence[int], cancel: CancelFlag | None = None) -> Iterator[int]:
        """Make the cache hold exactly `ids`, keeping the prefix it has; logits of the last one are then ready.

        Args:
            ids: The whole prompt.
            cancel: Stops it, within a batch too.

        Yields:
            How many of `ids` are in the cache: first the reused ones, then after every chunk.

        Raises:
            PromptTooLongError: No place would be left for one more token.
            CancelledError: `cancel` was set; whole chunks evaluated until then stay in the cache.
        """
        if not ids:
            raise ValueError("nothing to evaluate")
        if len(ids) >= self.n_ctx:
            raise PromptTooLongError(len(ids), self.n_ctx)
        # The last token is evaluated again even if it is cached: its logits are gone.
        self.rewind(min(self.common_prefix(ids), len(ids) - 1))
        self._native.abort_with(cancel)
        yield len(self._ids)
        while len(self._ids) < len(ids):
            done = len(self._ids)
            chunk = ids[done : done + self._native.n_batch]
            if cancel is not None and cancel.is_set():
                raise CancelledError("the prompt was stopped while it was read")
            if not self._extend(chunk, logits=done + len(chunk) == len(ids)):
                raise CancelledError("the prompt was stopped while it was read")
            yield len(self._ids)

    def abort_with(self, flag: CancelFlag | None) -> None:
        """Let `flag` stop an evaluation under way; `prefill` does so by itself."""
        self._native.abort_with(flag)

    def append(self, token: int) -> bool:
        """Evaluate one more token; False when the abort flag stopped it.

        Raises:
            DecodeError: llama.cpp failed, or the context is full.
        """
        return self._extend((token,), logits=True)

    def extend(self, ids: Sequence[int], cancel: CancelFlag | None = None) -> NDArray[np.float32]:
        """Evaluate at most `n_outputs` more tokens.

        Returns:
            (n, n_vocab) float32 after each of them; a view that lives until the next evaluation.

        Raises:
            CancelledError: `cancel` was set.
            DecodeError: llama.cpp failed, or the context is full.
        """
        self._native.abort_with(cancel)
        if (cancel is not None and cancel.is_set()) or not self._extend(ids, logits=True):
            raise CancelledError("the text was stopped while it was read")
        return self._native.all_logits(len(ids))

    def logits(self) -> NDArray[np.float32]:
        """(n_vocab,) float32 after the last token; a view that lives until the next evaluation."""
        return self._native.logits()

    def _extend(self, chunk: Sequence[int], *, logits: bool) -> bool:
        position = len(self._ids)
        try:
            done = self._native.decode(chunk, position, logits=logits)
        except BaseException:
            self._forget_tail()
            raise
        if done:
            self._ids.extend(chunk)
            self._begun.extend([position] * len(chunk))
            for token in chunk:
                self._keys.append(prefix_key((token,), self._keys[-1]))
        else:
            self._forget_tail()
        return done

    def _forget_tail(self) -> None:
        """Bring the cache back to what `ids` says after a batch that broke off."""
        if not self._ids or not self._native.forget_from(len(self._ids)):
            self._forget_all()

    def _forget_all(self) -> None:
        self._native.forget_all()
        self._ids.clear()
        self._begun.clear()
        del self._keys[1:]
