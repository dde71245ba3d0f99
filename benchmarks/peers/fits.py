"""One objective, all contestants: runs them and makes the rows of the table."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._files import write_json
from peers import CONTESTANTS
from peers.job import Job
from peers.objective import Array, objective
from peers.running import Run, run
from peers.tables import Row, compare, entry
from problems import Built, Problem

MARGIN = 1.3
"""With --cut-at-target a peer may take this many times what the target allows it."""
REPEAT_BELOW = 60.0
"""Peers' fits that take longer, in seconds, are made once."""
STOP_INSIDE = 0.9
"""Fits stop at this share of the tightest gap, so that a slightly lower optimum found later changes nothing."""


@dataclass(frozen=True)
class Settings:
    """Of the whole benchmark."""

    work: Path
    peers_python: Path | None
    contestants: tuple[str, ...] | None
    repeats: int
    limit: float
    cut_at_target: bool

    def asks(self, contestant: str) -> bool:
        return self.contestants is None or contestant in self.contestants


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Fits:
    """One problem on its built arrays."""

    problem: Problem
    built: Built
    settings: Settings

    def __post_init__(self) -> None:
        self.X, self.y = np.load(self.built.X, mmap_mode="r"), np.load(self.built.y)
        self.target: float | None = None

    def value(self, params: Array) -> float:
        """J, the only judge."""
        return objective(self.X, self.y, self.problem.loss, self.problem.l2, params)

    def job(self, contestant: str, label: str, limit: float, dtype: str = "float32", **details: Any) -> Job:
        """What a contestant is told."""
        chosen = CONTESTANTS[contestant]
        problem = self.problem
        return Job(
            folder=str(self.settings.work / "runs" / problem.name / label),
            family=chosen.family,
            options=chosen.options,
            X=str(self.built.X),
            y=str(self.built.y),
            n_classes=self.built.n_classes,
            loss=problem.loss,
            l2=problem.l2,
            bias=problem.bias,
            dtype=dtype,
            limit=limit,
            target=self.target,
            details=details,
        )

    def start(self, contestant: str, label: str, limit: float, dtype: str = "float32") -> Run:
        """One process, judged, and said."""
        found = run(contestant, self.job(contestant, label, limit, dtype), self.settings.peers_python, self.value)
        lowest = "" if not np.isfinite(found.lowest) else f", lowest {found.lowest:.10g}"
        say(f"  {self.problem.name}: {contestant} {dtype}: {found.status} {found.seconds:.1f} s{lowest} {found.reason}")
        return found

    def reference(self) -> float:
        """The optimum by a long run of ours, kept on disk by the problem's content."""
        problem = self.problem
        facts = [self.built.digest, problem.loss, problem.l2, problem.bias]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        path = self.settings.work / "references" / f"{key}.json"
        if path.is_file():
            return float(json.loads(path.read_text())["value"])
        names = ["reference", "reference-liblinear"] if problem.loss == "hinge" else ["reference"]
        runs = [self.start(name, name, 3600.0) for name in names]
        lowest = min(found.lowest for found in runs)
        if not np.isfinite(lowest):
            raise RuntimeError(f"{problem.name}: no reference: {[(r.status, r.reason) for r in runs]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"problem": problem.title, "value": lowest, "details": [found.details for found in runs]})
        return lowest

    def rows(self) -> list[Row]:
        """Run everybody; one row a gap."""
        best = self.reference()
        gaps = sorted(self.problem.targets, reverse=True)
        self.target = best * (1 + STOP_INSIDE * gaps[-1])
        ours = [self._repeated("lastlayer", "float32", self.settings.limit)]
        limit = self._limit(ours, best)
        others = [self._peer(name, limit, best) for name in self.problem.peers if self.settings.asks(name)]
        best = min([best, *(r.lowest for groups in [ours, *others] for runs in groups for r in runs)])
        rows = []
        for gap in gaps:
            value = best * (1 + gap)
            peers = [entry(groups, value, best) for groups in others]
            mine = entry(ours, value, best)
            rows.append(compare(self.problem.title, f"{gap:g}", mine, peers, self.problem.targets[gap]))
        return rows + self._memory()

    def _repeated(self, contestant: str, dtype: str, limit: float, below: float = float("inf")) -> list[Run]:
        """The first run, and more while they are short enough to be repeated."""
        runs = [self.start(contestant, f"{contestant}-{dtype}-0", limit, dtype)]
        while runs[0].took_part and runs[0].status != "cut" and runs[0].seconds < below:
            if len(runs) >= self.settings.repeats:
                break
            runs.append(self.start(contestant, f"{contestant}-{dtype}-{len(runs)}", limit, dtype))
        return runs

    def _limit(self, ours: list[list[Run]], best: float) -> float:
        """Seconds for each peer."""
        limit = self.settings.limit
        if not self.settings.cut_at_target:
            return limit
        allowed = []
        for gap, ratio in self.problem.targets.items():
            mine = entry(ours, best * (1 + gap), best).seconds
            allowed.append(limit if mine is None or ratio is None else MARGIN * ratio * mine)
        return min(limit, max(allowed))

    def _peer(self, contestant: str, limit: float, best: float) -> list[list[Run]]:
        """In float32; in float64, too, where float32 ended before the tightest gap was reached."""
        runs = self._repeated(contestant, "float32", limit, REPEAT_BELOW)
        tightest = best * (1 + min(self.problem.targets))
        stalled = runs[0].status == "done" and runs[0].time_to(tightest) is None
        if stalled and not contestant.startswith("liblinear"):
            return [runs, self._repeated(contestant, "float64", limit, REPEAT_BELOW)]
        return [runs]

    def _memory(self) -> list[Row]:
        if self.problem.loss != "cross_entropy" or not self.settings.asks("memory"):
            return []
        job = self.job("memory", "memory", self.settings.limit)
        found = run("memory", job, None, None)
        if found.status != "done":
            return [Row(self.problem.title, "memory", found.status, "", "", "", found.reason)]
        beyond, allowed = found.details["bytes"], found.details["allowed"]
        met = "yes" if beyond <= allowed else "no"
        mega = f"{beyond / 2**20:.0f} MiB"
        return [
            Row(self.problem.title, "memory", mega, "", f"{beyond / allowed:.2f}", f"≤ {allowed / 2**20:.0f} MiB", met)
        ]
