"""Figures: how a number is written, and that it is written so in every language."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from tui_chat import language
from tui_chat.cli.tokens import EXAMPLE
from tui_chat.display import figures
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.excerpt import Excerpt, warning

NUMBER = re.compile(r"\d+(?:[.,]\d+)+|(?<=[{])[^{}]*(?=})")


@pytest.fixture(params=list(language.LANGUAGES))
def code(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each language, spoken while a test runs."""
    language.use(request.param)
    yield request.param
    language.use("en")


def test_figures_are_written_alike_in_every_language(code: str) -> None:
    assert figures.percent(0.4123) == "41.2%"
    assert figures.rate(1234.5) == "1,234 tok/s"
    assert figures.rate(9.5) == "9.5 tok/s"
    assert figures.count(9_876) == "9,876"
    assert figures.size(3_400_000) == "3.4 MB"
    assert figures.span(1.25) == "1.25 s"
    assert figures.nats(1.834).startswith("1.83 ")
    assert figures.perplexity_text(1234.5) == "1,234"
    (words,) = draw(warning(Excerpt(946, 1200, 1200, 256)), 200)
    assert "1,200" in text_of(words), code


def test_figures_in_the_translations_are_those_of_the_text(code: str) -> None:
    if code == "en":
        return
    path = language.LOCALE_DIR / code / "LC_MESSAGES" / f"{language.DOMAIN}.po"
    with path.open("rb") as file:
        catalogue = read_po(file)
    assert len(catalogue) > 1000
    for message in catalogue:
        texts = [str(text) for text in (message.id if message.pluralizable else (message.id,))]
        forms = [str(form) for form in (message.string if message.pluralizable else (message.string,))]  # type: ignore[union-attr]
        if not texts[0] or texts[0] == EXAMPLE or not any(forms) or message.fuzzy:
            continue
        written = {found for text in texts for found in NUMBER.findall(text) if found[:1].isdigit()}
        for form in forms:
            assert {found for found in NUMBER.findall(form) if found[:1].isdigit()} <= written, texts[0]


@pytest.mark.parametrize(
    ("text", "whole", "typed"),
    [
        ("0,7", False, "0.7"),
        (",5", False, ".5"),
        ("-0,69", False, "-0.69"),
        ("1,2,3", False, None),
        ("1.234,5", False, None),
        ("0,x", False, None),
        ("1,024", True, "1024"),
        ("1.024", True, "1024"),
        ("1,000,000", True, "1000000"),
        ("1,000.000", True, None),
        ("4.5", True, None),
        ("4,5", True, None),
    ],
)
def test_a_number_typed_with_commas_is_told_as_it_is_to_be_typed(text: str, whole: bool, typed: str | None) -> None:
    assert figures.retyped(text, whole=whole) == typed


@given(st.integers(-(10**12), 10**12), st.floats(-1e6, 1e6).map(lambda value: round(value, 4)))
def test_what_is_told_is_the_number(whole: int, value: float) -> None:
    if abs(whole) > 999:
        assert figures.retyped(f"{whole:,}", whole=True) == str(whole)
    assert float(figures.retyped(f"{value:.4f}".replace(".", ","), whole=False) or "nan") == value
