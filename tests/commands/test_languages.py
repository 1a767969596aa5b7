"""Slash commands in every language: what the help, the menu and the examples say leaves no English behind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from tests.commands.recorder import Recorder, Unloaded
from tui_chat import language
from tui_chat.chat.conversation import Role
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.completion import complete
from tui_chat.commands.every_setting import ABOUT
from tui_chat.commands.help import TWINS
from tui_chat.engine.engine import Engine
from tui_chat.errors import TuiChatError
from tui_chat.language import LANGUAGES
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.report import Column, Flow, Table, Tone, Verbatim

REGISTRY = default_registry()

CODES = tuple(code for code in LANGUAGES if code != "en")

EXAMPLES = tuple(line for command in REGISTRY for line, _does in command.examples)

SETTINGS = tuple(f"/set {name}" for name in ABOUT)

TYPED = {*EXAMPLES, *TWINS.values(), "What is a token?", "Write a haiku about rain."}
"""Lines that are the same in every language, and prompts that the built-in model's file names."""

SENTENCE = re.compile(r"(?:[A-Za-z]+[,;:.]? ){3}[A-Za-z]+")

CARD = 71
"""Cells of a card on a terminal of 80."""


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    language.use("en")


@cache
def _english(code: str) -> tuple[re.Pattern[str], frozenset[str]]:
    """Parts of texts that are said otherwise in the language: those of three words and more, and whole texts of two.

    A single word may be a name.
    """
    import gettext

    catalogue = gettext.translation(language.DOMAIN, language.LOCALE_DIR, [code])
    assert isinstance(catalogue, gettext.GNUTranslations)
    texts: Mapping[Any, str] = catalogue._catalog  # type: ignore[attr-defined]
    others = {key if isinstance(key, str) else key[0]: said for key, said in texts.items() if key}
    parts = {
        part.strip(" .,:;()")
        for text, said in others.items()
        if text != said
        for part in re.split(r"\{[^}]*\}|\n|`[^`]*`|\*\*", text)
        if len(re.findall(r"[A-Za-z]{2,}", part)) > 2 and part not in said
    }
    whole = {text for text, said in others.items() if text != said and " " in text and "{" not in text}
    return re.compile("|".join(sorted(map(re.escape, parts), key=len, reverse=True))), frozenset(whole)


def _left(code: str, texts: Iterator[str]) -> list[str]:
    """The texts in which English is left."""
    parts, whole = _english(code)
    found = []
    for text in texts:
        said = text
        for line in sorted(TYPED, key=len, reverse=True):
            said = said.replace(line, "")
        if parts.search(said) or said.strip(" `") in whole:
            found.append(text)
    return found


def _texts(value: object, *, data: bool = False) -> Iterator[str]:
    """Every text of a report's blocks; without `data`, no text of the model, of messages or of files."""
    if isinstance(value, Tone):
        return
    if isinstance(value, Column):
        value = value.title
    if isinstance(value, str):
        yield value
    elif isinstance(value, Verbatim | Flow) and not data:
        return
    elif isinstance(value, Table) and not data:
        yield from (column.title for column in value.columns)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _texts(item, data=data)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name), data=data)


def _spoken(context: Recorder) -> Iterator[str]:
    for report in context.reports:
        yield report.title
        yield from _texts(list(report.blocks), data=True)
    yield from context.shown
    yield from context.notices


def _asked(line: str, context: Recorder) -> Recorder:
    if context.system_text:
        context.conversation.append(Role.SYSTEM, context.system_text)
    context.conversation.append(Role.USER, "42")
    REGISTRY.execute(line, context)
    return context


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("command", REGISTRY, ids=lambda command: command.name)
def test_the_help_of_a_command_speaks_the_language(command: Any, code: str) -> None:
    language.use(code)
    context = _asked(f"/help {command.name}", Recorder())
    assert _left(code, _spoken(context)) == []
    # What is unmarked comes the same in both.
    language.use("en")
    english = set(_sentences(_asked(f"/help {command.name}", Recorder())))
    language.use(code)
    assert english & set(_sentences(context)) == set()


def _sentences(context: Recorder) -> Iterator[str]:
    """Texts of four words and more that nobody typed."""
    for report in context.reports:
        for text in _texts(list(report.blocks)):
            said = re.sub(r"`[^`]*`", "", text)
            if SENTENCE.search(said):
                yield said
    yield from (text for text in (*context.shown, *context.notices) if SENTENCE.search(text))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("line", [*EXAMPLES, *SETTINGS, "/help", "/think", "/prefill", "/system", "/stop", "/model"])
def test_what_a_command_shows_speaks_the_language(line: str, code: str, pocket: Engine) -> None:
    said = {}
    for spoken in ("en", code):
        language.use(spoken)
        said[spoken] = _asked(line, Recorder(engine=pocket, begins_with="7", system_text="8"))
    assert _left(code, _spoken(said[code])) == []
    assert set(_sentences(said["en"])) & set(_sentences(said[code])) == set()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "line",
    ["/temp", "/top-p", "/seed", "/tokens", "/set", "/set seed", "/stop", "/system", "/prefill", "/think", "/theme"],
)
def test_what_is_shown_without_a_model_speaks_the_language(line: str, code: str) -> None:
    language.use(code)
    assert _left(code, _spoken(_asked(line, Unloaded()))) == []


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "line",
    [
        "/temp warm",
        "/temp 0,7",
        "/temp 1 2",
        "/top-k 4.5",
        "/top-k 4,5",
        "/tokens 0",
        "/new now",
        "/hlep",
        "/xyzzy",
        "/theme drak",
        "/theme tui-chat-drak",
        "/stop it's",
        "/stop it\\",
        "/set nothing-like-it",
        "/set system",
        "/think maybe",
        "/educational maybe",
        "/perplexity",
        "/perplexity no-such-file.txt",
        "/why nothing-like-it",
        "/learn 99",
    ],
)
def test_wrong_use_is_told_in_the_language(line: str, code: str) -> None:
    language.use(code)
    with pytest.raises(TuiChatError) as caught:
        _asked(line, Recorder())
    assert _left(code, iter([str(caught.value)])) == []


@pytest.mark.parametrize("code", CODES)
def test_the_menu_speaks_the_language(code: str) -> None:
    language.use(code)
    said: list[str] = []
    for line in ("/", *(f"/{command.name} " for command in REGISTRY), "/set seed "):
        offer = complete(line, REGISTRY, Recorder())
        if offer is not None:
            said += [offer.hint.partition(": ")[2], *(item.detail for item in offer.suggestions)]
    assert _left(code, iter(said)) == []


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("line", ["/help", "/set", *(f"/help {command.name}" for command in REGISTRY)])
def test_nothing_is_cut_on_80_columns(line: str, code: str) -> None:
    language.use(code)
    context = _asked(line, Recorder())
    for report in context.reports:
        for drawn in draw(report.blocks, CARD):
            text = text_of(drawn)
            assert len(text) <= CARD
            assert line == "/set" or "…" not in text  # whose values are shortened
