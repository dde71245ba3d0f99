"""lastlayer's exact solver, `fit_linear`, as its estimators call it.

The iterates are those of the solver's callback. They belong to centred, scaled and perhaps rotated columns, so the
objective (and the basis) in use are noted when the fit makes them, and the way back is walked with the clock stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import Job
from peers.trace import Parameters, Trace

Array = npt.NDArray[np.floating]


class Watch:
    """Knows the objective and basis of the fit under way."""

    def __init__(self) -> None:
        import lastlayer.selection.fit as fit_module
        from lastlayer.objective import Objective

        self.objective: Any = None
        self.basis: Any = None
        build, thin = Objective._build, fit_module.thin

        def noting_build(objective: Any, *args: Any) -> None:
            build(objective, *args)
            self.objective = objective

        def noting_thin(Z: Any) -> Any:
            rotated, self.basis = thin(Z)
            return rotated, self.basis

        Objective._build = noting_build  # type: ignore[method-assign]
        fit_module.thin = noting_thin

    def outside(self, params: Array) -> Parameters:
        """W (D, K) and b (K,) for the columns as given."""
        W, b = self.objective.to_outside(params)
        return (W, b) if self.basis is None else self.basis.weights(W, b)


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    from lastlayer.selection import fit_linear

    watch = Watch()

    def callback(record: Any, params: Array) -> bool:
        trace.snapshot(lambda: watch.outside(params))
        return False

    def run(X: Array, y: Array, tol: float = 1e-7, **more: Any) -> Any:
        watch.basis = None
        return fit_linear(
            X,
            y,
            job.n_classes,
            job.loss,
            l2=job.l2,
            tol=tol,
            gap=1e-9,
            fit_intercept=job.bias,
            callback=callback,
            **more,
        )

    def fit(X: Array, y: Array) -> dict[str, Any]:
        found = run(X, y, max_iter=job.options.get("max_iter", 5000))
        trace.snapshot(lambda: (found.weights, found.bias), last=True)
        return _facts(found)

    def reference(X: Array, y: Array) -> dict[str, Any]:
        """As far as float32 goes, then on in float64."""
        rough = run(X, y, max_iter=5000)
        trace.snapshot(lambda: (rough.weights, rough.bias), last=True)
        found = run(X.astype(np.float64), y, tol=1e-8, max_iter=500, start=(rough.weights, rough.bias))
        trace.snapshot(lambda: (found.weights, found.bias), last=True)
        return _facts(found)

    run(X, y, max_iter=3)
    return reference if job.options.get("reference") else fit


def _facts(found: Any) -> dict[str, Any]:
    solution = found.solution
    return {"solver": found.solver, "stop": solution.stop_reason.value, "passes": solution.passes}
