"""A kernel machine with a coefficient for every row, in scikit-learn's shapes."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from lastlayer.estimators.fitting import Coefficients, Plan
from lastlayer.estimators.training import Training
from lastlayer.representations.gram import gram
from lastlayer.representations.kernels import Kernel
from lastlayer.selection.kernel_ridge import fit_kernel_ridge, one_hot
from lastlayer.solvers.base import StopReason

LEAST_GAP = {"float32": 1e-5, "float64": 1e-10}
"""Relative gaps that products of either type can still show."""


def learn_all(data: Training, kernel: Kernel, plan: Plan, precision: str) -> Coefficients:
    """Coefficients (K, N), or (1, N) of the second class for two; Ctrl-C is raised again.

    Warns
    -----
    ConvergenceWarning
        LL040 when the gap asked for was not reached.
    """
    K = gram(kernel, data.X, precision, plan.threads, plan.progress)
    gap = max(plan.tol, LEAST_GAP[precision])
    found = fit_kernel_ridge(
        K,
        one_hot(data.codes, len(data.classes)),
        l2=plan.l2,
        sample_weight=data.weights,
        gap=gap,
        max_iter=plan.max_iter,
        fit_intercept=plan.fit_intercept,
        seed=plan.seed,
        threads=plan.threads,
        progress=plan.progress,
    )
    if found.stop_reason is StopReason.INTERRUPTED:
        # A search over many fits must stop at Ctrl-C, not take the next fit.
        raise KeyboardInterrupt
    if not found.stop_reason.converged:
        warnings.warn(
            f"LL040 kernel_ridge did not converge ({found.stop_reason.value} after {found.passes:.0f} products): the "
            f"objective may be {found.gap:.2g} of itself above its minimum, tol {gap:g}. Raise max_iter, or lower C",
            ConvergenceWarning,
            stacklevel=3,
        )
    A, b = found.dual.T, found.bias
    if len(data.classes) == 2:
        A, b = A[1:] - A[:1], b[1:] - b[:1]
    return Coefficients(np.ascontiguousarray(A), b, max(1, int(found.passes)))
