"""The saved classifier: it predicts the same after a round trip, checks its parts and needs little to run."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from lastlayer._arrays import InputError
from lastlayer.artifacts import ModelFileError
from lastlayer.data.images import ImageFormat
from lastlayer.model import Model
from lastlayer.representations.specs import parse_phi
from lastlayer.representations.standardise import Standardised
from small_models import NAMES, PROVENANCE, make_model, pictures


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


# ---------------------------------------------------------------------------------------------------- round trips


PHIS = ["pixels", "pixels:size=4,color=gray", "hog", "colour", "hog+colour", "hog+pixels, standardised"]


@pytest.mark.parametrize("phi", PHIS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_loaded_model_predicts_the_same_bits(phi: str, channels: int, tmp_path: Path) -> None:
    model = make_model(phi, ImageFormat(24, 16, channels))
    digest = model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    images = pictures(5, model.image_format)
    np.testing.assert_array_equal(loaded.scores(images), model.scores(images))
    for field in ("class_names", "image_format", "loss", "temperature", "provenance"):
        assert getattr(loaded, field) == getattr(model, field)
    assert digest == model.digest == loaded.digest
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


def test_the_file_is_what_its_page_says(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tensors["weights"], model.weights)
    np.testing.assert_array_equal(tensors["bias"], model.bias)
    assert all(name in ("weights", "bias") or name.startswith("phi.") for name in tensors)
    page = Path(__file__).parent.parent / "docs" / "model-file.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    check = subprocess.run([sys.executable, "-c", snippet + "\nprint(digest)"], cwd=tmp_path, capture_output=True)
    assert check.stdout.decode().strip() == model.digest, check.stderr.decode()


def test_an_existing_file_is_kept_unless_asked(model: Model, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"mine")
    with pytest.raises(ModelFileError, match="exists already"):
        model.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"mine"
    model.save(tmp_path / "m", overwrite=True)
    assert Model.load(tmp_path / "m").digest == model.digest


def test_every_part_is_in_the_digest(model: Model) -> None:
    weights = model.weights.copy()
    weights[0, 0] = np.nextafter(weights[0, 0], np.float32(9))
    bias = model.bias.copy()
    bias[-1] += np.float32(1)
    changes: list[dict[str, Any]] = [
        {"class_names": ("a", *model.class_names[1:])},
        {"image_format": ImageFormat(16, 16, 3, fit="stretch")},
        {"weights": weights},
        {"bias": bias},
        {"loss": "hinge"},
        {"temperature": 1.0},
        {"provenance": {**PROVENANCE, "seed": 1}},
    ]
    digests = {dataclasses.replace(model, **change).digest for change in changes}
    assert len(digests | {model.digest}) == len(changes) + 1
    assert dataclasses.replace(model).digest == model.digest


def test_a_model_does_not_change_with_the_arrays_it_was_made_of() -> None:
    model = make_model()
    weights = model.weights.copy()
    again = dataclasses.replace(model, weights=weights)
    weights[:] = 0
    np.testing.assert_array_equal(again.weights, model.weights)
    with pytest.raises(ValueError, match="read-only"):
        again.weights[0, 0] = 1


# ---------------------------------------------------------------------------------------------------- predictions


@pytest.mark.parametrize("phi", ["pixels", "hog+colour"])
def test_a_score_does_not_depend_on_the_batch(phi: str) -> None:
    model = make_model(phi)
    images = pictures(300, model.image_format)
    together = model.scores(images)
    for rows in (slice(0, 1), slice(7, 8), slice(100, 230), slice(299, 300)):
        np.testing.assert_array_equal(model.scores(images[rows]), together[rows])
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(model.scores(images[order]), together[order])


def test_scores_are_the_equation(model: Model) -> None:
    images = pictures(9, model.image_format)
    Z = model.representation.transform(images).astype(np.float64)
    expected = Z @ model.weights.astype(np.float64) + model.bias
    np.testing.assert_allclose(model.scores(images), expected, rtol=2e-5, atol=2e-4)


def test_many_images_are_scored_in_blocks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(300, model.image_format)
    whole = model.scores(images)
    monkeypatch.setattr("lastlayer.model._BLOCK_NUMBERS", 1)
    np.testing.assert_array_equal(model.scores(images), whole)


def test_no_images_no_scores(model: Model) -> None:
    empty = pictures(0, model.image_format)
    assert model.scores(empty).shape == (0, 4)
    assert model.probabilities(model.scores(empty)).shape == (0, 4)
    assert model.predict(empty).shape == (0,)


def test_probabilities_are_the_softmax(model: Model) -> None:
    z = np.array([[1.0, 2, 3, 4], [0, 0, 0, 0]], np.float32)
    p = model.probabilities(z)
    raw = np.exp(z.astype(np.float64) / 1.5)
    np.testing.assert_allclose(p, raw / raw.sum(axis=1, keepdims=True), rtol=1e-14)
    assert p.dtype == np.float64


@pytest.mark.parametrize("temperature", [1e-300, 1e-10, 0.5, 1.0, 1e10, 1e300])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 3e38])
def test_probabilities_sum_to_one_at_the_extremes(model: Model, temperature: float, scale: float) -> None:
    z = (np.random.default_rng(0).uniform(-1, 1, size=(50, 4)) * scale).astype(np.float32)
    p = dataclasses.replace(model, temperature=temperature).probabilities(z)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(p.max(axis=1), p[np.arange(50), z.argmax(axis=1)])


def test_predictions_are_names(model: Model) -> None:
    images = pictures(30, model.image_format)
    predicted = model.predict(images)
    assert list(predicted) == [NAMES[i] for i in model.scores(images).argmax(axis=1)]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((1, 16, 16, 3), np.float32),
        np.zeros((1, 16, 16, 1), np.uint8),
        np.zeros((1, 16, 17, 3), np.uint8),
    ],
)
def test_other_images_are_refused(model: Model, images: Any) -> None:
    with pytest.raises(InputError, match="shape"):
        model.scores(images)


def test_scores_of_another_width_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match="is needed"):
        model.probabilities(np.zeros((2, 3), np.float32))


def test_scores_that_overflow_are_an_error() -> None:
    model = make_model()
    huge = dataclasses.replace(model, weights=np.full(model.weights.shape, 3e38, np.float32))
    for count in (2, 1000):
        with pytest.raises(InputError, match="the scores of these images overflow"):
            huge.scores(pictures(count, model.image_format))


# -------------------------------------------------------------------------------------------------- what is refused


HALF_FITTED = Standardised(parse_phi("pixels").fit(pictures(2, ImageFormat(16, 16, 3)), np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("a", "b", "c", "a")}, "same name"),
        ({"class_names": ("a", "b", "c", 4)}, "no text"),
        ({"class_names": ("a",)}, "two are needed"),
        ({"class_names": ("a", "b", "c")}, r"weights have the shape \(768, 4\); \(768, 3\) is needed"),
        ({"weights": np.zeros((768, 4))}, "weights are float64; float32"),
        ({"weights": np.zeros((767, 4), np.float32)}, r"\(768, 4\) is needed"),
        ({"weights": np.full((768, 4), np.nan, np.float32)}, "NaN"),
        ({"bias": np.zeros(4)}, "bias are float64; float32"),
        ({"bias": np.zeros((4, 1), np.float32)}, r"\(4,\) is needed"),
        ({"bias": np.array([0, 0, 0, np.inf], np.float32)}, "infinite"),
        ({"loss": "Cross Entropy"}, "the loss is"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"provenance": {"C": float("nan")}}, "no plain JSON"),
        ({"provenance": {"C": {1, 2}}}, "no plain JSON"),
        ({"provenance": [1]}, "no dict"),
        ({"image_format": ImageFormat(16, 17, 3)}, "is for images of"),
        ({"representation": parse_phi("pixels")}, "not fitted"),
        ({"representation": HALF_FITTED}, "not fitted"),
        ({"image_format": ImageFormat(16, 16, 1)}, "is for images of"),
    ],
)
def test_parts_that_do_not_fit_are_refused(model: Model, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(model, **change)


def test_class_names_beyond_the_header_are_refused_with_a_mend(tmp_path: Path) -> None:
    names = tuple("x" * 1000 + str(i) for i in range(1200))
    with pytest.raises(ModelFileError, match="Shorten the class names"):
        make_model("pixels:size=2", names=names).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_describe_says_what_matters_in_lines_that_are_safe_to_print() -> None:
    model = make_model(provenance={**PROVENANCE, "scores": {"test": "87/123"}, "odd": "\x1b[31m\n"})
    lines = model.describe()
    text = "\n".join(lines)
    for fact in (
        *("format 1", model.digest, "4: cat, naïve 猫 😀", "16 x 16 RGB, crop", "768 features"),
        *("cross_entropy (logistic)", "0.1", "1.5", "9f3c", "87/123", "seed"),
    ):
        assert fact in text
    assert not any(ord(c) < 32 for line in lines for c in line)


def test_describe_shortens_long_lists() -> None:
    model = make_model("pixels:size=2", names=tuple(f"n{i}" for i in range(5000)))
    assert "and 4,980 more" in "\n".join(model.describe())
    assert max(map(len, model.describe())) < 300
