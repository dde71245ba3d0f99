"""What a verb prints while it runs: the data line and the plan on stdout, problems on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.pipeline.observer import Observer, PlanLine


class ConsoleObserver(Observer):
    """Prints facts as they come; with `as_json` stdout is left to the one document."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.seen: set[str] = set()

    def _out(self, text: str) -> None:
        if not self.as_json:
            click.echo(text)

    def data(self, source: str, layout: str, description: str) -> None:
        """Print how the data were understood."""
        self._out(f"Data      {display_name(source)}  {layout}")
        self._out(f"          {display_name(description)}")

    def plan(self, lines: tuple[PlanLine, ...]) -> None:
        """Print every decision with the flag that changes it."""
        width = max(len(line.value) for line in lines)
        for number, line in enumerate(lines):
            lead = "Plan" if number == 0 else ""
            self._out(f"{lead:<10}{line.what:<7}{display_name(line.value):<{min(width, 84)}}  {line.flag}")

    def problem(self, problem: Problem) -> None:
        """Print one coded line on stderr, once."""
        text = display_name(problem.line())
        if text not in self.seen:
            self.seen.add(text)
            click.echo(text, err=True)

    def note(self, topic: str, text: str) -> None:
        """Print a line of its own."""
        self._out(f"{topic.capitalize():<10}{display_name(text)}")


def print_json(document: Any) -> None:
    """Write the one JSON document to stdout."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Align columns with two spaces between them; columns in `right` are flush right.

    >>> print(table(["class", "n"], [["cat", "12"], ["dog", "7"]], right=[1]))
    class   n
    cat    12
    dog     7
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def proportion_cells(score: dict[str, Any]) -> tuple[str, str]:
    """``87/123`` and ``70.7% [62.2, 78.0]`` from the JSON form of a proportion."""
    if not score["n"]:
        return "0/0", "n/a"
    interval = f"[{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
    return f"{score['k']}/{score['n']}", f"{100 * score['value']:.1f}% {interval}"
