"""The command line: one module for each family of subcommands, and the only place that ends the process."""

from tui_chat.cli.program import main

__all__ = ["main"]
