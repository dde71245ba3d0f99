"""Thousands of mutants of small models; what is accepted must be what it says and must predict."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from artifact_mutants import assert_reader_is_strict, mutants
from lastlayer import model as model_module
from lastlayer._arrays import Array, InputError
from lastlayer.artifacts import ModelFileError, decode_artifact, encode_artifact
from lastlayer.data.images import ImageFormat
from lastlayer.model import Model, model_of
from lastlayer.representations.base import Representation
from lastlayer.representations.specs import parse_phi
from lastlayer.representations.standardise import Standardised

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 255, 2**31, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, -1.0),
    *("", "a", "pixels", "hog", "colour", "concatenate", "standardised", "gray", "hsv", "L2-Hys", "crop", "no such φ"),
    *("../../etc/passwd", "__import__('os')", "\x00", "\udcff", "\n\x1b[31m", "A" * 5000, "😀"),
    *([], {}, [[]], [1, 2], [1, [2, {"a": None}]], {"a": 1}, {"name": "pixels"}, ["a"] * 500),
    *({"name": "pixels", "parameters": {}}, {"name": "hog", "parameters": {"cell": 0}}),
]


HAVE_PREDICTED: set[str] = set()


def small_model(phi: str) -> Model:
    form = ImageFormat(8, 8, 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    fitted: Representation = parse_phi(phi.removesuffix(", standardised"))
    fitted = (Standardised(fitted) if "standardised" in phi else fitted).fit(images, rng)
    weights = rng.normal(size=(fitted.n_features, 3)).astype(np.float32)
    return Model(
        class_names=("a", "é", "\udcff"),
        image_format=form,
        representation=fitted,
        weights=weights,
        bias=np.array([0.5, 0, -1], np.float32),
        loss="hinge",
        temperature=0.7,
        provenance={"C": 0.1, "scores": {"test": [3, 4]}},
    )


def to_bytes(model: Model) -> bytes:
    return b"".join(encode_artifact(*content(model)).parts)


def content(model: Model) -> tuple[dict[str, Any], dict[str, Array]]:
    return model._header(), model._tensors()


@dataclass(frozen=True)
class Read:
    """A model together with what its file says."""

    model: Model
    header: dict[str, Any]
    tensors: dict[str, Array]


def read(data: bytes) -> Read:
    header, tensors = decode_artifact(io.BytesIO(data), len(data), "m")
    return Read(model_of(header, tensors, "m"), header, tensors)


def assert_states(stated: Any, actual: Any) -> None:
    """All that the file says is true of the model; only parameters with a default may be missing."""
    if isinstance(stated, dict):
        missing = set(actual) - set(stated)
        assert not missing & {"name", "parts", "image_shape", "class_names", "temperature", "height", "width"}
        for key, value in stated.items():
            assert_states(value, actual[key])
    elif isinstance(stated, list):
        assert len(stated) == len(actual)
        for value, other in zip(stated, actual):
            assert_states(value, other)
    else:
        assert (type(stated), stated) == (type(actual), actual)


def write(found: Read) -> bytes:
    """The file again, after the model has shown that it is the one described and that it works."""
    header, tensors = content(found.model)
    assert_states(found.header, header)
    assert set(tensors) == set(found.tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, found.tensors[name], strict=True)
    assert all(line.isprintable() for line in found.model.describe())
    predicting = {key: header[key] for key in ("format_version", "image_format", "representation", "temperature")}
    what = encode_artifact(predicting, tensors).digest
    if what not in HAVE_PREDICTED:  # most mutants differ in names or provenance alone
        HAVE_PREDICTED.add(what)
        assert_predicts(found.model)
    return b"".join(encode_artifact(found.header, found.tensors).parts)


def assert_predicts(model: Model) -> None:
    form = model.image_format
    images = np.zeros((2, form.height, form.width, form.channels), np.uint8)
    images[1] = 200
    try:
        p = model.probabilities(model.scores(images))
    except InputError as error:
        if "overflow" not in str(error):  # numbers near the end of float32 are numbers
            raise
    else:
        assert np.allclose(p.sum(axis=1), 1)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from places(inner, (*above, key))


def edit_header(header: dict[str, Any], rng: np.random.Generator) -> None:
    """Replace, remove or add a value anywhere."""
    paths = list(places(header))
    *way, key = paths[int(rng.integers(0, len(paths)))]
    holder: Any = header
    for step in way:
        holder = holder[step]
    value = copy.deepcopy(VALUES[int(rng.integers(0, len(VALUES)))])
    kind = int(rng.integers(0, 8))
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[["extra", "size", "name", "parts"][int(rng.integers(0, 4))]] = value
    elif kind == 1:
        holder.append(value)
    elif kind == 2 and type(holder[key]) in (int, float):
        holder[key] += int(rng.integers(-2, 3))
    else:
        holder[key] = value


def edit_tensors(tensors: dict[str, Array], rng: np.random.Generator) -> None:
    """Remove, rename, retype, reshape, cut, repeat or swap a tensor."""
    names = sorted(tensors)
    name, other = (names[int(i)] for i in rng.integers(0, len(names), size=2))
    array = tensors[name]
    kind = int(rng.integers(0, 9))
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name + "x"] = tensors.pop(name)
    elif kind == 2:
        tensors["phi.extra"] = array
    elif kind == 3:
        tensors[name] = array.astype([np.float64, np.float16, np.int32, np.uint8][int(rng.integers(0, 4))])
    elif kind == 4:
        tensors[name] = array.reshape(-1)
    elif kind == 5:
        tensors[name] = array[:-1] if array.ndim and len(array) > 1 else array[None]
    elif kind == 6:
        tensors[name] = np.concatenate([array, array]) if array.ndim else array[None]
    elif kind == 7:
        tensors[name], tensors[other] = tensors[other], tensors[name]
    else:
        tensors[name] = array * array.dtype.type(0)


def edited(model: Model, count: int, seed: int) -> Iterator[bytes]:
    """Sound containers with unsound content."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        header, tensors = content(model)
        header = copy.deepcopy(header)
        for _ in range(int(rng.integers(1, 3))):
            if rng.integers(0, 3):
                edit_header(header, rng)
            else:
                edit_tensors(tensors, rng)
        try:
            file = b"".join(encode_artifact(header, tensors).parts)
        except ModelFileError:  # a version beyond 1, say: the writer refuses already
            continue
        made += 1
        yield file


@pytest.mark.parametrize(("phi", "count"), [("pixels:size=2", 2_000), ("hog:cell=4,block=1+colour, standardised", 700)])
def test_no_mutant_is_accepted_wrongly(phi: str, count: int) -> None:
    model = small_model(phi)
    outcomes = assert_reader_is_strict(read, write, mutants(to_bytes(model), count, seed=3))
    assert outcomes["accepted"] > 20
    outcomes = assert_reader_is_strict(read, write, edited(model, count, seed=4))
    assert outcomes["accepted"] > 20
    assert outcomes["refused"] > count // 2


def _nothing(*given: Any) -> None:
    return None


@pytest.mark.parametrize("check", ["_check_head", "_check_class_names"])
def test_the_harness_finds_a_model_without(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("pixels:size=2")
    monkeypatch.setattr(model_module, check, _nothing)
    with pytest.raises(AssertionError):
        assert_reader_is_strict(read, write, edited(model, 2_500, seed=4))
