"""Presets: published counts, texts that read back, sizes, the perceptron's limits, files that nobody vouches for."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.networks import Architecture, Network, is_network, lsuv, parse
from lastlayer.networks.base import Mode
from lastlayer.networks.input import Input
from lastlayer.networks.layers import Activation, Convolution, Dropout, Flatten, Linear
from lastlayer.networks.presets.lenet import C3_TABLE
from lastlayer.objective import Objective
from lastlayer.solvers import PerceptronRule, StopReason

ALL = (
    *("perceptron", "perceptron:5", "mlp:300-100", "mlp:20,act=tanh,dropout=0.2", "lenet1", "lenet5"),
    *("lenet5:modern", "lenet5:modern,act=tanh", "alexnet:32", "cuda-convnet:quick", "convnet:widths=8-12"),
    *("cuda-convnet:18pct", "cuda-convnet:18pct,lrn=false,act=tanh,init=glorot", "convnet"),
)


@pytest.fixture
def torch() -> Iterator[Any]:
    torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


def pictures(n: int, shape: tuple[int, ...] = (32, 32, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def network(text: str, shape: tuple[int, ...] = (32, 32, 3), classes: int = 10, seed: int = 0) -> Network:
    architecture = parse(text).architecture(shape, classes)
    rng = np.random.default_rng(seed)
    arrays = {**architecture.initial(rng), **architecture.prepare(pictures(60, shape))}
    for name, array in arrays.items():
        if name.endswith(".bias"):  # zeros would hide a bias that is forgotten
            arrays[name] = (array + 0.1 * rng.standard_normal(array.shape)).astype(np.float32)
    return Network(architecture, arrays)


def counts(text: str, shape: tuple[int, ...], classes: int = 10) -> dict[str, int]:
    """Learned numbers by layer."""
    found: dict[str, int] = {}
    for name, one in parse(text).architecture(shape, classes).parameters.items():
        if one.learned:
            layer = name.partition(".")[0]
            found[layer] = found.get(layer, 0) + one.size
    return found


# --- as published --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [28, 32])
def test_lenet5_has_its_sixty_thousand_parameters(side: int) -> None:
    found = counts("lenet5", (side, side, 1))
    assert found == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(found.values()) == 60_000
    architecture = parse("lenet5").architecture((side, side, 1), 10)
    shapes = dict(zip(["input", *(name for name, _ in architecture.layers)], architecture.shapes()))
    assert shapes["input"] == (32, 32, 1) and shapes["c1"] == (28, 28, 6) and shapes["s2"] == (14, 14, 6)
    assert shapes["c3"] == (10, 10, 16) and shapes["s4"] == (5, 5, 16) and shapes["c5"] == (1, 1, 120)
    assert architecture.n_features == 84


def test_the_connection_table_is_table_one() -> None:
    assert [len(row) for row in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    columns = [set(row) for row in C3_TABLE]
    assert columns[4] == {0, 4, 5} and columns[5] == {0, 1, 5}
    assert columns[9] == {0, 3, 4, 5} and columns[11] == {0, 1, 2, 5}
    assert columns[12:15] == [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}]
    assert [sum(seen in row for row in C3_TABLE) for seen in range(6)] == [10] * 6


def test_the_other_counts() -> None:
    assert sum(counts("lenet1", (28, 28, 1)).values()) == 2578
    assert sum(counts("mlp:300-100", (28, 28, 1)).values()) == 266_610
    found = counts("alexnet", (227, 227, 3), 1000)
    assert found == {
        "conv1": 34_944,
        "conv2": 307_456,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }
    assert sum(found.values()) == 60_965_224
    assert sum(counts("cuda-convnet:quick", (32, 32, 3)).values()) == 145_578
    assert sum(counts("cuda-convnet:18pct", (32, 32, 3)).values()) == 89_578


def test_lenet_input_goes_from_minus_a_tenth_to_one_point_one_seven_five(torch: Any) -> None:
    lenet = network("lenet5", (28, 28, 1))
    image = np.zeros((28, 28, 1), np.uint8)
    image[10, 10] = 255
    x = lenet.activations(image)["input"]
    assert x.shape == (32, 32, 1) and x[12, 12, 0] == pytest.approx(1.175)
    x[12, 12] = -0.1
    np.testing.assert_allclose(x, -0.1, atol=1e-6)


def test_the_table_is_readable() -> None:
    lines = parse("lenet5").architecture((28, 28, 1), 10).describe()
    assert any(line.split()[0] == "c3" and "10x10x16" in line and "1,516" in line for line in lines)
    assert "60,000" in lines[-1] and max(map(len, lines)) < 120


# --- texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ALL)
def test_a_text_reads_back_and_has_a_recipe(text: str) -> None:
    preset = parse(text)
    assert parse(preset.name).name == preset.name and is_network(text)
    architecture = preset.architecture((32, 32, 3), 7)
    again = parse(architecture.name).architecture((32, 32, 3), 7)
    assert again.to_dict() == architecture.to_dict()
    assert preset.defaults["epochs"] > 0 and preset.defaults["rate"] > 0
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.") for name in architecture.parameters)


def test_recipes_are_plans() -> None:
    plan = pytest.importorskip("lastlayer.networks.plan")
    for text in (*ALL, "alexnet"):
        plan.TrainingPlan.from_dict(dict(parse(text).defaults))


def test_characters_are_not_mirrored() -> None:
    assert "flip" in parse("convnet").recipe(3)["augmentation"]
    assert parse("convnet").recipe(1)["augmentation"] == "shift=2:reflect"
    assert parse("lenet5").recipe(1) == parse("lenet5").defaults


def test_spaces_capitals_and_defaults_do_not_matter() -> None:
    assert parse(" LeNet5 : modern , act=relu ").name == "lenet5:modern"
    assert parse("convnet:act=silu").name == "convnet"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet", "There are perceptron, mlp"),
        ("lenet5:deep", "lenet5:modern"),
        ("lenet5:act=relu", "as published"),
        ("mlp:300,width=3", "act=relu"),
        ("mlp:300-", "300-100"),
        ("mlp:300-x", "300-100"),
        ("mlp:300,act=tanh,act=relu", "twice"),
        ("mlp:300,dropout=much", "dropout"),
        ("mlp:300,act", "KEY=VALUE"),
        ("cuda-convnet", "cuda-convnet:quick"),
        ("cuda-convnet:18pct,lrn=perhaps", "lrn"),
        ("x" * 300, "short text"),
    ],
)
def test_texts_that_name_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("lenet5", (8, 8, 1), "--size 28"),
        ("alexnet", (32, 32, 3), "--size 227"),
        ("alexnet:32", (8, 8, 3), "--size 32"),
        ("convnet", (8, 8, 3), "--size 32"),
        ("cuda-convnet:quick", (8, 40, 3), "--size 32"),
        ("mlp:300", (28, 28), "H, W, C"),
        ("mlp:0", (28, 28, 1), "1 unit or more"),
        ("mlp:20,act=reluu", (28, 28, 1), "Choose one of"),
        ("convnet:widths=0", (32, 32, 3), "widths"),
        ("convnet:widths=12.5", (32, 32, 3), "widths"),
    ],
)
def test_images_that_do_not_fit_are_refused(text: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(text).architecture(shape, 10)


def test_wanted_sizes_are_sizes_that_fit() -> None:
    assert parse("mlp:300").wanted_size(500, 400, 3) is None
    assert parse("lenet5").wanted_size(28, 28, 1) is None
    for text in ALL:
        size = parse(text).wanted_size(500, 400, 3)
        if size:
            assert parse(text).wanted_size(*size, 3) is None
            parse(text).architecture((*size, 3), 10)


# --- scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ALL)
def test_scores_are_the_last_layer_of_the_features(torch: Any, text: str) -> None:
    net = network(text)
    images = pictures(9, seed=3)
    scores, features, (W, b) = net.scores(images), net.features(images), net.head()
    assert scores.shape == (9, 10) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert features.shape == (9, net.architecture.n_features) and W.shape == (features.shape[1], 10)
    off = scores - (features @ W + b)
    radial = net.architecture.layers[-1][1].kind == "radial_outputs"
    off -= off.mean(axis=1, keepdims=True) * radial
    assert np.abs(off).max() <= 1e-5 * max(1.0, float(np.abs(scores).max()))
    shapes = net.architecture.shapes()
    found = net.activations(images[0])
    assert [a.shape for a in found.values()] == shapes
    np.testing.assert_allclose(list(found.values())[-1], scores[0], rtol=1e-4, atol=1e-5)
    filters = net.filters()
    assert filters is not None and filters.ndim == 4 and filters.min() >= 0 and filters.max() <= 1


def test_another_cut_changes_scores_by_rounding_alone(torch: Any) -> None:
    net = network("convnet:widths=8-12")
    images = pictures(300, seed=4)
    whole = net.scores(images)
    parts = np.concatenate([net.scores(images[:1]), net.scores(images[1:130]), net.scores(images[130:])])
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.scores(images.astype(np.float32)), whole, atol=1e-6)
    assert net.scores(images[:0]).shape == (0, 10)


def test_the_input_is_normalised_by_training_images(torch: Any) -> None:
    images = pictures(50, (6, 6, 3)) // np.array([1, 2, 5], np.uint8)
    net = parse("mlp:4").architecture((6, 6, 3), 2)
    arrays = net.prepare(images)
    np.testing.assert_allclose(arrays["input.mean"], images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(arrays["input.std"], images.std((0, 1, 2)), rtol=1e-5)
    table = np.random.default_rng(0).normal([1.0, 50.0, 7.0], [1.0, 20.0, 0.0], (40, 3)).astype(np.float32)
    columns = parse("mlp:4").architecture((1, 3, 1), 2).prepare(table.reshape(40, 1, 3, 1))
    np.testing.assert_allclose(columns["input.mean"].ravel(), table.mean(0), rtol=1e-5)
    np.testing.assert_allclose(columns["input.std"].ravel(), [*table.std(0)[:2], 1.0], rtol=1e-4)


def test_numpy_and_torch_normalise_alike(torch: Any) -> None:
    images = pictures(5, (6, 5, 3))
    one = Input("channel", 2)
    arrays = one.statistics(images)
    x = one.forward(torch.from_numpy(images), *(torch.from_numpy(arrays[key]) for key in ("mean", "std")))
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(x.permute(0, 2, 3, 1).numpy(), one.normalised(images, arrays), atol=1e-5)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 28, 28, 3), np.uint8), "32x32x3 and met images of 28x28x3"),
        (np.zeros((2, 32, 32, 1), np.uint8), "met images of 32x32x1"),
        (np.zeros((32, 32, 3), np.uint8), "N, H, W, C"),
        (np.zeros((2, 32, 32, 3), np.int64), "int64"),
    ],
)
def test_other_images_are_refused(torch: Any, images: np.ndarray, words: str) -> None:
    net = network("mlp:4")
    with pytest.raises(InputError, match=words):
        net.scores(images)


def test_whitening_filters_come_from_the_training_images() -> None:
    architecture = parse("convnet").architecture((32, 32, 3), 10)
    arrays = architecture.prepare(pictures(30))
    assert set(arrays) == {"input.mean", "input.std", "whiten.weight"}
    assert "whiten.weight" not in architecture.learned and "whiten.bias" in architecture.learned
    # noise has no structure: every filter has about the same length
    lengths = np.linalg.norm(arrays["whiten.weight"].reshape(24, -1), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=0.05)


def test_lsuv_gives_every_layer_variance_one(torch: Any) -> None:
    net = network("lenet5:modern", (28, 28, 1))
    images = pictures(60, (28, 28, 1))
    arrays = lsuv(net.architecture, net.arrays, images)
    started = Network(net.architecture, arrays)
    outputs = {name: np.stack([started.activations(image)[name] for image in images]) for name in ("c1", "c3", "f6")}
    for name, values in outputs.items():
        assert values.var() == pytest.approx(1.0, abs=0.02), name
    np.testing.assert_array_equal(arrays["scores.weight"], net.arrays["scores.weight"])
    empty = parse("mlp:4").architecture((6, 6, 1), 3)
    with pytest.raises(InputError, match="do not vary"):
        lsuv(empty, empty.initial(np.random.default_rng(0)), np.zeros((5, 6, 6, 1), np.uint8))


# --- the perceptron ------------------------------------------------------------------------------------------------

GATES = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "xor": [0, 1, 1, 0]}
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize("gate", GATES)
def test_one_threshold_unit_learns_and_and_or_but_not_xor(torch: Any, gate: str) -> None:
    y = np.array(GATES[gate])
    objective = Objective(CORNERS.astype(float), y, 2, by_name("perceptron"), 0.0)
    found = PerceptronRule(epochs=200).minimise(objective)
    assert (found.stop_reason is StopReason.SEPARATED) is (gate != "xor")
    W, b = (part.astype(np.float32) for part in objective.to_outside(found.params))
    architecture = parse("perceptron").architecture((1, 2, 1), 2)
    arrays = architecture.initial(np.random.default_rng(0))
    unit = Network(architecture, {**arrays, "scores.weight": W.T.copy(), "scores.bias": b})
    right = (unit.scores(CORNERS.astype(np.uint8).reshape(4, 1, 2, 1)).argmax(axis=1) == y).sum()
    assert right == 4 if gate != "xor" else right < 4


def test_two_layers_of_threshold_units_solve_xor(torch: Any) -> None:
    architecture = parse("perceptron:2").architecture((1, 2, 1), 2)
    arrays = {
        **architecture.initial(np.random.default_rng(0)),
        # OR, and AND; then "OR and not AND"
        "hidden1.weight": np.array([[1, 1], [1, 1]], np.float32),
        "hidden1.bias": np.array([-0.5, -1.5], np.float32),
        "scores.weight": np.array([[-1, 1], [1, -1]], np.float32),
        "scores.bias": np.array([0.5, -0.5], np.float32),
    }
    scores = Network(architecture, arrays).scores(CORNERS.astype(np.uint8).reshape(4, 1, 2, 1))
    assert scores.argmax(axis=1).tolist() == GATES["xor"]


def test_gradients_refuse_the_step_by_name(torch: Any) -> None:
    parse("perceptron").architecture((4, 4, 1), 2).check_trainable()
    with pytest.raises(InputError, match=r"activation step.*sigmoid"):
        parse("perceptron:3").architecture((4, 4, 1), 2).check_trainable()
    with pytest.raises(InputError, match="activation step"):
        Activation("step").forward(torch.ones(2, 3), {}, Mode(training=True))


# --- architectures and files that nobody vouches for -----------------------------------------------------------------


@pytest.mark.parametrize("text", ALL)
def test_a_network_is_its_description_and_arrays(torch: Any, text: str) -> None:
    net = network(text)
    again = Network.from_dict(json.loads(json.dumps(net.to_dict())), net.arrays)
    images = pictures(3)
    np.testing.assert_array_equal(again.scores(images), net.scores(images))
    assert again.to_dict() == net.to_dict()


def layers(*items: tuple[str, Any]) -> Callable[[], Architecture]:
    return lambda: Architecture("mine", items, (8, 8, 1), 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (layers(), "0 layers"),
        (layers(("a", Flatten())), "the last layer is flatten"),
        (layers(("a", Linear(3))), "layer a: linear needs rows of features"),
        (layers(("a", Flatten()), ("a", Linear(3))), "name of its own"),
        (layers(("input", Flatten()), ("b", Linear(3))), "name of its own"),
        (layers(("A.b", Flatten()), ("b", Linear(3))), "small letters"),
        (layers(("a", Flatten()), ("b", Linear(4))), "4 scores for 3 classes"),
        (layers(("a", Convolution(4, 9)), ("b", Flatten()), ("c", Linear(3))), "layer a: convolution: a window of 9x9"),
        (layers(*((f"d{i}", Dropout()) for i in range(300)), ("c", Linear(3))), "301 layers"),
        (layers(("a", Convolution(65_536, 1)), ("b", Convolution(65_536, 1)), ("c", Flatten())), "the last layer"),
        (
            layers(("a", Convolution(65_536, 1)), ("b", Convolution(65_536, 1)), ("c", Flatten()), ("d", Linear(3))),
            "its output is 8x8x65536|more than",
        ),
    ],
)
def test_layers_that_do_not_fit_each_other_are_refused(make: Callable[[], Architecture], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def hostile() -> dict[str, Callable[[dict[str, Any]], Any]]:
    def change(path: list[Any], value: Any) -> Callable[[dict[str, Any]], Any]:
        def changed(spec: dict[str, Any]) -> Any:
            inside: Any = spec
            for key in path[:-1]:
                inside = inside[key]
            inside[path[-1]] = value
            return spec

        return changed

    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    return {
        "no dict": lambda spec: [spec],
        "none": lambda spec: None,
        "a key too many": lambda spec: {**spec, "code": "import os"},
        "a key too few": lambda spec: {key: value for key, value in spec.items() if key != "input"},
        "huge kernel": change(["layers", 0, "kernel"], 10**9),
        "huge maps": change(["layers", 0, "maps"], 10**12),
        "maps that multiply": change(["layers", 0, "maps"], 65_535),
        "negative": change(["layers", 0, "maps"], -6),
        "float": change(["layers", 0, "maps"], 6.0),
        "bool": change(["layers", 0, "maps"], True),
        "text": change(["layers", 0, "maps"], "6"),
        "nan": change(["layers", 0, "initial_bias"], float("nan")),
        "stride 0": change(["layers", 0, "stride"], 0),
        "table of wrong things": change(["layers", 4, "table"], [["a"]] * 16),
        "deep table": change(["layers", 4, "table"], deep),
        "long table": change(["layers", 4, "table"], [[0]] * 100_000),
        "unknown kind": change(["layers", 0, "kind"], "pickle"),
        "kind of no text": change(["layers", 0, "kind"], ["convolution"]),
        "bad layer name": change(["layers", 0, "layer"], "../c1"),
        "layer no dict": change(["layers", 0], "c1"),
        "unknown activation": change(["layers", 1, "name"], "os.system"),
        "too many layers": lambda spec: {**spec, "layers": spec["layers"] * 100},
        "layers no list": lambda spec: {**spec, "layers": {"a": 1}},
        "shape of texts": change(["input_shape"], ["28", "28", "1"]),
        "huge shape": change(["input_shape"], [10**8, 10**8, 1]),
        "empty shape": change(["input_shape"], []),
        "zero side": change(["input_shape"], [0, 28, 1]),
        "huge padding": change(["input", "padding"], 10**7),
        "classes": change(["n_classes"], 11),
        "classes of no number": change(["n_classes"], None),
        "name": change(["name"], 7),
        "long name": change(["name"], "x" * 100_000),
        "unhashable rule": change(["layers", 0, "init"], ["he"]),
    }


@pytest.mark.parametrize("how", hostile())
def test_a_hostile_description_is_refused_before_anything_is_made(how: str) -> None:
    spec = parse("lenet5").architecture((28, 28, 1), 10).to_dict()
    assert Architecture.from_dict(copy.deepcopy(spec)).to_dict() == spec
    with pytest.raises(InputError):
        Architecture.from_dict(hostile()[how](copy.deepcopy(spec)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "scores.bias"}, "'scores.bias' is missing"),
        (lambda a: {**a, "more": a["scores.bias"]}, "'more' does not belong"),
        (lambda a: {**a, "scores.bias": a["scores.bias"][:4]}, r"shape \(4,\)"),
        (lambda a: {**a, "scores.bias": a["scores.bias"].astype(np.float64)}, "float64"),
        (lambda a: {**a, "scores.bias": a["scores.bias"] * np.float32("nan")}, "NaN"),
    ],
)
def test_arrays_of_another_network_are_refused(change: Callable[[Any], Any], words: str) -> None:
    architecture = parse("mlp:4").architecture((6, 6, 1), 5)
    arrays = architecture.initial(np.random.default_rng(0))
    with pytest.raises(InputError, match=words):
        Network(architecture, change(arrays))


def test_presets_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lastlayer.networks import parse, Network\n"
        "import numpy as np\n"
        "a = parse('lenet5').architecture((28, 28, 1), 10); print(a.describe()[-1])\n"
        "n = Network(a, a.initial(np.random.default_rng(0)))\n"
        "try: n.scores(np.zeros((1, 28, 28, 1), np.uint8))\n"
        "except ValueError as e: print(e)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "60,000" in found and "LL060" in found and "lastlayer[torch]" in found
