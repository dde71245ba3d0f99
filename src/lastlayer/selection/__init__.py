"""λ, the learning rate and the fit: `fit_linear` for one λ, `regularisation_path` to choose it on validation data."""

from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.learning_rate import RateSearch, RateTrial, decades, search_learning_rate
from lastlayer.selection.path import PathPoint, PathResult, regularisation_path
from lastlayer.selection.range_test import RangeTest, range_test

__all__ = [
    "LinearFit",
    "PathPoint",
    "PathResult",
    "RangeTest",
    "RateSearch",
    "RateTrial",
    "decades",
    "fit_linear",
    "range_test",
    "regularisation_path",
    "search_learning_rate",
]
