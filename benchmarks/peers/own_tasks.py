"""lastlayer on whole tasks: cross-validation over C, ridge with leave-one-out, and the DINOv2 protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import Job
from peers.objective import objective
from peers.sklearn_tasks import folds
from peers.trace import Trace

Array = npt.NDArray[np.floating]
PROMISES = (1e-4, 1e-5, 1e-6, 1e-7)
"""Tolerances tried by the cross-validation, as LIBLINEAR's: the first that brings every fit within the gap counts."""


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    tasks = {"cv": _cv, "cv-reference": _cv_reference, "ridge": _ridge, "protocol": _protocol}
    return tasks[str(job.options["task"])](job, X, y, trace)


def _values(job: Job, X: Array, y: Array, weights: Array, biases: Array) -> Array:
    """Objective of every fold (rows) and C (columns)."""
    splits = folds(len(X), int(job.details["folds"]))
    return np.array(
        [
            [
                objective(X, y, job.loss, 1.0 / (C * len(train)), np.vstack([weights[f, c], biases[f, c]]), train)
                for c, C in enumerate(job.details["Cs"])
            ]
            for f, (train, _) in enumerate(splits)
        ]
    )


def _cv(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from lastlayer.selection.cross_validation import cross_validate

    def run(X: Array, y: Array, Cs: Any, gap: float) -> Any:
        splits = folds(len(X), int(job.details["folds"]))
        return cross_validate(X, y, job.n_classes, job.loss, Cs, splits, gap=gap, keep_weights=True)

    def fit(X: Array, y: Array) -> dict[str, Any]:
        targets = np.asarray(job.details["targets"])
        runs = []
        for promise in PROMISES:
            begin = trace.seconds
            found = run(X, y, job.details["Cs"], promise)
            seconds = trace.seconds - begin
            with trace.pause():
                values = _values(job, X, y, found.fold_weights, found.fold_biases)
            worst = float((values / targets).max() - 1.0)
            passes = float(found.passes.sum())
            runs.append({"promise": promise, "seconds": seconds, "above_target": worst, "passes": passes})
            if worst <= 0.0:
                break
        last = runs[-1]
        return {**last, "runs": runs, "total": last["seconds"], "complete": worst <= 0.0, "values": values.tolist()}

    run(X, y, [1.0], 0.1)
    return fit


def _cv_reference(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    """Every fold and C to a promise of 1e-7, each begun at the C before."""
    from lastlayer.selection import fit_linear

    def fit(X: Array, y: Array) -> dict[str, Any]:
        values = []
        for train, _ in folds(len(X), int(job.details["folds"])):
            Z, labels = np.ascontiguousarray(X[train]), y[train]
            start = None
            row = []
            for C in job.details["Cs"]:
                l2 = 1.0 / (C * len(train))
                found = fit_linear(Z, labels, job.n_classes, job.loss, l2=l2, tol=1e-4, gap=1e-7, start=start)
                start = (found.weights, found.bias)
                row.append(objective(Z, labels, job.loss, l2, np.vstack([found.weights, found.bias])))
            values.append(row)
        return {"values": values}

    return fit


def _ridge(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from lastlayer.selection.ridge import ridge_path

    alphas = np.asarray(job.details["alphas"])

    def run(X: Array, y: Array, alphas: Array) -> tuple[Any, int]:
        path = ridge_path(X, y, alphas / len(X), n_classes=job.n_classes)
        best = path.choose()
        path.fit(best)
        return path, best

    def fit(X: Array, y: Array) -> dict[str, Any]:
        path, best = run(X, y, alphas)
        total = trace.seconds
        # RidgeClassifierCV's targets are ±1, twice as far apart; its error is a mean over classes, without the ½.
        error = 8.0 / job.n_classes * float(path.leave_one_out.loss[best])
        return {"total": total, "complete": True, "alpha": float(alphas[best]), "loo": error}

    run(X, y, alphas[:2])
    return fit


def _protocol(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from lastlayer.selection.protocols import choose_by_protocol

    def fit(X: Array, y: Array) -> dict[str, Any]:
        found = choose_by_protocol("dinov2", X, y, job.n_classes)
        return {"total": trace.seconds, "complete": True, "C": float(found.C)}

    return fit
