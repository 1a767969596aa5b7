"""`python -m tui_chat` is the same program as `tui-chat`."""

from tui_chat.cli import main

if __name__ == "__main__":
    main()
