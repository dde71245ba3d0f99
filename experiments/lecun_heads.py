"""The last layers of `lecun_table.py`: what each tries on held-out rows, and its fit to all training rows.

A head has `tries(Z, y, V, v)`: settings with the number of wrong answers on the held-out rows V of classes v;
`fit(Z, y, setting)`: a function from features to classes; and `text(phi, setting)`: how to ask for the same elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer.estimators.k_neighbors import KNeighborsClassifier
from lastlayer.estimators.neighbour_votes import winners
from lastlayer.estimators.pairwise import PairwiseClassifier
from lastlayer.linear import scores
from lastlayer.representations.gram import gram, gram_scores
from lastlayer.representations.kernels import RBF
from lastlayer.selection import fit_linear, regularisation_path
from lastlayer.selection.kernel_ridge import fit_kernel_ridge, one_hot

Predict = Callable[[np.ndarray], np.ndarray]
CLI_HEADS = {"squared": "ridge", "squared_hinge": "svm", "cross_entropy": "logistic"}


def wrong(predicted: np.ndarray, y: np.ndarray) -> int:
    return int((predicted != y).sum())


class Head(ABC):
    @abstractmethod
    def tries(self, Z: np.ndarray, y: np.ndarray, V: np.ndarray, v: np.ndarray) -> Iterator[tuple[Any, int]]: ...

    @abstractmethod
    def fit(self, Z: np.ndarray, y: np.ndarray, setting: Any) -> Predict: ...

    @abstractmethod
    def text(self, phi: str, setting: Any) -> str: ...


@final
@dataclass(frozen=True)
class Linear(Head):
    """``lastlayer train``'s head of a loss, for several C; the features as they are, not standardised."""

    loss: str
    Cs: tuple[float, ...]

    def tries(self, Z, y, V, v):
        for point in regularisation_path(Z, y, V, v, int(y.max()) + 1, self.loss, self.Cs).points:
            yield point.C, point.val_accuracy[1] - point.val_accuracy[0]

    def fit(self, Z, y, setting):
        found = fit_linear(Z, y, int(y.max()) + 1, self.loss, l2=1.0 / (setting * len(Z)), tol=1e-3)
        return lambda X: scores(X, found.W, found.b).argmax(axis=1)

    def text(self, phi, setting):
        head = CLI_HEADS[self.loss]
        return f"lastlayer train MNIST --val 0 --no-standardise --phi {phi} --head {head} --C {setting:g}"


@final
@dataclass(frozen=True)
class AllRows(Head):
    """A Gaussian kernel with squared loss and a coefficient for every training row, for several γ and C."""

    gammas: tuple[float, ...]
    Cs: tuple[float, ...]

    def tries(self, Z, y, V, v):
        T = one_hot(y, int(y.max()) + 1)
        for gamma in self.gammas:
            K, start = gram(RBF(gamma), Z), None
            for C in sorted(self.Cs):
                start = fit_kernel_ridge(K, T, l2=1.0 / (C * len(Z)), gap=1e-3, start=start)
                found = gram_scores(RBF(gamma), Z, start.dual, start.bias, V)
                yield (gamma, C), wrong(found.argmax(axis=1), v)
            del K  # before the next one: two would not fit

    def fit(self, Z, y, setting):
        gamma, C = setting
        found = fit_kernel_ridge(
            gram(RBF(gamma), Z), one_hot(y, int(y.max()) + 1), l2=1.0 / (C * len(Z)), gap=1e-3
        )  # fmt: skip
        return lambda X: gram_scores(RBF(gamma), Z, found.dual, found.bias, X).argmax(axis=1)

    def text(self, phi, setting):
        gamma, C = setting
        return f"KernelClassifier(gamma={gamma:g}, loss='squared', C={C:g}, n_landmarks='all') on {phi}"


@final
@dataclass(frozen=True)
class Pairwise(Head):
    """Units of two classes, trained by least squares."""

    l2s: tuple[float, ...]
    outputs: tuple[str, ...] = ("linear", "tanh", "sign")

    def tries(self, Z, y, V, v):
        for l2 in self.l2s:
            found = PairwiseClassifier(l2=l2).fit(Z, y)
            for outputs in self.outputs:
                yield (l2, outputs), wrong(found.set_params(outputs=outputs).predict(V), v)

    def fit(self, Z, y, setting):
        l2, outputs = setting
        return PairwiseClassifier(l2=l2, outputs=outputs).fit(Z, y).predict

    def text(self, phi, setting):
        return f"PairwiseClassifier(outputs={setting[1]!r}, l2={setting[0]:g}) on the features {phi}"


@final
@dataclass(frozen=True)
class Neighbours(Head):
    """The vote of the k nearest."""

    ks: tuple[int, ...] = (1, 3, 4, 5)
    weights: str = "distance"

    def tries(self, Z, y, V, v):
        distances, rows = KNeighborsClassifier(max(self.ks)).fit(Z, y).kneighbors(V)
        for k in self.ks:
            yield k, wrong(winners(distances[:, :k], y[rows[:, :k]], int(y.max()) + 1, self.weights), v)

    def fit(self, Z, y, setting):
        return KNeighborsClassifier(setting, weights=self.weights).fit(Z, y).predict

    def text(self, phi, setting):
        return f"KNeighborsClassifier({setting}, weights={self.weights!r}) on the features {phi}"


@final
@dataclass(frozen=True)
class TanhUnits(Head):
    """The layer of 1998: ``½ Σ (f(zW + b) - t)²``, f(a) = 1.7159 tanh(2a/3), targets ±1, minimised by L-BFGS."""

    l2s: tuple[float, ...]
    steps: int = 100

    def tries(self, Z, y, V, v):
        for l2 in self.l2s:
            yield l2, wrong(self.fit(Z, y, l2)(V), v)

    def fit(self, Z, y, setting):
        from scipy.optimize import minimize

        K = int(y.max()) + 1
        X = np.hstack([Z, np.ones((len(Z), 1), np.float32)])
        T = np.where(y[:, None] == np.arange(K), np.float32(1), np.float32(-1))

        def price(flat: np.ndarray) -> tuple[float, np.ndarray]:
            W = flat.reshape(-1, K)
            inner = np.tanh((2 / 3) * (X @ W.astype(np.float32)))
            away = 1.7159 * inner - T
            gradient = (X.T @ (away * (1.7159 * 2 / 3) * (1 - inner**2))).astype(np.float64) / len(Z)
            gradient[:-1] += setting * W[:-1]
            value = 0.5 * float((away.astype(np.float64) ** 2).sum()) / len(Z) + 0.5 * setting * (W[:-1] ** 2).sum()
            return value, gradient.ravel()

        found = minimize(price, np.zeros(X.shape[1] * K), jac=True, method="L-BFGS-B", options={"maxiter": self.steps})
        W = found.x.reshape(-1, K)
        return lambda A: (A @ W[:-1] + W[-1]).argmax(axis=1)

    def text(self, phi, setting):
        return f"TanhUnits(l2={setting:g}) of this folder on the features {phi}"
