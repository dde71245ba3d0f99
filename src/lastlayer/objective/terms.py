"""The sums over one leaf of rows: losses, their derivatives along a line, and gradients.

Scores S and their change C along a line are (K, N), class by class. A step that has been decided on but not yet been
added to the scores is *pending*: it is added when the rows are next in the cache.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, IntArray
from lastlayer.linear.device import is_tensor
from lastlayer.linear.examples import Examples
from lastlayer.losses.base import Loss

N_SUMS = 3
"""Value, slope and curvature come first in a leaf's part; then the gradient (K, D + 1), the bias last, flattened."""
COMPILED_FROM = 2**22
"""Numbers in Z from which on the compiled loops pay for being loaded (0.6 s)."""
NO_NUMBERS = np.empty(0, np.intp)
"""Rows are not picked."""
BLOCK_SCORES = 2**16
"""Scores at a time, in the cache, where BLAS makes the products."""


class Terms(ABC):
    """How a leaf's sums are computed. Every part is an array of `N_SUMS` numbers and, where asked for, a gradient."""

    @abstractmethod
    def line(
        self,
        leaf: tuple[int, int],
        right: FloatArray,
        added: FloatArray,
        S: FloatArray,
        C: FloatArray,
        pending: float,
        gradient: bool,
    ) -> Float64:
        """``S += pending C; C = Z right + added``; the part at S + C."""

    @abstractmethod
    def along(self, leaf: tuple[int, int], S: FloatArray, C: FloatArray, step: float) -> Float64:
        """Value, slope and curvature at ``S + step C``."""

    @abstractmethod
    def gradient(self, leaf: tuple[int, int], S: FloatArray, C: FloatArray | None, pending: float) -> Float64:
        """``S += pending C``; value (slope and curvature zero) and gradient at S."""

    @abstractmethod
    def hessian(self, leaf: tuple[int, int], right: FloatArray, added: FloatArray, S: FloatArray) -> Float64:
        """The loss's Hessian at S times a direction with the factors `right` and `added`: (K, D + 1), flattened."""

    @abstractmethod
    def traces(self, leaf: tuple[int, int], S: FloatArray, out: FloatArray) -> None:
        """Trace of each row's Hessian in z at S, into the leaf's part of `out` (N,)."""


def choose_terms(examples: Examples, loss: Loss) -> Terms:
    """Compiled loops for large float32 problems of the losses that have them, NumPy otherwise; torch for tensors."""
    rows = examples.rows
    if is_tensor(rows.Z):
        from lastlayer.objective.device_terms import DeviceTerms

        return DeviceTerms.of(examples, loss)
    # Of Z and not of the rows in use: a sample comes after passes over all rows, when the loops are there already.
    large = len(rows.Z) * rows.n_features >= COMPILED_FROM and rows.dtype == np.float32
    if large and examples.y.ndim == 1:
        from lastlayer.losses.kernels import COMPILED

        if loss.name in COMPILED:
            return CompiledTerms.of(examples, COMPILED[loss.name])
    return PlainTerms(examples, loss)


def refuse_off_host(loss: Loss) -> None:
    """`InputError` for a loss that tensors cannot be fitted with."""
    from lastlayer.objective.device_terms import refuse_loss

    refuse_loss(loss)


