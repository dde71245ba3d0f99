"""The scikit-learn facade: estimators on arrays, built on `lastlayer.selection`.

Here alone scikit-learn's conventions hold: X (N, D) for the features, `coef_` (K, D), one column for two classes,
C instead of λ. `LinearClassifier` and `LinearRegressor` speak of λ (`l2`), `KernelClassifier` bends the boundary; the
others take the arguments of scikit-learn's classes of the same name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lastlayer.estimators.k_neighbors import KNeighborsClassifier
    from lastlayer.estimators.kernel_classifier import KernelClassifier
    from lastlayer.estimators.linear_classifier import LinearClassifier
    from lastlayer.estimators.linear_regressor import LinearRegressor
    from lastlayer.estimators.linear_svc import LinearSVC
    from lastlayer.estimators.logistic_regression import LogisticRegression
    from lastlayer.estimators.logistic_regression_cv import LogisticRegressionCV
    from lastlayer.estimators.network_classifier import NetworkClassifier
    from lastlayer.estimators.pairwise import PairwiseClassifier
    from lastlayer.estimators.perceptron import Perceptron
    from lastlayer.estimators.ridge import Ridge
    from lastlayer.estimators.ridge_classifier import RidgeClassifier
    from lastlayer.estimators.ridge_classifier_cv import RidgeClassifierCV

__all__ = [
    "KNeighborsClassifier",
    "KernelClassifier",
    "LinearClassifier",
    "LinearRegressor",
    "LinearSVC",
    "LogisticRegression",
    "LogisticRegressionCV",
    "NetworkClassifier",
    "PairwiseClassifier",
    "Perceptron",
    "Ridge",
    "RidgeClassifier",
    "RidgeClassifierCV",
]

_HOME = {
    "KNeighborsClassifier": "k_neighbors",
    "KernelClassifier": "kernel_classifier",
    "LinearClassifier": "linear_classifier",
    "LinearRegressor": "linear_regressor",
    "LinearSVC": "linear_svc",
    "LogisticRegression": "logistic_regression",
    "LogisticRegressionCV": "logistic_regression_cv",
    "NetworkClassifier": "network_classifier",
    "PairwiseClassifier": "pairwise",
    "Perceptron": "perceptron",
    "Ridge": "ridge",
    "RidgeClassifier": "ridge_classifier",
    "RidgeClassifierCV": "ridge_classifier_cv",
}


def __getattr__(name: str) -> Any:
    """Load an estimator on first use: each brings what it is built on."""
    if name not in _HOME:
        raise AttributeError(f"module 'lastlayer.estimators' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lastlayer.estimators.{_HOME[name]}"), name)
    globals()[name] = value
    return value
