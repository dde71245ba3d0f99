"""`RidgeClassifier`: scikit-learn's estimator of that name, solved exactly.

Targets are -1 and 1, one column a class, one column for two classes. With an intercept the solution follows from that
of one-hot targets, ``T = 2 E - 1``: ``W = 2 W_E``, ``b = 2 b_E - 1``, and for two classes ``u = w₁ - w₀``. Labels are
then all that is needed. Without an intercept the constant is no prediction, and the targets are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer.estimators.content import in_order_of_content
from lastlayer.estimators.fitting import SMALL
from lastlayer.estimators.parameters import check_flag
from lastlayer.estimators.prediction import LinearPredictions, decide
from lastlayer.estimators.regression import result_type, solve
from lastlayer.estimators.ridge import read_alpha, refuse_unsupported
from lastlayer.estimators.training import Training, read_features, read_training


def make_targets(data: Training, *, fit_intercept: bool) -> Array:
    """Labels (N,) where they are enough, else targets -1 and 1, (N, K) or (N, 1)."""
    if fit_intercept:
        return data.codes
    signs = np.full((len(data.codes), len(data.classes)), -1.0)
    signs[np.arange(len(signs)), data.codes] = 1.0
    return signs[:, 1:] if len(data.classes) == 2 else signs


def signed(out: FloatArray, *, labels: bool, constant: float) -> FloatArray:
    """What stands for targets -1 and 1, from what stands for one-hot targets (`labels`); else unchanged.

    Shapes
    ------
    out : (..., K) scores or a bias (`constant` 1), or weights (`constant` 0); result (..., 1) for two classes.
    """
    if not labels:
        return out
    return out[..., 1:] - out[..., :1] if out.shape[-1] == 2 else 2.0 * out - constant


def fit_signs(data: Training, alpha: float | Float64, *, fit_intercept: bool) -> tuple[FloatArray, Any, int]:
    """`coef_` (K, D), or (D,) for two classes; `intercept_` (K,), (1,) or 0.0; and the steps made."""
    l2 = alpha / data.total_weight()
    if data.X.size <= SMALL:
        data = in_order_of_content(data)
    labels = fit_intercept and np.ndim(l2) == 0
    y = make_targets(data, fit_intercept=labels)
    found = solve(data.X, y, len(data.classes) if labels else y.shape[1], l2, data.weights, fit_intercept)
    return *attributes(found.W, found.b, data.X, labels=labels, fit_intercept=fit_intercept), found.steps


def attributes(W: FloatArray, b: FloatArray, X: Array, *, labels: bool, fit_intercept: bool) -> tuple[FloatArray, Any]:
    """`coef_` and `intercept_` from weights and bias for one-hot targets (`labels`) or those of -1 and 1."""
    dtype = result_type(X)
    W, b = signed(W, labels=labels, constant=0.0), signed(b, labels=labels, constant=1.0)
    coef = np.ascontiguousarray(W[:, 0] if W.shape[1] == 1 else W.T, dtype=dtype)
    return coef, b.astype(dtype) if fit_intercept else 0.0


class SignPredictions(LinearPredictions):
    """Mixin: predictions of ridge classifiers, whose `coef_` is (D,) for two classes."""

    intercept_: Any

    def decision_function(self, X: Any) -> FloatArray:
        """Scores ``X coef_ᵀ + intercept_``, near -1 and 1.

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
        coef = np.atleast_2d(self.coef_)
        return decide(X, coef, np.broadcast_to(self.intercept_, (len(coef),)).astype(coef.dtype))


@final
class RidgeClassifier(SignPredictions, BaseEstimator):  # type: ignore[misc]
    """Classifier by least squares with an L2 penalty on targets -1 and 1; a drop-in for scikit-learn's.

    Minimises ``Σᵢ sᵢ ‖W xᵢ + b - tᵢ‖² + α ‖W‖²`` with W = `coef_` and b = `intercept_`, which is not penalised; t is 1
    for a row's own class and -1 for the others, one number for two classes.

    Parameters
    ----------
    alpha : float or (K,) array-like
        α ≥ 0, for all classes or for each. ``α = λ Σ s``.
    fit_intercept : bool
        Whether there is a b.
    copy_X, max_iter, tol, random_state
        Taken for compatibility: X is never written to, the solution is direct and exact to rounding.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    solver : {"auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga"}
        Names of scikit-learn for the same optimum.
    positive : bool
        Only False.

    Attributes
    ----------
    coef_ : ndarray
        (K, D), or (D,) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,); 0.0 without an intercept.
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : int
        Steps: one, and those of the refinement.
    solver_ : str
        The name asked for, whose optimum this is; "cholesky" for "auto". The solver is one and the same.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    Coefficients agree with scikit-learn's to rounding. Refused by name are sparse matrices, ``positive=True``, and
    several labels a row.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators.ridge_classifier import RidgeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> round(RidgeClassifier().fit(X, y).score(X, y), 3)
    0.853
    """

    def __init__(
        self,
        alpha: Any = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-4,
        class_weight: Mapping[Any, float] | str | None = None,
        solver: str = "auto",
        positive: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.solver = solver
        self.positive = positive
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers; uint8 and float32 are multiplied as float32.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, a number, or None. A weight of 2 is a row given
            twice, a weight of 0 a row not given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters of scikit-learn that are not supported (naming what to use), for features, labels or weights
            that cannot be used, and for fewer than two classes.
        """
        refuse_unsupported(self)
        refuse_multilabel(self, y)
        fit_intercept = check_flag(self.fit_intercept, "fit_intercept")
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        alpha = read_alpha(self.alpha, 1 if len(data.classes) == 2 else len(data.classes))
        self.coef_, self.intercept_, self.n_iter_ = fit_signs(data, alpha, fit_intercept=fit_intercept)
        self.classes_ = data.classes
        self.solver_ = "cholesky" if self.solver == "auto" else self.solver
        return self

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's RidgeClassifier"


def refuse_multilabel(estimator: Any, y: Any) -> None:
    """Several labels a row are scikit-learn's business."""
    shape = np.asarray(y).shape
    if len(shape) == 2 and shape[1] > 1:
        name = type(estimator).__name__
        raise InputError(
            f"y has shape {shape}; {name} takes one label a row",
            f"Use scikit-learn's {name} for several labels a row, or Ridge on the targets 2 y - 1",
        )
