"""The language of what the program explains: gettext catalogues beside this file, English where one has no word.

`_("English text")` translates when it is called, so that it follows `use`; `N_("...")` only marks a text that is
translated where it is shown. `make messages` gathers both into `locale/*.po` and compiles those.
"""

from __future__ import annotations

import gettext
import os
from pathlib import Path

from tui_chat.errors import UsageError

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
    short = _of_environment() if code is None else _short(code)
    if short not in LANGUAGES:
        if code is not None:
            known = ", ".join(f"{name} ({own})" for name, own in LANGUAGES.items())
            raise UsageError(f"there is no language {code!r}: choose from {known}")
        short = "en"
    _code = short
    _catalogue = gettext.translation(DOMAIN, LOCALE_DIR, [short], fallback=True)


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


def _of_environment() -> str:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return _short(value)
    return "en"


def _short(code: str) -> str:
    return code.replace("-", "_").split("_")[0].split(".")[0].lower()
