"""LIBLINEAR through scikit-learn's LinearSVC: squared hinge by its primal or dual solver, hinge by its dual solver.

LIBLINEAR penalises the bias, so these rows are without bias for everybody: the objectives are then identical,
``C Σ L + ½‖w‖²`` for each class with C = 1/(λN). It offers no callback: the fit is run anew with a tolerance ever
tighter by √10, and the time to a gap is that of the single run that first reaches it. It uses one thread.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import Job, SkippedError
from peers.trace import CutError, Trace

Array = npt.NDArray[np.floating]
TOLERANCES = tuple(float(t) for t in 10.0 ** np.arange(1.0, -6.01, -0.5))


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from sklearn.svm import LinearSVC

    if job.bias:
        raise SkippedError("penalises the bias")

    def run(X: Array, y: Array, tol: float, max_iter: int) -> Any:
        C = 1.0 / (job.l2 * len(X))
        model = LinearSVC(
            loss=job.loss,
            C=C,
            dual=job.options["dual"],
            tol=tol,
            fit_intercept=False,
            max_iter=max_iter,
            random_state=0,
        )
        return model.fit(X, y)

    def fit(X: Array, y: Array) -> dict[str, Any]:
        runs = []
        for tol in job.options.get("tolerances", TOLERANCES):
            begin = time.perf_counter()
            model = run(X, y, tol, 1_000_000)
            seconds = time.perf_counter() - begin
            runs.append((tol, seconds))
            if seconds > job.limit:
                raise CutError
            trace.write(seconds, model.coef_.T, np.zeros(job.n_classes))
        return {"runs": runs}

    run(X[:2000], y[:2000], 1.0, 5)
    return fit
