"""The headings that commands stand under in the help."""

from __future__ import annotations

from tui_chat.language import N_

CONVERSATION = N_("Conversation")
SAMPLING = N_("Sampling")
LESSONS = N_("See how it works")
PROGRAM = N_("Program")
