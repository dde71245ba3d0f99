"""`PairwiseClassifier`: one linear unit for every two classes (Knerr, Personnaz & Dreyfus 1990; LeCun et al. 1998)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from lastlayer._arrays import FloatArray, InputError, IntArray
from lastlayer.estimators.content import in_order_of_content
from lastlayer.estimators.fitting import SMALL, Coefficients, Plan, learn
from lastlayer.estimators.linear_svc import learn_hinge
from lastlayer.estimators.pair_moments import LARGEST, fit_pairs
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_seed
from lastlayer.estimators.prediction import LinearPredictions, decide
from lastlayer.estimators.regression import result_type
from lastlayer.estimators.training import Training, read_features, read_training

LOSSES = ("squared", "squared_hinge", "hinge", "cross_entropy")
OUTPUTS = ("linear", "tanh", "sign")


@final
class PairwiseClassifier(LinearPredictions, BaseEstimator):  # type: ignore[misc]
    """One linear unit for every two classes, trained on the rows of those two alone.

    Unit (i, j), i < j, minimises ``Σ sₙ L(u·xₙ + c, ±1) / Σ sₙ + (λ/2) ‖u‖²`` over the rows of class i (-1) and
    class j (+1). The score of a class is the sum of its units' outputs g(u·x + c), each with the sign that speaks for
    the class::

        score_k(x) = Σ_{i<k} g(u_ik·x + c_ik) - Σ_{j>k} g(u_kj·x + c_kj)

    Parameters
    ----------
    loss : {"squared", "squared_hinge", "hinge", "cross_entropy"}
        L. The squared loss has targets -1 and 1, and is solved from the second moments of each class: the rows are read
        once, whatever the number of pairs.
    outputs : {"linear", "tanh", "sign"}
        g. With linear outputs the whole is one linear classifier; tanh keeps a unit that knows neither class from
        shouting; sign counts votes (the sum of tanh decides between equal counts).
    l2 : float
        λ ≥ 0.
    fit_intercept : bool
        Whether there is a c; it is not penalised.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    tol : float
        Relative gradient norm to be reached by iterative solvers; the relative duality gap for the hinge.
    max_iter : int
        Most iterations of a unit.
    random_state : int, RandomState or None
        Seeds the order in which the hinge's solver visits rows.

    Attributes
    ----------
    pairs_ : ndarray
        (P, 2) numbers i < j of the classes of each unit; P = K (K - 1) / 2.
    pair_coef_, pair_intercept_ : ndarray
        (P, D) and (P,): u and c.
    coef_, intercept_ : ndarray
        (K, D) and (K,), the sums of the units with their signs: the scores of linear outputs; (1, D) and (1,) for two
        classes.
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : int
        Most iterations of a unit, at least 1.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators.pairwise import PairwiseClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = PairwiseClassifier(outputs="tanh").fit(X, y)
    >>> classifier.pairs_.tolist()
    [[0, 1], [0, 2], [1, 2]]
    >>> round(classifier.score(X, y), 2)
    0.98
    """

    def __init__(
        self,
        loss: str = "squared",
        *,
        outputs: str = "linear",
        l2: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        tol: float = 1e-4,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.loss = loss
        self.outputs = outputs
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit every unit.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, or None. A weight of 2 is a row given twice, a weight
            of 0 a row not given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters, features, labels or weights that cannot be used, and for fewer than two classes.

        Warns
        -----
        ConvergenceWarning
            LL040, once, when `tol` was not reached by some unit.
        """
        plan = self._plan()
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        if data.X.size <= SMALL:
            data = in_order_of_content(data)
        pairs = np.array(list(combinations(range(len(data.classes)), 2)))
        from_moments = self.loss == "squared" and len(data.classes) * data.X.shape[1] ** 2 <= LARGEST
        found = fit_pairs(data, pairs, plan.l2, plan.fit_intercept) if from_moments else _fit_each(data, pairs, plan)
        self.pairs_, self.classes_, self.n_iter_ = pairs, data.classes, found.iterations
        self.pair_coef_, self.pair_intercept_ = (
            part.astype(result_type(data.X)) for part in (found.coef, found.intercept)
        )
        signs = _signs(pairs, len(data.classes))
        if len(pairs) == 1:
            signs = signs[1:]
        self.coef_, self.intercept_ = (
            (signs @ part.astype(np.float64)).astype(part.dtype) for part in (self.pair_coef_, self.pair_intercept_)
        )
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """Scores: the sums of the units' outputs.

        A row's scores do not depend on the rows it comes with.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        (N, K) scores; (N,) for two classes, positive for ``classes_[1]``.

        Raises
        ------
        InputError
            For sparse, NaN or infinite features.
        """
        check_is_fitted(self)
        X = read_features(self, X, self._sparse_alternative)
        if self.outputs == "linear":
            return decide(X, self.coef_, self.intercept_)
        found = decide(X, self.pair_coef_, self.pair_intercept_).reshape(len(X), -1)
        sums = _summed(np.tanh(found), self.pairs_, len(self.classes_))
        if self.outputs == "sign":
            # counts differ by two at least; what is added differs by less than one
            sums = _summed(np.sign(found), self.pairs_, len(self.classes_)) + sums / (2 * len(self.classes_))
        return np.asarray(sums[:, 1] if len(self.classes_) == 2 else sums)

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's OneVsOneClassifier(LinearSVC())"

    def _plan(self) -> Plan:
        for name, value, known in (("loss", self.loss, LOSSES), ("outputs", self.outputs, OUTPUTS)):
            if value not in known:
                raise InputError(f"{name} is {value!r}", f"There are {', '.join(known)}")
        return Plan(
            loss=self.loss,
            solver="auto",
            l2=check_number(self.l2, "l2", 0.0),
            tol=check_number(self.tol, "tol", 0.0, above=self.loss == "hinge"),
            max_iter=check_count(self.max_iter, "max_iter"),
            fit_intercept=check_flag(self.fit_intercept, "fit_intercept"),
            seed=check_seed(self.random_state) if self.loss == "hinge" else 0,
        )


