"""The forty numerical cases of reliability.md: solved to a gap of 1e-8, or refused by name; never wrong in silence.

Every case runs with every solver that fits and with every type of features that can hold its data. The reference
(`numerical_reference`) sees the same rounded numbers. Test ids begin with the number of the case.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from lastlayer._arrays import InputError
from lastlayer.estimators.linear_classifier import LinearClassifier
from lastlayer.estimators.linear_svc import LinearSVC
from lastlayer.estimators.logistic_regression import LogisticRegression
from lastlayer.estimators.logistic_regression_cv import LogisticRegressionCV
from lastlayer.estimators.perceptron import Perceptron
from lastlayer.estimators.ridge_classifier import RidgeClassifier
from lastlayer.estimators.ridge_classifier_cv import RidgeClassifierCV
from lastlayer.linear import single_blas_thread
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.fit import LinearFit, finish, fit_linear, refuse_one_class
from lastlayer.selection.hinge import fit_hinge
from lastlayer.selection.inverses import preconditioner
from lastlayer.solvers import Solution, StopReason
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.newton import Newton, NewtonCG
from numerical_reference import certified_gap, gap, truth

DTYPES = {"float16": np.float16, "float32": np.float32, "float64": np.float64}
METHODS = {
    f"{loss}-{solver}": (loss, solver)
    for loss, solvers in {
        "cross_entropy": ("lbfgs", "newton", "newton_cg"),
        "squared_hinge": ("lbfgs", "newton", "newton_cg"),
        "squared": ("closed_form", "lbfgs", "newton"),
        "hinge": ("dual",),
    }.items()
    for solver in solvers
}
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": LogisticRegression,
    "LogisticRegressionCV": lambda: LogisticRegressionCV(Cs=2, cv=2),
    "LinearSVC": LinearSVC,
    "RidgeClassifier": RidgeClassifier,
    "RidgeClassifierCV": RidgeClassifierCV,
    "LinearClassifier": LinearClassifier,
    "Perceptron": Perceptron,
}
each_classifier = pytest.mark.parametrize("classifier", CLASSIFIERS.values(), ids=CLASSIFIERS)
SOLVED = 1e-8
SECONDS = 60.0
"""A guard against solvers that never end, not a measurement: on a free machine nothing takes ten."""


@dataclass(frozen=True)
class Given:
    """One problem."""

    Z: np.ndarray
    y: np.ndarray
    k: int = 3
    l2: float = 1e-2
    weights: np.ndarray | None = None

    def cast(self, dtype: type) -> Given:
        with np.errstate(over="ignore"):
            return replace(self, Z=self.Z.astype(dtype))

    def fits(self, dtype: type) -> bool:
        """Whether the type can hold the data: nothing overflows, nothing vanishes."""
        cast = self.cast(dtype).Z
        return bool(np.isfinite(cast).all() and ((cast == 0) == (self.Z == 0)).all())


def plain(n: int = 60, d: int = 5, k: int = 3, seed: int = 0) -> Given:
    """Classes that overlap, so that an optimum exists without a penalty too."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    y = (Z @ rng.standard_normal((d, k)) + 1.5 * rng.standard_normal((n, k))).argmax(axis=1)
    return Given(Z, y, k)


def solve(method: str, given: Given, tol: float = 1e-9, **options: Any) -> LinearFit:
    """The fit, within the time that the matrix allows."""
    began = time.perf_counter()
    fit = _solve(*METHODS[method], given, tol, **options)
    assert time.perf_counter() - began < SECONDS
    return fit


def _solve(loss: str, solver: str, given: Given, tol: float, **options: Any) -> LinearFit:
    Z, y, k, weights = given.Z, given.y, given.k, given.weights
    if solver == "dual":
        return fit_hinge(Z, y, k, l2=given.l2, sample_weight=weights, gap=tol, **options)
    if solver.startswith("newton"):
        with single_blas_thread():
            objective = Objective(Z, y, k, by_name(loss), given.l2, weights)
            refuse_one_class(objective)
            P = preconditioner(objective, objective.examples.second_moments())
            newton = Newton(tol, **options) if solver == "newton" else NewtonCG(P, tol, **options)
            return finish(objective, newton.minimise(objective), solver)
    return fit_linear(Z, y, k, loss, l2=given.l2, sample_weight=weights, solver=solver, tol=tol, **options)


