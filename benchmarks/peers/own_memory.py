"""Peak memory of a float32 fit beyond X, in bytes: the process's high-water mark against its size before the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import Job, SkippedError
from peers.trace import Trace

Array = npt.NDArray[np.floating]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    if not CLEAR.exists():
        raise SkippedError("peak memory is read from /proc/self, which this system has not")
    from lastlayer.selection import fit_linear

    def run(X: Array, y: Array, **more: Any) -> Any:
        return fit_linear(X, y, job.n_classes, job.loss, l2=job.l2, fit_intercept=job.bias, **more)

    def fit(X: Array, y: Array) -> dict[str, Any]:
        n, d = X.shape
        X.sum()  # every page of X is in memory now, and stays counted
        CLEAR.write_text("5")
        before = _status("VmRSS")
        found = run(X, y)
        beyond = _status("VmHWM") - before
        allowed = 4 * (3 * n * job.n_classes + 4 * d * d)
        return {"bytes": beyond, "allowed": allowed, "solver": found.solver, "stop": found.solution.stop_reason.value}

    run(X, y, max_iter=3)
    return fit
