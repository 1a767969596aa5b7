"""Theme files: the built-in four hold what they promise, broken ones are reported and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_chat.errors import ThemeError
from tui_chat.themes import (
    DEFAULT_THEME,
    ThemeFile,
    builtin_directory,
    contrast_ratio,
    load_themes,
    read_theme,
)

BUILTIN = load_themes()


def test_the_four_built_in_themes_load_and_the_default_comes_first() -> None:
    assert BUILTIN.failures == ()
    assert set(BUILTIN.themes) == {"tui-chat-dark", "tui-chat-light", "high-contrast", "darkroom"}
    assert next(iter(BUILTIN.themes)) == DEFAULT_THEME


def test_contrast_ratio_of_known_pairs() -> None:
    assert contrast_ratio("#000000", "#ffffff") == pytest.approx(21)
    assert contrast_ratio("#777777", "#777777") == pytest.approx(1)
    assert contrast_ratio("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", BUILTIN.themes.values(), ids=lambda theme: theme.name)
def test_every_text_reaches_the_contrast_the_theme_promises(theme: ThemeFile) -> None:
    floor = 7.0 if theme.name == "high-contrast" else 4.5
    assert theme.minimum_contrast >= floor
    weak = {
        what: round(contrast_ratio(text, ground), 2)
        for what, text, ground in theme.text_pairs()
        if contrast_ratio(text, ground) < theme.minimum_contrast
    }
    assert weak == {}


def test_high_contrast_keeps_the_okabe_ito_hues() -> None:
    theme = BUILTIN.themes["high-contrast"]
    used = {theme.colors.primary, theme.colors.accent, theme.colors.warning}
    assert used == {"#56b4e9", "#f0e442", "#e69f00"}


@pytest.mark.parametrize("theme", BUILTIN.themes.values(), ids=lambda theme: theme.name)
def test_textual_accepts_the_theme(theme: ThemeFile) -> None:
    made = theme.to_textual()
    generated = made.to_color_system().generate()
    assert made.name == theme.name
    assert made.variables["muted"] == theme.colors.muted
    assert generated["text"] == theme.colors.foreground


def test_a_users_theme_is_added_and_may_replace_a_built_in_one(tmp_path: Path) -> None:
    text = (builtin_directory() / "darkroom.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("name: darkroom", "name: mine"))
    (tmp_path / "darkroom.yml").write_text(text.replace("#150909", "#000000"))
    loaded = load_themes(tmp_path)
    assert loaded.failures == ()
    assert "mine" in loaded.themes
    assert loaded.themes["darkroom"].colors.background == "#000000"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("#150909", "reddish"), "colors.background: write a colour as #rrggbb, not 'reddish'"),
        (("muted:", "mutted:"), "is missing"),
        (("dark: true", "dark: true\nglow: yes"), "glow is not a key of a theme"),
        (("name: darkroom", "name: Dark Room"), "small letters"),
        (("colors:", "colors: ["), "is not valid YAML in line"),
    ],
)
def test_a_broken_theme_is_named_with_its_key_and_the_others_still_load(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    text = (builtin_directory() / "darkroom.yaml").read_text()
    assert change[0] in text
    broken = tmp_path / "broken.yaml"
    broken.write_text(text.replace(*change, 1))
    loaded = load_themes(tmp_path)
    assert len(loaded.themes) == 4
    assert [failure.path for failure in loaded.failures] == [broken]
    assert complaint in str(loaded.failures[0])
    assert str(broken) in str(loaded.failures[0])


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ThemeError, match="start from a copy"):
        read_theme(path)


def test_bytes_that_are_not_text_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ThemeError, match="UTF-8"):
        read_theme(path)
    with pytest.raises(ThemeError, match="cannot be read"):
        read_theme(tmp_path / "none.yaml")


def test_a_missing_user_directory_is_no_failure(tmp_path: Path) -> None:
    assert load_themes(tmp_path / "absent").failures == ()
