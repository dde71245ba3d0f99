"""The sums over a leaf for rows on a device: scores, losses and gradients stay there, only sums come to the host.

The losses here are twins of those in `lastlayer.losses`, class by class, in torch's functions.

Shapes
------
Z, V : (K, n) scores and their change along a line; y : (1, n) labels or (K, n) targets; w : (n,) weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

from lastlayer._arrays import FloatArray, InputError
from lastlayer.linear.device import DeviceRows, on_host
from lastlayer.linear.examples import Examples
from lastlayer.losses.base import Loss
from lastlayer.objective.terms import Terms


class DeviceLoss(ABC):
    """A loss of many rows of scores on a device."""

    @abstractmethod
    def differentiate(self, Z: Any, V: Any, y: Any) -> tuple[Any, ...]:
        """Overwrite Z with the gradient; loss of each row, (n,), and unless V is None slope and curvature along V."""

    @abstractmethod
    def hessian_times(self, Z: Any, V: Any, y: Any) -> Any:
        """The Hessian at Z times V, (K, n); Z and V may be overwritten."""

    @abstractmethod
    def trace(self, Z: Any, y: Any) -> Any:
        """Trace of each row's Hessian, (n,); Z may be overwritten."""


@final
class CrossEntropy(DeviceLoss):
    """Twin of `losses.cross_entropy.CrossEntropy`."""

    def differentiate(self, Z: Any, V: Any, y: Any) -> tuple[Any, ...]:
        """With ``p = softmax(z)``: gradient ``p - e_y``, slope ``p·v - v_y``, curvature ``Σ p v² - (p·v)²``."""
        at_own = Z.gather(0, y)[0]
        losses = _softmax(Z) - at_own
        parts: tuple[Any, ...] = (losses,)
        if V is not None:
            weighted = Z * V
            mean = weighted.sum(0)
            curvature = (weighted.mul_(V).sum(0) - mean * mean).clamp_(min=0)
            parts = (losses, mean - V.gather(0, y)[0], curvature)
        Z.scatter_(0, y, Z.gather(0, y) - 1)
        return parts

    def hessian_times(self, Z: Any, V: Any, y: Any) -> Any:
        """``p ∘ v - p (p·v)``."""
        _softmax(Z)
        return Z * (V - (Z * V).sum(0))

    def trace(self, Z: Any, y: Any) -> Any:
        """``1 - ‖p‖²``."""
        _softmax(Z)
        return 1 - Z.square_().sum(0)


def _softmax(Z: Any) -> Any:
    """``exp(z) / Σ exp(z)`` in place, and the logarithm of the sum, (n,)."""
    top = Z.amax(0)
    total = Z.sub_(top).exp_().sum(0)
    Z.div_(total)
    return total.log_() + top


@final
class SquaredHinge(DeviceLoss):
    """Twin of `losses.hinge.SquaredHinge`."""

    def differentiate(self, Z: Any, V: Any, y: Any) -> tuple[Any, ...]:
        """Gradient twice the shortfall, with the sign of -t; curvature ``2 Σ v²`` over the missed margins."""
        _shortfall(Z, y)
        parts: tuple[Any, ...] = ((Z * Z).sum(0),)
        if V is not None:
            parts = (*parts, 2 * (Z * V).sum(0), 2 * (V * (Z != 0)).square_().sum(0))
        Z *= 2
        return parts

    def hessian_times(self, Z: Any, V: Any, y: Any) -> Any:
        """``2 v`` where the margin is missed."""
        _shortfall(Z, y)
        return 2 * V * (Z != 0)

    def trace(self, Z: Any, y: Any) -> Any:
        """Twice the number of missed margins."""
        _shortfall(Z, y)
        return 2 * (Z != 0).sum(0)


def _shortfall(Z: Any, y: Any) -> None:
    """Overwrite Z with ``max(0, 1 + z)``, for the row's own class with ``-max(0, 1 - z)``."""
    at_own = Z.gather(0, y)
    Z.add_(1).clamp_(min=0)
    Z.scatter_(0, y, -(1 - at_own).clamp_(min=0))


@final
class Squared(DeviceLoss):
    """Twin of `losses.squared.Squared`."""

    def differentiate(self, Z: Any, V: Any, y: Any) -> tuple[Any, ...]:
        """Gradient ``z - t``, curvature ``v·v``."""
        if y.is_floating_point():
            Z -= y
        else:
            Z.scatter_(0, y, Z.gather(0, y) - 1)
        losses = 0.5 * (Z * Z).sum(0)
        return (losses,) if V is None else (losses, (Z * V).sum(0), (V * V).sum(0))

    def hessian_times(self, Z: Any, V: Any, y: Any) -> Any:
        """The direction itself."""
        return V

    def trace(self, Z: Any, y: Any) -> Any:
        """K."""
        return Z[0].new_full((Z.shape[1],), len(Z))


