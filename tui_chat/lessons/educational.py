"""The educational mode's log of an answer: the way from text to text in a few lines of live figures."""

from __future__ import annotations

from collections.abc import Sequence

from tui_chat.display.figures import percent
from tui_chat.engine.types import ModelInfo
from tui_chat.language import _, n_
from tui_chat.lessons.answers import AnswerFigures, decode_words, end_words, prefill_words, usage_document
from tui_chat.lessons.report import Facts, Report

_FIRST_IDS, _LAST_IDS = 6, 3
"""How many ids of a long prompt are shown, from its beginning and its end."""


def answer_log(info: ModelInfo, prompt_ids: Sequence[int], answer: AnswerFigures) -> Report:
    """How an answer came about.

    Args:
        info: The model that wrote it.
        prompt_ids: What it was given, with the tokens the answer was to begin with.
        answer: What is known of the answer.
    """
    n_prompt, n_generated = len(prompt_ids), answer.generated or 0
    n_used = min(n_prompt + n_generated, info.n_ctx)
    tokens = n_("{n} token", "{n} tokens", n_prompt).format(n=f"{n_prompt:,}")
    layers = n_("{n} layer", "{n} layers", info.n_layer).format(n=info.n_layer)
    reused = "" if answer.n_reused is None else _("; {n:,} from the cache").format(n=answer.n_reused)
    return Report(
        title=_("how this answer came about"),
        blocks=(
            Facts(
                (
                    (_("text → ids"), f"{tokens}: {_shortened(prompt_ids)}"),
                    (
                        _("model"),
                        _("embedding width {width:,} → {layers} → {vocab:,} logits").format(
                            width=info.n_embd, layers=layers, vocab=info.n_vocab
                        ),
                    ),
                    (_("prefill"), prefill_words(answer) + reused),
                    (_("decode"), decode_words(answer)),
                    (
                        _("cache"),
                        _("prompt and answer take {used:,} of {n_ctx:,} places, {share}").format(
                            used=n_used, n_ctx=info.n_ctx, share=percent(n_used / info.n_ctx)
                        ),
                    ),
                    (_("end"), end_words(answer.reason)),
                )
            ),
        ),
        document={
            "model": info.name,
            "prompt_ids": list(prompt_ids),
            "n_embd": info.n_embd,
            "n_layer": info.n_layer,
            "vocab_size": info.n_vocab,
            **usage_document(answer),
            "context": {"used": n_used, "n_ctx": info.n_ctx},
        },
    )


def _shortened(ids: Sequence[int]) -> str:
    """Ids in a row, the middle left out where there are many."""
    if len(ids) <= _FIRST_IDS + _LAST_IDS + 1:
        return " ".join(map(str, ids))
    return f"{' '.join(map(str, ids[:_FIRST_IDS]))} … {' '.join(map(str, ids[-_LAST_IDS:]))}"
