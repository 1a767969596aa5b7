"""The language of what the program explains: gettext catalogues beside this file, English where one has no word.

`_("English text")` translates when it is called, so that it follows `use`; `N_("...")` only marks a text that is
translated where it is shown. `make messages` gathers both into `locale/*.po` and compiles those. Figures in those texts
are written alike in every language: see `display.figures`.
"""

from __future__ import annotations

import gettext
import os
from pathlib import Path

from tui_chat.errors import PromptTooLongError, UsageError

LOCALE_DIR = Path(__file__).parent / "locale"
DOMAIN = "tui_chat"

LANGUAGES = {"en": "English", "es": "español", "pt": "português"}
"""What the program can explain itself in: code and own name."""

_catalogue: gettext.NullTranslations = gettext.NullTranslations()
_code = "en"


def use(code: str | None) -> None:
    """Explain in this language from now on.

    Args:
        code: "en", "es" or "pt", also with a country ("pt_BR", "es-MX"); None follows the locale of the environment and
            takes English where there is no catalogue for it.

    Raises:
        UsageError: No such language; names those there are.
    """
    global _catalogue, _code
    _code = _of_environment() if code is None else known(code)
    _catalogue = gettext.translation(DOMAIN, LOCALE_DIR, [_code], fallback=True)


def known(code: str) -> str:
    """The code in `LANGUAGES` of a language that may be named with a country.

    Raises:
        UsageError: No such language; names those there are.
    """
    short = _short(code)
    if short not in LANGUAGES:
        names = ", ".join(f"{name} ({own})" for name, own in LANGUAGES.items())
        raise UsageError(f"there is no language {code!r}: choose from {names}")
    return short


def present() -> str:
    """Code of the language in use."""
    return _code


def _(text: str) -> str:
    """The text in the language in use; itself where it has no translation."""
    return _catalogue.gettext(text) if text else ""


def n_(one: str, many: str, count: int) -> str:
    """The form of a text that goes with a number."""
    return _catalogue.ngettext(one, many, count)


def N_(text: str) -> str:  # noqa: N802  # gettext's own name for it
    """Mark a text for translation where it is shown."""
    return text


def said(error: Exception) -> str:
    """What an error says. Those of the rooms below speak English; the one that lessons run into is translated here."""
    if not isinstance(error, PromptTooLongError):
        return str(error)
    return _(
        "the prompt has {n} tokens but the context holds {most}, one of them for the answer: shorten the prompt or "
        "raise n_ctx"
    ).format(n=f"{error.n_prompt:,}", most=f"{error.n_ctx:,}")


def _of_environment() -> str:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return short if (short := _short(value)) in LANGUAGES else "en"
    return "en"


def _short(code: str) -> str:
    return code.replace("-", "_").split("_")[0].split(".")[0].lower()
