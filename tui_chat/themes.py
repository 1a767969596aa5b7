"""Theme files: YAML on disk, validated, made into Textual themes.

Built-in themes lie in `themes/` of the source tree and in `tui_chat/_themes` of an installed package; a user's own lie
in `themes/` of the configuration directory and win over a built-in one of the same name. A file that does not hold is
reported beside what loaded, never fatal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tui_chat.errors import ThemeError

if TYPE_CHECKING:
    from textual.theme import Theme

DEFAULT_THEME = "tui-chat-dark"
"""The theme in force when none is chosen, or the chosen one is missing."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def _hex(value: str) -> str:
    if not _HEX.fullmatch(value):
        raise ValueError(f"write a colour as #rrggbb, not {value!r}")
    return value.lower()


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"a theme's name is made of small letters, digits and hyphens, not {value!r}")
    return value


Hex = Annotated[str, AfterValidator(_hex)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Colors(_Strict):
    """The ground and the text on it."""

    background: Hex
    surface: Hex
    """Ground of the composer and of menus."""
    panel: Hex
    """Ground of the bars above and below."""
    foreground: Hex
    muted: Hex
    """Text of second rank; still readable."""
    line: Hex
    """Borders and rules."""
    primary: Hex
    secondary: Hex
    accent: Hex
    success: Hex
    warning: Hex
    error: Hex


class ChatColors(_Strict):
    """Who speaks."""

    you: Hex
    model: Hex
    thinking: Hex
    code: Hex


class BarColors(_Strict):
    """Probability bars and sliders."""

    before: Hex
    """Before the sampler chain."""
    after: Hex
    """After the sampler chain."""
    track: Hex


class Tint(_Strict):
    """One kind of token in the token view."""

    background: Hex
    text: Hex


Heat = tuple[Tint, Tint, Tint, Tint]
"""Tints of rising strength. Their lightness alone tells them apart, so that every eye can."""


def _heat(*tints: tuple[str, str]) -> Heat:
    first, second, third, fourth = (Tint(background=background, text=text) for background, text in tints)
    return first, second, third, fourth


# Steps of cividis (Nunez, Anderton and Renslow 2018), which is much the same to eyes that tell no red from green.
HEAT_ON_DARK = _heat(("#12305f", "#e6ecf7"), ("#4e576c", "#ffffff"), ("#a69d75", "#11141b"), ("#fee838", "#11141b"))
HEAT_ON_LIGHT = _heat(("#f0df80", "#20242c"), ("#c0b164", "#20242c"), ("#666970", "#ffffff"), ("#00224e", "#ffffff"))


class TokenTints(_Strict):
    """How sure the model was of a token; surest tokens have no tint."""

    likely: Tint
    unsure: Tint
    unlikely: Tint
    selected: Tint
    heat: Heat | None = None
    """What stands out a little to very much; None takes steps of cividis."""


class ThemeFile(_Strict):
    """What a theme file holds."""

    name: Annotated[str, AfterValidator(_name)]
    summary: str = ""
    dark: bool = True
    minimum_contrast: float = Field(default=4.5, ge=1, le=21)
    """Least contrast ratio of text to its ground (WCAG 2.2) that this theme promises."""
    colors: Colors
    chat: ChatColors
    bars: BarColors
    tokens: TokenTints

    def text_pairs(self) -> Iterator[tuple[str, str, str]]:
        """Yields (what, text colour, ground colour) for all text the screen shows."""
        grounds = {"background": self.colors.background, "surface": self.colors.surface, "panel": self.colors.panel}
        names = ("foreground", "muted", "primary", "secondary", "accent", "success", "warning", "error")
        texts = {name: getattr(self.colors, name) for name in names}
        texts |= {f"chat.{name}": getattr(self.chat, name) for name in ChatColors.model_fields}
        for text_name, text in texts.items():
            for ground_name, ground in grounds.items():
                yield f"{text_name} on {ground_name}", text, ground
        tokens = self.tokens
        tints = {"likely": tokens.likely, "unsure": tokens.unsure, "unlikely": tokens.unlikely}
        tints |= {"selected": tokens.selected}
        tints |= {f"heat {step}": tint for step, tint in enumerate(self.heat, 1)}
        for name, tint in tints.items():
            yield f"tokens.{name}", tint.text, tint.background

    @property
    def heat(self) -> Heat:
        """The tints of rising strength."""
        return self.tokens.heat or (HEAT_ON_DARK if self.dark else HEAT_ON_LIGHT)

    def variables(self) -> dict[str, str]:
        """Gives the CSS variables that the screen uses beyond Textual's own."""
        colors, tokens = self.colors, self.tokens
        heat = {f"heat-{step}": tint.background for step, tint in enumerate(self.heat, 1)}
        heat |= {f"heat-{step}-text": tint.text for step, tint in enumerate(self.heat, 1)}
        return {
            **heat,
            "text": colors.foreground,
            "text-muted": colors.muted,
            "muted": colors.muted,
            "line": colors.line,
            "you": self.chat.you,
            "model": self.chat.model,
            "thinking": self.chat.thinking,
            "code": self.chat.code,
            "bar-before": self.bars.before,
            "bar-after": self.bars.after,
            "bar-track": self.bars.track,
            "token-likely": tokens.likely.background,
            "token-likely-text": tokens.likely.text,
            "token-unsure": tokens.unsure.background,
            "token-unsure-text": tokens.unsure.text,
            "token-unlikely": tokens.unlikely.background,
            "token-unlikely-text": tokens.unlikely.text,
            "token-selected": tokens.selected.background,
            "token-selected-text": tokens.selected.text,
            "border": colors.primary,
            "border-blurred": colors.line,
            "block-cursor-background": colors.primary,
            "block-cursor-foreground": colors.background,
            "block-cursor-text-style": "bold",
            "footer-background": colors.background,
            "footer-foreground": colors.muted,
            "footer-key-foreground": colors.primary,
            "footer-description-foreground": colors.muted,
            "input-selection-background": colors.line,
            "scrollbar": colors.line,
            "scrollbar-hover": colors.muted,
            "scrollbar-active": colors.primary,
            "scrollbar-background": colors.background,
            "scrollbar-background-hover": colors.background,
            "scrollbar-background-active": colors.background,
            "scrollbar-corner-color": colors.background,
        }

    def to_textual(self) -> Theme:
        """Makes the Textual theme."""
        from textual.theme import Theme

        colors = self.colors
        return Theme(
            name=self.name,
            primary=colors.primary,
            secondary=colors.secondary,
            accent=colors.accent,
            success=colors.success,
            warning=colors.warning,
            error=colors.error,
            foreground=colors.foreground,
            background=colors.background,
            surface=colors.surface,
            panel=colors.panel,
            dark=self.dark,
            variables=self.variables(),
        )


@dataclass(frozen=True, slots=True)
class LoadedThemes:
    """What loading found."""

    themes: Mapping[str, ThemeFile]
    """By name, built-in ones first."""
    failures: tuple[ThemeError, ...] = field(default=())
    """One for every file that could not be used."""

    def choose(self, name: str) -> ThemeFile | None:
        """Gives the theme of that name, or None."""
        return self.themes.get(name)


def builtin_directory() -> Path:
    """Gives the directory of the built-in themes, in a wheel or in the source tree."""
    package = Path(__file__).resolve().parent
    installed = package / "_themes"
    return installed if installed.is_dir() else package.parent / "themes"


def read_theme(path: Path) -> ThemeFile:
    """Reads and validates one theme file.

    Raises:
        ThemeError: the file cannot be read, is not YAML, or a value in it does not hold.
    """
    import yaml

    loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise ThemeError(f"cannot be read ({error.strerror or error})", path=path) from error
    except UnicodeDecodeError as error:
        raise ThemeError("is not UTF-8 text", path=path) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ThemeError(
            f"is not valid YAML{where}: {getattr(error, 'problem', None) or 'cannot be read'}", path=path
        ) from error
    if not isinstance(data, dict):
        raise ThemeError(
            "must hold name, colors, chat, bars and tokens: start from a copy of a built-in theme", path=path
        )
    try:
        return ThemeFile.model_validate(data)
    except ValidationError as error:
        raise ThemeError(_first_problem(error), path=path) from error


def load_themes(user_directory: Path | None = None, *, builtin: Path | None = None) -> LoadedThemes:
    """Loads the built-in themes and then the user's own.

    Args:
        user_directory: Where the user keeps themes; it need not exist.
        builtin: Another place for the built-in ones.
    """
    themes: dict[str, ThemeFile] = {}
    failures: list[ThemeError] = []
    for directory in (builtin or builtin_directory(), user_directory):
        for path in _files(directory):
            try:
                theme = read_theme(path)
            except ThemeError as error:
                failures.append(error)
            else:
                themes[theme.name] = theme
    ordered = sorted(themes.values(), key=lambda theme: (theme.name != DEFAULT_THEME, theme.name))
    return LoadedThemes({theme.name: theme for theme in ordered}, tuple(failures))


def contrast_ratio(first: str, second: str) -> float:
    """Gives the contrast of two #rrggbb colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _files(directory: Path | None) -> list[Path]:
    if directory is None:
        return []
    try:
        return sorted(path for path in directory.iterdir() if path.suffix in {".yaml", ".yml"} and path.is_file())
    except OSError:
        return []


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a key of a theme: remove it or correct its spelling"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