def column(change: Callable[[np.ndarray], Any], j: int = 2) -> Given:
    base = plain()
    Z = base.Z.copy()
    Z[:, j] = change(Z)
    return replace(base, Z=Z)


def features(change: Callable[[np.ndarray], np.ndarray], l2: float = 1e-2) -> Given:
    base = plain()
    return replace(base, Z=change(base.Z), l2=l2)


def weighted(scale: float) -> Given:
    return replace(plain(), weights=scale * (0.1 + np.random.default_rng(1).random(60)))


def imbalanced() -> Given:
    """1:1e6 by weight; the same by rows below."""
    base = plain(k=2)
    return replace(base, weights=np.where(base.y == 1, 1e-6, 1.0))


def dependent() -> Given:
    """Exactly collinear in every type: eighths, a copy and a sum; no penalty."""
    base = plain()
    Z = np.round(8 * base.Z) / 8
    return replace(base, Z=np.column_stack([Z, Z[:, 0], Z[:, 1] + Z[:, 2]]), l2=0.0)


def contradictory() -> Given:
    base = plain()
    return replace(base, Z=np.r_[base.Z, base.Z], y=np.r_[base.y, (base.y + 1) % 3])


CASES: dict[str, Callable[[], Given]] = {
    "05 constant column": lambda: column(lambda Z: 3.0),
    "05 constant column at 1e9": lambda: column(lambda Z: 1e9),
    "06 duplicated column": lambda: column(lambda Z: Z[:, 1]),
    "07 collinear column": lambda: column(lambda Z: Z[:, 0] + Z[:, 1]),
    "08 column of zeros": lambda: column(lambda Z: 0.0),
    "08 nothing but zeros": lambda: features(lambda Z: 0 * Z),
    "09 offset 1e4 on one column": lambda: column(lambda Z: Z[:, 2] + 1e4),
    "10 offset 1e6": lambda: features(lambda Z: Z + 1e6),
    "11 offset 1e12": lambda: features(lambda Z: Z + 1e12),
    "12 scale 1e-30": lambda: features(lambda Z: Z * 1e-30),
    "12 scale 1e-30, penalty too": lambda: features(lambda Z: Z * 1e-30, 1e-62),
    "13 scale 1e30": lambda: features(lambda Z: Z * 1e30),
    "13 scale 1e30, penalty too": lambda: features(lambda Z: Z * 1e30, 1e58),
    "15 scales 1e9 and 1e-9": lambda: features(lambda Z: Z * np.array([1e9, 1e-9, 1.0, 1e9, 1e-9])),
    "15 scales 1e3 and 1e-3": lambda: features(lambda Z: Z * np.array([1e3, 1e-3, 1.0, 1e3, 1e-3])),
    "16 at 6e4": lambda: features(lambda Z: 6e4 + 500 * Z),
    "16 up to 6e4": lambda: features(lambda Z: 2e4 * Z),
    "17 at 1e20": lambda: features(lambda Z: 1e20 * (1 + 0.1 * Z)),
    "17 up to 1e20": lambda: features(lambda Z: 1e20 * Z, 1e38),
    "19 fewer rows than columns": lambda: plain(20, 40),
    "21 one column": lambda: plain(60, 1),
    "23 two classes": lambda: plain(k=2),
    "26 one row a class": lambda: replace(plain(12), y=np.arange(12), k=12),
    "28 imbalance 1:1e6 by weight": imbalanced,
    "31 dependent columns, no penalty": dependent,
    "32 weights 1e300": lambda: weighted(1e300),
    "33 weights 1e-300": lambda: weighted(1e-300),
    "37 same rows, other labels": contradictory,
}


def combinations() -> Iterator[Any]:
    for case, make in CASES.items():
        for method, (loss, _) in METHODS.items():
            if loss == "hinge" and make().l2 == 0:
                continue  # refused by name, below
            for name, dtype in DTYPES.items():
                if make().fits(dtype):
                    yield pytest.param(case, method, dtype, id=f"{case}-{method}-{name}")


_known: dict[tuple[str, str, type], float] = {}


def best(case: str, loss: str, dtype: type) -> float:
    """The least J of a case, computed once."""
    key = (case, loss, dtype)
    if key not in _known:
        given = CASES[case]().cast(dtype)
        _known[key] = truth(given.Z, given.y, given.k, loss, given.l2, given.weights).value
    return _known[key]


