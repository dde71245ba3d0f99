"""Starts contestants, one process at a time, ends those whose time is up, and judges their traces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import CONTESTANTS, OWN
from peers.job import Job
from peers.objective import Array, Judged
from peers.trace import Snapshots

WORKER = Path(__file__).with_name("worker.py")
BEFORE_START = 900.0
"""Seconds for loading, importing and warming up; not part of any figure."""


@dataclass
class Run:
    """What came of one process.

    Attributes
    ----------
    contestant, dtype : str
    status : str
        done (the solver ended by itself), reached (the tightest gap), cut (its time was up), absent, skipped, failed.
    reason : str
    seconds : float
        Of the fit, pauses excluded; for a process that had to be killed, the limit.
    limit : float
    details : dict
    versions : dict
    judged : Judged or None
        The trace.
    """

    contestant: str
    dtype: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    limit: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    judged: Judged | None = None

    def time_to(self, value: float) -> float | None:
        """Seconds until the objective was at or below `value`; None when that did not happen."""
        return None if self.judged is None else self.judged.time_to(value)

    @property
    def lowest(self) -> float:
        """Lowest objective seen."""
        return float("inf") if self.judged is None else self.judged.lowest

    @property
    def took_part(self) -> bool:
        return self.status in ("done", "reached", "cut")


def interpreter(contestant: str, peers_python: Path | None) -> str | None:
    """Path of the Python that runs a contestant; None when it was not given."""
    if CONTESTANTS[contestant].python == OWN:
        return sys.executable
    return None if peers_python is None else str(peers_python)


def run(contestant: str, job: Job, peers_python: Path | None, value: Callable[[Array], float] | None) -> Run:
    """Run a contestant in a process of its own; `value` judges its trace where it leaves one."""
    python = interpreter(contestant, peers_python)
    if python is None:
        return Run(contestant, job.dtype, "absent", "no interpreter for it: give --peers-python")
    if not Path(python).exists():
        return Run(contestant, job.dtype, "absent", f"{python} does not exist")
    folder = Path(job.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    killed = _wait(python, job.save(), folder, job.limit * CONTESTANTS[contestant].runs)
    found = _result(folder, killed)
    snapshots = Snapshots.of(folder)
    judged = None
    if value is not None and snapshots is not None and found["status"] in ("done", "reached", "cut"):
        judged = Judged(snapshots, value, job.limit)
    return Run(
        contestant,
        job.dtype,
        found["status"],
        found["reason"],
        min(found.get("seconds", job.limit), job.limit) if found["status"] == "cut" else found.get("seconds", 0.0),
        job.limit,
        found.get("details") or {},
        found.get("versions") or {},
        judged,
    )


def _wait(python: str, job: Path, folder: Path, limit: float) -> str:
    """Wait for the process; returns why it had to be killed, or nothing."""
    with open(folder / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [python, str(WORKER), str(job)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        begun, started = time.monotonic(), None
        try:
            while process.poll() is None:
                time.sleep(0.1)
                now = time.monotonic()
                if started is None and (folder / "started").exists():
                    started = now
                if started is None and now - begun > BEFORE_START:
                    return "did not start"
                # Snapshots and looks at the value stop the clock, not the wall: half as much again is for them.
                if started is not None and now - started > 1.5 * limit + 60:
                    return "cut"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return ""


def _result(folder: Path, killed: str) -> dict[str, Any]:
    written = folder / "result.json"
    if written.is_file():
        return dict(json.loads(written.read_text()))
    if killed == "cut":
        return {"status": "cut", "reason": "within one step when its time was up"}
    tail = (folder / "output.txt").read_text(errors="replace").strip().splitlines()[-1:]
    return {"status": "failed", "reason": killed or f"the process ended without a result: {' '.join(tail)}"}
