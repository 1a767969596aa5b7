"""What the explanation of a lesson gives, and how it takes parts of the reports there are already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tui_chat.lessons.report import Block, Report

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Explained:
    """A lesson on the loaded model: what it says, the figures in that, and a task of its own where it needs one."""

    blocks: tuple[Block, ...]
    figures: Mapping[str, object] = field(default_factory=dict)
    task: str | None = None
    """In place of the lesson's task, where the loaded model cannot do that."""


def first(report: Report, kind: type[B]) -> B:
    """The first block of a kind in a report."""
    return next(block for block in report.blocks if isinstance(block, kind))


def last(report: Report, kind: type[B]) -> B:
    """The last block of a kind in a report."""
    return next(block for block in reversed(report.blocks) if isinstance(block, kind))