def excess(given: Given, loss: str, fit: LinearFit, least: float) -> float:
    return gap(given.Z, given.y, loss, given.l2, fit.weights, fit.bias, least, given.weights)


@pytest.mark.parametrize(("case", "method", "dtype"), list(combinations()))
def test_solved(case: str, method: str, dtype: type) -> None:
    given, loss = CASES[case]().cast(dtype), METHODS[method][0]
    fit = solve(method, given)
    if case.startswith("11") and loss == "hinge" and dtype == np.float64:
        # The bias is 1e12 large and float64 knows its neighbours 1e-4 apart; a loss with kinks pays for that in full.
        assert not fit.solution.stop_reason.converged
        assert "column" in fit.solution.note
        assert fit.solution.value / best(case, loss, dtype) - 1 <= SOLVED
        return
    assert excess(given, loss, fit, best(case, loss, dtype)) <= SOLVED
    assert fit.solution.stop_reason.converged or fit.solution.stop_reason is StopReason.PRECISION


@pytest.mark.parametrize("case", ["10 offset 1e6", "09 offset 1e4 on one column", "11 offset 1e12"])
def test_planted_bug_a_fit_that_does_not_centre_is_caught(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def uncentred(rows: Any, weights: Any, low: Any, high: Any, intercept: bool) -> Any:
        return rows, np.zeros(rows.n_features)

    monkeypatch.setattr("lastlayer.linear.examples._centre", uncentred)
    given = CASES[case]()
    fit = _solve("cross_entropy", "lbfgs", given, 1e-9)
    assert excess(given, "cross_entropy", fit, best(case, "cross_entropy", np.float64)) > SOLVED


def test_planted_bug_a_solver_that_returns_nan_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LBFGS.minimise

    def broken(self: LBFGS, *args: Any) -> Solution:
        solution = honest(self, *args)
        return replace(solution, params=np.where(np.arange(len(solution.params))[:, None] == 3, np.nan, 1.0))

    monkeypatch.setattr(LBFGS, "minimise", broken)
    with pytest.raises(InputError, match="not finite"):
        solve("cross_entropy-lbfgs", plain())


# Refusals


def spoilt(value: float) -> Given:
    return column(lambda Z: np.where(np.arange(60) == 41, value, Z[:, 2]))


REFUSED: dict[str, tuple[Callable[[], Given], str]] = {
    "01 NaN in X": (lambda: spoilt(np.nan), "nan in row 41, column 2"),
    "02 inf in X": (lambda: spoilt(np.inf), "inf in row 41, column 2"),
    "02 -inf in X": (lambda: spoilt(-np.inf), "-inf in row 41, column 2"),
    "03 NaN label": (lambda: replace(plain(), y=np.where(np.arange(60) == 7, np.nan, 1.0)), "labels .* float64"),
    "03 label out of range": (lambda: replace(plain(), y=np.where(np.arange(60) == 7, 3, 1)), "label 3 in row 7"),
    "04 NaN weight": (lambda: replace(plain(), weights=np.r_[np.ones(59), np.nan]), "weight nan in row 59"),
    "04 inf weight": (lambda: replace(plain(), weights=np.r_[np.ones(59), np.inf]), "weight inf in row 59"),
    "14 scale 1e100": (lambda: features(lambda Z: Z * 1e100), "column 0 .* runs from .*e\\+100"),
    "14 scale 1e-100": (lambda: features(lambda Z: Z * 1e-100), "column 0 .* runs from .*e-100"),
    "20 one row": (lambda: replace(plain(), Z=plain().Z[:1], y=plain().y[:1]), "have class 0; at least two"),
    "22 one class": (lambda: replace(plain(), y=np.zeros(60, int), k=1), "1 class; at least two"),
    "22 one class of three": (lambda: replace(plain(), y=np.ones(60, int)), "have class 1; at least two"),
    "34 negative weight": (lambda: replace(plain(), weights=np.r_[np.ones(59), -1e-9]), "-1e-09 in row 59 is negative"),
    "35 weights all zero": (lambda: replace(plain(), weights=np.zeros(60)), "all sample weights are zero"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, method: str) -> None:
    make, message = REFUSED[case]
    given = make()
    kept = [d for d in DTYPES.values() if not np.isfinite(given.Z).all() or given.fits(d)]
    assert kept
    for dtype in kept:
        with pytest.raises(InputError, match=message):
            solve(method, given.cast(dtype))


@each_classifier
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(lambda y: np.where(np.arange(60) == 7, np.nan, y), "nan in row 7", id="03 NaN"),
        pytest.param(lambda y: np.where(np.arange(60) == 7, np.inf, y), "inf in row 7", id="03 inf"),
        pytest.param(lambda y: [None if i == 7 else c for i, c in enumerate(y)], "None in row 7", id="03 None"),
        pytest.param(
            lambda y: np.array([None if i == 7 else "abc"[c] for i, c in enumerate(y)], dtype=object),
            "None in row 7",
            id="03 None among words",
        ),
        pytest.param(
            lambda y: np.array([np.nan if i == 7 else "abc"[c] for i, c in enumerate(y)], dtype=object),
            "nan in row 7",
            id="03 NaN among words",
        ),
        pytest.param(
            lambda y: np.array(["a" if i == 7 else int(c) for i, c in enumerate(y)], dtype=object),
            "'a' in row 7",
            id="36 words among numbers",
        ),
        pytest.param(lambda y: ["a" if i == 7 else int(c) for i, c in enumerate(y)], "'a' in row 7", id="36 as a list"),
    ],
)
def test_labels_that_are_none_are_refused_with_their_row(classifier: Callable, labels: Any, message: str) -> None:
    given = plain()
    with pytest.raises(InputError, match=message):
        classifier().fit(given.Z, labels(given.y))


