"""tui-chat: a glass-box chat for local language models in the terminal."""

import logging

__version__ = "0.1.0"

# Without a handler Python prints warnings on stderr: on top of the screen the app draws.
logging.getLogger(__name__).addHandler(logging.NullHandler())
