"""The probe as it is saved: a linear layer on embeddings, with what is done to them before.

    z = ((x / ‖x‖ − mean) / scale) W + b,      p = softmax(z / T)

Its file is that of a model (`artifacts`) whose φ is the identity: the encoder is not in it. Division by the length, and
mean and scale, are there where they were asked for.

Shapes
------
x : (N, D) of any real type, W : float32 (D, K), b : float32 (K,), mean, scale : float32 (D,).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError
from lastlayer.artifacts import FORMAT_VERSION, encode_artifact, read_artifact, write_artifact
from lastlayer.data.embeddings import normalise
from lastlayer.linear import SCORE_ROWS
from lastlayer.linear import scores as linear_scores
from lastlayer.model import softmax

_BLOCK_NUMBERS = 1 << 22
_TENSORS = {"weights", "bias", "phi.mean", "phi.scale"}


@final
@dataclass(frozen=True, eq=False)
class Scaling:
    """``x ↦ (x − mean) / scale``, column by column, with the statistics of training rows.

    Columns that do not vary keep their scale.
    """

    mean: Float32
    scale: Float32

    @classmethod
    def of(cls, X: Array) -> Scaling:
        """Mean and standard deviation of every column of X (N, D), in float64, about a first guess of the mean."""
        rows = max(1, _BLOCK_NUMBERS // X.shape[1])
        starts = range(0, len(X), rows)
        total = np.zeros(X.shape[1])
        for start in starts:
            total += X[start : start + rows].sum(axis=0, dtype=np.float64)
        mean = total / len(X)
        squares = np.zeros(X.shape[1])
        for start in starts:
            deviation = X[start : start + rows] - mean
            squares += np.einsum("ij,ij->j", deviation, deviation)
        scale = np.sqrt(squares / len(X))
        # equal numbers have a spread of their rounding at most
        still = scale <= 1e-12 * np.abs(mean) + float(np.finfo(np.float32).tiny)
        scale = np.where(still, 1.0, scale)
        limit = float(np.finfo(np.float32).max)
        wide = np.flatnonzero(~((np.abs(mean) < limit) & (scale < limit)))
        if len(wide):
            raise InputError(f"column {wide[0]} of the embeddings is too large for float32", "Scale that column")
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def apply(self, X: Array) -> Float32:
        """A standardised copy."""
        out = np.empty(X.shape, dtype=np.float32)
        rows = max(1, _BLOCK_NUMBERS // X.shape[1])
        mean, scale = self.mean.astype(np.float64), self.scale.astype(np.float64)
        for start in range(0, len(X), rows):
            out[start : start + rows] = (X[start : start + rows] - mean) / scale
        return out


@final
@dataclass(frozen=True, eq=False)
class ProbeHead:
    """A fitted probe.

    Attributes
    ----------
    class_names : tuple of str
        K names in the order of the columns of W.
    weights, bias : float32 (D, K), (K,)
    normalize : str
        ``""`` or ``"l2"``.
    scaling : Scaling or None
    loss : str
    temperature : float
        T > 0.
    provenance : dict
        Plain JSON.
    """

    class_names: tuple[str, ...]
    weights: Float32
    bias: Float32
    normalize: str
    scaling: Scaling | None
    loss: str
    temperature: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)

    def scores(self, X: Array) -> FloatArray:
        """Class scores (N, K) of embeddings (N, D), block by block.

        Raises
        ------
        InputError
            When X has another number of columns, or scores overflow.
        """
        if X.ndim != 2 or X.shape[1] != len(self.weights):
            raise InputError(f"embeddings have shape {X.shape}, the probe is for (N, {len(self.weights)})")
        out = np.empty((len(X), len(self.class_names)), dtype=np.float64)
        rows = max(1, _BLOCK_NUMBERS // (X.shape[1] * SCORE_ROWS)) * SCORE_ROWS
        for start in range(0, len(X), rows):
            block, _ = normalise(X[start : start + rows], self.normalize)
            if self.scaling is not None:
                block = self.scaling.apply(block)
            out[start : start + rows] = linear_scores(block, self.weights, self.bias)
        if not np.isfinite(out).all():
            raise InputError("the scores of these embeddings overflow", "Scale the embeddings, or give --normalize l2")
        return out

    def probabilities(self, scores: FloatArray) -> Float64:
        """softmax(z / T)."""
        return softmax(scores, self.temperature)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file."""
        return encode_artifact(self._header(), self._tensors()).digest

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the file, atomically; returns the digest."""
        return write_artifact(path, self._header(), self._tensors())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProbeHead:
        """Read a file that `save` wrote; nothing in it is executed.

        Raises
        ------
        InputError
            When it is damaged, or is the model of another verb.
        """
        header, tensors = read_artifact(path)
        if header.get("kind") != "probe":
            raise InputError(f"{path} is no probe", "`lastlayer probe` writes one; models of images are ll.load()ed")
        try:
            head = cls._assemble(header, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is not a probe this version can read: {error}",
                "It is damaged, or was written by a newer lastlayer: copy it again, or update",
            ) from None
        return head

    @classmethod
    def _assemble(cls, header: dict[str, Any], tensors: dict[str, Array]) -> ProbeHead:
        """From the parts of a file; KeyError, TypeError or ValueError where they do not fit together."""
        phi, names = header["representation"], header["class_names"]
        W, b = tensors["weights"], tensors["bias"]
        if not (isinstance(names, list) and len(names) >= 2 and all(isinstance(n, str) for n in names)):
            raise ValueError("class names are not at least two words")
        if W.ndim != 2 or W.shape[1] != len(names) or b.shape != (len(names),) or phi["n_features"] != len(W):
            raise ValueError(f"weights {W.shape} and bias {b.shape} do not fit {len(names)} classes")
        scaling = None
        if ("phi.mean" in tensors) != ("phi.scale" in tensors) or not set(tensors) <= _TENSORS:
            raise ValueError("its tensors are not those of a probe")
        if "phi.mean" in tensors:
            scaling = Scaling(tensors["phi.mean"], tensors["phi.scale"])
            if scaling.mean.shape != (len(W),) or scaling.scale.shape != (len(W),) or not (scaling.scale > 0).all():
                raise ValueError("mean and scale do not fit the weights")
        if any(t.dtype != np.float32 or not np.isfinite(t).all() for t in tensors.values()):
            raise ValueError("a tensor is not made of finite float32 numbers")
        temperature = float(header["temperature"])
        if not (np.isfinite(temperature) and temperature > 0) or phi["normalize"] not in ("", "l2"):
            raise ValueError("temperature or normalisation is not one there is")
        if not isinstance(header["loss"], str) or not isinstance(header["provenance"], dict):
            raise TypeError("loss or provenance has the wrong type")
        return cls(tuple(names), W, b, phi["normalize"], scaling, header["loss"], temperature, header["provenance"])

    def describe(self) -> tuple[str, ...]:
        """Lines for a person."""
        before = [text for text in (f"normalised ({self.normalize})" if self.normalize else "",
                                    "standardised" if self.scaling is not None else "") if text]  # fmt: skip
        return (
            f"probe       {len(self.weights)} features -> {len(self.class_names)} classes: "
            + ", ".join(self.class_names[:10])
            + (", …" if len(self.class_names) > 10 else ""),
            f"embeddings  {', '.join(before) or 'as given'}; the encoder is not in the file",
            f"loss        {self.loss}, temperature {self.temperature:.3g}",
            f"digest      {self.digest}",
        )

    def _header(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "kind": "probe",
            "class_names": list(self.class_names),
            "representation": {"name": "identity", "n_features": len(self.weights), "normalize": self.normalize},
            "loss": self.loss,
            "temperature": self.temperature,
            "provenance": self.provenance,
        }

    def _tensors(self) -> dict[str, Array]:
        tensors: dict[str, Array] = {"weights": self.weights, "bias": self.bias}
        if self.scaling is not None:
            tensors |= {"phi.mean": self.scaling.mean, "phi.scale": self.scaling.scale}
        return tensors