def refuse_loss(loss: Loss) -> None:
    """`InputError` for a loss that has no twin here."""
    if loss.name not in DeviceTerms.LOSSES:
        raise InputError(
            f"the {loss.name} loss is not computed on torch tensors",
            f"Take {', '.join(DeviceTerms.LOSSES)}, or give a NumPy array: X.cpu().numpy()",
        )


@final
@dataclass(frozen=True, eq=False)
class DeviceTerms(Terms):
    """With torch, on the device that holds the rows; parts are tensors there, which `DeviceRows.sum_over` adds.

    Attributes
    ----------
    rows : DeviceRows
    loss : DeviceLoss
    y : torch.Tensor
        (1, N) labels or (K, N) targets.
    weights : torch.Tensor or None
        (N,).
    """

    LOSSES: ClassVar[dict[str, type[DeviceLoss]]] = {
        "cross_entropy": CrossEntropy,
        "squared_hinge": SquaredHinge,
        "squared": Squared,
    }

    rows: DeviceRows
    loss: DeviceLoss
    y: Any
    weights: Any

    @classmethod
    def of(cls, examples: Examples, loss: Loss) -> DeviceTerms:
        """Labels and weights are copied to the device, once."""
        refuse_loss(loss)
        rows: Any = examples.rows
        y = rows.up(examples.y)[None] if examples.y.ndim == 1 else rows.up(examples.y.T.astype(rows.dtype))
        return cls(rows, cls.LOSSES[loss.name](), y, None if examples.weights is None else rows.up(examples.weights))

    def line(
        self,
        leaf: tuple[int, int],
        right: FloatArray,
        added: FloatArray,
        S: Any,
        C: Any,
        pending: float,
        gradient: bool,
    ) -> Any:
        """One product, or two with the gradient."""
        span = slice(*leaf)
        self._advance(leaf, S, C, pending)
        self.rows.product(right, added, C, *leaf)
        Z, V = S[:, span] + C[:, span], C[:, span]
        sums = self._sums(leaf, self.loss.differentiate(Z, V, self.y[:, span]))
        return _flat(self.rows.torch, sums, self._back(leaf, Z)) if gradient else sums

    def along(self, leaf: tuple[int, int], S: Any, C: Any, step: float) -> Any:
        """Elementwise work only."""
        span = slice(*leaf)
        V = C[:, span]
        return self._sums(leaf, self.loss.differentiate(S[:, span] + float(step) * V, V, self.y[:, span]))

    def gradient(self, leaf: tuple[int, int], S: Any, C: Any, pending: float) -> Any:
        """One product."""
        span = slice(*leaf)
        self._advance(leaf, S, C, pending)
        Z = S[:, span].clone()
        sums = self._sums(leaf, self.loss.differentiate(Z, None, self.y[:, span]))
        return _flat(self.rows.torch, sums, self._back(leaf, Z))

    def hessian(self, leaf: tuple[int, int], right: FloatArray, added: FloatArray, S: Any) -> Any:
        """Two products."""
        span = slice(*leaf)
        Z = S[:, span].clone()
        V = Z.new_empty(Z.shape)
        self.rows.product_of(right, added, V, *leaf)
        return self._back(leaf, self.loss.hessian_times(Z, V, self.y[:, span])).ravel()

    def traces(self, leaf: tuple[int, int], S: Any, out: FloatArray) -> None:
        """Elementwise work only; `out` is on the host."""
        span = slice(*leaf)
        out[span] = on_host(self.loss.trace(S[:, span].clone(), self.y[:, span]))

    def _advance(self, leaf: tuple[int, int], S: Any, C: Any, pending: float) -> None:
        if pending and C is not None:
            S[:, slice(*leaf)] += float(pending) * C[:, slice(*leaf)]

    def _sums(self, leaf: tuple[int, int], parts: tuple[Any, ...]) -> Any:
        """Weighted sums of values, slopes and curvatures, (3,) in float64; zero where they are not given."""
        sums = parts[0].new_zeros(3, dtype=self.rows.torch.float64)
        for i, part in enumerate(parts):
            weighted = part if self.weights is None else part * self.weights[slice(*leaf)]
            sums[i] = weighted.sum(dtype=sums.dtype)
        return sums

    def _back(self, leaf: tuple[int, int], P: Any) -> Any:
        """Weighted gradient (K, D + 1) in float64, from that in z, which is overwritten."""
        if self.weights is not None:
            P *= self.weights[slice(*leaf)]
        G = self.rows.back_product(P, *leaf)
        return self.rows.torch.hstack([G, P.sum(1, keepdim=True, dtype=G.dtype)])


def _flat(torch: Any, sums: Any, G: Any) -> Any:
    return torch.cat([sums, G.ravel()])
