"""scikit-learn on whole tasks: LogisticRegressionCV, and RidgeClassifierCV with leave-one-out.

LogisticRegressionCV (lbfgs, float32, no refit): every fit of a fold and a C is stopped as soon as its objective is
within the gap (looked at with the clock stopped, after every 5% more time and at least 3 iterations), begun at the
solution of the C before, as scikit-learn does. That is the least it could take. What is done when the time is up is
extrapolated by the mean time of the same C in the folds that are done, and by the last C's where there is none.

RidgeClassifierCV (float32, its choice between covariance and Gram matrix): the time of every α is noted, so that what
is done when the time is up can be extrapolated: all α cost alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import Job
from peers.objective import objective
from peers.sklearn_logistic import unpack, watch_minimize
from peers.trace import LOOK, CutError, Trace

Array = npt.NDArray[np.floating]


def folds(n: int, count: int) -> list[tuple[Array, Array]]:
    """Rows i with i mod `count` = f are held out in fold f; the rows come shuffled."""
    number = np.arange(n) % count
    return [(np.flatnonzero(number != f), np.flatnonzero(number == f)) for f in range(count)]


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    return {"cv": _prepare_cv, "ridge": _prepare_ridge}[str(job.options["task"])](job, X, y, trace)


class _Cells:
    """The fits of folds × C: which is under way, when it began, and whether its gap is reached."""

    def __init__(self, job: Job, trace: Trace) -> None:
        self.job, self.trace = job, trace
        self.Cs, self.count = job.details["Cs"], int(job.details["folds"])
        self.targets = np.asarray(job.details["targets"])
        self.done: list[dict[str, Any]] = []
        self.begun = self.looked = 0.0
        self.number = self.iterations = 0

    def attach(self, X: Array, y: Array) -> None:
        self.X, self.y = X, y
        self.folds = folds(len(X), self.count)

    @property
    def cell(self) -> tuple[int, int]:
        return divmod(self.number, len(self.Cs))

    def began(self, x0: Array) -> None:
        if self.trace.begun:
            self.number = len(self.done)
            self.begun, self.looked, self.iterations = self.trace.seconds, 0.0, 0

    def report(self, xk: Array, bias_first: bool) -> None:
        """Look whether this fit may stop (`StopIteration` tells SciPy so)."""
        if not self.trace.begun:
            return
        seconds = self.trace.seconds - self.begun
        if self.trace.seconds > self.trace.limit:
            raise CutError
        self.iterations += 1
        if self.iterations < 3 or seconds < (1 + LOOK) * self.looked:
            return
        self.looked = seconds
        with self.trace.pause():
            value = self.value(xk)
        if value <= self.targets[self.cell]:
            self.finish(value, seconds)
            raise StopIteration

    def value(self, xk: Array) -> float:
        f, c = self.cell
        train = self.folds[f][0]
        W, b = unpack(np.asarray(xk), self.job.n_classes, False)
        return objective(self.X, self.y, self.job.loss, 1.0 / (self.Cs[c] * len(train)), np.vstack([W, b]), train)

    def finish(self, value: float, seconds: float) -> None:
        f, c = self.cell
        self.done.append({"fold": f, "C": self.Cs[c], "seconds": seconds, "value": value})

    def summary(self) -> dict[str, Any]:
        """Seconds of all fits: measured where done, extrapolated by C elsewhere."""
        by_C: dict[float, list[float]] = {C: [] for C in self.Cs}
        for cell in self.done:
            by_C[cell["C"]].append(cell["seconds"])
        total, last = 0.0, 0.0
        for C in self.Cs:
            last = float(np.mean(by_C[C])) if by_C[C] else last
            total += self.count * last
        measured = float(sum(cell["seconds"] for cell in self.done))
        return {"fits": len(self.done), "measured": measured, "extrapolated": total, "cells": self.done}


def _prepare_cv(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from sklearn.linear_model import LogisticRegressionCV

    cells = _Cells(job, trace)

    def run(X: Array, y: Array, splits: Any, max_iter: int) -> None:
        LogisticRegressionCV(
            Cs=np.asarray(cells.Cs),
            cv=splits,
            tol=1e-10,
            max_iter=max_iter,
            refit=False,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
            scoring="accuracy",
        ).fit(X, y)

    import scipy.optimize

    watch_minimize(cells.report, cells.began)
    inner = scipy.optimize.minimize

    def minimize(*args: Any, **named: Any) -> Any:
        found = inner(*args, **named)
        if trace.begun and len(cells.done) == cells.number:  # it ended by itself
            with trace.pause():
                value = cells.value(found.x)
            cells.finish(value, trace.seconds - cells.begun)
        return found

    scipy.optimize.minimize = minimize

    def fit(X: Array, y: Array) -> dict[str, Any]:
        cells.attach(X, y)
        try:
            run(X, y, cells.folds, 1_000_000)
        except CutError:
            return {**cells.summary(), "complete": False, "total": trace.seconds}
        return {**cells.summary(), "complete": True, "total": trace.seconds}

    run(X[:4000], y[:4000], folds(len(X[:4000]), 2), 2)
    return fit


def _prepare_ridge(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.linear_model._ridge import _RidgeGCV

    done: list[float] = []
    original = _RidgeGCV._score_without_scorer

    def score(model: Any, squared_errors: Array) -> Any:
        if trace.begun:
            done.append(trace.seconds)
            if trace.seconds > trace.limit:
                raise CutError
        return original(model, squared_errors=squared_errors)

    _RidgeGCV._score_without_scorer = lambda model, *, squared_errors: score(model, squared_errors)
    alphas = np.asarray(job.details["alphas"])

    def fit(X: Array, y: Array) -> dict[str, Any]:
        try:
            model = RidgeClassifierCV(alphas=alphas).fit(X, y)
        except CutError:
            each = (done[-1] - done[0]) / max(1, len(done) - 1)
            return {"complete": False, "total": done[-1] + each * (len(alphas) - len(done)), "fits": len(done)}
        total = trace.seconds
        return {
            "complete": True,
            "total": total,
            "fits": len(done),
            "alpha": float(model.alpha_),
            "loo": -float(model.best_score_),
        }

    RidgeClassifierCV(alphas=alphas[:2]).fit(X[:4000], y[:4000])
    return fit
