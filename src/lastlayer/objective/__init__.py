"""J(W, b) = (1/n) Σᵢ sᵢ L(zᵢ W + b, yᵢ) + (λ/2) ‖W‖²: the only place where the terms meet."""

from lastlayer.objective.point import ObjectiveLine, ObjectivePoint
from lastlayer.objective.problem import Objective

__all__ = ["Objective", "ObjectiveLine", "ObjectivePoint"]
