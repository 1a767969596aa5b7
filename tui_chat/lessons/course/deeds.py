"""What a user does in the app, as values, and how each task of the course is seen to be done.

A check takes one deed. It says nothing (None) where the deed has nothing to do with the task; otherwise it gives the
figure that proves the task done, or says what is still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_chat.display.figures import percent
from tui_chat.display.text import literal, piece_label
from tui_chat.engine.types import FinishReason, TokenTrace
from tui_chat.language import _, n_
from tui_chat.lessons.answers import AnswerFigures, end_words

WANTED_TOKENS = 5
LEAST_PIECES = 3
SURE = 0.95
HOT = 1.5
LEFT = 3
SURPRISING_NATS = 3.0


@dataclass(frozen=True, slots=True)
class CommandShown:
    """The report of a command was shown."""

    command: str
    """Its name, without the slash."""
    document: Mapping[str, Any]
    system: str | None = None
    """The system text of the conversation at that time."""


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """An answer came to its end, whatever ended it."""

    figures: AnswerFigures
    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What it was generated with, by the names of `inference`."""


@dataclass(frozen=True, slots=True)
class TokenSelected:
    """A token of an answer was selected in the inspector."""

    trace: TokenTrace


Deed = CommandShown | AnswerEnded | TokenSelected
"""Something that was done in the app."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check makes of a deed."""

    done: bool
    words: str
    """The figure that proves it, or what is missing; a sentence."""


Check = Callable[[Deed], Seen | None]
"""Looks whether a deed does a task."""


def five_tokens(deed: Deed) -> Seen | None:
    """`/tokens-demo` on a text of exactly 5 tokens, without those the vocabulary adds."""
    if not (isinstance(deed, CommandShown) and deed.command == "tokens-demo"):
        return None
    n = deed.document["n_tokens"] - deed.document["n_added"]
    words = n_("Your text is {n:,} token.", "Your text is {n:,} tokens.", n).format(n=n)
    if n != WANTED_TOKENS:
        words += " " + _("It is to be exactly {wanted}.").format(wanted=WANTED_TOKENS)
    return Seen(n == WANTED_TOKENS, words)


def cut_word(deed: Deed) -> Seen | None:
    """`/tokens-demo` on one word that is cut into 3 tokens or more."""
    if not (isinstance(deed, CommandShown) and deed.command == "tokens-demo"):
        return None
    word, n = (deed.document["text"] or "").strip(), deed.document["n_tokens"] - deed.document["n_added"]
    if not word or len(word.split()) > 1:
        return Seen(False, _("That is more than one word: give a single one."))
    words = n_("“{word}” is {n} token", "“{word}” is {n} tokens", n).format(word=literal(word), n=n)
    if n < LEAST_PIECES:
        return Seen(False, _("{word}: find one of {least} or more.").format(word=words, least=LEAST_PIECES))
    merges = deed.document["merges"]
    if not merges or not merges["steps"]:
        return Seen(True, f"{words}.")
    k = len(merges["steps"])
    after = n_("after {k} merge", "after {k} merges", k).format(k=k)
    return Seen(True, f"{words}, {after}.")


def sure_next(deed: Deed) -> Seen | None:
    """`/logits` where the best token has 95% or more."""
    if not (isinstance(deed, CommandShown) and deed.command == "logits"):
        return None
    best = deed.document["top"][0]
    done = best["p"] >= SURE
    words = _("“{token}” has {p} to come next.").format(token=literal(best["text"]), p=percent(best["p"]))
    if not done:
        words += " " + _("It is to be {sure} or more.").format(sure=percent(SURE))
    return Seen(done, words)


def hot_answer(deed: Deed) -> Seen | None:
    """An answer at temperature 1.5 or more."""
    if not (isinstance(deed, AnswerEnded) and deed.figures.generated):
        return None
    t = float(deed.settings.get("temperature", 0))
    if t < HOT:
        return Seen(False, _("That answer had temperature {t:g}: set it to {hot:g} or more.").format(t=t, hot=HOT))
    traces = deed.figures.traces
    words = _("Your answer was drawn at temperature {t:g}.").format(t=t)
    if traces:
        others = sum(trace.rank > 1 for trace in traces)
        words += " " + n_(
            "{others} of its {n:,} token was not the model's first choice.",
            "{others} of its {n:,} tokens were not the model's first choice.",
            len(traces),
        ).format(others=others, n=len(traces))
    return Seen(True, words)