@each_classifier
@pytest.mark.parametrize(
    ("Z", "message"),
    [
        pytest.param(spoilt(np.nan).Z, "NaN in row 41, column 2", id="01 NaN"),
        pytest.param(spoilt(np.inf).Z, "inf.* in row 41, column 2", id="02 inf"),
        pytest.param(plain().Z * 1e100, "column 0 .* runs from", id="14 scale 1e100"),
        pytest.param(scipy.sparse.csr_array(plain().Z), "sparse csr_array; .* Use scikit-learn's", id="40 sparse"),
    ],
)
def test_features_that_cannot_be_used_are_refused_by_name(classifier: Callable, Z: Any, message: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match=message):
        classifier().fit(Z, plain().y)
    assert time.perf_counter() - began < 1.0


@each_classifier
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        pytest.param(np.r_[np.ones(59), np.nan], "row 59", id="04 NaN"),
        pytest.param(np.r_[np.ones(59), np.inf], "row 59", id="04 inf"),
        pytest.param(np.r_[np.ones(59), -1.0], "row 59", id="34 negative"),
        pytest.param(np.zeros(60), "every sample weight is zero", id="35 all zero"),
        pytest.param(1.0 * (plain().y == 2), "one class only where their weight is positive: 2", id="27 one class"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_by_name(
    classifier: Callable, weights: np.ndarray, message: str
) -> None:
    given = plain()
    with pytest.raises(InputError, match=message):
        classifier().fit(given.Z, given.y, sample_weight=weights)


# Cases that need more than a gap


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "uint16", "int32"])
@pytest.mark.parametrize("method", METHODS)
def test_18_whole_numbers_and_truth_values_equal_floats(method: str, dtype: str) -> None:
    base = plain()
    low = -128 if dtype == "int8" else 0
    Z = base.Z > 0 if dtype == "bool" else np.clip(np.round(60 * base.Z + 128 + low), low, low + 255)
    given = replace(base, Z=Z.astype(dtype))
    as_float = replace(given, Z=given.Z.astype(np.float64))
    a, b = solve(method, given), solve(method, as_float)
    least = truth(given.Z.astype(np.float64), given.y, 3, METHODS[method][0], given.l2).value
    assert excess(as_float, METHODS[method][0], a, least) <= SOLVED
    np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(a.bias, b.bias)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge", "squared"])
def test_19_many_more_columns_than_rows(loss: str, dtype: type) -> None:
    """So many that `fit_linear` solves in the span of the rows."""
    given = plain(30, 600).cast(dtype)
    fit = solve(f"{loss}-lbfgs", given)
    assert certified_gap(given.Z, given.y, loss, given.l2, fit.weights, fit.bias) <= SOLVED


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("method", ["cross_entropy-lbfgs", "cross_entropy-newton_cg", "squared-closed_form"])
def test_24_a_thousand_classes(method: str, dtype: type) -> None:
    given = thousand().cast(dtype)
    fit = solve(method, given, tol=1e-6)
    assert certified_gap(given.Z, given.y, METHODS[method][0], given.l2, fit.weights, fit.bias) <= SOLVED