def _fit_each(data: Training, pairs: IntArray, plan: Plan) -> Coefficients:
    """Each unit from its own rows; one warning for all that did not converge."""
    found, failed = [], []
    for i, j in pairs.tolist():
        rows = np.flatnonzero((data.codes == i) | (data.codes == j))
        part = Training(
            data.X[rows],
            (data.codes[rows] == j).astype(np.intp),
            data.classes[[i, j]],
            None if data.weights is None else data.weights[rows],
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found.append(learn_hinge(part, plan) if plan.loss == "hinge" else learn(part, plan))
        for warning in said:
            if issubclass(warning.category, ConvergenceWarning):
                failed.append(f"{data.classes[i]!s:.40} against {data.classes[j]!s:.40}: {warning.message}")
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if failed:
        warnings.warn(
            f"LL040 {len(failed)} of {len(pairs)} units did not converge; {failed[0]}", ConvergenceWarning, stacklevel=3
        )
    return Coefficients(
        np.concatenate([unit.coef for unit in found]),
        np.concatenate([unit.intercept for unit in found]),
        max(unit.iterations for unit in found),
    )


def _signs(pairs: IntArray, n_classes: int) -> FloatArray:
    """(K, P): +1 for the second class of a unit, -1 for the first."""
    signs = np.zeros((n_classes, len(pairs)))
    signs[pairs[:, 0], np.arange(len(pairs))] = -1.0
    signs[pairs[:, 1], np.arange(len(pairs))] = 1.0
    return signs


def _summed(outputs: FloatArray, pairs: IntArray, n_classes: int) -> FloatArray:
    """Outputs (N, P) to scores (N, K), one unit after the other, so that a row's sums are its own."""
    scores = np.zeros((len(outputs), n_classes), dtype=outputs.dtype)
    for unit, (i, j) in enumerate(pairs.tolist()):
        scores[:, i] -= outputs[:, unit]
        scores[:, j] += outputs[:, unit]
    return scores
