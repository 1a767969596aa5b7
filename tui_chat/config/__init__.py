"""Settings: what can be set, and how the effective values come about.

Four sources, the earlier winning: command-line flags, environment variables (`TUI_CHAT_SECTION__KEY`), a YAML file,
the defaults.
"""

from tui_chat.config.loading import LoadedSettings, check_file, load_settings, parse_setting
from tui_chat.config.models import (
    THINKING_STATES,
    InferenceSettings,
    LlmSettings,
    Settings,
    TokenizerSettings,
    UiSettings,
    setting_keys,
)

__all__ = [
    "THINKING_STATES",
    "InferenceSettings",
    "LlmSettings",
    "LoadedSettings",
    "Settings",
    "TokenizerSettings",
    "UiSettings",
    "check_file",
    "load_settings",
    "parse_setting",
    "setting_keys",
]