def test_24_a_thousand_classes_one_against_the_rest() -> None:
    """With one row in a thousand inside every margin the squared hinge takes hundreds of iterations."""
    given = replace(thousand(), l2=1.0)
    fit = solve("squared_hinge-lbfgs", given, tol=1e-4)
    assert certified_gap(given.Z, given.y, "squared_hinge", given.l2, fit.weights, fit.bias) <= SOLVED


def thousand() -> Given:
    return Given(np.random.default_rng(0).standard_normal((1000, 4)), np.arange(1000), 1000)


def test_25_ten_thousand_classes() -> None:
    """Classes of one kind share a column, so that by symmetry two numbers describe the optimum.

    Class c has one row, the unit vector c mod 4: ``W[j, c] = 3a`` where j = c mod 4, else -a, and no bias matters.
    """
    k, kinds, l2 = 10_000, 4, 1e-2
    y = np.arange(k)
    fit = solve("cross_entropy-lbfgs", Given(np.eye(kinds, dtype=np.float32)[y % kinds], y, k, l2), tol=1e-4)
    a = np.linspace(0, 1, 3)
    for _ in range(200):  # golden section would do as well; thirds keep it plain
        left, right = (2 * a[0] + a[2]) / 3, (a[0] + 2 * a[2]) / 3
        lower = _symmetric(left, k, l2) < _symmetric(right, k, l2)
        a = np.array([a[0], 0, right]) if lower else np.array([left, 0, a[2]])
    least = _symmetric(a[0], k, l2)
    scores = fit.weights + fit.bias  # one row of scores for each kind
    own = scores[y % kinds, y]
    losses = np.log(np.exp(scores).sum(axis=1))[y % kinds] - own
    here = losses.mean() + 0.5 * l2 * (fit.weights**2).sum()
    assert (here - least) / least <= SOLVED


def _symmetric(a: float, k: int, l2: float) -> float:
    return float(np.log(k / 4) + np.log1p(3 * np.exp(-4 * a)) + 0.5 * l2 * k * (9 + 3) * a * a)


@pytest.mark.parametrize("method", METHODS)
def test_27_a_class_whose_rows_weigh_nothing_changes_nothing(method: str) -> None:
    """Rows of weight zero are dropped: the others' optimum; the class without rows loses everywhere."""
    base = plain()
    kept = base.y != 2
    given = replace(base, weights=kept.astype(float))
    loss = METHODS[method][0]
    fit = solve(method, given)
    least = truth(base.Z[kept], base.y[kept], 2, loss, base.l2).value
    two = gap(base.Z[kept], base.y[kept], loss, base.l2, fit.weights[:, :2], fit.bias[:2], least)
    assert two <= SOLVED
    scores = base.Z @ fit.weights + fit.bias
    assert (scores.argmax(axis=1) < 2).all()


