"""Is the gradient the derivative of the value? Central differences, parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from lastlayer._arrays import Float64
from lastlayer.solvers.base import Problem


class GradientRow(NamedTuple):
    """One parameter: its index, both derivatives, their relative difference, and whether that is small enough."""

    parameter: tuple[int, ...]
    analytic: float
    numeric: float
    relative_error: float
    right: bool


@final
@dataclass(frozen=True)
class GradientCheck:
    """The table of `check_gradient`; printing it shows one line a parameter, worst first."""

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def right(self) -> bool:
        """Whether every derivative checked agrees."""
        return all(row.right for row in self.rows)

    @property
    def worst(self) -> float:
        """Largest relative error."""
        return max((row.relative_error for row in self.rows), default=0.0)

    def __str__(self) -> str:
        lines = [f"{'parameter':>12} {'analytic':>14} {'numeric':>14} {'rel. error':>11}  verdict"]
        for row in sorted(self.rows, key=lambda r: -r.relative_error)[:20]:
            index = ",".join(map(str, row.parameter))
            verdict = "ok" if row.right else "WRONG"
            lines.append(
                f"{index:>12} {row.analytic:>14.6e} {row.numeric:>14.6e} {row.relative_error:>11.1e}  {verdict}"
            )
        right = sum(row.right for row in self.rows)
        lines.append(f"{right} of {len(self.rows)} derivatives agree to {self.tolerance:.0e}")
        return "\n".join(lines)


def check_gradient(
    problem: Problem,
    params: Float64,
    indices: Sequence[tuple[int, ...]] | None = None,
    tolerance: float | None = None,
) -> GradientCheck:
    """Compare a problem's gradient with central differences of its value.

    ``(f(x + h e) - f(x - h e)) / 2h`` with ``h = ε^⅓ max(1, |x|)``, which balances truncation and rounding for
    values of relative rounding ε (Nocedal & Wright 2006, section 8.1). Relative errors are measured against the
    larger of the two derivatives, but at least against a thousandth of the largest derivative of all.

    Parameters
    ----------
    problem : Problem
    params : ndarray
        Where to check, away from kinks.
    indices : sequence of tuple of int, optional
        Parameters to check; all when None (two evaluations each).
    tolerance : float, optional
        Largest relative error that counts as agreement; ``10 ε^⅔`` relative to the curvature's usual size, at least
        1e-6, when None.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.solvers import FunctionProblem, check_gradient
    >>> bowl = FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(2))
    >>> check_gradient(bowl, np.array([1.0, -2.0])).right
    True
    """
    x = np.array(params, dtype=np.float64)
    gradient = problem.at(x.copy()).gradient
    eps = problem.rounding
    limit = tolerance if tolerance is not None else max(1e-6, 100.0 * eps ** (2 / 3))
    floor = 1e-3 * float(np.abs(gradient).max()) or 1e-300
    rows = []
    for index in indices if indices is not None else list(np.ndindex(x.shape)):
        h = eps ** (1 / 3) * max(1.0, abs(x[index]))
        ahead, behind = x.copy(), x.copy()
        ahead[index] += h
        behind[index] -= h
        width = ahead[index] - behind[index]
        numeric = (problem.at(ahead).value - problem.at(behind).value) / float(width)
        analytic = float(gradient[index])
        error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor)
        rows.append(GradientRow(tuple(index), analytic, numeric, error, bool(error <= limit)))
    return GradientCheck(tuple(rows), limit)
