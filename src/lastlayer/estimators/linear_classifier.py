"""`LinearClassifier`: any loss, any solver, λ as it stands in the equation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

from lastlayer._arrays import FloatArray, InputError
from lastlayer.estimators.fitting import Plan, earlier, keep, learn
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_seed
from lastlayer.estimators.prediction import LinearPredictions, exponential, log_probabilities
from lastlayer.estimators.training import read_training

ITERATIONS = 1000
PERCEPTRON_EPOCHS = 20
SPARSE_ALTERNATIVES = {
    "cross_entropy": "LogisticRegression",
    "squared": "RidgeClassifier",
    "squared_hinge": "LinearSVC",
    "hinge": "LinearSVC(loss='hinge')",
    "perceptron": "Perceptron",
}
"""The class of scikit-learn that takes sparse matrices, for each loss."""


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss != "cross_entropy":
        raise AttributeError(
            f"loss {estimator.loss!r} gives no probabilities; use loss='cross_entropy', or scikit-learn's "
            "CalibratedClassifierCV around this classifier"
        )
    return True


@final
class LinearClassifier(LinearPredictions, BaseEstimator):  # type: ignore[misc]
    """Linear classifier ``argmax (W x + b)`` of any loss, with an L2 penalty.

    Minimises ``J(W, b) = Σᵢ sᵢ L(W xᵢ + b, yᵢ) / Σᵢ sᵢ + (λ/2) ‖W‖²`` with W = `coef_` and b = `intercept_`; the
    intercept is not penalised. For two classes there is one row of coefficients, and L is the loss of its one score.

    Parameters
    ----------
    loss : {"cross_entropy", "squared", "squared_hinge", "hinge", "crammer_singer", "perceptron"}
        L. Cross-entropy of the softmax; half the squared distance to the one-hot targets; the hinges of one class
        against the rest, margin 1; Crammer and Singer's squared hinge of the strongest rival; the perceptron's
        mistakes.
    solver : {"auto", "closed_form", "lbfgs", "sampled_newton", "newton", "newton_cg", "dual", "smoothing", \
              "gradient_descent", "perceptron"}
        How the minimum is found; "auto" takes the exact one for the loss.
    l2 : float
        λ ≥ 0. scikit-learn's C is ``1/(λ Σ s)``, the alpha of its ridge ``λ Σ s``. The perceptron has no penalty and
        makes no use of it.
    fit_intercept : bool
        Whether there is a b.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    standardise : bool
        Whether W is penalised in columns of mean 0 and standard deviation 1; `coef_` is for the columns as given.
    tol : float
        Relative gradient norm to be reached (1 at the best constant prediction, 0 at the optimum); a fit that ends
        earlier because no step changes a digit of J any more counts as converged.
    max_iter : int or None
        Most iterations; epochs for the perceptron. None: 1000, and 20 epochs.
    warm_start : bool
        Whether `fit` begins at the coefficients of the fit before.
    random_state : int, RandomState or None
        Seeds the order in which the perceptron's rule visits rows; nothing else is random.

    Attributes
    ----------
    coef_ : ndarray
        (K, D), or (1, D) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,).
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : int
        Iterations, at least 1.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    For two classes the coefficients equal those of scikit-learn's LogisticRegression (cross_entropy,
    ``C = 1/(n λ)``), RidgeClassifier (squared, ``alpha = n λ``) and LinearSVC (squared_hinge, ``C = 1/(n λ)``), the
    last but for the intercept, which LinearSVC penalises. For more classes cross_entropy is the multinomial model,
    squared has targets 0 and 1 where RidgeClassifier has -1 and 1 (with an intercept the same decisions, `coef_` half
    as large), and the hinges are one against the rest.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators import LinearClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LinearClassifier(loss="squared_hinge", l2=0.01).fit(X, y)
    >>> classifier.predict(X[:3])
    array([0, 0, 0])
    >>> round(classifier.score(X, y), 2)
    0.97
    """

    def __init__(
        self,
        loss: str = "cross_entropy",
        *,
        solver: str = "auto",
        l2: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        standardise: bool = False,
        tol: float = 1e-5,
        max_iter: int | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.loss = loss
        self.solver = solver
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.standardise = standardise
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers; uint8 and float32 are multiplied as float32.
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
            LL040, once, when `tol` was not reached.
        """
        plan = self._plan()
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        keep(self, data, learn(data, plan, earlier(self, data) if self.warm_start else None))
        return self

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities ``softmax(scores)``, (N, K); with loss "cross_entropy" only."""
        return exponential(self.predict_log_proba(X))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of the class probabilities, (N, K); finite where the probabilities round to zero."""
        return log_probabilities(self.decision_function(X))

    @property
    def _sparse_alternative(self) -> str:
        return f"scikit-learn's {SPARSE_ALTERNATIVES.get(self.loss, 'SGDClassifier')}"

    def _plan(self) -> Plan:
        for name, value in (("loss", self.loss), ("solver", self.solver)):
            if not isinstance(value, str):
                raise InputError(f"{name} is {value!r}; a name is needed")
        check_flag(self.warm_start, "warm_start")
        visits_rows = self.loss == "perceptron" or self.solver == "perceptron"
        most = PERCEPTRON_EPOCHS if self.loss == "perceptron" else ITERATIONS
        return Plan(
            loss=self.loss,
            solver=self.solver,
            l2=check_number(self.l2, "l2", 0.0) if self.loss != "perceptron" else 0.0,
            tol=check_number(self.tol, "tol", 0.0),
            max_iter=check_count(most if self.max_iter is None else self.max_iter, "max_iter"),
            fit_intercept=check_flag(self.fit_intercept, "fit_intercept"),
            standardise=check_flag(self.standardise, "standardise"),
            seed=check_seed(self.random_state) if visits_rows else 0,
        )