@each_classifier
def test_27_a_class_whose_rows_weigh_nothing_is_no_class(classifier: Callable) -> None:
    base = plain()
    fitted = classifier().fit(base.Z, base.y, sample_weight=(base.y != 2).astype(float))
    np.testing.assert_array_equal(fitted.classes_, [0, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["cross_entropy-lbfgs", "squared_hinge-lbfgs", "squared-closed_form"])
def test_28_imbalance_of_one_in_a_million_rows(method: str, dtype: type) -> None:
    """The majority is 1,000 rows a thousand times over; the reference sees them once, with weights."""
    rng = np.random.default_rng(0)
    some = np.r_[rng.standard_normal((1000, 1)), [[1.0]]].astype(dtype)
    y, weights = np.r_[np.zeros(1000, int), 1], np.r_[np.full(1000, 1000.0), 1.0]
    repeat = weights.astype(int)
    fit = solve(method, Given(np.repeat(some, repeat, axis=0), np.repeat(y, repeat), 2))
    least = truth(some, y, 2, METHODS[method][0], 1e-2, weights).value
    price = gap(some, y, METHODS[method][0], 1e-2, fit.weights, fit.bias, least, weights)
    assert price * max(least, 1e-4) / least <= SOLVED


def separable() -> Given:
    base = plain()
    return replace(base, y=(base.Z[:, 0] > 0).astype(int) + (base.Z[:, 0] > 1), l2=0.0)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("solver", ["lbfgs", "newton", "newton_cg"])
def test_29_separable_without_penalty_has_no_optimum_and_shows_a_direction(solver: str, dtype: type) -> None:
    given = separable().cast(dtype)
    fit = solve(f"cross_entropy-{solver}", given)
    assert fit.solution.stop_reason is StopReason.NO_OPTIMUM
    assert not fit.solution.stop_reason.converged
    assert "separable" in fit.solution.note
    scores = given.Z.astype(float) @ fit.weights + fit.bias
    own = scores[np.arange(60), given.y]
    scores[np.arange(60), given.y] = -np.inf
    assert (own > scores.max(axis=1)).all(), "along the direction the loss falls for ever"


@pytest.mark.parametrize("solver", ["lbfgs", "newton", "newton_cg"])
def test_29_the_squared_hinge_has_an_optimum_there(solver: str) -> None:
    given = replace(separable(), y=(plain().Z[:, 0] > 0).astype(int), k=2)
    fit = solve(f"squared_hinge-{solver}", given)
    assert gap(given.Z, given.y, "squared_hinge", 0.0, fit.weights, fit.bias, 0.0) <= SOLVED


def test_29_the_classifier_refuses_and_the_dual_needs_a_penalty() -> None:
    given = separable()
    for unpenalised in (LogisticRegression(C=np.inf), LogisticRegression(penalty=None), LinearClassifier(l2=0.0)):
        with pytest.raises(InputError, match="no finite optimum"):
            unpenalised.fit(given.Z, given.y)
    for unpenalised in (given, dependent()):
        with pytest.raises(InputError, match="needs a penalty"):
            solve("hinge-dual", unpenalised)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("method", [m for m in METHODS if not m.startswith("hinge")])
def test_30_separable_with_next_to_no_penalty_is_solved_or_not_converged(method: str, dtype: type) -> None:
    given, loss = replace(separable().cast(dtype), l2=1e-12), METHODS[method][0]
    fit = solve(method, given, tol=1e-13)
    least = truth(given.Z, given.y, 3, loss, given.l2).value
    here = excess(given, loss, fit, least)
    assert here <= SOLVED or not fit.solution.stop_reason.converged


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("method", [m for m in METHODS if not m.startswith("hinge")])
def test_31_dependent_columns_without_penalty_give_the_minimum_norm(method: str, dtype: type) -> None:
    given = dependent().cast(dtype)
    fit = solve(method, given, tol=1e-11)
    A = given.Z.astype(float) - given.Z.astype(float).mean(axis=0)
    outside = np.linalg.svd(A)[2][np.linalg.matrix_rank(A) :]
    assert len(outside) == 2
    np.testing.assert_allclose(outside @ fit.weights, 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e308], ids=["32 1e300", "33 1e-300", "32 1e308"])
@pytest.mark.parametrize("method", METHODS)
def test_the_size_of_all_weights_is_nothing(method: str, scale: float) -> None:
    """As exact as a power of two: the largest weight is divided out first."""
    a, b = solve(method, weighted(1.0)), solve(method, weighted(scale))
    np.testing.assert_allclose(a.weights, b.weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(a.bias, b.bias, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e300, 1e-300], ids=["32 1e300", "33 1e-300"])
@pytest.mark.parametrize(
    ("classifier", "name", "sign"),
    [
        (LogisticRegression, "C", -1),
        (LinearSVC, "C", -1),
        (RidgeClassifier, "alpha", 1),
        (LinearClassifier, "l2", 0),
    ],
)
def test_weights_times_penalty_is_what_counts(classifier: type, name: str, sign: int, scale: float) -> None:
    given = weighted(1.0)
    a = classifier(**{name: 0.5}).fit(given.Z, given.y, sample_weight=given.weights)
    b = classifier(**{name: 0.5 * scale**sign}).fit(given.Z, given.y, sample_weight=given.weights * scale)
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-6, atol=1e-8)


@each_classifier
def test_32_weights_whose_sum_is_infinite_are_solved_or_refused_for_that(classifier: Callable) -> None:
    given = plain()
    fitted = None
    with contextlib.suppress(InputError):
        fitted = classifier().fit(given.Z, given.y, sample_weight=np.full(60, 1e308))
    if fitted is None:
        with pytest.raises(InputError, match="sum of the sample weights is infinite"):
            classifier().fit(given.Z, given.y, sample_weight=np.full(60, 1e308))
    else:
        np.testing.assert_allclose(fitted.coef_, classifier().fit(given.Z, given.y).coef_, rtol=1e-6)


