"""Training on mirror images and shifts, and scores averaged over views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer import InputError
from lastlayer._progress import SILENT
from lastlayer.data.dataset import TEST, TRAIN
from lastlayer.model import Model
from lastlayer.pipeline.features import extract
from lastlayer.pipeline.learn import Examples, learn
from lastlayer.pipeline.mirrored import mirror_pairs, parted, tie
from lastlayer.pipeline.preparing import prepare
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.pipeline.training import run_training
from lastlayer.representations import FeatureCache, Standardised, parse_phi
from lastlayer.representations.specs import from_spec, to_spec
from lastlayer.representations.views import Averaged, Views, view

SIDE = 6


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))


def pictures(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes by where the bright row is; noise everywhere, and a column that tells left from right."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 200, (n, SIDE, SIDE, 1))
    y = np.arange(n) % 3
    X[np.arange(n), 2 * y] += 50
    X[:, :, 0] += rng.integers(0, 5, (n, SIDE, 1))
    return X.astype(np.uint8), y


def test_views_are_the_image_its_shifts_and_their_mirror_images() -> None:
    x = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1)
    seen = list(Views(True, 1).of(x))
    assert len(seen) == len(Views(True, 1)) == 10
    np.testing.assert_array_equal(seen[0], x)
    np.testing.assert_array_equal(seen[1], x[:, [1, 2, 2]])
    np.testing.assert_array_equal(seen[2], x[:, [0, 0, 1]])
    np.testing.assert_array_equal(seen[3], x[:, :, [1, 2, 3, 3]])
    np.testing.assert_array_equal(seen[4], x[:, :, [0, 0, 1, 2]])
    for plain, mirrored in zip(seen[:5], seen[5:]):
        np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    np.testing.assert_array_equal(view(x, (False, 0, 50)), np.repeat(x[:, :, :1], 4, axis=2))


@pytest.mark.parametrize("text", ["", "flip", "shift=1", "flip,shift=12"])
def test_views_as_text(text: str) -> None:
    assert Views.parse(text).text == text


@pytest.mark.parametrize(
    "text", ["flop", "flip=1", "shift", "shift=-1", "shift=1.5", "shift=999", "flip,flip", "shift=x"]
)
def test_other_texts_are_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(InputError):
        Views.parse(text)
    with pytest.raises(InputError):
        TrainSettings(augment=text)
    with pytest.raises(InputError):
        TrainSettings(views=text)


def fitted(phi: str, augment: str, views: str = "", C: float = 0.05, head: str = "logistic") -> tuple:
    X, y = pictures()
    sha = np.random.default_rng(1).integers(0, 256, (len(X), 32), dtype=np.uint8)
    settings = TrainSettings(C=(C,), augment=augment, views=views, head=head, tol=1e-9)
    features = extract(
        parse_phi(phi),
        X,
        sha,
        np.arange(60),
        40,
        standardise=True,
        seed=0,
        cache=FeatureCache(None),
        progress=SILENT,
        n_val=10,
        augment=settings.fitted_views,
        views=settings.scored_views,
    )
    examples = Examples(features.Z, y, features.twins, features.n_views, 40, 10, 3)
    return X, features, learn(examples, settings, SILENT)


@pytest.mark.parametrize("head", ["logistic", "svm", "ridge"])
def test_with_flips_the_weights_of_a_symmetric_phi_are_their_own_mirror_image(head: str) -> None:
    """For φ(mirror x) = φ(x) P the optimum on twins has W = P W: here P reverses the columns of the pixels."""
    _, _, learned = fitted("pixels", "flip", head=head)
    W = learned.final.weights.reshape(SIDE, SIDE, 3)
    np.testing.assert_allclose(W, W[:, ::-1], atol=1e-6 * np.abs(W).max())
    _, _, plain = fitted("pixels", "", head=head)
    V = plain.final.weights.reshape(SIDE, SIDE, 3)
    assert np.abs(V - V[:, ::-1]).max() > 0.05 * np.abs(V).max(), "which it has not without flips"


def test_twins_equal_training_on_the_mirrored_dictionary() -> None:
    """Published: half the dimensions, s = (φ + φ P)/√2 on a half of the pixels, gives the same predictions."""
    X, features, learned = fitted("pixels", "flip")
    scaled = features.representation
    assert isinstance(scaled, Standardised)
    Z = features.Z.reshape(60, SIDE, SIDE)
    half = ((Z + Z[:, :, ::-1])[:, :, : SIDE // 2] / np.sqrt(2)).reshape(60, -1).astype(np.float32)
    y = pictures()[1]
    settings = TrainSettings(C=(0.05,), tol=1e-9)
    small = learn(Examples(half, y, half[:50], 1, 40, 10, 3), settings, SILENT)
    # on the half the score of x is the mean of the scores of x and its mirror image
    mirrored = np.ascontiguousarray(X[:, :, ::-1])
    both = (features.Z + scaled.transform(mirrored)) / 2
    np.testing.assert_allclose(
        half @ small.final.weights + small.final.bias,
        both @ learned.final.weights + learned.final.bias,
        atol=2e-5,
    )
    assert small.l2 == pytest.approx(learned.l2) == 1 / (0.05 * 50)


def test_features_averaged_over_views_are_scores_averaged_over_views() -> None:
    X, features, learned = fitted("hog:pixels_per_cell=3,cells_per_block=1+pixels", "flip", "flip,shift=1")
    averaged = features.representation
    assert isinstance(averaged, Standardised) and isinstance(averaged.base, Averaged)
    np.testing.assert_array_equal(averaged.transform(X), features.Z), "to the bit"
    one = Standardised(averaged.base.base, averaged.mean, averaged.scale)
    W, b = learned.final.weights, learned.final.bias
    by_hand = [one.transform(np.ascontiguousarray(seen)) @ W + b for seen in Views(True, 1).of(X)]
    np.testing.assert_allclose(features.Z @ W + b, np.mean(by_hand, axis=0), atol=1e-5)
    assert "mean of 10 views (flip,shift=1)" in averaged.describe()
    pieces = np.concatenate([averaged.transform(X[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(pieces, features.Z[:7])


def test_views_without_augmentation_fit_the_images_as_they_are() -> None:
    _, with_views, _ = fitted("pixels", "", "shift=1")
    _, plain, _ = fitted("pixels", "")
    np.testing.assert_array_equal(with_views.twins, plain.twins)
    assert with_views.n_views == 1 and not np.array_equal(with_views.Z, plain.Z)


def test_a_model_with_views_is_saved_and_predicts_the_same(tmp_path: Path) -> None:
    X, y = pictures()
    phi = "pixels+deskew/pixels:size=4"  # the deepest nesting there is
    run = lastlayer.train((X, y), phi=phi, augment="flip,shift=1", views="flip", C=0.1, runs=tmp_path / "runs")
    model = Model.load(run.model_path)
    # validation rows are scored by the weights fitted without them
    stored = {row["path"]: float(row["p_label"]) for row in run.predictions if row["split"] != "val"}
    p = model.probabilities(model.scores(X))
    for path, known in stored.items():
        row = int(path.split("#")[1]) if "#" in path else int("".join(c for c in path if c.isdigit()))
        assert p[row, y[row]] == pytest.approx(known, abs=2e-6)
    assert any("mean of 2 views (flip)" in line for line in model.describe())
    assert model.save(tmp_path / "again.safetensors") == model.digest == run.model.digest
    settings = run.config["train"]
    assert settings["augment"] == "flip,shift=1" and settings["views"] == "flip"
    again = lastlayer.train(
        (X, y), runs=tmp_path / "runs", **{k: settings[k] for k in ("phi", "augment", "views", "C")}
    )
    assert again.model.digest == run.model.digest


def test_files_without_views_are_what_they_were_and_hostile_ones_are_refused() -> None:
    X, _ = pictures()
    plain = Standardised(parse_phi("pixels")).fit(X, np.random.default_rng(0))
    assert to_spec(plain)["parts"][0]["name"] == "pixels"
    averaged = Standardised(Averaged(parse_phi("pixels"), Views(True, 0))).fit(X, np.random.default_rng(0))
    spec, arrays = to_spec(averaged), averaged.arrays()
    np.testing.assert_array_equal(from_spec(spec, arrays).transform(X), averaged.transform(X))
    inner = spec["parts"][0]
    for change in [
        {"parameters": {"flip": False, "shift": 0}},
        {"parameters": {"flip": 1, "shift": 0}},
        {"parameters": {"flip": True, "shift": 10**6}},
        {"parameters": {"flip": True}},
        {"parameters": {"flip": True, "shift": 0, "turn": 1}},
        {"parts": []},
        {"parts": [inner, inner]},
    ]:
        with pytest.raises(InputError):
            from_spec({**spec, "parts": [{**inner, **change}]}, arrays)


def mirrored_data() -> tuple[np.ndarray, np.ndarray]:
    X, y = pictures(60)
    X[30:50] = X[:20, :, ::-1]
    y[30:50] = y[:20]
    return X, y


def test_mirror_images_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    X, y = mirrored_data()
    run = lastlayer.train((X, y), phi="pixels", augment="flip", C=0.1, runs=tmp_path / "runs")
    import csv

    with (run.folder / "split.csv").open(newline="") as stream:
        sides = [row["split"] for row in csv.DictReader(stream)]
    assert sides[30:50] == sides[:20] and len(set(sides)) == 3
    plain = lastlayer.train((X, y), phi="pixels", C=0.1, runs=tmp_path / "runs")
    with (plain.folder / "split.csv").open(newline="") as stream:
        sides = [row["split"] for row in csv.DictReader(stream)]
    assert sides[30:50] != sides[:20], "nothing is tied where nothing is mirrored"


def test_mirror_images_that_the_data_part_are_told() -> None:
    from lastlayer.pipeline.observer import SILENT_OBSERVER
    from lastlayer.pipeline.preparing import Clock

    X, y = mirrored_data()
    execution = Execution(use_cache=False)
    prepared = prepare(
        TrainSettings(phi="pixels"), execution, SILENT_OBSERVER, FeatureCache(None), Clock(), (X, y), tell_plan=False
    )
    pairs = mirror_pairs(prepared.decoded)
    np.testing.assert_array_equal(pairs, [(i, i + 30) for i in range(20)])
    tied = tie(prepared.dataset, pairs)
    assert tied.groups is not None and len(tied.group_names) == 20
    np.testing.assert_array_equal(tied.groups[:20], tied.groups[30:50])
    assert (tied.groups[20:30] == -1).all()
    side = prepared.split.side.copy()
    side[:] = TRAIN
    side[30:33] = TEST
    import dataclasses

    (problem,) = parted(prepared.dataset, dataclasses.replace(prepared.split, side=side), pairs)
    assert problem.code == "LL008" and "3 held-out images are mirror images" in problem.message
    assert len(problem.files) == 3 and problem.details[0].startswith("test: mirrors ")


def test_groups_that_a_mirror_pair_touches_become_one() -> None:
    from lastlayer.data.sources import open_dataset

    X, y = mirrored_data()
    dataset = open_dataset((X, y))
    import dataclasses

    groups = np.full(60, -1, np.int32)
    groups[[0, 1]], groups[[30, 59]] = 0, 1
    dataset = dataclasses.replace(dataset, groups=groups, group_names=("a", "b"))
    tied = tie(dataset, np.array([[0, 30], [2, 32]]))
    assert tied.groups is not None
    assert len({int(tied.groups[row]) for row in (0, 1, 30, 59)}) == 1
    assert tied.groups[2] == tied.groups[32] != tied.groups[0]
    assert tied.groups[3] == -1


def test_the_plan_says_what_views_cost(tmp_path: Path) -> None:
    from lastlayer.pipeline.observer import Observer, PlanLine, SilentObserver

    told: list[PlanLine] = []

    class Listener(Observer):
        data, problem, note = SilentObserver.data, SilentObserver.problem, SilentObserver.note

        def plan(self, lines: tuple[PlanLine, ...]) -> None:
            told.extend(lines)

    settings = TrainSettings(phi="pixels", C=(0.1,), augment="flip", views="flip,shift=1")
    run_training(settings, Execution(runs=tmp_path), Listener(), pictures())
    values = {line.flag: line.value for line in told}
    assert "2 rows an image are fitted" in values["--augment"]
    assert "averaged over 10 views, 10 times the time for features" in values["--views"]
