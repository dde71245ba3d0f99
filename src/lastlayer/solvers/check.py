"""Is the gradient the derivative of the value? Central differences, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer.solvers.base import Problem
from lastlayer.solvers.differences import slopes, step_length
from lastlayer.solvers.function import FunctionProblem

Function = Callable[[Any], tuple[float, Any]]
"""Parameters -> (value, gradient): an array and an array, or a dict of arrays and a dict of arrays."""

SHOWN = 20


class GradientRow(NamedTuple):
    """One parameter: its index, both derivatives, their relative difference, and what that means.

    ``right`` says that they agree. Where they do not, ``kink`` says that the function has a corner there and the
    analytic derivative lies between those to its two sides. ``name`` is that of the array in a dict of parameters.
    """

    parameter: tuple[int, ...]
    analytic: float
    numeric: float
    relative_error: float
    right: bool
    kink: bool = False
    name: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``kink`` or ``WRONG``."""
        return "ok" if self.right else "kink" if self.kink else "WRONG"

    @property
    def label(self) -> str:
        """The parameter as it is printed: ``0,2`` or ``weight[0,2]``."""
        index = ",".join(map(str, self.parameter))
        return f"{self.name}[{index}]" if self.name else index


@final
@dataclass(frozen=True)
class GradientCheck:
    """The table of `check_gradient`; printing it shows one line a parameter, worst first."""

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def right(self) -> bool:
        """Whether no derivative checked is wrong (a kink is not wrong)."""
        return all(row.right or row.kink for row in self.rows)

    @property
    def kinks(self) -> int:
        """Parameters at a kink."""
        return sum(row.kink for row in self.rows)

    @property
    def worst(self) -> float:
        """Largest relative error away from kinks."""
        return max((row.relative_error for row in self.rows if not row.kink), default=0.0)

    def __str__(self) -> str:
        order = {"WRONG": 0, "kink": 1, "ok": 2}
        rows = sorted(self.rows, key=lambda row: (order[row.verdict], -row.relative_error))
        width = max([12, *(len(row.label) for row in rows[:SHOWN])])
        lines = [f"{'parameter':>{width}} {'analytic':>14} {'numeric':>14} {'rel. error':>11}  verdict"]
        for row in rows[:SHOWN]:
            numbers = f"{row.analytic:>14.6e} {row.numeric:>14.6e} {row.relative_error:>11.1e}"
            lines.append(f"{row.label:>{width}} {numbers}  {row.verdict}")
        if len(rows) > SHOWN:
            lines.append(f"{'...':>{width}} and {len(rows) - SHOWN} more")
        agree = sum(row.right for row in rows)
        kinks = f", {self.kinks} at a kink" if self.kinks else ""
        lines.append(f"{agree} of {len(rows)} derivatives agree to {self.tolerance:.0e}{kinks}")
        return "\n".join(lines)


