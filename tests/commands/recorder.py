"""A command context that keeps settings in dictionaries and notes what it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_chat.chat.conversation import Conversation
from tui_chat.chat.trace_file import AnswerTrace
from tui_chat.config import InferenceSettings
from tui_chat.engine.breakpoints import Breakpoint
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    SAMPLING_FIELDS,
    GenerationFinished,
    GenerationRequest,
    Limits,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.lessons.answers import AnswerFigures
from tui_chat.lessons.compare import Comparison
from tui_chat.lessons.course.progress import Progress
from tui_chat.lessons.inspected import Inspected
from tui_chat.lessons.report import Report
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch


@dataclass
class Recorder:
    sampling: dict[str, Any] = field(default_factory=lambda: {"seed": None})
    limits: dict[str, object] = field(default_factory=lambda: {"max_tokens": 512, "stop": ()})
    system_text: str | None = None
    theme_name: str = "dark"
    answering: bool = False
    begins_with: str = ""
    before: list[dict[str, object]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    engine: Engine | None = None
    """What demonstrations run on, at once; without one they are only noted in `calls`."""
    conversation: Conversation = field(default_factory=Conversation, compare=False)
    reports: list[Report] = field(default_factory=list)
    looked_at: Inspected = field(default_factory=Inspected, compare=False)
    answered: Sequence[AnswerFigures] = (AnswerFigures(model="pocket", generated=3),)
    educates: bool = False
    progress: Progress = field(default_factory=Progress, compare=False)
    steps: bool = False
    stops_at: Sequence[Breakpoint] = ()
    made: list[Callable[[], Report]] = field(default_factory=list, compare=False)
    """Reports that are to be made beside the screen."""

    def get_sampling(self, name: str) -> int | float | None:
        return self.sampling[name] if name in self.sampling else self.default_sampling(name)

    def default_sampling(self, name: str) -> int | float | None:
        value: int | float = getattr(SamplingParams(), name)
        return None if name == "seed" else value

    def set_sampling(self, name: str, value: int | float | None) -> None:
        self.sampling[name] = value

    def get_setting(self, name: str) -> object:
        values = {**self.limits, **self.sampling}
        return values[name] if name in values else self.default_setting(name)

    def default_setting(self, name: str) -> object:
        return getattr(InferenceSettings(), "max_length" if name == "max_tokens" else name)

    def set_setting(self, name: str, value: object) -> None:
        (self.sampling if name in SAMPLING_FIELDS else self.limits)[name] = value

    def set_settings(self, values: Mapping[str, object]) -> None:
        self.before.append({**self.limits, **self.sampling})
        for name, value in values.items():
            self.set_setting(name, value)

    def undoable(self) -> Sequence[str]:
        return tuple(self.before[-1]) if self.before else ()

    def step_settings(self, direction: int) -> Sequence[str]:
        self.calls.append(f"step {direction}")
        return ()

    def prefill(self) -> str:
        return self.begins_with

    def set_prefill(self, text: str) -> None:
        self.begins_with = text

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

    def fork(self, index: int | None, text: str, *, goes_on: bool) -> None:
        self.calls.append(f"fork {index} {text!r} {'goes on' if goes_on else 'stops'}")

    def stepping(self) -> bool:
        return self.steps

    def set_stepping(self, on: bool) -> None:
        self.steps = on

    def breakpoints(self) -> Sequence[Breakpoint]:
        return self.stops_at

    def set_breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        self.stops_at = tuple(breakpoints)

    def make_report(self, title: str, make: Callable[[], Report]) -> None:
        self.calls.append(f"make {title}")
        self.made.append(make)

    def compare(self, title: str, comparison: Comparison) -> None:
        self.report(title, comparison.run)

    def answer_trace(self) -> Callable[[], AnswerTrace]:
        return self._trace

    def _trace(self) -> AnswerTrace:
        from tui_chat.lessons.recording import recorded

        assert self.engine is not None
        request = GenerationRequest(prompt_ids=(5, 6, 7), limits=Limits(max_tokens=4))
        with self.engine.aside() as aside:
            events = list(aside.generate(request))
        tokens = [token for event in events if isinstance(event, TokensGenerated) for token in event.tokens]
        last = events[-1]
        assert isinstance(last, GenerationFinished)
        return recorded(
            self.engine.info,
            prompt_ids=request.prompt_ids,
            periods=[(0, request.params)],
            tokens=tokens,
            text="".join(event.text for event in events if isinstance(event, TokensGenerated)),
            usage=last.usage,
            finish_reason=last.reason,
            end=last.end,
        )

    def quit(self) -> None:
        self.calls.append("quit")

    def view(self) -> str:
        return "reading"

    def set_view(self, tokens: bool | None, measure: str | None) -> None:
        self.calls.append(f"view {tokens} {measure}")

    def notify(self, text: str) -> None:
        self.notices.append(text)

    def report(self, title: str, lesson: Callable[[Engine, Watch], Report]) -> None:
        self.calls.append(f"report {title}")
        if self.engine is not None:
            self.reports.append(lesson(self.engine, Watch()))

    def show_report(self, title: str, report: Report) -> None:
        self.calls.append(f"report {title}")
        self.reports.append(report)

    def answers(self) -> Sequence[AnswerFigures]:
        return self.answered

    def educational(self) -> bool:
        return self.educates

    def set_educational(self, on: bool) -> None:
        self.educates = on

    def scene(self) -> Scene:
        values = {
            "max_length" if name == "max_tokens" else name: v for name, v in {**self.limits, **self.sampling}.items()
        }
        inference = InferenceSettings().model_copy(update=values)
        return Scene(
            messages=self.conversation.path,
            params=inference.model_copy(update={"ban": (), "logit_bias": ()}).sampling_params(inference.seed or 0),
            biased=inference,
            limits=inference.limits(),
            enable_thinking=inference.enable_thinking,
            prefill=self.begins_with,
        )

    def course(self) -> Progress:
        return self.progress

    def inspected(self) -> Inspected:
        return self.looked_at

    def show(self, markdown: str) -> None:
        self.shown.append(markdown)


class Unloaded(Recorder):
    """The same while no model is loaded."""

    def model(self) -> str:
        return ""
