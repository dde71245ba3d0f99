"""`LinearRegressor`: linear regression, λ as it stands in the equation."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator

from lastlayer.estimators.parameters import check_flag, check_number
from lastlayer.estimators.regression import RegressionPredictions, read_regression, result_type, solve


@final
class LinearRegressor(RegressionPredictions, BaseEstimator):  # type: ignore[misc]
    """Linear regression ``y = W x + b`` by least squares, with an optional L2 penalty.

    Minimises ``J(W, b) = Σᵢ sᵢ ½‖W xᵢ + b - yᵢ‖² / Σᵢ sᵢ + (λ/2) ‖W‖²`` with W = `coef_` and b = `intercept_`, which
    is not penalised: the first row of the table of linear models, of which `LinearClassifier` is the rest.

    Parameters
    ----------
    l2 : float
        λ ≥ 0. scikit-learn's Ridge has ``alpha = λ Σ s``. With 0 and dependent columns the solution of least norm,
        which is that of scikit-learn's LinearRegression.
    fit_intercept : bool
        Whether there is a b.

    Attributes
    ----------
    coef_ : ndarray
        (D,) for targets (N,), (K, D) for (N, K); float32 for features that float32 holds exactly, else float64.
    intercept_ : float or ndarray
        A number, or (K,); 0.0 without an intercept.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.estimators.linear_regressor import LinearRegressor
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> line = LinearRegressor().fit(X, [1.0, 3.0, 5.0, 7.0])
    >>> line.coef_.round(6), round(float(line.intercept_), 6)
    (array([2.]), 1.0)
    >>> line.predict([[10.0]]).round(6)
    array([21.])
    """

    def __init__(self, l2: float = 0.0, *, fit_intercept: bool = True) -> None:
        self.l2 = l2
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers; uint8 and float32 are multiplied as float32.
        y : (N,) or (N, K) array-like of finite real numbers.
        sample_weight : (N,) array-like of numbers of at least 0, a number, or None. A weight of 2 is a row given
            twice, a weight of 0 a row not given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters, features, targets or weights that cannot be used.
        """
        l2 = check_number(self.l2, "l2", 0.0)
        fit_intercept = check_flag(self.fit_intercept, "fit_intercept")
        data = read_regression(self, X, y, sample_weight, self._sparse_alternative)
        found = solve(data.X, data.Y, data.Y.shape[1], l2, data.weights, fit_intercept)
        W, b, dtype = found.W, found.b, result_type(data.X)
        self.coef_ = np.ascontiguousarray(W[:, 0] if data.flat else W.T, dtype=dtype)
        self.intercept_ = (dtype.type(b[0]) if data.flat else b.astype(dtype)) if fit_intercept else 0.0
        return self

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's LinearRegression" if self.l2 == 0 else "scikit-learn's Ridge"
