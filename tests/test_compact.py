"""Features kept as bytes: what they are, and that training, saving and predicting see the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer._arrays import InputError
from lastlayer.model import Model
from lastlayer.pipeline import features
from lastlayer.representations import Pixels, specs
from lastlayer.representations.compact import MIDDLE, STEPS, Rounded
from lastlayer.representations.standardise import Standardised


def fitted(n: int = 300) -> tuple[Rounded, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (n, 5, 4, 1)).astype(np.uint8)
    X[:, 2, 2] = 90  # constant
    return Rounded(Standardised(Pixels())).fit(X, rng), X


def test_bytes_are_standardised_features_in_steps() -> None:
    phi, X = fitted()
    u, z = phi.transform(X), phi.base.transform(X)
    assert np.array_equal(u, np.rint(u)) and u.min() >= 0 and u.max() <= 255
    assert np.abs(z).max() < 3.9
    assert np.abs((u - MIDDLE) / STEPS - z).max() <= 0.5 / STEPS + 1e-5
    assert (u[:, 10] == MIDDLE).all()
    assert np.array_equal(phi.encode(phi.base.base.transform(X)), u.astype(np.uint8))


def test_values_far_from_the_mean_are_cut() -> None:
    phi, X = fitted()
    raw = phi.base.base.transform(X[:2])
    raw[0], raw[1] = 1e6, -1e6
    u = phi.encode(raw)
    assert (u[0] == 255).all() and (u[1] == 0).all()


def test_model_files_hold_them() -> None:
    phi, X = fitted()
    again = specs.from_spec(specs.to_spec(phi), phi.arrays())
    assert np.array_equal(again.transform(X), phi.transform(X))
    assert again.describe() == phi.describe() and again.describe().endswith("rounded to bytes")
    spec = specs.to_spec(phi)
    with pytest.raises(InputError, match="not standardised"):
        specs.from_spec({**spec, "parts": [specs.to_spec(phi.base.base)]}, phi.base.base.arrays())
    with pytest.raises(InputError, match="not standardised"):
        Rounded(Pixels())  # type: ignore[arg-type]


def test_templates_are_those_of_standardised_features() -> None:
    phi, _ = fitted()
    W = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    (own,), (known,) = phi.templates(W / np.float32(STEPS)), phi.base.templates(W)
    np.testing.assert_allclose(own.images, known.images, atol=1e-5)


def test_training_on_bytes_chooses_and_scores_as_on_floats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(name: str) -> tuple[dict, Model, np.ndarray]:
        run = lastlayer.train("demo:digits", phi="pixels", C=[1e-3, 1e-2, 0.1], runs=tmp_path / "runs", name=name)
        model = Model.load(run.folder / "model.safetensors")
        return run.metrics, model, model.weights

    plain, model, W = train("plain")
    monkeypatch.setattr(features, "COMPACT_FROM", 0)
    compact, rounded, U = train("compact")
    assert isinstance(rounded.representation, Rounded) and isinstance(model.representation, Standardised)
    assert compact["C"] == plain["C"] and compact["l2"] == pytest.approx(plain["l2"])
    assert [p["C"] for p in compact["path"]] == [p["C"] for p in plain["path"]]
    for a, b in zip(compact["path"], plain["path"]):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=0.03)
    assert np.corrcoef(U.ravel(), W.ravel())[0, 1] > 0.995  # not the same: pixels that are seldom lit are cut
    # evaluating decodes the images and computes the features again: the very same answers
    again = lastlayer.evaluate(tmp_path / "runs" / "compact")
    assert again.metrics["splits"]["test"]["accuracy"] == compact["splits"]["test"]["accuracy"]
