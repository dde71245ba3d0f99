"""What every loss offers: values and derivatives, row by row, as functions of the scores.

Shapes
------
Z : (N, K) scores, in any memory order. y : (N,) labels 0..K-1, or (N, K) targets where a loss says so.

A loss knows nothing of features, weights or penalties; `lastlayer.objective` brings the terms together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lastlayer._arrays import Array, Float64, FloatArray


class Loss(ABC):
    """A loss L(z, y) of one row of scores, applied to many rows at once."""

    name: ClassVar[str]
    """The name by which `by_name` finds it."""
    has_gradient: ClassVar[bool]
    """Whether a (sub)gradient exists that is not zero almost everywhere."""
    is_smooth: ClassVar[bool]
    """Whether the gradient is continuous."""
    curvature_bound: ClassVar[float]
    """Upper bound of the largest eigenvalue of the Hessian in z; infinite when there is none."""
    has_mistake_rule: ClassVar[bool] = False
    """Whether the perceptron's rule is the way to learn it."""
    is_quadratic: ClassVar[bool]
    """Whether the Hessian is the identity everywhere."""

    @abstractmethod
    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row, (N,); Z is left alone."""

    @abstractmethod
    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with ∂L/∂z and return the loss of each row, (N,)."""

    @abstractmethod
    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope and curvature of each row in the direction V; Z may be overwritten, V is left alone.

        ``L(z), ∂L/∂z · v, vᵀ (∂²L/∂z²) v`` (a generalised Hessian where the second derivative jumps).
        """

    @abstractmethod
    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """``(∂²L/∂z²) v`` of each row (a generalised Hessian where it jumps), (N, K); Z may be overwritten."""

    @abstractmethod
    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """Trace of the Hessian of each row, (N,): how much the row bends the objective; Z may be overwritten."""

    @abstractmethod
    def constant_scores(self, frequencies: Float64) -> Float64:
        """Scores (K,) of a good constant prediction, given the classes' shares of the weight."""

    @abstractmethod
    def typical_curvature(self, n_classes: int) -> float:
        """Curvature in z to expect near an optimum: a first guess of the Hessian, never relied on."""