@each_classifier
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["cat", "dog", "hen"], id="36 words"),
        pytest.param(["Ä", "ß", "猫"], id="36 Unicode"),
        pytest.param([-1.0, 0.0, 2.0], id="36 floats"),
        pytest.param([False, True], id="36 truth values"),
    ],
)
def test_labels_of_any_kind_are_answered_in_kind(classifier: Callable, names: list) -> None:
    given = plain(k=len(names))
    numbers = classifier().fit(given.Z, given.y)
    fitted = classifier().fit(given.Z, np.array(names)[given.y])
    np.testing.assert_array_equal(fitted.classes_, names)
    np.testing.assert_array_equal(fitted.predict(given.Z), np.array(names)[numbers.predict(given.Z)])


@pytest.mark.parametrize("method", METHODS)
def test_38_permuted_rows_columns_and_classes_are_equivariant(method: str) -> None:
    given = replace(plain(120, 5, 4), l2=1e-1)
    rng = np.random.default_rng(5)
    rows, columns, classes = rng.permutation(120), rng.permutation(5), rng.permutation(4)
    other = replace(given, Z=given.Z[rows][:, columns], y=np.argsort(classes)[given.y][rows])
    tol = 1e-15 if method.startswith("hinge") else 1e-11
    a, b = (solve(method, g, tol=tol) for g in (given, other))
    np.testing.assert_allclose(b.weights, a.weights[columns][:, classes], atol=1e-8)
    np.testing.assert_allclose(b.bias, a.bias[classes], atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_39_no_iterations_give_the_start_and_do_not_claim_more(method: str) -> None:
    fit = solve(method, plain(), max_iter=0)
    np.testing.assert_array_equal(fit.weights, 0)
    assert np.isfinite(fit.bias).all()
    assert fit.solution.stop_reason is StopReason.MAX_ITER


@pytest.mark.parametrize(
    ("classifier", "counted"),  # scikit-learn's LogisticRegression counts 0, its contract asks for at least 1
    [(LogisticRegression(max_iter=0), 0), (LinearSVC(max_iter=0), 1), (LinearClassifier(max_iter=0), 1)],
    ids=repr,
)
def test_39_the_classifier_warns_once_and_says_how_far_it_came(classifier: Any, counted: int) -> None:
    given = plain()
    with pytest.warns(match="did not converge") as caught:
        classifier.fit(given.Z, given.y)
    assert len(caught) == 1
    assert np.max(classifier.n_iter_) == counted
    np.testing.assert_array_equal(classifier.coef_, 0)


def layouts(Z: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    frozen = Z.copy()
    frozen.setflags(write=False)
    np.save(folder / "Z.npy", Z)
    wide = np.full((2 * len(Z), 3 * Z.shape[1]), 7, dtype=Z.dtype)
    wide[::2, ::3] = Z
    turned = np.ascontiguousarray(Z[::-1, ::-1])
    swapped = Z.astype(Z.dtype.newbyteorder())
    return {
        "read-only": frozen,
        "strided": wide[::2, ::3],
        "reversed": turned[::-1, ::-1],
        "Fortran": np.asfortranarray(Z),
        "memmap": np.load(folder / "Z.npy", mmap_mode="r"),
        "foreign byte order": swapped,
    }


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_40_the_memory_layout_changes_no_bit(method: str, dtype: type, tmp_path: Path) -> None:
    given = plain().cast(dtype)
    expected = solve(method, given)
    for name, Z in layouts(given.Z, tmp_path).items():
        fit = solve(method, replace(given, Z=Z))
        np.testing.assert_array_equal(fit.weights, expected.weights, err_msg=name)
        np.testing.assert_array_equal(fit.bias, expected.bias, err_msg=name)


def test_every_case_has_a_test(request: pytest.FixtureRequest) -> None:
    import re

    mine = [item for item in request.session.items if item.path == request.path]
    found = {int(n) for item in mine for n in re.findall(r"(?:test_|\[|-)(\d\d)[ _]", item.name)}
    if len(mine) > 900:  # not when a selection was asked for
        assert found == set(range(1, 41))
