"""``train --phi mlp:16`` and its like: one verb for networks, their last layer, and what stands beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer._arrays import InputError
from lastlayer._progress import SILENT
from lastlayer.cli.app import run as command_line
from lastlayer.estimators import NetworkClassifier
from lastlayer.linear import scores
from lastlayer.networks.presets import parse
from lastlayer.pipeline.learn import Examples
from lastlayer.pipeline.network_head import last_layer, score_of
from lastlayer.pipeline.network_settings import network_lines, resolved, training_plan, with_augmentation
from lastlayer.pipeline.run import Run
from lastlayer.pipeline.settings import TrainSettings, settings_from
from lastlayer.representations import from_spec, parse_phi, to_spec
from lastlayer.representations.network import NetworkFeatures, network_in
from lastlayer.solvers.base import StopReason

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

QUICK = {"phi": "mlp:24", "epochs": 6, "batch_size": 32, "lr": "0.05", "cache": False, "near_dup": False}


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return lastlayer.train("demo:digits", runs=tmp_path_factory.mktemp("runs"), name="digits", **QUICK)


def call(*arguments: str) -> tuple[int, str]:
    """Run a verb in this process; its exit code and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = command_line(list(arguments))
    return code, out.getvalue()


def shapes(n: int = 120, side: int = 12, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gray images with a bright bar across, down or along the diagonal."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.integers(0, 60, (n, side, side, 1), dtype=np.uint8)
    for i, k in enumerate(y):
        at = int(rng.integers(1, side - 1))
        if k == 0:
            X[i, at] = 200
        elif k == 1:
            X[i, :, at] = 200
        else:
            X[i, np.arange(side), np.arange(side)] = 200
    return X, y


# --------------------------------------------------------------------------------------------------------------- a run


def test_a_network_is_trained_scored_and_written(run: Run) -> None:
    metrics = run.metrics
    found = metrics["network"]
    assert metrics["phi"] == "mlp:24" and metrics["quote"] == "test"
    assert metrics["splits"]["test"]["accuracy"]["value"] > 0.9
    assert found["epochs"] == 6 and 1 <= found["best_epoch"] <= 6 and found["stop_reason"] == "epochs"
    assert found["n_parameters"] == 64 * 24 + 24 + 24 * 10 + 10
    assert any("24" in line for line in found["table"])
    epochs = [json.loads(line) for line in (run.folder / "log.jsonl").read_text("ascii").splitlines()]
    epochs = [line for line in epochs if line["event"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "val_loss", "val_correct", "val_n", "rate", "train_seconds", "steps"} <= set(epochs[0])
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert not (run.folder.parent / ".unfinished").exists()


def test_images_it_learned_from_do_not_pass_for_held_out(run: Run) -> None:
    held_out = {(row["split"], row["oof"]) for row in run.predictions}
    assert held_out == {("train", "0"), ("val", "1"), ("test", "1")}
    assert "train and val and test" not in (run.folder / "report.html").read_text("utf-8")


def test_the_linear_classifier_stands_beside_it(run: Run) -> None:
    metrics = run.metrics
    linear = metrics["network"]["linear"]
    assert linear["phi"] in ("hog", "pixels") and linear["seconds"] > 0
    assert set(linear["sides"]) == {"val", "test"}
    beside = linear["sides"]["test"]
    name = f"linear on {linear['phi']}"
    (baseline,) = [row for row in metrics["baselines"] if row["name"] == name]
    assert baseline["accuracy"] == beside["accuracy"]
    n = beside["accuracy"]["n"]
    difference = metrics["splits"]["test"]["accuracy"]["k"] - beside["accuracy"]["k"]
    assert beside["only_network"] - beside["only_linear"] == difference and n == 270
    assert beside["separated"] == (beside["p_value"] < 0.05)


def test_the_saved_model_gives_the_same_scores(run: Run) -> None:
    model, again = run.model, run.model
    digits = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), dtype=np.uint8)
    z = model.scores(digits)
    np.testing.assert_array_equal(z, again.scores(digits))
    np.testing.assert_array_equal(z[65:66], model.scores(digits[65:66]))
    np.testing.assert_array_equal(z[::-1], model.scores(digits[::-1]))
    network = network_in(model.representation)
    assert network is not None and isinstance(network, NetworkFeatures)
    Z = network.trained.features(digits)
    np.testing.assert_allclose(scores(Z, model.weights, model.bias), z, rtol=1e-4, atol=1e-4)