def check_gradient(
    problem: Problem | Function,
    params: Array | Mapping[str, Array],
    indices: Sequence[tuple[Any, ...]] | None = None,
    tolerance: float | None = None,
    *,
    rounding: float | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> GradientCheck:
    """Compare a gradient with central differences of the value.

    ``(f(x + h) - f(x - h)) / 2h`` with the step of `differences.step_length`. Relative errors are what is left of
    ``|analytic - numeric|`` beyond the rounding of the values, measured against the larger of the two, but at least
    against a thousandth of the largest derivative of all.

    Where they disagree, one-sided differences at h, h/10 and h/100 tell a wrong derivative from a kink (ReLU,
    hinge): at a corner the two sides keep apart however small h is, or come together at once when the corner leaves
    the interval; for a smooth function they come together in proportion to h. A kink is reported as such only if
    the analytic derivative lies between those of the two sides.

    Parameters
    ----------
    problem : Problem or callable
        A `Problem`, or params -> (value, gradient). For losses and penalties see `loss_problem`, `penalty_problem`.
    params : ndarray or mapping of str to ndarray
        Where to check. A network's parameters are a mapping name -> array; its callable gets such a dict and returns
        the gradient as one.
    indices : sequence of tuple, optional
        Parameters to check, ``(i, j)``, or ``(name, i, j)`` for a mapping; all when None (two evaluations each).
    tolerance : float, optional
        Largest relative error that counts as agreement; ``100 ε^⅔``, at least 1e-6, when None.
    rounding : float, optional
        ε, the relative rounding of the values; the problem's own, or that of the arrays' type, when None.
    sample : int, optional
        Check this many parameters of each array, drawn at random, instead of all.
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        When the value is not finite, or gradient and parameters differ in shape or names.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.solvers.check import check_gradient
    >>> check_gradient(lambda x: (float(x @ x), 2 * x), np.array([1.0, -2.0])).right
    True
    >>> x = {"w": np.array([1.0, 2.0]), "b": np.array([0.5])}
    >>> print(check_gradient(lambda p: (float(p["w"] @ p["w"] - p["b"][0]), {"w": 2 * p["w"], "b": np.ones(1)}), x))
       parameter       analytic        numeric  rel. error  verdict
            b[0]   1.000000e+00  -1.000000e+00     2.0e+00  WRONG
            w[0]   2.000000e+00   2.000000e+00     0.0e+00  ok
            w[1]   4.000000e+00   4.000000e+00     0.0e+00  ok
    2 of 3 derivatives agree to 1e-06
    """
    subject = _Subject.of(problem, params, rounding)
    here, gradient = subject.checked()
    limit = tolerance if tolerance is not None else max(1e-6, 100.0 * subject.rounding ** (2 / 3))
    largest = max((float(np.abs(g).max(initial=0.0)) for g in gradient.values()), default=0.0)
    judge = _Judge(subject, here, limit, 1e-3 * largest or 1e-300)
    chosen = subject.chosen(indices, sample, seed)
    return GradientCheck(tuple(judge.row(name, index, gradient[name]) for name, index in chosen), limit)


@final
@dataclass(frozen=True, eq=False)
class _Subject:
    """Whatever is checked, as functions of a dict of arrays."""

    arrays: dict[str, Array]
    value: Callable[[dict[str, Array]], float]
    value_and_gradient: Callable[[dict[str, Array]], tuple[float, dict[str, Array]]]
    rounding: float

    @classmethod
    def of(cls, problem: Problem | Function, params: Array | Mapping[str, Array], rounding: float | None) -> _Subject:
        if isinstance(problem, Problem):
            if isinstance(params, Mapping):
                raise InputError("A Problem has one array of parameters, not named ones", "Give a plain callable")
            x = np.array(params, dtype=np.float64)

            def both(arrays: dict[str, Array]) -> tuple[float, dict[str, Array]]:
                point = problem.at(arrays[""].copy())
                return point.value, {"": point.gradient}

            eps = problem.rounding if rounding is None else rounding
            return cls({"": x}, lambda arrays: problem.at(arrays[""]).value, both, eps)
        named = isinstance(params, Mapping)
        arrays = {k: _floats(v) for k, v in (params.items() if isinstance(params, Mapping) else [("", params)])}

        def called(given: dict[str, Array]) -> tuple[float, dict[str, Array]]:
            value, gradient = problem(given if named else given[""])
            return float(value), {k: np.asarray(g) for k, g in (gradient if named else {"": gradient}).items()}

        widest = max((float(np.finfo(a.dtype).eps) for a in arrays.values()), default=0.0)
        return cls(arrays, lambda given: called(given)[0], called, 4.0 * widest if rounding is None else rounding)

    def checked(self) -> tuple[float, dict[str, Array]]:
        """Value and gradient where the check is made, refused when they cannot be compared."""
        here, gradient = self.value_and_gradient({name: array.copy() for name, array in self.arrays.items()})
        if not np.isfinite(here):
            raise InputError(f"The value is {here} there", "Check where the function is finite")
        for name, array in self.arrays.items():
            of = f" of {name}" if name else ""
            if name not in gradient:
                raise InputError(f"There is no gradient{of}", f"It has {', '.join(gradient) or 'none'}")
            if gradient[name].shape != array.shape:
                raise InputError(f"The gradient{of} has shape {gradient[name].shape}; its parameters {array.shape}")
        return float(here), gradient

    def along(self, name: str) -> Callable[[Array], float]:
        """The value as a function of one array."""
        return lambda array: self.value({**self.arrays, name: array})

    def chosen(
        self, indices: Sequence[tuple[Any, ...]] | None, sample: int | None, seed: int
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and index of each parameter to check."""
        if indices is not None:
            for index in indices:
                yield ("", tuple(index)) if "" in self.arrays else (str(index[0]), tuple(index[1:]))
            return
        rng = np.random.default_rng(seed)
        for name, array in self.arrays.items():
            some = list(range(array.size))
            if sample is not None and sample < array.size:
                some = sorted(rng.choice(array.size, sample, replace=False).tolist())
            for flat in some:
                yield name, tuple(int(i) for i in np.unravel_index(flat, array.shape))


def _floats(array: Array) -> Array:
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64, np.longdouble) else array.astype(np.float64)


@final
@dataclass(frozen=True, eq=False)
class _Judge:
    """Compares one derivative after the other."""

    subject: _Subject
    here: float
    limit: float
    floor: float

    def row(self, name: str, index: tuple[int, ...], gradient: Array) -> GradientRow:
        """Both derivatives of one parameter, and the verdict."""
        x, value = self.subject.arrays[name], self.subject.along(name)
        h = step_length("central", self.subject.rounding, float(x[index]))
        analytic = float(gradient[index])
        numeric = slopes(value, x, index, h, self.here).central
        scale = max(abs(analytic), abs(numeric), self.floor)
        error = max(0.0, abs(analytic - numeric) - self.noise(h)) / scale
        error = error if np.isfinite(error) else float("inf")
        right = error <= self.limit
        kink = not right and self.is_kink(value, x, index, h, analytic)
        return GradientRow(tuple(index), analytic, numeric, error, right, kink, name)

    def noise(self, h: float) -> float:
        """What the rounding of the values may add to a difference quotient."""
        return self.subject.rounding * abs(self.here) / h

    def is_kink(
        self, value: Callable[[Array], float], x: Array, index: tuple[int, ...], h: float, analytic: float
    ) -> bool:
        """Whether the function has a corner within h and the analytic derivative fits the two sides of it."""
        wide, near, nearest = (slopes(value, x, index, h / shrink, self.here) for shrink in (1, 10, 100))
        apart, closer = abs(wide.ahead - wide.behind), abs(near.ahead - near.behind)
        scale = max(abs(wide.ahead), abs(wide.behind), self.floor)
        rounding = 4.0 * self.noise(h / 10)
        smooth = 0.05 * apart - rounding <= closer <= 0.2 * apart + rounding
        if not apart > self.limit * scale + 4.0 * self.noise(h) or smooth:
            return False
        for shrink, (ahead, behind, _) in ((1, wide), (10, near), (100, nearest)):
            slack = self.limit * scale + 2.0 * self.noise(h / shrink)
            if min(ahead, behind) - slack <= analytic <= max(ahead, behind) + slack:
                return True
        return False


class RowLoss(Protocol):
    """What `loss_problem` needs of a loss (`losses.Loss`)."""

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row, (N,)."""
        ...

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with the gradient."""
        ...


class WeightPenalty(Protocol):
    """What `penalty_problem` needs of a penalty (`penalties.L2`)."""

    def value(self, W: Float64) -> float:
        """The penalty."""
        ...

    def gradient(self, W: Float64) -> Float64:
        """Its gradient."""
        ...


def loss_problem(loss: RowLoss, Z: Array, y: Array) -> FunctionProblem:
    """A loss as a function of its scores, ``Σᵢ L(zᵢ, yᵢ)``, to be checked or minimised.

    Shapes
    ------
    Z : (N, K), y : (N,) labels or (N, K) targets.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.losses import by_name
    >>> Z, y = np.array([[0.5, -1.0, 2.0]]), np.array([1])
    >>> check_gradient(loss_problem(by_name("cross_entropy"), Z, y), Z).right
    True
    """

    def function(scores: Float64) -> tuple[float, Float64]:
        gradient = np.array(scores, dtype=np.float64)
        loss.gradient(gradient, y)
        return float(loss.values(np.asarray(scores, dtype=np.float64), y).sum()), gradient

    return FunctionProblem(function, np.array(Z, dtype=np.float64))


def penalty_problem(penalty: WeightPenalty, W: Array) -> FunctionProblem:
    """A penalty as a function of the weights (D, K), to be checked.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.penalties import L2
    >>> W = np.ones((2, 3))
    >>> check_gradient(penalty_problem(L2(np.array([0.1, 2.0])), W), W).right
    True
    """
    return FunctionProblem(lambda at: (penalty.value(at), penalty.gradient(at)), np.array(W, dtype=np.float64))
