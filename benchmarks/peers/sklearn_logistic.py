"""scikit-learn's LogisticRegression with its multinomial solvers, and scikit-learn-intelex's.

Configuration: C = 1/(λN), no other change of the objective; tolerance 1e-10 and a million iterations, so that the
solver goes on until its time is up or it cannot improve; threads as the libraries choose. float32 features by default
(half the memory traffic); the runner repeats with float64 when float32 stops too early.

Iterates come from wrapping what scikit-learn calls inside:

* lbfgs (also of scikit-learn-intelex): the callback of `scipy.optimize.minimize`;
* newton-cg: the line search, whose result is the next iterate;
* newton-cholesky: the convergence test after each step;
* saga: `sag_solver` is called epoch by epoch with its own warm-start memory (gradients and sums), which continues the
  same iteration exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import AbsentError, Job, SkippedError
from peers.trace import Parameters, Trace

Array = npt.NDArray[np.floating]
Report = Callable[[Array, bool], None]
ENDLESS, TOLERANCE = 1_000_000, 1e-10


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    solver = str(job.options["solver"])
    classes = job.n_classes

    def report(flat: Array, bias_first: bool = False) -> None:
        trace.snapshot(lambda: unpack(np.asarray(flat), classes, bias_first))

    watch_minimize(report)
    if job.options.get("intel"):
        try:
            from sklearnex.linear_model import LogisticRegression
        except ImportError as problem:
            raise AbsentError(f"scikit-learn-intelex: {problem}") from problem
    else:
        from sklearn.linear_model import LogisticRegression
    if solver == "newton-cholesky":
        _refuse_large_hessian(job)
    WATCHES[solver](report)

    def run(X: Array, y: Array, max_iter: int) -> Any:
        C = 1.0 / (job.l2 * len(X))
        model = LogisticRegression(C=C, solver=solver, tol=TOLERANCE, max_iter=max_iter, fit_intercept=job.bias)
        if solver == "saga":
            model.set_params(random_state=0)
        return model.fit(X.astype(job.dtype, copy=False), y)

    def fit(X: Array, y: Array) -> dict[str, Any]:
        model = run(X, y, ENDLESS)
        trace.snapshot(lambda: (model.coef_.T, model.intercept_), last=True)
        return {"iterations": int(np.max(model.n_iter_)), "minimised": MINIMISED[-1:]}

    run(X, y, 2)
    return fit


MINIMISED: list[str] = []
"""Names of the functions given to `scipy.optimize.minimize`: tells whether scikit-learn-intelex did the work."""


def unpack(flat: Array, n_classes: int, bias_first: bool) -> Parameters:
    """W (D, K) and b (K,) of flat parameters (K, D + 1): F order with the bias last, or C order with the bias first."""
    if bias_first:
        rows = flat.reshape(n_classes, -1)
        return rows[:, 1:].T, rows[:, 0]
    rows = flat.reshape((n_classes, -1), order="F")
    return rows[:, :-1].T, rows[:, -1]


def watch_minimize(report: Report, began: Callable[[Array], None] | None = None) -> None:
    """Report every iterate of `scipy.optimize.minimize`, whoever calls it."""
    import scipy.optimize

    original = scipy.optimize.minimize

    def minimize(fun: Any, x0: Any, *args: Any, callback: Any = None, **named: Any) -> Any:
        name = str(getattr(fun, "__name__", fun))
        bias_first = name.startswith("_daal4py")
        MINIMISED.append(name)
        if began is not None:
            began(x0)

        def at_iterate(xk: Array) -> None:
            if callback is not None:
                callback(xk)
            report(xk, bias_first)

        return original(fun, x0, *args, callback=at_iterate, **named)

    scipy.optimize.minimize = minimize


def _watch_newton_cg(report: Report) -> None:
    import sklearn.utils.optimize as module

    original = module._line_search_wolfe12

    def line_search(f: Any, fprime: Any, xk: Array, pk: Array, *args: Any, **named: Any) -> Any:
        found = original(f, fprime, xk, pk, *args, **named)
        report(xk + found[0] * pk, False)
        return found

    module._line_search_wolfe12 = line_search


def _watch_newton_cholesky(report: Report) -> None:
    from sklearn.linear_model._glm._newton_solver import NewtonSolver

    original = NewtonSolver.check_convergence

    def check_convergence(solver: Any, *args: Any, **named: Any) -> None:
        report(solver.coef.ravel(order="F"), False)
        original(solver, *args, **named)

    NewtonSolver.check_convergence = check_convergence


def _watch_saga(report: Report) -> None:
    import sklearn.linear_model._logistic as module

    original = module.sag_solver

    def sag_solver(*args: Any, **named: Any) -> Any:
        rest = list(args)
        epochs, memory = rest[6], rest[12]
        rest[6] = 1
        for _ in range(epochs):
            rest[12] = memory
            coef, _done, memory = original(*rest, **named)
            report(np.ravel(coef, order="F"), False)
        return coef, epochs, memory

    module.sag_solver = sag_solver


WATCHES: dict[str, Callable[[Report], None]] = {
    "lbfgs": lambda report: None,
    "newton-cg": _watch_newton_cg,
    "newton-cholesky": _watch_newton_cholesky,
    "saga": _watch_saga,
}


def _refuse_large_hessian(job: Job) -> None:
    """The Hessian, the copy without the redundant bias, and LAPACK's copy of that one."""
    d = np.load(job.X, mmap_mode="r").shape[1]
    side = job.n_classes * (d + 1)
    need = 3 * side * side * np.dtype(job.dtype).itemsize
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
        available = int(line.split()[1]) * 1024
        if need > available:
            raise SkippedError(
                f"its Hessian has {side:,}² numbers, with two copies {need / 2**30:.0f} GiB; "
                f"{available / 2**30:.0f} GiB are free"
            )
