"""Progress on stderr: bars with time left on a terminal, one JSON line every few seconds elsewhere.

Library code takes a `Progress` and never prints. `SILENT` is the default.
"""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Task(ABC):
    """One thing under way."""

    @abstractmethod
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Say that `steps` more are done; `note` replaces the short text behind the bar."""


class Progress(ABC):
    """Where progress goes."""

    @abstractmethod
    def task(self, name: str, total: float) -> Any:
        """Context manager that yields a `Task` of `total` steps."""


class _SilentTask(Task):
    def advance(self, steps: float = 1, note: str = "") -> None:
        return None


class SilentProgress(Progress):
    """Shows nothing."""

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        """Yield a task that shows nothing."""
        yield _SilentTask()


SILENT = SilentProgress()


class _LineTask(Task):
    """Prints a JSON line at most every `interval` seconds, for logs and pipes."""

    def __init__(self, name: str, total: float, interval: float) -> None:
        self.name, self.total, self.interval = name, total, interval
        self.done = 0.0
        self.note = ""
        self.start = self.last = time.monotonic()

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.done += steps
        self.note = note or self.note
        now = time.monotonic()
        if now - self.last >= self.interval:
            self.last = now
            self.emit(now)

    def emit(self, now: float) -> None:
        elapsed = now - self.start
        left = elapsed * (self.total - self.done) / self.done if self.done else None
        event = {
            "task": self.name,
            "done": self.done,
            "total": self.total,
            "seconds": round(elapsed, 1),
            "seconds_left": None if left is None else round(left, 1),
            "note": self.note,
        }
        print(json.dumps(event), file=sys.stderr, flush=True)


class LineProgress(Progress):
    """JSON lines on stderr, for when stderr is not a terminal."""

    def __init__(self, interval: float = 5.0) -> None:
        self.interval = interval

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        """Yield a task that prints a line every few seconds."""
        yield _LineTask(name, total, self.interval)


class _BarTask(Task):
    def __init__(self, bar: Any, identity: Any) -> None:
        self.bar, self.identity = bar, identity

    def advance(self, steps: float = 1, note: str = "") -> None:
        fields = {"note": note} if note else {}
        self.bar.update(self.identity, advance=steps, **fields)


class BarProgress(Progress):
    """Bars with time left, drawn by rich on stderr."""

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        """Yield a task drawn as a bar."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=False) as bar:
            identity = bar.add_task(name, total=total, note="")
            yield _BarTask(bar, identity)


def stderr_progress(quiet: bool = False) -> Progress:
    """Bars on a terminal, JSON lines elsewhere, nothing when `quiet`."""
    if quiet:
        return SILENT
    return BarProgress() if sys.stderr.isatty() else LineProgress()
