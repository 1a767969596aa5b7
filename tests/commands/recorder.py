"""A command context that keeps settings in dictionaries and notes what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tui_chat.chat.conversation import Conversation
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import SamplingParams
from tui_chat.lessons.report import Report
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch


@dataclass
class Recorder:
    sampling: dict[str, int | float | None] = field(default_factory=lambda: {"seed": None})
    limits: dict[str, object] = field(default_factory=lambda: {"max_tokens": 512, "stop": ()})
    system_text: str | None = None
    theme_name: str = "dark"
    answering: bool = False
    calls: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    engine: Engine | None = None
    """What demonstrations run on, at once; without one they are only noted in `calls`."""
    conversation: Conversation = field(default_factory=Conversation, compare=False)
    reports: list[Report] = field(default_factory=list)

    def get_sampling(self, name: str) -> int | float | None:
        return self.sampling[name] if name in self.sampling else self.default_sampling(name)

    def default_sampling(self, name: str) -> int | float | None:
        value: int | float = getattr(SamplingParams(), name)
        return None if name == "seed" else value

    def set_sampling(self, name: str, value: int | float | None) -> None:
        self.sampling[name] = value

    def get_limit(self, name: str) -> object:
        return self.limits[name]

    def set_limit(self, name: str, value: object) -> None:
        self.limits[name] = value

    def system(self) -> str | None:
        return self.system_text

    def set_system(self, text: str | None) -> None:
        self.system_text = text

    def new_conversation(self) -> None:
        self.calls.append("new")

    def model(self) -> str:
        return "pocket"

    def models(self) -> Sequence[tuple[str, str]]:
        return [("builtin", "3 MB"), ("/models/my model.gguf", "5 GB"), ("owner/qwen:q8.gguf", "in the cache")]

    def switch_model(self, spec: str) -> None:
        self.calls.append(f"model {spec}")

    def trainings(self) -> Sequence[str]:
        return ["demo", "the sea"]

    def show_trainings(self, name: str | None) -> None:
        self.calls.append(f"trainings {name}")

    def theme(self) -> str:
        return self.theme_name

    def themes(self) -> Sequence[str]:
        return ["tui-chat-dark", "tui-chat-light", "amber"]

    def set_theme(self, name: str) -> None:
        self.theme_name = name

    def is_answering(self) -> bool:
        return self.answering

    def stop(self) -> None:
        self.calls.append("stop")

    def retry(self) -> None:
        self.calls.append("retry")

    def quit(self) -> None:
        self.calls.append("quit")

    def notify(self, text: str) -> None:
        self.notices.append(text)

    def report(self, title: str, lesson: Callable[[Engine, Watch], Report]) -> None:
        self.calls.append(f"report {title}")
        if self.engine is not None:
            self.reports.append(lesson(self.engine, Watch()))

    def scene(self) -> Scene:
        return Scene(messages=self.conversation.path)

    def show(self, markdown: str) -> None:
        self.shown.append(markdown)
