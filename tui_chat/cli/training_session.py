"""A training that was asked for on the command line: run, shown, and told about at its end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from tui_chat.cli.program import terminal_width
from tui_chat.cli.training_places import spec_of
from tui_chat.cli.training_view import JsonView, TrainingView, report_lines, training_view
from tui_chat.display.figures import span
from tui_chat.errors import CancelledError, TuiChatError
from tui_chat.training.config import is_main_process
from tui_chat.training.events import Event, Failed, Saved

if TYPE_CHECKING:
    from tui_chat.checkpoints.facts import CheckpointFacts
    from tui_chat.training.config import TrainConfig

INSTALL = "make setup-dev or pip install '.[train]' in the folder of tui-chat's source"
"""Brings PyTorch; the package is on no registry."""


def run_training(config: TrainConfig, *, as_json: bool) -> int:
    """Train, and show how it goes on stdout.

    Args:
        config: What to train.
        as_json: JSON lines and a summary instead of text for people.

    Returns:
        The exit status.

    Raises:
        UsageError: The corpus, the settings and the run do not fit together.
        CancelledError: Ctrl+C came; the text says how to go on.
        TuiChatError: PyTorch is missing, or the training failed.
    """
    with refusals_told(as_json=as_json):
        _require_torch()
        try:
            from tui_chat.training.train import train
        except (ImportError, OSError) as error:  # a broken installation: a library of another version, or none
            raise TuiChatError(
                f"training needs PyTorch, which cannot be loaded here ({error}): install it again with {INSTALL}"
            ) from error
    # Beside others under torchrun only the process of rank 0 speaks.
    view: TrainingView = training_view(as_json=as_json) if is_main_process() else _Silence()
    session = _Session(config, view)
    try:
        facts = train(config, session.take)
    except CancelledError as error:
        session.end("stopped", session.saved)
        if session.saved is None:
            raise
        raise CancelledError(
            f"stopped at step {session.saved.step:,}, its checkpoint is saved: go on with {session.go_on}"
        ) from error
    except TuiChatError as error:
        session.fail(error)
        raise
    except BaseException:
        view.close()
        raise
    session.end("finished", facts)
    return 0


@contextmanager
def refusals_told(*, as_json: bool) -> Iterator[None]:
    """Where JSON lines are asked for, they tell of a training that is refused before it is one, too."""
    try:
        yield
    except TuiChatError as error:
        if as_json and is_main_process():
            view = JsonView()
            view.take(Failed(0, str(error)))
            nothing = dict.fromkeys(("name", "path", "checkpoint", "go_on"))
            view.document({"event": "summary", "state": "failed", **nothing})
        raise


class _Session:
    """Passes events to the view, and keeps what the end will tell."""

    def __init__(self, config: TrainConfig, view: TrainingView) -> None:
        self._config, self._view = config, view
        self._best: CheckpointFacts | None = None
        self._failure_told = False
        self.saved: CheckpointFacts | None = None
        """The newest checkpoint of this training."""

    @property
    def go_on(self) -> str:
        """The command that goes on with this training."""
        spec = spec_of(self._config.out)
        return f"tui-chat train --resume {'--name' if spec == self._config.out.name else '--out'} {shlex.quote(spec)}"

    def take(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Saved):
            self.saved = event.facts
            self._best = event.facts if event.best else self._best
        self._failure_told = isinstance(event, Failed)
        self._view.take(event)

    def fail(self, error: TuiChatError) -> None:
        """Say that it failed; machines read why on stdout too, also where it was refused before its first step."""
        if isinstance(self._view, JsonView) and not self._failure_told:
            self._view.take(Failed(self.saved.step if self.saved else 0, str(error)))
        self.end("failed", self.saved)

    def end(self, state: str, facts: CheckpointFacts | None) -> None:
        """Say what came of it."""
        self._view.close()
        if isinstance(self._view, JsonView):
            self._view.document(self._summary(state, facts))
        elif state == "finished" and facts is not None and not isinstance(self._view, _Silence):
            click.echo("\n".join(self._closing_lines(facts)))

    def _summary(self, state: str, facts: CheckpointFacts | None) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "event": "summary",
            "state": state,
            "name": self._config.out.name,
            "path": str(self._config.out) if facts is not None or self._config.out.is_dir() else None,
            "checkpoint": None,
            "go_on": None if state == "finished" or facts is None else self.go_on,
        }
        if facts is None:
            return summary
        progress = facts.progress
        return summary | {
            "checkpoint": str(facts.path),
            "step": facts.step,
            "n_steps": progress.n_steps,
            "loss": facts.loss,
            "perplexity": progress.perplexity,
            "train_loss": progress.train_loss,
            "validation_loss": progress.validation_loss,
            "best_validation_loss": facts.best_validation_loss,
            "n_tokens": progress.n_tokens,
            "tokens_per_s": progress.tokens_per_s,
            "seconds": progress.seconds,
            "n_parameters": facts.shape.n_parameters,
            "architecture": facts.shape.arch.value,
            "kind": facts.kind,
        }

    def _closing_lines(self, facts: CheckpointFacts) -> Iterator[str]:
        progress, spec = facts.progress, shlex.quote(spec_of(self._config.out))
        best = ""
        if self._best is not None and self._best.step != facts.step:
            best = f"; the best was step {self._best.step:,} with {self._best.loss:.3f}"
        text = f"step {facts.step:,} in {span(progress.seconds)}, loss {facts.loss:.3f}, "
        yield from report_lines("done", f"{text}perplexity {progress.perplexity:,.1f}{best}", terminal_width())
        if facts.kind == "chat":
            yield f"{'':<12}talk to it:       tui-chat --model {spec}"
        else:
            yield f'{"":<12}let it write:     tui-chat generate --raw --model {spec} "One day"'
            yield f"{'':<12}look inside it:   tui-chat --model {spec}"
        yield f"{'':<12}make it a file:   tui-chat export {spec}"


class _Silence:
    """Shows nothing."""

    def take(self, event: Event) -> None:
        """Nothing is shown."""

    def close(self) -> None:
        """Nothing was shown."""


def _require_torch() -> None:
    try:
        found = find_spec("torch") is not None
    except ValueError:  # a module that was put there without being found
        found = "torch" in sys.modules
    if not found:
        raise TuiChatError(f"training needs PyTorch, which is not installed: run {INSTALL}")
