"""Who is told what while a verb runs: the command line prints it, the run's log keeps it, a script ignores it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from lastlayer._codes import Problem


@dataclass(frozen=True)
class PlanLine:
    """One decision of the plan: what, its value, and the flag that changes it."""

    what: str
    value: str
    flag: str


class Observer(ABC):
    """Receives the facts of a run in the order in which they become known."""

    @abstractmethod
    def data(self, source: str, layout: str, description: str) -> None:
        """Say how the data were understood."""

    @abstractmethod
    def plan(self, lines: tuple[PlanLine, ...]) -> None:
        """Say what will be done."""

    @abstractmethod
    def problem(self, problem: Problem) -> None:
        """Say that something coded was found."""

    @abstractmethod
    def note(self, topic: str, text: str) -> None:
        """Say something worth a line."""


class SilentObserver(Observer):
    """Listens and says nothing."""

    def data(self, source: str, layout: str, description: str) -> None:
        """Ignore the data line."""

    def plan(self, lines: tuple[PlanLine, ...]) -> None:
        """Ignore the plan."""

    def problem(self, problem: Problem) -> None:
        """Ignore the problem; it is in the run's files."""

    def note(self, topic: str, text: str) -> None:
        """Ignore the note."""


SILENT_OBSERVER = SilentObserver()