def test_scores_in_the_run_are_those_of_its_model(run: Run) -> None:
    rows = [row for row in run.predictions if row["split"] == "test"]
    from sklearn.datasets import load_digits

    images = load_digits().images
    from lastlayer.data.sources import open_dataset

    dataset = open_dataset("demo:digits")
    at = {name: i for i, name in enumerate(dataset.names)}
    pixels = dataset.images.read(np.array([at[row["path"]] for row in rows[:20]]), run.model.image_format).pixels
    assert images.shape[1:] == pixels.shape[1:3]
    assert run.model.predict(pixels).tolist() == [row["predicted"] for row in rows[:20]]


def test_its_configuration_makes_it_again(run: Run, tmp_path: Path) -> None:
    config = run.config["train"]
    assert config["epochs"] == 6.0 and config["batch_size"] == 32 and config["lr"] == "0.05"
    assert config["optimiser"] and config["schedule"] and config["augment"]  # the preset's, written out
    code, said = call("train", "--config", str(run.folder / "config.toml"), "--runs", str(tmp_path), "--no-cache", "-q")
    assert code == 0, said
    assert Run(tmp_path / "train-001").metrics["model_digest"] == run.metrics["model_digest"]


def test_the_other_verbs_take_it(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "seven.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    code, said = call("info", str(run.folder))
    assert code == 0 and "multiply-adds" in said, said
    assert json.loads(call("info", str(run.folder), "--json")[1])["network"]
    for arguments in (
        ("predict", str(run.folder), str(picture)),
        ("evaluate", str(run.folder), "--runs", str(tmp_path / "runs"), "-q"),
        ("explain", str(run.folder), str(picture)),
    ):
        code, said = call(*arguments)
        assert code == 0, said
    linear = lastlayer.train("demo:digits", phi="pixels", C=0.01, runs=tmp_path, near_dup=False)
    assert lastlayer.compare(run, linear) is not None


def test_the_plan_says_every_choice_and_its_option(tmp_path: Path) -> None:
    code, said = call(
        "train", "demo:digits", "--phi", "mlp:8", "--epochs", "1", "--runs", str(tmp_path), "--no-near-dup", "-q"
    )
    assert code == 0, said
    for flag in ("--epochs", "--batch-size", "--lr --schedule", "--optimiser --momentum", "--weight-decay"):
        assert flag in said
    for flag in ("--augment", "--patience", "--device --precision --seed", "--refit-last-layer"):
        assert flag in said
    assert "linear on" in said and "the network" in said
    assert "beyond noise" in said
    assert "standardised" not in said


# --------------------------------------------------------------------------------------------------------- the settings


def test_what_is_not_given_is_the_presets() -> None:
    settings = resolved(TrainSettings(phi="lenet5"))
    plan = training_plan(settings)
    assert plan.epochs > 0 and float(settings.lr) == plan.rate
    colour = with_augmentation(resolved(TrainSettings(phi="convnet")), 3)
    assert "flip" in colour.augment and with_augmentation(colour, 1) == colour
    assert "flip" not in with_augmentation(resolved(TrainSettings(phi="convnet")), 1).augment  # digits have two sides
    assert resolved(settings) == settings
    given = resolved(settings_from({"phi": "lenet5", "lr": 0.01, "epochs": 3, "momentum": 0.0, "augment": "none"}, ""))
    plan = training_plan(given)
    assert (plan.rate, plan.epochs, plan.momentum, plan.augmentation, plan.nesterov) == (0.01, 3.0, 0.0, "", False)
    other = resolved(TrainSettings(phi="mlp:8", optimiser="adam"))
    assert float(other.lr) <= 0.01
    text = " ".join(line.value for line in network_lines(given))
    assert "3 epochs" in text and "rate 0.01" in text
    linear = TrainSettings(phi="hog")
    assert resolved(linear) is linear


def test_the_precision_is_the_presets_unless_given() -> None:
    assert training_plan(resolved(TrainSettings(phi="convnet"))).precision == "float32"
    narrow = resolved(settings_from({"phi": "convnet", "precision": "bfloat16"}, ""))
    assert training_plan(narrow).precision == "bfloat16"
    assert resolved(narrow) == narrow
    assert any("bfloat16" in line.value and "--precision" in line.flag for line in network_lines(narrow))


def test_multipliers_chosen_for_a_presets_optimiser_go_with_it() -> None:
    own = training_plan(resolved(TrainSettings(phi="convnet")))
    assert own.optimiser == "muon"
    assert own.multipliers()
    other = training_plan(resolved(TrainSettings(phi="convnet", optimiser="sgd")))
    assert (other.rates, other.rate, other.momentum, other.nesterov) == ("", 0.02, 0.9, True)
    assert other.schedule == own.schedule
    named = training_plan(resolved(TrainSettings(phi="convnet", optimiser="muon", momentum=0.9)))
    assert (named.rates, named.rate, named.momentum) == (own.rates, own.rate, 0.9)
    estimator = NetworkClassifier("convnet", optimiser="sgd")
    estimator.image_shape_ = (32, 32, 3)
    assert estimator._plan(parse("convnet"), 100, 0).rates == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"class_weight": "balanced"}, "--class-weight does not go"),
        ({"head": "perceptron"}, "--head perceptron does not go"),
        ({"learning_curve": True}, "learns its features anew"),
        ({"lr": "fast"}, "neither find nor a positive number"),
        ({"lr": "-1"}, "neither find nor a positive number"),
        ({"epochs": -2}, "--epochs"),
        ({"refit_last_layer": "maybe"}, "auto, yes or no"),
        ({"augment": "wobble=3"}, "wobble"),
        ({"schedule": "sometimes"}, "sometimes"),
        ({"momentum": 1.5}, "momentum"),
        ({"optimiser": "magic"}, "optimiser"),
        ({"device": "moon"}, "device"),
        ({"precision": "float16"}, "bfloat16"),
    ],
)
def test_faulty_settings_are_refused_before_the_data_are_read(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        lastlayer.train("no-such-folder", phi="mlp:8", **values)


def test_views_of_other_representations_keep_their_words() -> None:
    with pytest.raises(InputError, match="views"):
        TrainSettings(phi="hog", augment="elastic")
    assert TrainSettings(phi="mlp:8", augment="flip,cutout=4").fitted_views.flip


# ------------------------------------------------------------------------------------------------------- the last layer


def problem(seed: int = 0) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Features of two groups, and a last layer that tells them apart badly."""
    rng = np.random.default_rng(seed)
    y = np.arange(300) % 2
    Z = (rng.normal(size=(300, 5)) + 1.5 * np.outer(2 * y - 1, [1, 0, 0, 0, 0])).astype(np.float32)
    W = np.zeros((5, 2), np.float32)
    W[1] = [-1, 1]
    return Examples(Z, y, Z[:200], 1, 100, 100, 2), W, np.zeros(2, np.float32)


def test_a_bad_last_layer_is_replaced_and_a_good_one_is_kept() -> None:
    examples, bad, b = problem()
    settings = TrainSettings(phi="mlp:8")
    taken = last_layer(bad, b, examples, settings, SILENT, StopReason.MAX_ITER)
    assert taken.refitted and "fewer mistakes" in taken.why
    assert taken.exact is not None and taken.own is not None and taken.exact.right.k > taken.own.right.k
    fit = taken.learned.final
    assert taken.learned.selected is fit  # no validation row was fitted
    np.testing.assert_allclose(taken.learned.l2, 1 / (taken.learned.C * 100))
    good = np.array(fit.W)
    good[:] = 0
    good[0] = [-3, 3]
    best = score_of(scores(examples.validation[0], good, b), examples.validation[1])
    kept = last_layer(good, b, examples, settings, SILENT, StopReason.MAX_ITER)
    if kept.refitted:
        assert kept.exact is not None
        assert (kept.exact.right.k, -kept.exact.loss) > (best.right.k, -best.loss)
    else:
        np.testing.assert_array_equal(kept.learned.final.W, good)
    for wish, answer in (("yes", True), ("no", False)):
        asked = dataclasses.replace(settings, refit_last_layer=wish)
        assert last_layer(bad, b, examples, asked, SILENT, StopReason.MAX_ITER).refitted is answer


def test_the_unit_of_the_features_does_not_decide_the_fit() -> None:
    examples, bad, b = problem()
    settings = TrainSettings(phi="mlp:8", C=(0.1,), refit_last_layer="yes")
    one = last_layer(bad, b, examples, settings, SILENT, StopReason.MAX_ITER).learned
    scaled = Examples(8 * examples.Z, examples.y, 8 * examples.twins, 1, 100, 100, 2, unit=8.0)
    other = last_layer(bad, b, scaled, settings, SILENT, StopReason.MAX_ITER).learned
    np.testing.assert_allclose(8 * other.final.weights, one.final.weights, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other.l2, 64 * one.l2)


def test_without_validation_rows_the_networks_own_is_kept() -> None:
    examples, W, b = problem()
    alone = Examples(examples.Z, examples.y, examples.twins, 1, 200, 0, 2)
    taken = last_layer(W, b, alone, TrainSettings(phi="mlp:8"), SILENT, StopReason.MAX_ITER)
    assert not taken.refitted and "no validation images" in taken.why
    assert math.isnan(taken.learned.C) and taken.learned.temperature == 1.0


def test_a_head_that_was_asked_for_is_fitted() -> None:
    examples, W, b = problem()
    asked = TrainSettings(phi="mlp:8", head="ridge")
    taken = last_layer(W, b, examples, asked, SILENT, StopReason.MAX_ITER)
    assert taken.refitted and "as asked for" in taken.why


# ---------------------------------------------------------------------------------------------------------- other paths


def test_no_validation_images_mean_a_fixed_number_of_epochs(tmp_path: Path) -> None:
    found = lastlayer.train(shapes(), phi="mlp:8", epochs=3, val=0.0, runs=tmp_path, near_dup=False)
    assert found.metrics["network"]["best_epoch"] == 3
    assert "no validation images" in found.metrics["selection"]
    assert found.metrics["network"]["last_layer"]["own"] is None


def test_a_rate_is_found_and_written(tmp_path: Path) -> None:
    run = lastlayer.train(shapes(240), phi="mlp:8", epochs=3, lr="find", runs=tmp_path, near_dup=False)
    assert 1e-5 < run.metrics["network"]["rate"] < 10


def test_views_are_averaged_by_a_network_too(tmp_path: Path) -> None:
    run = lastlayer.train(shapes(), phi="mlp:8", epochs=3, views="flip", runs=tmp_path, near_dup=False)
    model = run.model
    X, _ = shapes(10, seed=3)
    np.testing.assert_allclose(model.scores(X), model.scores(np.ascontiguousarray(X[:, :, ::-1])), atol=1e-4)


def test_a_preset_that_does_not_suit_the_images_says_which_size_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--size"):
        lastlayer.train(shapes(side=9), phi="lenet5", size=9, runs=tmp_path, near_dup=False)
    assert not list(tmp_path.glob("train*"))


def test_a_rate_that_diverges_keeps_the_last_good_weights_and_says_so(tmp_path: Path) -> None:
    run = lastlayer.train(shapes(), phi="mlp:8", epochs=5, lr="1e6", runs=tmp_path, near_dup=False)
    (told,) = [problem for problem in run.metrics["problems"] if problem["code"] == "LL042"]
    best = run.metrics["network"]["best_epoch"]
    assert run.metrics["network"]["stop_reason"] == "diverged" and 1 <= best < 5
    assert f"the weights of epoch {best} are kept" in told["message"] and "--lr" in told["mend"]
    assert np.isfinite(run.model.scores(shapes(5)[0])).all()


def test_resuming_needs_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no unfinished training"):
        lastlayer.train(shapes(), phi="mlp:8", epochs=1, runs=tmp_path, resume=True, near_dup=False)
    with pytest.raises(InputError, match="--resume goes on with a network"):
        lastlayer.train(shapes(), phi="pixels", runs=tmp_path, resume=True, near_dup=False)


def test_sweeps_and_fits_without_labels_say_what_to_do() -> None:
    X, _ = shapes()
    with pytest.raises(InputError, match="lastlayer train DATA --phi mlp:8"):
        parse_phi("mlp:8").fit(X, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------------- transfer


def test_a_trained_network_serves_new_classes(run: Run, tmp_path: Path) -> None:
    X, y = shapes(150, side=16, classes=3)
    found = lastlayer.train((X, y), phi=str(run.folder), runs=tmp_path, near_dup=False)
    assert found.model.image_format.height == 8 and found.model.image_format.channels == 1
    source, used = network_in(run.model.representation), network_in(found.model.representation)
    assert source is not None and used is not None
    np.testing.assert_array_equal(source.arrays()["numbers"], used.arrays()["numbers"])
    assert found.metrics["splits"]["test"]["accuracy"]["value"] > 0.5
    assert found.metrics["network"] is None
    text = found.config["train"]["phi"]
    assert text.startswith("network:") and Path(text.removeprefix("network:")).is_absolute()
    both = lastlayer.train((X[:, ::2, ::2], y), phi=f"network:{run.folder}+pixels", runs=tmp_path, near_dup=False)
    assert both.metrics["n_features"] == 24 + 64


def test_a_frozen_network_imposes_its_images(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained on images of 8x8"):
        lastlayer.train(shapes(), phi=str(run.folder), size=12, runs=tmp_path, near_dup=False)
    wrong = parse_phi(f"network:{run.folder}")
    with pytest.raises(InputError, match="--size 8"):
        wrong.fit(np.zeros((3, 9, 9, 1), np.uint8), np.random.default_rng(0))


def test_a_file_without_a_network_is_refused(tmp_path: Path) -> None:
    linear = lastlayer.train(shapes(), phi="pixels", C=0.1, runs=tmp_path, near_dup=False)
    with pytest.raises(InputError, match="holds no network"):
        lastlayer.train(shapes(), phi=str(linear.model_path), runs=tmp_path, near_dup=False)
    with pytest.raises(InputError, match="there is no model"):
        lastlayer.train(shapes(), phi="network:nowhere", runs=tmp_path, near_dup=False)


# ------------------------------------------------------------------------------------------------------ the model file


def test_hostile_specifications_of_networks_are_refused(run: Run) -> None:
    network = network_in(run.model.representation)
    assert network is not None
    spec, arrays = to_spec(network), network.arrays()
    assert to_spec(from_spec(spec, arrays)) == spec
    numbers = arrays["numbers"]
    for change, given in (
        ({"layout": [["a", [2**40]]]}, numbers),
        ({"layout": [["a", [-1]]]}, numbers),
        ({"layout": spec["parameters"]["layout"][:-1]}, numbers),
        ({"network": {}}, numbers),
        ({"network": {**spec["parameters"]["network"], "n_classes": 3}}, numbers),
        ({}, numbers[:-1]),
        ({}, np.full_like(numbers, np.nan)),
        ({}, numbers.astype(np.float64)),
        ({"file": "/etc/passwd"}, numbers),
    ):
        bad = {**spec, "parameters": {**spec["parameters"], **change}}
        with pytest.raises(InputError):
            from_spec(bad, {"numbers": given})


def test_without_torch_a_model_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    model = run.model  # reading and describing it needs no torch
    assert any("24" in line for line in network_in(model.representation).table())  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"LL060.*lastlayer\[torch\]"):
        model.scores(np.zeros((1, 8, 8, 1), np.uint8))