@final
@dataclass(frozen=True, eq=False)
class PlainTerms(Terms):
    """With NumPy: any loss, any type."""

    examples: Examples
    loss: Loss

    def line(
        self,
        leaf: tuple[int, int],
        right: FloatArray,
        added: FloatArray,
        S: FloatArray,
        C: FloatArray,
        pending: float,
        gradient: bool,
    ) -> Float64:
        """One product, or two with the gradient."""
        _advance(leaf, S, C, pending)
        self.examples.rows.product(right, added, C, *leaf)
        sums = self.along(leaf, S, C, 1.0)
        if not gradient:
            return sums
        part = self._gradient_at(leaf, S[:, slice(*leaf)] + C[:, slice(*leaf)])
        part[:N_SUMS] = sums
        return part

    def along(self, leaf: tuple[int, int], S: FloatArray, C: FloatArray, step: float) -> Float64:
        """Elementwise work only."""
        span = slice(*leaf)
        V = C[:, span]
        Z = V * V.dtype.type(step)
        Z += S[:, span]
        parts = self.loss.along(Z.T, V.T, self.examples.y[span])
        if self.examples.weights is None:
            return np.array([part.sum(dtype=np.float64) for part in parts])
        return np.array([(part * self.examples.weights[span]).sum(dtype=np.float64) for part in parts])

    def gradient(self, leaf: tuple[int, int], S: FloatArray, C: FloatArray | None, pending: float) -> Float64:
        """One product."""
        _advance(leaf, S, C, pending)
        return self._gradient_at(leaf, S[:, slice(*leaf)].copy())

    def hessian(self, leaf: tuple[int, int], right: FloatArray, added: FloatArray, S: FloatArray) -> Float64:
        """Two products."""
        ex, span = self.examples, slice(*leaf)
        V = np.empty((len(S), leaf[1] - leaf[0]), S.dtype)
        ex.rows.product_of(right, added, V, *leaf)
        P = self.loss.hessian_times(S[:, span].T.copy(), V.T, ex.y[span]).T
        if ex.weights is not None:
            P = P * ex.weights[span]
        G = np.empty((len(S), ex.rows.n_features + 1))
        G[:, :-1] = ex.rows.back_product(np.ascontiguousarray(P), *leaf)
        G[:, -1] = P.sum(axis=1, dtype=np.float64)
        return G.ravel()

    def traces(self, leaf: tuple[int, int], S: FloatArray, out: FloatArray) -> None:
        """Elementwise work only."""
        span = slice(*leaf)
        out[span] = self.loss.trace(S[:, span].T.copy(), self.examples.y[span])

    def _gradient_at(self, leaf: tuple[int, int], P: FloatArray) -> Float64:
        """From scores of the leaf, which are overwritten."""
        ex, span = self.examples, slice(*leaf)
        losses = self.loss.gradient(P.T, ex.y[span])
        if ex.weights is not None:
            losses *= ex.weights[span]
            P *= ex.weights[span]
        G = np.empty((len(P), ex.rows.n_features + 1))
        G[:, :-1] = ex.rows.back_product(P, *leaf)
        G[:, -1] = P.sum(axis=1, dtype=np.float64)
        return np.concatenate([[losses.sum(dtype=np.float64), 0.0, 0.0], G.ravel()])


