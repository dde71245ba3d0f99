"""Every layer: its derivative, its shapes and refusals, and twins that must agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.networks import LAYERS, collapse, layer_problem
from lastlayer.networks.base import EVALUATION, Layer, Mode, Shape
from lastlayer.networks.initialisation import RULES, weights
from lastlayer.networks.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    MaxPool,
    RadialOutputs,
    Scale,
    Subsampling,
    Whitening,
)
from lastlayer.networks.layers.digits import DIGITS
from lastlayer.solvers.check import check_gradient

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

TABLE = ((0, 1), (2,), (0, 1, 2))
CASES: tuple[tuple[Layer, Shape], ...] = (
    (Linear(4), (5,)),
    (Linear(4, "glorot", bias=False), (5,)),
    (LocallyConnected(2, 3), (5, 4, 2)),
    (LocallyConnected(2, 3, 2, 1, bias=False), (5, 4, 2)),
    (Convolution(4, 3), (5, 4, 2)),
    (Convolution(4, 3, 2, 1, groups=2, bias=False), (5, 6, 2)),
    (Convolution(3, 2, table=TABLE), (4, 4, 3)),
    (Whitening(2), (4, 3, 2)),
    (MaxPool(2), (5, 4, 2)),
    (MaxPool(3, 2, 1), (5, 4, 2)),
    (MaxPool(3, 2, ceil=True), (6, 4, 2)),
    (AveragePool(2), (5, 4, 2)),
    (AveragePool(3, 2, 1), (5, 4, 2)),
    (AveragePool(3, 2, ceil=True), (6, 4, 2)),
    (Subsampling(2), (4, 4, 3)),
    (BatchNorm(), (3, 2, 2)),
    (BatchNorm(scale=False), (4,)),
    (LocalResponseNorm(3, 0.5, 0.75, 1.0), (2, 3, 5)),
    (LocalResponseNorm(3, 0.5, 0.75, 1.0, within=True), (4, 3, 2)),
    (Dropout(0.3), (3, 3, 2)),
    (Flatten(), (3, 2, 2)),
    *((Activation(name), (3, 2, 2)) for name in ("sigmoid", "tanh", "scaled_tanh", "relu", "gelu", "silu", "identity")),
    (Activation("leaky_relu", 0.1), (7,)),
    (Scale(1 / 9), (3,)),
    (RadialOutputs(3), (5,)),
    (RadialOutputs(3, learned=True), (5,)),
    (RadialOutputs(10, "digits"), (84,)),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def names(case: object) -> str:
    return case.describe() if isinstance(case, Layer) else ""


def run(layer: Layer, x: np.ndarray, arrays: Mapping[str, np.ndarray], mode: Mode = EVALUATION) -> np.ndarray:
    """Apply it to (N, H, W, C) or (N, D), in float64."""
    tensor = torch.tensor(x, dtype=torch.float64)
    tensor = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
    out = layer.forward(tensor, {name: torch.tensor(a, dtype=torch.float64) for name, a in arrays.items()}, mode)
    return (out.permute(0, 2, 3, 1) if out.ndim == 4 else out).numpy()


def start(layer: Layer, shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(one.shape) for name, one in layer.parameters(shape).items()}


def test_every_layer_is_in_the_registry() -> None:
    assert {type(layer) for layer, _ in CASES} == set(LAYERS.values())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("layer", "shape"), CASES, ids=names)
def test_gradients_are_derivatives(layer: Layer, shape: Shape, training: bool) -> None:
    found = check_gradient(*layer_problem(layer, shape, seed=1, training=training), sample=8)
    assert found.right and found.kinks == 0, str(found)


def test_a_wrong_gradient_is_found() -> None:
    problem, arrays = layer_problem(Linear(2), (3,))

    def wrong(at: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        value, gradient = problem(at)
        return value, {**gradient, "weight": gradient["weight"] * 1.01}

    assert not check_gradient(wrong, arrays).right


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=names)
def test_the_shape_said_is_the_shape_made(layer: Layer, shape: Shape) -> None:
    x = np.random.default_rng(0).standard_normal((2, *shape))
    arrays = {name: np.abs(a) for name, a in start(layer, shape).items()}
    assert run(layer, x, arrays).shape == (2, *layer.output_shape(shape))
    assert layer.describe() and layer.multiply_adds(shape) >= 0


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (Linear(3), (4, 4, 1), "rows of features"),
        (RadialOutputs(3), (4, 4, 1), "row of features"),
        (RadialOutputs(10, "digits"), (80,), "84 numbers"),
        (Convolution(4, 5), (4, 8, 1), "5x5 does not fit on 4x8x1"),
        (Convolution(4, 3, groups=2), (4, 8, 3), "3 input maps"),
        (Convolution(3, 2, table=TABLE), (4, 4, 2), "names map 2"),
        (LocallyConnected(4, 5), (4, 8, 1), "does not fit"),
        (MaxPool(3), (2, 8, 1), "does not fit"),
        (AveragePool(3), (2, 8, 1), "does not fit"),
        (Subsampling(3), (2, 8, 1), "does not fit"),
        (Whitening(3), (2, 8, 1), "does not fit"),
        (Convolution(4, 3), (9,), "needs images"),
        (LocalResponseNorm(), (9,), "needs images"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(layer: Layer, shape: Shape, words: str) -> None:
    with pytest.raises(InputError, match=words):
        layer.output_shape(shape)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(0),
        lambda: Linear(2.5),  # type: ignore[arg-type]
        lambda: Linear(True),
        lambda: Linear(3, "no_such_rule"),
        lambda: Linear(3, "dirac"),
        lambda: Linear(3, "normal:nan"),
        lambda: Linear(3, bias=1),  # type: ignore[arg-type]
        lambda: Convolution(4, 0),
        lambda: Convolution(4, 3, padding=3),
        lambda: Convolution(5, 3, groups=2),
        lambda: Convolution(2, 3, table=((0,),)),
        lambda: Convolution(2, 3, table=((0,), ())),
        lambda: Convolution(2, 3, table=((0,), (1, 1))),
        lambda: Convolution(2, 3, table=((0,), (-1,))),
        lambda: MaxPool(2, padding=2),
        lambda: AveragePool(2, ceil=1),  # type: ignore[arg-type]
        lambda: BatchNorm(2.0),
        lambda: LocalResponseNorm(4, within=True),
        lambda: Dropout(1.0),
        lambda: Dropout(float("nan")),
        lambda: Activation("reluu"),
        lambda: Activation("leaky_relu", 2.0),
        lambda: Scale(float("inf")),
        lambda: RadialOutputs(9, "digits"),
        lambda: RadialOutputs(10, "letters"),
        lambda: Whitening(0),
        lambda: Subsampling(2, "dirac"),
        lambda: LocallyConnected(2, 3, padding=3),
    ],
)
def test_values_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]


# --- twins -------------------------------------------------------------------------------------------------------


def test_a_stack_of_linear_layers_is_one_linear_layer() -> None:
    layers = [Linear(7), Linear(3, bias=False), Linear(5)]
    shapes = [(6,), (7,), (3,)]
    arrays = [start(layer, shape, seed) for seed, (layer, shape) in enumerate(zip(layers, shapes))]
    x = np.random.default_rng(9).standard_normal((11, 6))
    stacked = x
    for layer, own in zip(layers, arrays):
        stacked = run(layer, stacked, own)
    W, b = collapse(layers, arrays)
    np.testing.assert_allclose(x @ W + b, stacked, atol=1e-12)
    assert np.linalg.matrix_rank(W) == 3  # the narrowest layer


@pytest.mark.parametrize(
    ("layers", "shapes"),
    [([], []), ([Linear(2)], []), ([Linear(2), Activation("relu")], [(2, 3), (2, 2)]), ([Linear(2)] * 2, [(2, 3)] * 2)],
)
def test_what_is_no_stack_of_linear_layers_is_refused(layers: list[Linear], shapes: list[Shape]) -> None:
    with pytest.raises(InputError):
        collapse(layers, [{"weight": np.ones(shape)} for shape in shapes])


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 2)])
def test_the_locally_connected_layer_is_its_sparse_matrix(stride: int, padding: int) -> None:
    layer, shape = LocallyConnected(3, 3, stride, padding), (6, 5, 2)
    arrays = start(layer, shape)
    x = np.random.default_rng(1).standard_normal((4, *shape))
    W, b = layer.dense(shape, arrays)
    y = run(layer, x, arrays)
    np.testing.assert_allclose(x.reshape(4, -1) @ W + b, y.reshape(4, -1), atol=1e-12)
    assert W.shape == (60, int(np.prod(layer.output_shape(shape))))
    assert (np.count_nonzero(W, axis=0) <= 18).all() and np.count_nonzero(W) < W.size / 2
    if not padding:
        assert np.count_nonzero(W) == layer.multiply_adds(shape)


def test_a_dense_matrix_too_large_or_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="dense matrix"):
        LocallyConnected(64, 3).dense((64, 64, 3), {})
    with pytest.raises(InputError, match="weight has shape"):
        LocallyConnected(2, 3).dense((4, 4, 1), {"weight": np.ones((4, 2, 8))})


def test_shared_weights_make_it_a_convolution() -> None:
    shape = (5, 4, 2)
    convolution, local = Convolution(3, 3, padding=1), LocallyConnected(3, 3, padding=1)
    arrays = start(convolution, shape)
    places = 20
    shared = {
        "weight": np.tile(arrays["weight"].reshape(3, -1), (places, 1, 1)),
        "bias": np.tile(arrays["bias"], (places, 1)),
    }
    x = np.random.default_rng(1).standard_normal((2, *shape))
    np.testing.assert_allclose(run(convolution, x, arrays), run(local, x, shared), atol=1e-12)


def test_a_connection_table_is_a_convolution_with_zeros() -> None:
    shape, layer = (5, 5, 3), Convolution(3, 2, table=TABLE)
    arrays = start(layer, shape)
    assert arrays["weight"].shape == (6, 2, 2)
    full = np.zeros((3, 3, 2, 2))
    for connection, (o, i) in enumerate((o, i) for o, row in enumerate(TABLE) for i in row):
        full[o, i] = arrays["weight"][connection]
    x = np.random.default_rng(1).standard_normal((2, *shape))
    plain = run(Convolution(3, 2), x, {"weight": full, "bias": arrays["bias"]})
    np.testing.assert_allclose(run(layer, x, arrays), plain, atol=1e-12)


def test_groups_do_not_see_each_other() -> None:
    layer, shape = Convolution(4, 3, groups=2), (5, 5, 4)
    arrays = start(layer, shape)
    x = np.random.default_rng(1).standard_normal((1, *shape))
    changed = x.copy()
    changed[..., 2:] += 1.0
    same = run(layer, x, arrays) == run(layer, changed, arrays)
    assert same[..., :2].all() and not same[..., 2:].any()


def test_subsampling_is_a_sum_times_a_number_plus_a_number() -> None:
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 2))
    arrays = {"weight": np.array([0.5, -2.0]), "bias": np.array([1.0, 3.0])}
    y = run(Subsampling(2), x, arrays)
    assert y[0, 1, 0, 1] == pytest.approx(-2.0 * x[0, 2:, :2, 1].sum() + 3.0)


@pytest.mark.parametrize("within", [False, True])
def test_local_response_normalisation_is_its_formula(within: bool) -> None:
    layer = LocalResponseNorm(3, 0.4, 0.75, 2.0, within)
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 5))
    window = x[0, 1:4, 2:4, 4] if within else x[0, 2, 3, 3:5]
    expected = x[0, 2, 3, 4] / (2.0 + 0.4 * np.square(window).sum()) ** 0.75
    assert run(layer, x, {})[0, 2, 3, 4] == pytest.approx(expected)


def test_pooling_over_the_edge_averages_what_is_there() -> None:
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    y = run(AveragePool(3, 2, ceil=True), x, {})
    assert y[0, :, :, 0].tolist() == [[5.0, 6.5], [11.0, 12.5]]
    assert run(MaxPool(3, 2, ceil=True), x, {})[0, 1, 1, 0] == 15.0


def test_batch_norm_uses_the_batch_in_training_and_the_running_statistics_after() -> None:
    layer, x = BatchNorm(momentum=0.25, epsilon=1e-12), np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    tensors = {
        "weight": torch.full((4,), 2.0, dtype=torch.float64),
        "bias": torch.full((4,), 1.0, dtype=torch.float64),
        "mean": torch.zeros(4, dtype=torch.float64),
        "variance": torch.ones(4, dtype=torch.float64),
    }
    y = layer.forward(torch.tensor(x), tensors, Mode(training=True)).numpy()
    np.testing.assert_allclose(y, 2.0 * (x - x.mean(0)) / x.std(0) + 1.0, atol=1e-9)
    np.testing.assert_allclose(tensors["mean"].numpy(), 0.25 * x.mean(0))
    np.testing.assert_allclose(tensors["variance"].numpy(), 0.75 + 0.25 * x.var(0, ddof=1))
    kept = tensors["mean"].clone()
    y = layer.forward(torch.tensor(x), tensors, EVALUATION).numpy()
    expected = 2.0 * (x - kept.numpy()) / np.sqrt(tensors["variance"].numpy()) + 1.0
    np.testing.assert_allclose(y, expected, atol=1e-9)
    assert torch.equal(tensors["mean"], kept)


def test_dropout_drops_in_training_alone_and_keeps_the_mean() -> None:
    x = np.ones((200, 50))
    mode = Mode(True, torch.Generator().manual_seed(0))
    y = run(Dropout(0.2), x, {}, mode)
    assert set(np.unique(y)) == {0.0, 1.25} and abs(y.mean() - 1.0) < 0.02
    again = run(Dropout(0.2), x, {}, Mode(True, torch.Generator().manual_seed(0)))
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(run(Dropout(0.2), x, {}), x)


def test_flatten_keeps_the_order_of_the_pixels() -> None:
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(run(Flatten(), x, {}), x.reshape(1, -1))


def test_radial_scores_are_distances_and_linear_but_for_a_constant() -> None:
    layer = RadialOutputs(4)
    codes = {name: one.start(np.random.default_rng(0), one.shape) for name, one in layer.parameters((6,)).items()}
    w = codes["weight"]
    x = np.random.default_rng(1).standard_normal((5, 6))
    y = run(layer, x, codes)
    np.testing.assert_allclose(y, -0.5 * np.square(x[:, None] - w).sum(2), atol=1e-12)
    linear = x @ w.T - 0.5 * np.square(w).sum(1)
    np.testing.assert_allclose(np.ptp(y - linear, axis=1), 0.0, atol=1e-12)
    other = {name: one.start(np.random.default_rng(5), one.shape) for name, one in layer.parameters((6,)).items()}
    np.testing.assert_array_equal(w, other["weight"])  # the codes are the seed's, not the training's


def test_the_digits_have_codes_that_differ() -> None:
    assert DIGITS.shape == (10, 84) and set(np.unique(DIGITS)) == {-1, 1}
    distances = (DIGITS[:, None] != DIGITS).sum(2)
    assert distances[~np.eye(10, dtype=bool)].min() >= 10


def test_whitening_filters_whiten_patches() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((200, 9, 9, 3)).astype(np.float32) @ rng.standard_normal((3, 3)).astype(np.float32)
    images[:, 1:] += images[:, :-1]
    layer = Whitening(2, 1e-9)
    filters = layer.filters(images)
    assert filters.shape == (24, 3, 2, 2) and filters.dtype == np.float32
    y = run(layer, images, {"weight": filters, "bias": np.zeros(24)})
    half = y[..., :12].reshape(-1, 12)
    np.testing.assert_allclose(half.T @ half / len(half), np.eye(12), atol=1e-3)
    np.testing.assert_allclose(y[..., 12:], -y[..., :12], atol=1e-5)


# --- where weights start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "deviation"),
    [
        ("he", (2 / 50) ** 0.5),
        ("glorot", (6 / 350) ** 0.5 / 3**0.5),
        ("lecun", 2.4 / 50 / 3**0.5),
        ("fan_in", 50**-0.5 / 3**0.5),
        ("normal:0.3", 0.3),
        ("normal:0", 0.0),
    ],
)
def test_a_rule_gives_its_deviation(rule: str, deviation: float) -> None:
    drawn = weights(rule, 50, 300)(np.random.default_rng(0), (300, 50))
    assert drawn.dtype == np.float32
    assert drawn.std() == pytest.approx(deviation, rel=0.02) and abs(drawn.mean()) <= 0.03 * deviation
    np.testing.assert_array_equal(drawn, weights(rule, 50, 300)(np.random.default_rng(0), (300, 50)))


def test_every_rule_is_tested_and_dirac_copies_maps() -> None:
    assert {rule.partition(":")[0] for rule in RULES} == {"he", "glorot", "lecun", "fan_in", "dirac", "normal"}
    layer, shape = Convolution(5, 3, padding=1, init="dirac", bias=False), (4, 4, 3)
    arrays = {n: one.start(np.random.default_rng(0), one.shape) for n, one in layer.parameters(shape).items()}
    x = np.random.default_rng(1).standard_normal((2, *shape))
    y = run(layer, x, arrays)
    np.testing.assert_allclose(y[..., :3], x, atol=1e-7)
    assert np.abs(y[..., 3:]).min() > 0


def test_biases_start_as_the_layer_says() -> None:
    rng = np.random.default_rng(0)
    one = Linear(4, initial_bias=1.0).parameters((3,))["bias"]
    assert one.start(rng, one.shape).tolist() == [1.0] * 4
    lecun = Linear(400, "lecun").parameters((3,))["bias"]
    assert lecun.start(rng, lecun.shape).std() == pytest.approx(0.8 / 3**0.5, rel=0.1)
