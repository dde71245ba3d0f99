"""The tables of `make bench-solvers`, as text and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from peers.running import Run


@dataclass(frozen=True)
class Entry:
    """One contestant at one gap."""

    contestant: str
    dtype: str
    status: str
    seconds: float | None
    at_least: float | None
    gap: float | None
    note: str = ""

    def time(self) -> str:
        """Seconds, a bound, or why there are none."""
        if self.seconds is not None:
            return f"{self.seconds:.2f}"
        if self.at_least is not None:
            return f"> {self.at_least:.0f}"
        return {"done": "never"}.get(self.status, self.status)


@dataclass(frozen=True)
class Row:
    """One line of the issue's table.

    `ratio` is the best peer's time over ours; with `at_least` the best peer was cut and the ratio is a lower bound.
    """

    problem: str
    measure: str
    ours: str
    best: str
    ratio: str
    target: str
    met: str
    entries: list[Entry] = field(default_factory=list)


def entry(groups: Sequence[Sequence[Run]], value: float, best_value: float) -> Entry:
    """The best of a contestant's configurations: the least time to `value`, or else the lowest objective."""
    entries = [_entry(runs, value, best_value) for runs in groups]
    arrived = [e for e in entries if e.seconds is not None]
    if arrived:
        return min(arrived, key=lambda e: e.seconds or 0.0)
    # One that was cut might still have arrived: it is the one that bounds the ratio.
    cut = [e for e in entries if e.at_least is not None]
    return min(cut or entries, key=lambda e: math.inf if e.gap is None else e.gap)


def _entry(runs: Sequence[Run], value: float, best_value: float) -> Entry:
    """The median time of runs of one configuration to `value`."""
    first = runs[0]
    label = first.contestant
    if not first.took_part:
        return Entry(label, first.dtype, first.status, None, None, None, first.reason)
    times = [run.time_to(value) for run in runs]
    reached = sorted(t for t in times if t is not None)
    lowest = min(run.lowest for run in runs)
    gap = lowest / best_value - 1 if best_value > 0 and math.isfinite(lowest) else None
    if len(reached) == len(runs):
        return Entry(label, first.dtype, first.status, _median(reached), None, gap, _spread(reached))
    cut = first.status == "cut"
    note = first.reason or ("cut" if cut else f"ended by itself after {first.seconds:.1f} s")
    return Entry(label, first.dtype, first.status, None, first.limit if cut else None, gap, note)


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _spread(ordered: Sequence[float]) -> str:
    return f"{ordered[0]:.2f}–{ordered[-1]:.2f} s in {len(ordered)} runs" if len(ordered) > 1 else "1 run"


def compare(problem: str, measure: str, ours: Entry, peers: Sequence[Entry], target: float | None) -> Row:
    """Ours against the best peer; one that was cut bounds the ratio from below, one that ended early never arrives."""
    wanted = "" if target is None else f"≥ {target:g}×"
    entries = [ours, *peers]
    if ours.seconds is None:
        return Row(problem, measure, ours.time(), "", "", wanted, "no: ours did not arrive", entries)
    arrived = [p for p in peers if p.seconds is not None]
    cut = [p for p in peers if p.seconds is None and p.at_least is not None]
    never = [p for p in peers if p.seconds is None and p.at_least is None and p.status == "done"]
    best = min(arrived, key=lambda p: p.seconds or 0.0, default=None)
    bound = min(cut, key=lambda p: p.at_least or 0.0, default=None)
    if best is not None and (bound is None or (best.seconds or 0.0) <= (bound.at_least or 0.0)):
        ratio, sign, shown = (best.seconds or 0.0) / ours.seconds, "", f"{best.seconds:.2f} ({best.contestant})"
    elif bound is not None:
        ratio, sign = (bound.at_least or 0.0) / ours.seconds, "> "
        shown = f"> {bound.at_least:.0f} (all cut; last gap {_lowest_gap(cut + never)})"
    elif never:
        ratio, sign, shown = float("inf"), "", f"never (last gap {_lowest_gap(never)})"
    else:
        return Row(problem, measure, f"{ours.seconds:.2f}", "no peer took part", "", wanted, "", entries)
    met = "" if target is None else ("yes" if ratio >= target else ("unknown: cut too early" if sign else "no"))
    text = "∞" if ratio == float("inf") else f"{sign}{ratio:.1f}×"
    return Row(problem, measure, f"{ours.seconds:.2f}", shown, text, wanted, met, entries)


def _lowest_gap(entries: Sequence[Entry]) -> str:
    gaps = [(e.gap, e.contestant) for e in entries if e.gap is not None]
    return f"{min(gaps)[0]:.1e} ({min(gaps)[1]})" if gaps else "unknown"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown with columns aligned."""
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in [header, *rows]]
    lines.insert(1, "|".join("-" * (width + 2) for width in widths)[1:-1])
    return "\n".join(f"| {line} |" for line in lines).replace(f"| {lines[1]} |", f"|-{lines[1]}-|")


def issue_table(rows: Sequence[Row]) -> str:
    """The table of the issue."""
    header = ["problem (2 cores)", "gap", "ours s", "best peer s", "ratio", "target", "met"]
    return table(header, [[r.problem, r.measure, r.ours, r.best, r.ratio, r.target, r.met] for r in rows])


def full_table(rows: Sequence[Row]) -> str:
    """All contestants."""
    header = ["problem", "gap", "contestant", "type", "seconds", "last gap", "note"]
    lines = []
    for row in rows:
        for e in row.entries:
            gap = "" if e.gap is None else f"{e.gap:.1e}"
            lines.append([row.problem, row.measure, e.contestant, e.dtype, e.time(), gap, e.note])
    return table(header, lines)


def as_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For results.json."""
    return [asdict(row) for row in rows]
