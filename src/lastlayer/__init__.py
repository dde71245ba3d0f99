"""Labelled images in, an honest and inspectable classifier out.

The whole program is one equation, and the folders are its symbols::

    argmin over (W, b)   (1/n) Σᵢ sᵢ L( φ(xᵢ) W + b , yᵢ )  +  (λ/2) ‖W‖²

    xᵢ, yᵢ     images and labels                 lastlayer/data/
    φ          what the image becomes            lastlayer/representations/
    W, b       the last layer, z = φ(x) W + b    lastlayer/linear/
    L          the price of a score              lastlayer/losses/
    (λ/2)‖W‖²  the price of large weights        lastlayer/penalties.py
    Σᵢ         the mean over the data            lastlayer/objective/
    argmin     how the minimum is found          lastlayer/solvers/
    λ          how it is chosen                  lastlayer/selection/
    f          φ and W learned together, f = f_L ∘ … ∘ f_1    lastlayer/networks/

Around it: `lastlayer.evaluation` (scores with intervals), `lastlayer.report` (the HTML report),
`lastlayer.estimators` (the scikit-learn facade), `lastlayer.model` (the saved classifier) and
`lastlayer.pipeline` (what the command line calls).

>>> import lastlayer
>>> sorted(name for name in dir(lastlayer) if name.islower())
['check', 'check_gradient', 'compare', 'evaluate', 'load', 'predict', 'probe', 'suggest', 'sweep',
 'train']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module that holds it; loaded on first use, so that `import lastlayer` costs nothing
_PUBLIC = {
    "InputError": "lastlayer._errors",
    "KNeighborsClassifier": "lastlayer.estimators",
    "KernelClassifier": "lastlayer.estimators",
    "LinearClassifier": "lastlayer.estimators",
    "LinearRegressor": "lastlayer.estimators",
    "LinearSVC": "lastlayer.estimators",
    "LogisticRegression": "lastlayer.estimators",
    "LogisticRegressionCV": "lastlayer.estimators",
    "NetworkClassifier": "lastlayer.estimators",
    "PairwiseClassifier": "lastlayer.estimators",
    "Perceptron": "lastlayer.estimators",
    "Model": "lastlayer.model",
    "Ridge": "lastlayer.estimators",
    "RidgeClassifier": "lastlayer.estimators",
    "RidgeClassifierCV": "lastlayer.estimators",
    "Run": "lastlayer.pipeline",
    "check": "lastlayer.pipeline",
    "check_gradient": "lastlayer.solvers",
    "compare": "lastlayer.pipeline",
    "evaluate": "lastlayer.pipeline",
    "load": "lastlayer.pipeline",
    "predict": "lastlayer.pipeline",
    "probe": "lastlayer.pipeline",
    "suggest": "lastlayer.pipeline",
    "sweep": "lastlayer.pipeline",
    "train": "lastlayer.pipeline",
}

__all__ = list(_PUBLIC)

if TYPE_CHECKING:
    from lastlayer._errors import InputError as InputError
    from lastlayer.estimators import KernelClassifier as KernelClassifier
    from lastlayer.estimators import KNeighborsClassifier as KNeighborsClassifier
    from lastlayer.estimators import LinearClassifier as LinearClassifier
    from lastlayer.estimators import LinearRegressor as LinearRegressor
    from lastlayer.estimators import LinearSVC as LinearSVC
    from lastlayer.estimators import LogisticRegression as LogisticRegression
    from lastlayer.estimators import LogisticRegressionCV as LogisticRegressionCV
    from lastlayer.estimators import NetworkClassifier as NetworkClassifier
    from lastlayer.estimators import PairwiseClassifier as PairwiseClassifier
    from lastlayer.estimators import Perceptron as Perceptron
    from lastlayer.estimators import Ridge as Ridge
    from lastlayer.estimators import RidgeClassifier as RidgeClassifier
    from lastlayer.estimators import RidgeClassifierCV as RidgeClassifierCV
    from lastlayer.model import Model as Model
    from lastlayer.pipeline import Run as Run
    from lastlayer.pipeline import check as check
    from lastlayer.pipeline import compare as compare
    from lastlayer.pipeline import evaluate as evaluate
    from lastlayer.pipeline import load as load
    from lastlayer.pipeline import predict as predict
    from lastlayer.pipeline import probe as probe
    from lastlayer.pipeline import suggest as suggest
    from lastlayer.pipeline import sweep as sweep
    from lastlayer.pipeline import train as train
    from lastlayer.solvers import check_gradient as check_gradient


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lastlayer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
