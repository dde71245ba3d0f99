"""The scikit-learn facade: estimators on arrays, built on `lastlayer.selection.fit_linear`.

Here alone scikit-learn's conventions hold: X (N, D) for the features, `coef_` (K, D), one column for two classes,
C instead of λ. `LinearClassifier` speaks of λ (`l2`), `LogisticRegression` of C.
"""

from lastlayer.estimators.linear_classifier import LinearClassifier
from lastlayer.estimators.logistic_regression import LogisticRegression

__all__ = ["LinearClassifier", "LogisticRegression"]
