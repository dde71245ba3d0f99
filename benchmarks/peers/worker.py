"""One contestant in a process of its own.

    python benchmarks/peers/worker.py FOLDER/job.json

Loads the arrays, imports and warms up the library, then starts the clock and fits. Leaves result.json beside the job:
the status (done, reached, cut, absent, skipped, failed), seconds of the fit, details, and the libraries' versions.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from peers.job import AbsentError, Job, SkippedError
from peers.objective import objective
from peers.trace import CutError, ReachedError, Trace

WARM_ROWS, WARM_COLUMNS = 20_000, 256
"""Large enough that every library takes the same path, and compiles the same code, as for the problem itself."""
PACKAGES = ("lastlayer", "numpy", "scipy", "scikit-learn", "scikit-learn-intelex", "torch", "numba")


def main(path: Path) -> None:
    """Run the job and write what came of it."""
    job = Job.load(path)
    warnings.simplefilter("ignore")
    trace: Trace | None = None
    found: dict[str, Any] = {"status": "done", "reason": ""}
    try:
        X, y = np.load(job.X), np.load(job.y)
        shape = (X.shape[1] + 1, job.n_classes)
        trace = Trace(Path(job.folder), shape, job.dtype, job.limit)
        if job.target is not None:
            trace.stop_at(job.target, lambda params: objective(X, y, job.loss, job.l2, params))
        few = np.ascontiguousarray(X[:WARM_ROWS, :WARM_COLUMNS])
        family = importlib.import_module(f"peers.{job.family}")
        fit = family.prepare(job, few, y[:WARM_ROWS], trace)
        (path.parent / "started").touch()
        trace.begin()
        found["details"] = fit(X, y)
    except (AbsentError, ImportError) as problem:
        found = {"status": "absent", "reason": str(problem)}
    except SkippedError as problem:
        found = {"status": "skipped", "reason": str(problem)}
    except CutError:
        found["status"] = "cut"
    except ReachedError:
        found["status"] = "reached"
    except MemoryError as problem:
        found = {"status": "failed", "reason": f"out of memory: {problem}"}
    except Exception as problem:
        traceback.print_exc()
        found = {"status": "failed", "reason": f"{type(problem).__name__}: {problem}"}
    found["seconds"] = trace.seconds if trace is not None and trace.begun else 0.0
    if trace is not None:
        trace.close()
    found["versions"] = versions()
    temporary = path.parent / "result.json.tmp"
    temporary.write_text(json.dumps(found))
    os.replace(temporary, path.parent / "result.json")


def versions() -> dict[str, str]:
    """Of the libraries that may matter, as far as they are installed here."""
    known: dict[str, str] = {}
    for package in PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


if __name__ == "__main__":
    main(Path(sys.argv[1]))
