"""Tensors as features: the same answers as from arrays, computed where the tensor is."""

import sys

import numpy as np
import pytest

from lastlayer._errors import InputError
from lastlayer.estimators import LinearClassifier, LogisticRegression
from lastlayer.linear import device
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection import fit_linear, regularisation_path

torch = pytest.importorskip("torch", reason="torch is not installed: tensors as features are not tested")

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: features on a GPU are not tested")
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="cuda", marks=NO_CUDA)]
LOSSES = ["cross_entropy", "squared_hinge", "squared"]
TOLERATED = {np.float32: 1e-5, np.float64: 1e-10}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small products on a busy machine are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clouds(n, d, k, dtype=np.float32, seed=0):
    """Overlapping classes in columns of different sizes, away from zero."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    y[:k] = np.arange(k)
    X = 0.4 * rng.standard_normal((k, d))[y] + rng.standard_normal((n, d))
    return (X * np.logspace(0, -1.5, d) + 1.0).astype(dtype), y


@pytest.fixture(scope="module")
def large():
    """More than `FLOAT64_UP_TO` numbers, so that float32 is multiplied as float32; several leaves and a ragged end."""
    return clouds(23_000, 50, 5)


def value(X, y, k, loss, l2, fit, weights=None):
    """J of a fit, in float64 on the host."""
    objective = Objective(np.asarray(X, np.float64), y, k, by_name(loss), l2, weights)
    return objective.value(objective.to_inside(fit.weights, fit.bias))


def solve(X, y, k, loss, **options):
    gap = 1e-11 if "64" in str(X.dtype) else 1e-7
    return fit_linear(X, y, k, loss, **{"l2": 1e-3, "tol": 1e-3, "gap": gap, "max_iter": 500} | options)


@pytest.mark.parametrize("place", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_reaches_the_optimum_of_the_array(place, loss, dtype, weighted, large):
    X, y = large[0].astype(dtype), large[1]
    weights = np.arange(len(y)) % 3.0 if weighted else None  # a third of the rows has weight zero
    there = solve(torch.from_numpy(X).to(place), torch.from_numpy(y).to(place), 5, loss, sample_weight=weights)
    here = solve(X, y, 5, loss, sample_weight=weights)
    best = value(X, y, 5, loss, 1e-3, here, weights)
    assert abs(value(X, y, 5, loss, 1e-3, there, weights) - best) <= TOLERATED[dtype] * best
    assert there.solution.stop_reason is here.solution.stop_reason


@pytest.mark.parametrize("place", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_are_those_of_the_loss_classes(place, loss):
    X, y = clouds(9_000, 7, 4, np.float64)
    weights = np.linspace(0.1, 2.0, len(y))
    rng = np.random.default_rng(1)
    params, direction = rng.standard_normal((2, 8, 4))
    here = Objective(X, y, 4, by_name(loss), 1e-2, weights)
    there = Objective(torch.from_numpy(X).to(place), y, 4, by_name(loss), 1e-2, weights)
    points = here.at(params), there.at(params)
    np.testing.assert_allclose(points[1].value, points[0].value, rtol=1e-12)
    np.testing.assert_allclose(points[1].gradient, points[0].gradient, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        points[1].hessian_times(direction), points[0].hessian_times(direction), rtol=1e-10, atol=1e-12
    )
    samples = [point.sample(500, (0, 1)).hessian_times(direction) for point in points]
    np.testing.assert_allclose(samples[1], samples[0], rtol=1e-9, atol=1e-11)
    lines = [point.line(direction) for point in points]
    for step in (1.0, 0.3):
        np.testing.assert_allclose(lines[1].evaluate(step), lines[0].evaluate(step), rtol=1e-10)
    moved = [line.move(0.3) for line in lines]
    np.testing.assert_allclose(moved[1].gradient, moved[0].gradient, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(device.on_host(moved[1].scores), moved[0].scores, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", DEVICES)
def test_real_targets(place):
    X, _ = clouds(3_000, 6, 2, np.float64)
    targets = X[:, :3] @ np.ones((3, 2)) + np.sin(X[:, 3:5])
    there = solve(torch.from_numpy(X).to(place), targets, 2, "squared")
    here = solve(X, targets, 2, "squared")
    np.testing.assert_allclose(there.weights, here.weights, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("place", DEVICES)
def test_same_bits_in_every_run(place, large):
    X, y = torch.from_numpy(large[0]).to(place), large[1]
    first, second = (fit_linear(X, y, 5, l2=1e-4, max_iter=15) for _ in range(2))
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.bias, second.bias)


@pytest.mark.parametrize("place", DEVICES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8", "bool", "int16", "int64"])
def test_types(place, dtype):
    X, y = clouds(40_000, 30, 3)
    Z = torch.from_numpy(X if "float" in dtype else 40 * np.abs(X)).to(getattr(torch, dtype))
    there = solve(Z.to(place), y, 3, "cross_entropy")
    here = solve(device.on_host(Z), y, 3, "cross_entropy")
    best = value(device.on_host(Z), y, 3, "cross_entropy", 1e-3, here)
    assert abs(value(device.on_host(Z), y, 3, "cross_entropy", 1e-3, there) - best) <= 1e-5 * best


@pytest.mark.parametrize("place", DEVICES)
@pytest.mark.parametrize(("shift", "scale"), [(1e4, 1.0), (0.0, 1e-8), (1e9, 1e8)])
def test_columns_far_away_and_of_extreme_range(place, shift, scale):
    X, y = clouds(3_000, 6, 3, np.float64)
    X = X * np.array([scale, 1, 1, 1, 1, 1]) + shift * np.array([1, 0, 0, 0, 0, 0])
    X[:, 5] = 3.0
    there, here = (solve(Z, y, 3, "cross_entropy") for Z in (torch.from_numpy(X).to(place), X))
    best = value(X, y, 3, "cross_entropy", 1e-3, here)
    assert abs(value(X, y, 3, "cross_entropy", 1e-3, there) - best) <= 1e-9 * best
    assert not there.weights[5].any()


@pytest.mark.parametrize("place", DEVICES)
def test_warm_start_and_separable_classes(place):
    X, y = clouds(2_000, 5, 3, np.float64)
    Z = torch.from_numpy(X).to(place)
    first = solve(Z, y, 3, "cross_entropy")
    again = solve(Z, y, 3, "cross_entropy", start=(first.weights, first.bias))
    assert again.solution.iterations == 0
    line = torch.arange(20.0, device=place)[:, None]
    free = fit_linear(line, np.repeat([0, 1], 10), 2, l2=0.0, max_iter=200)
    assert free.solution.stop_reason.value == "no finite optimum"


@pytest.mark.parametrize("place", DEVICES)
def test_path_chooses_as_with_arrays(place, large):
    X, y = large
    there, here = (
        regularisation_path(*data, 5, "cross_entropy", np.logspace(-4, 0, 4), tol=1e-6)
        for data in (
            [torch.from_numpy(a).to(place) for a in (X[:20_500], y[:20_500], X[20_500:], y[20_500:])],
            (X[:20_500], y[:20_500], X[20_500:], y[20_500:]),
        )
    )
    assert there.best == here.best
    np.testing.assert_allclose([p.val_loss for p in there.points], [p.val_loss for p in here.points], rtol=1e-4)


@pytest.mark.parametrize("place", DEVICES)
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("make", [LogisticRegression, LinearClassifier], ids=lambda make: make.__name__)
def test_estimators_answer_in_kind_and_in_place(place, k, make):
    X, y = clouds(2_000, 8, k)
    Z = torch.from_numpy(X).to(place)
    there = make(tol=1e-8).fit(Z, torch.from_numpy(y).to(place))
    here = make(tol=1e-8).fit(X, y)
    assert isinstance(there.coef_, np.ndarray)
    np.testing.assert_allclose(there.coef_, here.coef_, atol=2e-5)
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        found, expected = getattr(there, method)(Z), getattr(here, method)(X)
        assert found.device == Z.device
        assert str(found.dtype) == f"torch.{expected.dtype}"
        assert found.shape == expected.shape
        np.testing.assert_allclose(device.on_host(found), expected, atol=1e-4)
        np.testing.assert_allclose(getattr(there, method)(X), expected, atol=1e-4)
    assert there.score(Z, torch.from_numpy(y).to(place)) == here.score(X, y)
    assert there.n_features_in_ == 8


@pytest.mark.parametrize("place", DEVICES)
def test_estimators_with_names_and_weights(place):
    X, y = clouds(1_500, 5, 3, np.float64)
    names = np.array(["ant", "bee", "cat"])[y]
    Z = torch.from_numpy(X).to(place)
    weights = torch.arange(1.0, 1501.0, dtype=torch.float64, device=place)
    there = LogisticRegression(class_weight="balanced", tol=1e-9).fit(Z, names, weights)
    here = LogisticRegression(class_weight="balanced", tol=1e-9).fit(X, names, np.arange(1.0, 1501.0))
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-6)
    assert there.predict(Z).tolist() == here.predict(X).tolist()
    assert there.score(Z, names, weights) == pytest.approx(here.score(X, names, np.arange(1.0, 1501.0)))


def test_scores_do_not_depend_on_the_company():
    W, b = np.random.default_rng(0).standard_normal((31, 7)), np.zeros(7)
    Z = torch.from_numpy(clouds(device.PART_ROWS + 77, 31, 3)[0])
    whole = device.scores(Z, W, b)
    assert torch.equal(device.scores(Z[1000:1013], W, b), whole[1000:1013])
    assert torch.equal(device.scores(Z[-1:], W, b), whole[-1:])


def test_features_are_never_copied_to_the_host(large, monkeypatch):
    sizes = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: sizes.append(tensor.numel()) or to_host(tensor))
    X, y = torch.from_numpy(large[0]), large[1]
    model = LogisticRegression(max_iter=500).fit(X, y)
    model.predict_proba(X)
    assert sizes
    assert max(sizes) <= 50 * 50


@pytest.mark.parametrize("setting", ["older", "newer", "autocast"])
def test_products_are_exact_and_settings_restored(setting, large):
    X, y = torch.from_numpy(large[0]), large[1]
    plain = fit_linear(X, y, 5, l2=1e-3)
    matmul = torch.backends.mkldnn.matmul
    if setting == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert np.array_equal(fit_linear(X, y, 5, l2=1e-3).weights, plain.weights)
            assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16
        return
    before = torch.get_float32_matmul_precision(), matmul.fp32_precision
    try:
        if setting == "older":
            torch.set_float32_matmul_precision("medium")
        else:
            matmul.fp32_precision = "bf16"
        found = matmul.fp32_precision
        assert np.array_equal(fit_linear(X, y, 5, l2=1e-3).weights, plain.weights)
        with device.exact_products(X), device.exact_products(X):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == found == "bf16"
    finally:
        if setting == "older":
            torch.set_float32_matmul_precision(before[0])
        matmul.fp32_precision = before[1]


def test_gradients_of_the_features_are_not_followed():
    X, y = clouds(500, 4, 3)
    Z = torch.from_numpy(X).requires_grad_()
    model = LogisticRegression().fit(Z, y)
    assert not model.predict_proba(Z).requires_grad


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda Z: Z.index_put((torch.tensor(7), torch.tensor(2)), torch.tensor(float("nan"))),
            "nan in row 7, column 2",
        ),
        (
            lambda Z: Z.index_put((torch.tensor(9), torch.tensor(1)), torch.tensor(float("inf"))),
            "inf in row 9, column 1",
        ),
        (lambda Z: Z[:, 0], "shape"),
        (lambda Z: Z[:, :0], "shape"),
        (lambda Z: Z.to(torch.complex64), "real numbers"),
        (lambda Z: Z.to_sparse(), "sparse tensor"),
        (lambda Z: Z.to("meta"), "meta"),
        (lambda Z: Z.double() * 1e70, "beyond what can be squared"),
    ],
)
def test_refused(spoil, said):
    X, y = clouds(50, 3, 3)
    Z = spoil(torch.from_numpy(X))
    with pytest.raises(InputError, match=said):
        fit_linear(Z, y, 3, l2=0.1)
    with pytest.raises(InputError, match=said):
        LogisticRegression().fit(Z, y)


@pytest.mark.parametrize("loss", ["hinge", "perceptron"])
def test_losses_without_a_twin_are_refused_by_name(loss):
    X, y = clouds(50, 3, 3)
    with pytest.raises(InputError, match=f"{loss} loss .* Take cross_entropy, squared_hinge, squared"):
        fit_linear(torch.from_numpy(X), y, 3, loss, l2=0.0)


def test_what_estimators_refuse():
    X, y = clouds(60, 3, 3)
    Z = torch.from_numpy(X)
    with pytest.raises(InputError, match="standardise"):
        LinearClassifier(standardise=True).fit(Z, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LogisticRegression().fit(Z, y[:-1])
    with pytest.raises(ValueError, match="X has 2 features, but LogisticRegression is expecting 3"):
        LogisticRegression().fit(Z, y).predict(Z[:, :2])


def test_cupy_is_refused_by_name():
    CuPyLike = type("ndarray", (), {"__module__": "cupy"})
    with pytest.raises(InputError, match="CuPy"):
        LogisticRegression().fit(CuPyLike(), [0, 1])


def test_device_terms_are_chosen_by_the_features_alone(monkeypatch):
    X, y = clouds(100, 3, 3)
    assert not device.is_tensor(X)
    monkeypatch.delitem(sys.modules, "torch")
    assert not device.is_tensor(X)
    assert fit_linear(X, y, 3, l2=0.1).solution.stop_reason.converged