@final
@dataclass(frozen=True, eq=False)
class CompiledTerms(Terms):
    """With compiled loops (`objective.kernels`), and products by BLAS where there are many classes."""

    examples: Examples
    code: int
    labels: Array
    weights: FloatArray
    micro: int
    kernels: Any
    own: threading.local = field(default_factory=threading.local)

    @classmethod
    def of(cls, examples: Examples, code: int) -> CompiledTerms:
        """For the loss with that number in `losses.kernels`."""
        from lastlayer.objective import kernels

        weights = np.ones(len(examples.rows), np.float32) if examples.weights is None else examples.weights
        micro = kernels.rows_at_a_time(examples.rows.n_features, examples.n_outputs)
        return cls(examples, code, _read_only(examples.y), _read_only(weights), micro, kernels)

    @property
    def elementwise(self) -> int:
        """Rows at a time for elementwise work."""
        return max(64, min(128, BLOCK_SCORES // self.examples.n_outputs))

    @property
    def narrow(self) -> bool:
        """Whether our own products are used."""
        return self.examples.n_outputs <= int(self.kernels.NARROW)

    @property
    def picks(self) -> bool:
        """Whether the loops pick their rows from Z by number."""
        rows = self.examples.rows
        return self.narrow and rows.in_place and rows.rows is not None

    def line(
        self,
        leaf: tuple[int, int],
        right: FloatArray,
        added: FloatArray,
        S: FloatArray,
        C: FloatArray,
        pending: float,
        gradient: bool,
    ) -> Float64:
        """Rows are read once for both products."""
        kernels = self.kernels
        W = np.ascontiguousarray(right.T)
        part, sums, G = self._empty_part(gradient)
        step = np.float32(pending)
        for a, X, numbers in self._source(leaf):
            if self.narrow:
                kernels.line_block(
                    X, numbers, W, added, self.labels, self.weights, S, C, a, step, self.code, gradient, self.micro,
                    self._room(), G, sums,
                )  # fmt: skip
                continue
            kernels.new_change(S, C, W @ X.T, added, a, step)
            P = np.empty((len(W), len(X) if gradient else 0), np.float32)
            self._losses(a, a + len(X), S, C, 0.0, 1.0, P, sums)
            if gradient:
                _add_back(G, P, X)
        return part

    def along(self, leaf: tuple[int, int], S: FloatArray, C: FloatArray, step: float) -> Float64:
        """Elementwise work only."""
        sums = np.zeros(N_SUMS)
        self._losses(*leaf, S, C, 0.0, step, np.empty((len(S), 0), np.float32), sums)
        return sums

    def gradient(self, leaf: tuple[int, int], S: FloatArray, C: FloatArray | None, pending: float) -> Float64:
        """One product."""
        kernels = self.kernels
        part, sums, G = self._empty_part()
        change = S if C is None else C
        for a, X, numbers in self._source(leaf):
            if self.narrow:
                kernels.gradient_block(
                    X, numbers, self.labels, self.weights, S, change, a, np.float32(pending), self.code, self.micro,
                    self._room(), G, sums,
                )  # fmt: skip
                continue
            P = np.empty((len(S), len(X)), np.float32)
            self._losses(a, a + len(X), S, change, pending, 0.0, P, sums)
            _add_back(G, P, X)
        sums[1:] = 0.0
        return part

    def hessian(self, leaf: tuple[int, int], right: FloatArray, added: FloatArray, S: FloatArray) -> Float64:
        """Rows are read once for both products."""
        ex, kernels = self.examples, self.kernels
        W = np.ascontiguousarray(right.T)
        G = np.zeros((len(S), ex.rows.n_features + 1))
        for a, X, numbers in self._source(leaf):
            if self.narrow:
                kernels.hessian_block(
                    X, numbers, W, added, self.labels, self.weights, S, a, self.code, self.micro, self._room(), G
                )  # fmt: skip
                continue
            P = W @ X.T + added[:, None]
            kernels.bend_block(self.labels, self.weights, S, P, a, self.code, self.elementwise)
            _add_back(G, P, X)
        return G.ravel()

    def traces(self, leaf: tuple[int, int], S: FloatArray, out: FloatArray) -> None:
        """Elementwise work only."""
        self.kernels.trace_block(self.labels, S, *leaf, self.code, self.elementwise, out)

    def _source(self, leaf: tuple[int, int]) -> Iterator[tuple[int, FloatArray, IntArray]]:
        """First row of each piece of the leaf, its features, and numbers of rows to be picked from them.

        Compiled loops pick rows a few at a time; there are no numbers where the features are the rows themselves.
        """
        rows, (first, last) = self.examples.rows, leaf
        if self.picks and rows.rows is not None:
            numbers = rows.rows[first:last].astype(np.intp, copy=False)
            yield first, _read_only(np.asarray(rows.Z)), _read_only(numbers)
            return
        for a, b in rows.pieces(first, last):
            yield a, _read_only(np.ascontiguousarray(rows.block(a, b))), _read_only(NO_NUMBERS)

    def _room(self) -> tuple[FloatArray, ...]:
        """Room of this thread for the compiled loops, kept as long as the terms are."""
        room: tuple[FloatArray, ...] | None = getattr(self.own, "room", None)
        if room is None:
            ex = self.examples
            room = self.own.room = self.kernels.room_for(ex.n_outputs, ex.rows.n_features, self.micro, self.picks)
        return room

    def _empty_part(self, gradient: bool = True) -> tuple[Float64, Float64, Float64]:
        """A part of zeros, and in it the sums and the gradient (K, D + 1), of no size where it is not wanted."""
        K, D = self.examples.n_outputs, self.examples.rows.n_features
        part = np.zeros(N_SUMS + (K * (D + 1) if gradient else 0))
        return part, part[:N_SUMS], part[N_SUMS:].reshape(K, -1)

    def _losses(
        self, a: int, b: int, S: FloatArray, C: FloatArray, pending: float, step: float, P: FloatArray, sums: Float64
    ) -> None:
        self.kernels.loss_block(
            self.labels, self.weights, S, C, a, b - a,
            np.float32(pending), np.float32(step), self.code, self.elementwise, P, sums,
        )  # fmt: skip


def _read_only(array: Array) -> Array:
    """A view that cannot be written to, as the compiled loops take them: made once, and with the same bits, for all."""
    view = array.view()
    view.flags.writeable = False
    return view


def _add_back(G: Float64, P: FloatArray, X: FloatArray) -> None:
    G[:, :-1] += P @ X
    G[:, -1] += P.sum(axis=1, dtype=np.float64)


def _advance(leaf: tuple[int, int], S: FloatArray, C: FloatArray | None, pending: float) -> None:
    if pending and C is not None:
        S[:, slice(*leaf)] += S.dtype.type(pending) * C[:, slice(*leaf)]
