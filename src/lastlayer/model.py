"""The saved classifier: everything that defines its predictions, in one file, and the predictions themselves.

    z = φ(x) W + b,    p = softmax(z / T)

Shapes
------
images : uint8 (N, H, W, C), φ(x) : float32 (N, D), W : float32 (D, K), b : float32 (K,), z : float32 (N, K),
p : float64 (N, K).

Using a model needs NumPy alone (and Pillow to decode files): no scikit-learn, no SciPy, no figures.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np

from lastlayer._arrays import (
    Array,
    Float32,
    Float64,
    FloatArray,
    InputError,
    UInt8,
    check_images,
    first_not_finite,
)
from lastlayer._files import display_name
from lastlayer.artifacts import FORMAT_VERSION, ModelFileError, encode_artifact, read_artifact, write_artifact
from lastlayer.artifacts.canonical import canonical
from lastlayer.data.images import ImageFormat
from lastlayer.linear import SCORE_ROWS
from lastlayer.linear import scores as linear_scores
from lastlayer.representations.backbone_files import looked_for_beside
from lastlayer.representations.base import Representation
from lastlayer.representations.specs import from_spec, to_spec

_PHI = "phi."
_LOSS = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LARGEST = float(np.finfo(np.float32).max)
_BLOCK_NUMBERS = 1 << 24  # features of a block of images: 64 MB
_KEYS = {
    *("format_version", "class_names", "image_format", "representation"),
    *("loss", "temperature", "provenance"),
}


def softmax(scores: FloatArray, temperature: float = 1.0) -> Float64:
    """``exp(z / T) / Σ exp(z / T)`` of scores (N, K), in float64; every row sums to 1."""
    p = scores.astype(np.float64)
    p -= p.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, whose exponential is 0
        p /= temperature
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


@final
@dataclass(frozen=True, eq=False)
class Model:
    """A trained classifier: ``p = softmax((φ(x) W + b) / T)``.

    Parameters
    ----------
    class_names : tuple of str
        K different names, in the order of the columns of W.
    image_format : ImageFormat
        What every image becomes before φ sees it.
    representation : Representation
        φ, fitted.
    weights : ndarray of float32, (D, K)
        W.
    bias : ndarray of float32, (K,)
        b; float32 as well, so that what is saved is what was scored.
    loss : str
        The loss it was trained with.
    temperature : float
        T > 0, by which scores are divided before the softmax (Guo et al. 2017, "On calibration of modern
        neural networks").
    provenance : dict
        Where it comes from, as plain JSON: version, data hash, φ as typed, head, C, scores, … No prediction
        depends on it.

    Raises
    ------
    InputError
        When shapes, types or values do not fit together.
    """

    class_names: tuple[str, ...]
    image_format: ImageFormat
    representation: Representation
    weights: Float32
    bias: Float32
    loss: str
    temperature: float
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        names = tuple(self.class_names)
        _check_class_names(names)
        _check_phi(self.representation, self.image_format)
        _check_head(self.weights, self.bias, self.representation.n_features, len(names))
        if not isinstance(self.loss, str) or not _LOSS.fullmatch(self.loss):
            raise InputError(f"the loss is {self.loss!r:.60}; a name such as 'cross_entropy' is needed")
        temperature = float(self.temperature)
        if not (math.isfinite(temperature) and temperature > 0):
            raise InputError(f"the temperature is {temperature}; a positive number is needed")
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "weights", _frozen(self.weights))
        object.__setattr__(self, "bias", _frozen(self.bias))
        object.__setattr__(self, "temperature", temperature)
        object.__setattr__(self, "provenance", _plain(self.provenance))

    def scores(self, images: UInt8) -> Float32:
        """Return the class scores z = φ(x) W + b of each image.

        The scores of an image do not depend on the images that it came with, to the bit.

        Raises
        ------
        InputError
            When the images are not of the model's format, or the scores overflow.
        """
        out: Float32 = np.empty((len(images), len(self.class_names)), np.float32)
        for rows, _, scores in self.score_blocks(images):
            out[rows] = scores
        return out

    def score_blocks(self, images: UInt8) -> Iterator[tuple[slice, Float32, Float32]]:
        """Blocks of images, one after the other: which rows, their features (n, D) and their scores (n, K).

        For what needs both, so that features are computed once and never held for all images.

        Raises
        ------
        InputError
            As for `scores`.
        """
        check_images(images)
        shape = _shape(self.image_format)
        if images.shape[1:] != shape:
            raise InputError(
                f"the images have the shape {images.shape[1:]}, the model's have {shape}",
                "Decode them with the model's image_format",
            )
        size = max(1, _BLOCK_NUMBERS // (len(self.weights) * SCORE_ROWS)) * SCORE_ROWS
        for start in range(0, len(images), size):
            rows = slice(start, min(start + size, len(images)))
            with np.errstate(over="ignore", invalid="ignore"):  # looked for in the next line
                Z = self.representation.transform(images[rows])
            self._check_reach(Z)
            yield rows, Z, linear_scores(Z, self.weights, self.bias)

    def _check_reach(self, Z: Float32) -> None:
        """Refuse features whose scores could leave float32: |z| ≤ max|Z| max_k Σ_j |W_jk| + max|b|."""
        largest, smallest = float(Z.max()), float(Z.min())
        if not max(largest, -smallest) * self._reach + float(np.abs(self.bias).max()) < _LARGEST:
            raise InputError("the scores of these images overflow", "Train the model again", "LL030")

    @cached_property
    def _reach(self) -> float:
        return float(np.abs(self.weights).sum(axis=0, dtype=np.float64).max())

    def probabilities(self, scores: FloatArray) -> Float64:
        """Return softmax(z / T) of scores (N, K), in float64; every row sums to 1."""
        if scores.ndim != 2 or scores.shape[1] != len(self.class_names):
            raise InputError(f"scores have shape {scores.shape}; (N, {len(self.class_names)}) is needed")
        return softmax(scores, self.temperature)

    def predict(self, images: UInt8) -> Array:
        """Return the name of the class with the largest score of each image, as an array of str objects."""
        predicted: Array = np.array(self.class_names, dtype=object)[self.scores(images).argmax(axis=1)]
        return predicted

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model file, in hexadecimal; equal for equal content, saved or not."""
        return encode_artifact(self._header(), self._tensors()).digest

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> str:
        """Write the model file, atomically, and return its digest.

        Raises
        ------
        ModelFileError
            When the file exists and `overwrite` is False, or the class names take more than 1 MiB.
        OSError
            When it cannot be written; nothing is left behind.
        """
        return write_artifact(path, self._header(), self._tensors(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read a model file; nothing in it is executed, and everything is checked.

        Raises
        ------
        ModelFileError
            When there is no such file, or it is damaged, hostile or of a newer format: one clear sentence.
        """
        header, tensors = read_artifact(path)
        with looked_for_beside(path):
            return model_of(header, tensors, display_name(os.fspath(path)))

    def _header(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "class_names": list(self.class_names),
            "image_format": self.image_format.to_dict(),
            "representation": to_spec(self.representation),
            "loss": self.loss,
            "temperature": self.temperature,
            "provenance": self.provenance,
        }

    def _tensors(self) -> dict[str, Array]:
        fitted = {_PHI + name: array for name, array in self.representation.arrays().items()}
        return {"weights": self.weights, "bias": self.bias, **fitted}

    def describe(self) -> list[str]:
        """Return lines for a person: format, classes, φ, preprocessing, loss, C, data hash, scores."""
        form, come = self.image_format, dict(self.provenance)
        colour = "gray" if form.channels == 1 else "RGB"
        phi = come.pop("phi", self.representation.name)
        head = come.pop("head", "")
        more = f" and {len(self.class_names) - 20:,} more" if len(self.class_names) > 20 else ""
        facts = {
            "model": f"format {FORMAT_VERSION}, sha256 {self.digest}",
            "classes": f"{len(self.class_names)}: {', '.join(self.class_names[:20])}{more}",
            "images": f"{form.width} x {form.height} {colour}, {form.fit}",
            "phi": f"{phi}: {self.representation.describe()}; {self.weights.shape[0]:,} features",
            "loss": f"{self.loss}" + (f" ({head})" if head else ""),
            "C": come.pop("C", None),
            "temperature": f"{self.temperature:.6g}",
            "data_sha256": come.pop("data_sha256", None),
            "scores": come.pop("scores", None),
            **dict(sorted(come.items())),
        }
        return [_line(name, value) for name, value in facts.items() if value is not None]


def model_of(header: dict[str, Any], tensors: dict[str, Array], name: str) -> Model:
    """Return the model of an artifact's content; `name` is what errors call it.

    Raises
    ------
    ModelFileError
        When the content is not that of a model.
    """
    try:
        return _assemble(header, tensors)
    except InputError as error:
        what = error.what if len(error.what) <= 200 else error.what[:199] + "…"  # the file chose part of it
        raise ModelFileError(
            f"{name} cannot be used: {display_name(what)}",
            "The file is damaged, or was written by a newer lastlayer: copy it again, or upgrade",
        ) from None


def _assemble(header: dict[str, Any], tensors: dict[str, Array]) -> Model:
    if set(header) != _KEYS:
        raise InputError(f"its header lacks or adds {', '.join(sorted(set(header) ^ _KEYS))!a:.100}")
    for key, kind in (
        ("class_names", list),
        ("temperature", float),
        ("provenance", dict),
        ("representation", dict),
    ):
        if type(header[key]) is not kind:
            raise InputError(f"its {key} is no {kind.__name__}")
    image_format = ImageFormat.from_dict(header["image_format"])
    if not _agrees(header["image_format"], image_format.to_dict()):
        raise InputError("its image format contradicts itself")
    missing = {"weights", "bias"} - set(tensors)
    other = [name for name in tensors if name not in ("weights", "bias") and not name.startswith(_PHI)]
    if missing or other:
        raise InputError(f"it lacks the tensors {sorted(missing)}, or {other} do not belong to a model")
    fitted = {name.removeprefix(_PHI): array for name, array in tensors.items() if name.startswith(_PHI)}
    representation = from_spec(header["representation"], fitted)
    if not _agrees(header["representation"], to_spec(representation)):
        raise InputError("its representation contradicts itself")
    return Model(
        class_names=tuple(header["class_names"]),
        image_format=image_format,
        representation=representation,
        weights=tensors["weights"],
        bias=tensors["bias"],
        loss=header["loss"],
        temperature=header["temperature"],
        provenance=header["provenance"],
    )


def _agrees(stated: Any, actual: Any) -> bool:
    """Whether all that a file states is so; what it leaves out has its default (later versions may have more)."""
    if isinstance(stated, dict) and isinstance(actual, dict):
        return all(key in actual and _agrees(value, actual[key]) for key, value in stated.items())
    if isinstance(stated, list) and isinstance(actual, list):
        return len(stated) == len(actual) and all(_agrees(*pair) for pair in zip(stated, actual))
    return type(stated) is type(actual) and bool(stated == actual)


def _check_class_names(names: tuple[Any, ...]) -> None:
    if len(names) < 2:
        raise InputError(f"there are {len(names)} classes; two are needed")
    if not all(isinstance(name, str) for name in names):
        raise InputError("a class name is no text")
    if len(set(names)) != len(names):
        raise InputError("two classes have the same name")


def _shape(form: ImageFormat) -> tuple[int, int, int]:
    return form.height, form.width, form.channels


def _check_phi(representation: Representation, form: ImageFormat) -> None:
    shape = representation.image_shape
    if shape is None:
        raise InputError("the representation is not fitted", "Fit it first and use what fit returns")
    representation.arrays()  # refuses when a part of it is not fitted
    if shape != _shape(form):
        raise InputError(f"the representation is for images of {shape}, the image format gives {_shape(form)}")


def _check_head(weights: Array, bias: Array, n_features: int, n_classes: int) -> None:
    for name, array, shape in (("weights", weights, (n_features, n_classes)), ("bias", bias, (n_classes,))):
        if array.dtype != np.float32:
            raise InputError(f"the {name} are {array.dtype}; float32 is needed, which is what is saved")
        if array.shape != shape:
            raise InputError(f"the {name} have the shape {array.shape}; {shape} is needed")
        if first_not_finite(array) is not None:
            raise InputError(f"the {name} hold NaN or infinite numbers")


def _frozen(array: Float32) -> Float32:
    """Return a read-only array in C order: the caller's may change later, the model may not."""
    if array.flags.c_contiguous and not array.flags.writeable:
        return array
    array = np.array(array, order="C")
    array.setflags(write=False)
    return array


def _plain(provenance: Any) -> dict[str, Any]:
    try:
        value = json.loads(canonical(provenance))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the provenance is no plain JSON ({error})", "Give None for NaN") from None
    if not isinstance(value, dict):
        raise InputError("the provenance is no dict")
    return value


def _line(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return display_name(f"{name:<11} {text}")
