"""λ and the fit: `fit_linear` for one λ, `regularisation_path` to choose it on validation data."""

from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.path import PathPoint, PathResult, regularisation_path

__all__ = ["LinearFit", "PathPoint", "PathResult", "fit_linear", "regularisation_path"]
