"""`Ridge`: scikit-learn's estimator of that name, solved exactly."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator

from lastlayer._arrays import Array, Float64, InputError
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_seed
from lastlayer.estimators.regression import RegressionPredictions, read_regression, result_type, solve

SAME_OPTIMUM = ("auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga")
"""scikit-learn's solvers of the penalised least squares: names for one and the same optimum."""


@final
class Ridge(RegressionPredictions, BaseEstimator):  # type: ignore[misc]
    """Linear least squares with an L2 penalty; a drop-in for scikit-learn's.

    Minimises ``Σᵢ sᵢ ‖W xᵢ + b - yᵢ‖² + α ‖W‖²`` with W = `coef_` and b = `intercept_`, which is not penalised; with
    ``α = λ Σ s`` this is twice ``Σ s`` times the objective ``mean loss + (λ/2)‖W‖²`` of the other classes.

    Parameters
    ----------
    alpha : float or (K,) array-like
        α ≥ 0, for all targets or for each. With 0 and dependent columns the solution of least norm.
    fit_intercept : bool
        Whether there is a b.
    copy_X : bool
        Taken for compatibility; X is never written to.
    max_iter : int or None
        Taken for compatibility; the solution is direct.
    tol : float
        Taken for compatibility; the solution is exact to rounding.
    solver : {"auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga"}
        Names of scikit-learn for the same optimum; the normal equations with iterative refinement answer to all.
    positive : bool
        Only False.
    random_state : int, RandomState or None
        Taken for compatibility; nothing is random.

    Attributes
    ----------
    coef_ : ndarray
        (D,), or (K, D) for more than one target; float32 for features that float32 holds exactly, else float64.
    intercept_ : float or ndarray
        A number for targets (N,), (K,) for (N, K); 0.0 without an intercept.
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
    Coefficients agree with scikit-learn's to rounding. Different are: columns are centred inside, so that features
    far from zero do no harm; integer and uint8 features are taken as they are; sparse matrices, ``positive=True`` and
    the solver "lbfgs", which is for that, are refused by name.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.estimators.ridge import Ridge
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> ridge = Ridge(alpha=2.0).fit(X, [0.0, 1.0, 2.0])
    >>> ridge.coef_.round(3), round(float(ridge.intercept_), 3)
    (array([0.5]), 0.5)
    """

    def __init__(
        self,
        alpha: Any = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-4,
        solver: str = "auto",
        positive: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.solver = solver
        self.positive = positive
        self.random_state = random_state

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
            For parameters of scikit-learn that are not supported (naming what to use), and for features, targets or
            weights that cannot be used.
        """
        refuse_unsupported(self)
        fit_intercept = check_flag(self.fit_intercept, "fit_intercept")
        data = read_regression(self, X, y, sample_weight, self._sparse_alternative)
        k = data.Y.shape[1]
        l2 = read_alpha(self.alpha, k) / data.total_weight()
        found = solve(data.X, data.Y, k, l2, data.weights, fit_intercept)
        W, b, dtype = found.W, found.b, result_type(data.X)
        self.coef_ = np.ascontiguousarray(W[:, 0] if k == 1 else W.T, dtype=dtype)
        self.intercept_ = (dtype.type(b[0]) if data.flat else b.astype(dtype)) if fit_intercept else 0.0
        self.n_iter_ = found.steps
        self.solver_ = "cholesky" if self.solver == "auto" else self.solver
        return self

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's Ridge"


def read_alpha(alpha: Any, n_outputs: int) -> float | Float64:
    """α as a number, or as (K,) numbers where they were given one a target."""
    if np.ndim(alpha) == 0:
        return check_number(alpha.item() if isinstance(alpha, np.ndarray) else alpha, "alpha", 0.0)
    each: Array = np.ravel(np.asarray(alpha, dtype=object))
    if len(each) not in (1, n_outputs):
        raise InputError(f"alpha has {len(each)} numbers, but there are {n_outputs} targets", "Give one, or one each")
    numbers = [check_number(value, f"alpha[{i}]", 0.0) for i, value in enumerate(each.tolist())]
    return numbers[0] if len(numbers) == 1 else np.array(numbers)


def refuse_unsupported(ridge: Any) -> None:
    """Check the arguments that `Ridge` and `RidgeClassifier` share; refuse by name what is not supported."""
    name = type(ridge).__name__
    check_flag(ridge.copy_X, "copy_X")
    if ridge.max_iter is not None:
        check_count(ridge.max_iter, "max_iter", 1)
    check_number(ridge.tol, "tol", 0.0)
    check_seed(ridge.random_state)
    if check_flag(ridge.positive, "positive"):
        raise InputError(
            f"{name} does not support positive=True",
            f"Use scikit-learn's {name}(positive=True)",
        )
    if ridge.solver not in SAME_OPTIMUM:
        mend = "It is for positive=True in scikit-learn; leave it at 'auto'" if ridge.solver == "lbfgs" else ""
        raise InputError(
            f"{name} does not support solver={ridge.solver!r}",
            mend or f"There are {', '.join(SAME_OPTIMUM)}, all with the same optimum",
        )