def three_left(deed: Deed) -> Seen | None:
    """An answer each of whose tokens was drawn from exactly 3 candidates."""
    if not (isinstance(deed, AnswerEnded) and deed.figures.traces):
        return None
    left = [trace.stages[-1].survivors if trace.stages else 0 for trace in deed.figures.traces]
    exact, n = left.count(LEFT), len(left)
    if exact == n:
        words = n_(
            "The {n:,} token was drawn from exactly {left} candidates.",
            "Each of the {n:,} tokens was drawn from exactly {left} candidates.",
            n,
        )
        return Seen(True, words.format(n=n, left=LEFT))
    words = _("{exact} of {n:,} tokens had exactly {left}:").format(exact=exact, n=n, left=LEFT)
    if deed.settings.get("top_k") == LEFT:
        words += " " + _("try `/top-p off` and `/min-p off`.")
    else:
        words += " " + _("try `/top-k {left}`.").format(left=LEFT)
    return Seen(False, words)


def ended_by_hand(deed: Deed) -> Seen | None:
    """An answer that the user, or a stop string of theirs, ended after a token or more."""
    if not isinstance(deed, AnswerEnded):
        return None
    n, reason = deed.figures.generated or 0, deed.figures.reason
    passes = n_("after {n:,} token, {n:,} pass", "after {n:,} tokens, {n:,} passes", n).format(n=n)
    if n and reason in (FinishReason.CANCELLED, FinishReason.STOP):
        return Seen(
            True, _("The loop was broken off {passes}: {reason}.").format(passes=passes, reason=end_words(reason))
        )
    return Seen(False, _("Not by you: {reason}.").format(reason=end_words(reason)))


def reused(deed: Deed) -> Seen | None:
    """`/stats` where the last of two or more answers found tokens in the cache."""
    if not (isinstance(deed, CommandShown) and deed.command == "stats"):
        return None
    answers: Sequence[Mapping[str, Any]] = deed.document["answers"]
    usage = answers[-1]["usage"]
    if len(answers) < 2:
        return Seen(False, _("One answer so far: send a second message, then `/stats` again."))
    if not usage["reused"]:
        return Seen(False, _("No token was reused: send one more message, then `/stats` again."))
    words = _("{reused:,} of {prompt:,} tokens of the prompt were in the cache: only {read:,} had to be read.")
    read = usage["prompt"] - usage["reused"]
    return Seen(True, words.format(reused=usage["reused"], prompt=usage["prompt"], read=read))


def system_in_prompt(deed: Deed) -> Seen | None:
    """`/template` on a conversation whose system text stands in the prompt."""
    if not (isinstance(deed, CommandShown) and deed.command == "template"):
        return None
    document, system = deed.document, (deed.system or "").strip()
    if not system:
        return Seen(False, _("No system text yet: `/system` and a sentence sets one."))
    if document["example"] or not any(message["role"] == "user" for message in document["messages"]):
        return Seen(False, _("Nothing was said yet: send a message, then `/template` again."))
    at = document["text"].find(system)
    if at < 0:
        return Seen(False, _("This template leaves your system text out, or changes it."))
    words = _("Your system text stands at character {at:,} of the {n:,} that the model reads.")
    return Seen(True, words.format(at=at + 1, n=len(document["text"])))


def thought(deed: Deed) -> Seen | None:
    """An answer with a think block that is not empty."""
    if not (isinstance(deed, AnswerEnded) and deed.figures.generated):
        return None
    inside, end, _rest = deed.text.partition("</think>")
    begun = inside.lstrip().startswith("<think>")
    if not (begun or end) or not inside.replace("<think>", "").strip():
        return Seen(False, _("This answer has no thinking in it."))
    n = _tokens_before(deed.figures.traces, b"</think>")
    total = deed.figures.generated
    if not n:
        return Seen(True, _("The model thought for {n:,} characters.").format(n=len(inside)))
    words = n_("{n:,} of the {total:,} token was thinking.", "{n:,} of the {total:,} tokens were thinking.", total)
    return Seen(True, words.format(n=n, total=total))


def surprising_token(deed: Deed) -> Seen | None:
    """A token of more than 3 nats, selected."""
    if not isinstance(deed, TokenSelected):
        return None
    nats = deed.trace.surprisal
    words = _("“{token}” came with {p}: {nats:.2f} nats of surprisal.").format(
        token=literal(piece_label(deed.trace.piece)), p=percent(deed.trace.p), nats=nats
    )
    return Seen(nats > SURPRISING_NATS, words)


def _tokens_before(traces: Sequence[TokenTrace], mark: bytes) -> int:
    """How many tokens there are up to where a text comes, with it; all where it does not come."""
    text = b""
    for n, trace in enumerate(traces, start=1):
        text += trace.piece
        if mark in text:
            return n
    return len(traces)
