"""Which tokens the biases and bans of the settings were found to mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tui_chat.config import InferenceSettings
from tui_chat.display.text import one_line, piece_label
from tui_chat.engine.bias import Resolved
from tui_chat.engine.engine import Engine
from tui_chat.language import _, n_
from tui_chat.lessons.report import Cell, Column, Report, Span, Table, Tone, Words

SHOWN = 12
"""So many tokens of one text or pattern are named."""


def biases(engine: Engine, settings: InferenceSettings, about: Literal["ban", "bias"]) -> Report:
    """The tokens of every bias and ban.

    Args:
        engine: Its vocabulary is asked.
        settings: Hold the biases and bans.
        about: Which of the two is explained below the table.

    Raises:
        SamplingError: A text to bias begins with no token of the model, a pattern is found in none, or a token is
            banned and biased.
    """
    found = settings.resolved_biases(engine.vocab.resolve, engine.info.n_vocab)
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        named = ", ".join(f"{token} {piece_label(engine.vocab.piece(token))}" for token in one.ids[:SHOWN])
        more = len(one.ids) - SHOWN
        if more > 0:
            named += n_(" and {n:,} more", " and {n:,} more", more).format(n=more)
        if one.is_text_ban:
            named = named or _("no token holds it whole")
        does = _("banned") if one.bias == -math.inf else f"{one.bias:+g}"
        spec = one_line(one.spec) if isinstance(one.spec, str) else str(one.spec)
        rows.append((Span(spec, Tone.STRONG), does, named))
    columns = (
        Column(_("asked for")),
        Column(_("logit"), "right"),
        Column(_("tokens it meets"), grows=True, wraps=True),
    )
    meets = _about_bans(found) if about == "ban" else _about_biases(found)
    table = Table(columns, tuple(rows)) if rows else Words(_("Nothing is banned, and no token has a bias."))
    return Report(
        _("biases and bans"),
        [table, *([Words(meets, Tone.DIM)] if meets else [])],
        {
            "biases": [
                {"spec": one.spec, "bias": None if one.bias == -math.inf else one.bias, "ids": list(one.ids)}
                for one in found
            ]
        },
    )


def _about_biases(found: Sequence[Resolved]) -> str:
    """How texts with a bias are met; empty where there is none."""
    if not any(isinstance(one.spec, str) and one.bias != -math.inf for one in found):
        return ""
    return _(
        "A text with a bias is met by the first token it would begin with, at the start of a line and behind a space; "
        "where that token begins other words too, they are met as well."
    )


def _about_bans(found: Sequence[Resolved]) -> str:
    """How banned texts are kept away; empty where there is none."""
    texts = [one for one in found if one.is_text_ban]
    if not texts:
        return ""
    if not any(one.ids for one in texts):
        return _(
            "A banned text never comes, however it would be cut: wherever the answer ends with its beginning, the "
            "tokens that would complete it are refused."
        )
    return _(
        "A banned text never comes, however it would be cut: the tokens above hold it and never come, and wherever the "
        "answer ends with its beginning, the tokens that would complete it are refused too."
    )
