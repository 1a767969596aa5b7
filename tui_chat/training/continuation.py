"""Text that a model in training writes: many prompts at once, the most likely tokens or drawn ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tui_chat.training.attention import KVCache
from tui_chat.training.dialogue import END_OF_TEXT, IM_END
from tui_chat.training.models import Model
from tui_chat.training.tokenizer import token_id

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model wrote after a prompt."""

    text: str
    stopped: bool
    """Whether it ended by itself."""


def continue_texts(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Iterable[str],
    max_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Continuation]:
    """One continuation of every prompt, without dropout.

    Args:
        model: Scores tokens.
        tokenizer: The one it was trained with.
        prompts: As the model reads them, control tokens included. Of one longer than the context, the end is read.
        max_tokens: Most tokens of a continuation; the context may end it sooner.
        temperature: 0 takes the most likely token, otherwise one is drawn from all of them.
        seed: Of the draws.
    """
    encoded = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    # Something must be read before anything can be written.
    encoded = [ids[-model.shape.context :] or [token_id(tokenizer, END_OF_TEXT)] for ids in encoded]
    results = [Continuation("", False)] * len(encoded)
    ends = [end for token in (IM_END, END_OF_TEXT) if (end := tokenizer.token_to_id(token)) is not None]
    generator = torch.Generator().manual_seed(seed)
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(index)
    was_training = model.training
    model.eval()
    try:
        for length, same_length in by_length.items():
            # The last token written is never read.
            room = min(max_tokens, model.shape.context - length + 1)
            for start in range(0, len(same_length), _BATCH):
                batch = same_length[start : start + _BATCH]
                rows = torch.tensor([encoded[i] for i in batch])
                written = _continue(model, rows, ends, room, temperature, generator)
                for index, ids in zip(batch, written, strict=True):
                    place = next((i for i, token in enumerate(ids) if token in ends), None)
                    results[index] = Continuation(tokenizer.decode(ids[:place]), place is not None)
    finally:
        model.train(was_training)
    return results


@torch.no_grad()
def _continue(
    model: Model, ids: Tensor, ends: list[int], max_tokens: int, temperature: float, generator: torch.Generator
) -> list[list[int]]:
    """Tokens after each row of `ids` (B, T), until every row has ended."""
    cache, replies = KVCache(), torch.empty(len(ids), 0, dtype=torch.int64)
    device = next(model.parameters()).device
    for _ in range(max_tokens):
        # Drawn on the processor, so that every device draws the same.
        logits = model(ids.to(device), cache)[:, -1].float().cpu()  # (B, V)
        if temperature > 0:
            ids = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)  # (B, 1)
        else:
            ids = logits.argmax(-1, keepdim=True)  # (B, 1)
        replies = torch.cat((replies, ids), dim=1)
        if bool(torch.isin(replies, torch.tensor(ends)).any(dim=1).all()):
            break
    return [list(map(int, reply)) for reply in replies]
