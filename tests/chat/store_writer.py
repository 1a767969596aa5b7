"""Run as a program: writes messages into the database named as its argument until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from tui_chat.chat.conversation import Conversation, Role
from tui_chat.chat.store import Store


def main() -> None:
    store = Store(Path(sys.argv[1]))
    conversation = Conversation(id=sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 10**9
    for number in range(count):
        store.write(conversation, conversation.append(Role.USER, f"message {number}"))
        answer = conversation.begin_answer()
        store.write(conversation, answer)
        for _ in range(5):
            store.grow(answer.id, "word ", [number])
        print(number, flush=True)


if __name__ == "__main__":
    main()
