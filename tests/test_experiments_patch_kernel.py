"""The kernel machine on patch features: what is chosen where, and what is read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import rbf_kernel


@pytest.fixture
def experiment(load):  # type: ignore[no-untyped-def]
    return load("patch_kernel")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes across and down in noise, 40 + 12 of each."""
    root, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for side, count in (("train", 40), ("test", 12)):
        for kind in ("across", "down"):
            (root / side / kind).mkdir(parents=True)
            for i in range(count):
                image = (np.arange(16) // int(rng.integers(2, 4)) % 2 * 120 + 40)[:, None].repeat(16, axis=1)
                image = np.stack([image.T if kind == "down" else image] * 3, axis=2)
                image = (image + rng.integers(0, 60, image.shape)).astype(np.uint8)
                Image.fromarray(image).save(root / side / kind / f"{i:04}.png")
    return root


def test_every_width_and_penalty_is_tried_and_the_test_images_are_scored(experiment, folder, tmp_path, capsys) -> None:
    out = tmp_path / "found.json"
    experiment.main(
        [
            str(folder), "--phi", "patches:filters=16,size=5", "--flipped", "", "--widths", "0.25", "0.5",
            "--alpha", "0.01", "1", "--test", "--out", str(out),
        ]
    )  # fmt: skip
    found = json.loads(out.read_text())
    assert [(t["width"], t["alpha"]) for t in found["trials"]] == [(0.25, 1.0), (0.25, 0.01), (0.5, 1.0), (0.5, 0.01)]
    best = min(found["trials"], key=lambda trial: trial["error"])
    assert (found["width"], found["alpha"]) == (best["width"], best["alpha"])
    assert found["test"].startswith("24/24")
    assert all(trial["gap"] <= 1e-3 for trial in found["trials"])
    assert "test" in capsys.readouterr().out


def test_without_test_the_folder_is_not_read(experiment, folder, monkeypatch) -> None:
    read = experiment.read

    def watched(data: Path, side: str):  # type: ignore[no-untyped-def]
        assert side == "train"
        return read(data, side)

    for module in (experiment, sys.modules["patch_features"]):
        monkeypatch.setattr(module, "read", watched)
    found = experiment.run(folder, "patches:filters=16,size=5", "", [0.5], [0.1], 0, False)
    assert "test" not in found


def test_the_kernel_left_behind_is_that_of_the_last_width(experiment) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    T = np.eye(2)[y]
    K = rbf_kernel(X, gamma=0.2).astype(np.float32)
    trials, index, alpha, fit = experiment.choose(K, T, y, 45, [1.0, 2.0], [0.1], 1e-4)
    np.testing.assert_allclose(K, rbf_kernel(X, gamma=0.4), atol=1e-6)
    assert (len(trials), alpha, fit.dual.shape) == (2, 0.1, (45, 2))
    assert index in (0, 1)


def test_widths_that_do_not_double_are_refused(experiment, folder, capsys) -> None:
    with pytest.raises(SystemExit):
        experiment.main([str(folder), "--widths", "0.3", "0.5"])
    assert "twice the one before" in capsys.readouterr().err


def test_the_mirror_kernel_is_the_mean_over_an_image_and_its_mirror_image(load) -> None:
    mirror_kernel, rng = load("mirror_kernel"), np.random.default_rng(0)
    e, o = rng.integers(0, 256, (2, 40, 30)).astype(np.uint8)
    both = np.hstack([e, o]).astype(np.float64)
    turned = np.hstack([both[:, :30], 2 * mirror_kernel.MIDDLE - both[:, 30:]])
    wanted = (rbf_kernel(both, gamma=1e-6) + rbf_kernel(both, turned, gamma=1e-6)) / 2
    for dtype, error in ((np.float32, 1e-5), (np.float64, 1e-12)):
        found = mirror_kernel.MirrorRBF(1e-6).against(both.astype(dtype))(both.astype(dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, atol=error)


def test_even_and_odd_parts_tell_an_image_from_its_mirror_image(load) -> None:
    mirror_kernel = load("mirror_kernel")
    images = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    base = mirror_kernel.parse_phi("patches:filters=8,size=5,mirror=false")
    phi = mirror_kernel.EvenOdd(base).fit(images, np.random.default_rng(0))
    e, o = np.hsplit(phi.transform(images), 2)
    np.testing.assert_allclose(e + o, phi.base.transform(images), atol=1e-5)
    mirrored = phi.transform(np.ascontiguousarray(images[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, np.hstack([e, -o]), atol=1e-5)
    assert np.abs(o).max() > 0.01


def test_the_mirror_kernel_with_views_end_to_end(experiment, folder, tmp_path) -> None:
    out = tmp_path / "found.json"
    options = [
        str(folder), "--phi", "patches:filters=16,size=5,mirror=false", "--flipped", "", "--widths", "0.5",
        "--alpha", "0.1", "--mirror", "--views", "shift=1", "--rows", "50", "--out", str(out),
    ]  # fmt: skip
    experiment.main(options)
    chosen = json.loads(out.read_text())
    assert (chosen["mirror"], chosen["views"], chosen["features"]) == (True, "shift=1", 2 * 9 * 2 * 16)
    assert chosen["validation_views"].startswith("8/8")
    assert "test" not in chosen
    experiment.main([*options, "--test"])
    found = json.loads(out.read_text())
    assert found["trials"] == chosen["trials"]
    assert found["test"].startswith("24/24")


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--mirror", "--widths", "0.5", "1.0"], "one width"), (["--rows", "5"], "goes with --mirror")],
)
def test_options_that_do_not_go_together_are_refused(experiment, folder, capsys, options, said) -> None:
    with pytest.raises(SystemExit):
        experiment.main([str(folder), *options])
    assert said in capsys.readouterr().err
