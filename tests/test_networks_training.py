"""Training of networks: it learns, it is the textbook's steps, it repeats itself, and what goes wrong is said."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

from lastlayer._codes import CODES  # noqa: E402
from lastlayer._errors import InputError  # noqa: E402
from lastlayer.networks.architecture import Architecture  # noqa: E402
from lastlayer.networks.base import EVALUATION  # noqa: E402
from lastlayer.networks.batches import Batches  # noqa: E402
from lastlayer.networks.forward import Model, choose_device, deterministic  # noqa: E402
from lastlayer.networks.layers import Activation, Flatten, Linear, RadialOutputs  # noqa: E402
from lastlayer.networks.network import Network  # noqa: E402
from lastlayer.networks.plan import TrainingPlan  # noqa: E402
from lastlayer.networks.rate_search import find_rate  # noqa: E402
from lastlayer.networks.training import train_network  # noqa: E402
from planted_digits import convnet, mlp, planted  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CPU = torch.device("cpu")
PLAN = TrainingPlan(epochs=4, batch_size=32, rate=0.05, device="cpu")


def change(plan: TrainingPlan, **given: object) -> TrainingPlan:
    return dataclasses.replace(plan, **given)


def same(one: Network, other: Network) -> bool:
    return set(one.arrays) == set(other.arrays) and all(
        np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items()
    )


def test_it_learns_planted_classes_and_tells_each_epoch() -> None:
    X, y = planted(600)
    validation = planted(200, seed=1)
    told: list[dict[str, object]] = []
    trained = train_network(convnet(), X, y, validation, change(PLAN, augmentation="flip"), log=told.append)
    assert trained.stop_reason == "epochs" and not trained.interrupted and trained.message == ""
    assert [record["epoch"] for record in told] == [1, 2, 3, 4] and tuple(told) == trained.history
    assert told[-1]["steps"] == 4 * 19 and told[-1]["val_count"] == 200
    assert told[-1]["loss"] < told[0]["loss"] and told[-1]["accuracy"] > 0.9
    best = max(trained.history, key=lambda record: (record["val_correct"], -record["val_loss"]))
    assert trained.best_epoch == best["epoch"] and best["val_correct"] >= 190
    right = trained.network.scores(validation[0]).argmax(axis=1) == validation[1]
    assert int(right.sum()) == best["val_correct"]


def bare_loop(X: np.ndarray, y: np.ndarray, plan: TrainingPlan, steps: int) -> dict[str, np.ndarray]:
    """The same mlp, written with torch.nn and torch.optim; same start, same batches."""
    model = Model(mlp(), CPU)
    arrays = model.begin(X, plan.seed)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    with torch.no_grad():
        for layer, name in ((net[1], "hidden"), (net[3], "scores")):
            layer.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"]))
            layer.bias.copy_(torch.from_numpy(arrays[f"{name}.bias"]))
    weights = [layer.weight for layer in (net[1], net[3])]
    biases = [layer.bias for layer in (net[1], net[3])]
    groups = [{"params": weights, "weight_decay": plan.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    if plan.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, lr=plan.rate, momentum=plan.momentum, nesterov=plan.nesterov)
    else:
        optimiser = torch.optim.AdamW(groups, lr=plan.rate, betas=(plan.momentum, plan.beta2), eps=plan.epsilon)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    per_epoch = steps // int(plan.epochs)
    for step in range(steps):
        epoch, index = divmod(step, per_epoch)
        ids = np.random.default_rng([plan.seed, 21, epoch]).permutation(len(y))[index * 32 : (index + 1) * 32]
        x = (torch.from_numpy(X[ids]).float() - arrays["input.mean"][0]) / arrays["input.std"][0]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), torch.from_numpy(y[ids])).backward()
        optimiser.step()
        schedule.step()
    return {"hidden.weight": net[1].weight.detach().numpy(), "scores.bias": net[3].bias.detach().numpy()}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"nesterov": False, "momentum": 0.5},
        {"nesterov": False, "momentum": 0.0, "weight_decay": 0.1},
        {"optimiser": "adam", "rate": 0.01, "weight_decay": 0.1},
    ],
)
def test_its_steps_are_those_of_a_bare_loop(given: dict[str, object]) -> None:
    X, y = planted(128)
    plan = change(PLAN, epochs=2, **given)
    trained = train_network(mlp(), X, y, None, plan)
    for name, array in bare_loop(X, y, plan, 8).items():
        np.testing.assert_allclose(trained.network.arrays[name], array, rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    X, y = planted(200)
    plan = change(PLAN, epochs=2, augmentation="flip,shift=1,elastic=2:5", average=0.9)
    one, two = (train_network(convnet(), X, y, None, plan).network for _ in range(2))
    assert same(one, two)
    assert not same(one, train_network(convnet(), X, y, None, change(plan, seed=1)).network)


def test_settings_of_torch_are_as_they_were() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    with deterministic(CPU):
        assert torch.are_deterministic_algorithms_enabled()
    assert before == (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)


def test_epochs_see_every_image_once_in_an_order_of_their_own() -> None:
    X, y = planted(100)
    batches = Batches(X, y, 30, 5, CPU, "")
    assert batches.per_epoch == 3  # the last 10 are fewer than half a batch
    orders = [np.concatenate([batches.ids(epoch, index) for index in range(3)]) for epoch in (0, 1)]
    assert all(len(set(order)) == 90 for order in orders) and not np.array_equal(*orders)
    again = Batches(X, y, 30, 5, CPU, "")
    np.testing.assert_array_equal(again.ids(1, 2), batches.ids(1, 2))
    assert Batches(X, y, 40, 5, CPU, "").per_epoch == 3  # 20 are half of 40
    assert Batches(X, y, 1000, 5, CPU, "").per_epoch == 1


def test_part_of_an_epoch_is_a_run_too() -> None:
    X, y = planted(320)
    trained = train_network(mlp(), X, y, None, change(PLAN, epochs=1.5))
    assert [record["steps"] for record in trained.history] == [10, 15]


def test_patience_returns_to_the_best_epoch() -> None:
    X, y = planted(300)
    noise = np.random.default_rng(0)
    validation = (noise.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8), noise.integers(0, 3, 60))  # nothing to learn
    trained = train_network(mlp(), X, y, validation, change(PLAN, epochs=60, patience=3, schedule="constant"))
    assert trained.stop_reason == "patience"
    assert len(trained.history) == trained.best_epoch + 3 < 60
    best = trained.history[trained.best_epoch - 1]
    assert best["val_correct"] == max(record["val_correct"] for record in trained.history)
    assert int((trained.network.scores(validation[0]).argmax(axis=1) == validation[1]).sum()) == best["val_correct"]


def test_a_plateau_drops_the_rate() -> None:
    X, y = planted(100)
    noise = np.random.default_rng(0)
    validation = (noise.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8), noise.integers(0, 3, 40))
    plan = change(PLAN, epochs=12, schedule="plateau:factor=0.5,patience=1,threshold=0")
    rates = [record["rate"] for record in train_network(mlp(), X, y, validation, plan).history]
    assert rates[0] == 0.05 and set(np.log2(np.array(rates[:-1]) / rates[1:])) == {0.0, 1.0}


def test_the_average_is_what_is_judged_and_kept() -> None:
    X, y = planted(64)
    plan = change(PLAN, epochs=2, average=0.5, schedule="constant")
    halves = [train_network(mlp(), X, y, None, change(plan, epochs=steps / 2, average=0.0)) for steps in (1, 2, 3, 4)]
    average = Model(mlp(), CPU).begin(X, 0)["hidden.weight"]
    for count, trained in enumerate(halves):
        decay = min(0.5, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * trained.network.arrays["hidden.weight"]
    found = train_network(mlp(), X, y, None, plan).network.arrays["hidden.weight"]
    np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7)


def test_rates_are_multiplied_and_frozen_by_name() -> None:
    X, y = planted(64)
    once = change(PLAN, epochs=0.5, momentum=0.0, nesterov=False, weight_decay=0.0, schedule="constant")
    begin = Model(mlp(), CPU).begin(X, 0)
    plain = train_network(mlp(), X, y, None, once).network.arrays
    moved = train_network(mlp(), X, y, None, change(once, rates="*.bias=4", frozen="hidden.weight")).network.arrays
    for name in ("hidden.bias", "scores.bias"):
        np.testing.assert_allclose(moved[name] - begin[name], 4 * (plain[name] - begin[name]), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(moved["hidden.weight"], begin["hidden.weight"])
    np.testing.assert_array_equal(moved["scores.weight"], plain["scores.weight"])
    for given, words in (({"rates": "*.slope=2"}, "hidden.bias"), ({"frozen": "*"}, "nothing to train")):
        with pytest.raises(InputError, match=words):
            train_network(mlp(), X, y, None, change(once, **given))


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_decay_is_multiplied_by_name(optimiser: str) -> None:
    X, y = planted(64)
    once = change(
        PLAN, epochs=0.5, optimiser=optimiser, momentum=0.9, nesterov=False, weight_decay=0.0, schedule="constant"
    )
    begin = Model(mlp(), CPU).begin(X, 0)
    plain, whole, chosen = (
        train_network(mlp(), X, y, None, plan).network.arrays
        for plan in (once, change(once, weight_decay=2.0), change(once, weight_decay=0.2, decays="scores.*=10,*=0"))
    )
    # one step: the decay is a shift along the weights it begins with
    np.testing.assert_array_equal(chosen["hidden.weight"], plain["hidden.weight"])
    np.testing.assert_allclose(chosen["scores.weight"], whole["scores.weight"], rtol=1e-5, atol=1e-8)
    shift = -once.rate * 2.0 * begin["scores.weight"]
    np.testing.assert_allclose(chosen["scores.weight"] - plain["scores.weight"], shift, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(chosen["scores.bias"], plain["scores.bias"])
    with pytest.raises(InputError, match="no parameter is named 'last'"):
        train_network(mlp(), X, y, None, change(once, decays="last=2"))


def test_decay_spares_biases_unless_told() -> None:
    X, y = planted(64)
    once = change(PLAN, epochs=0.5, momentum=0.0, nesterov=False, weight_decay=0.0, schedule="constant")
    start = Model(mlp(), CPU).begin(X, 0)
    start["hidden.bias"] = np.full(16, 2.0, np.float32)
    begin = Network(mlp(), start)
    runs = [
        train_network(mlp(), X, y, None, plan, start=begin).network.arrays
        for plan in (once, change(once, weight_decay=0.5), change(once, weight_decay=0.5, decay_all=True))
    ]
    np.testing.assert_array_equal(runs[0]["hidden.bias"], runs[1]["hidden.bias"])
    np.testing.assert_allclose(runs[2]["hidden.bias"], runs[0]["hidden.bias"] - 0.05 * 0.5 * 2.0, rtol=1e-5)
    want = runs[0]["hidden.weight"] - 0.05 * 0.5 * start["hidden.weight"]
    np.testing.assert_allclose(runs[1]["hidden.weight"], want, rtol=1e-4, atol=1e-7)


def test_a_long_gradient_is_shortened() -> None:
    X, y = planted(64)
    once = change(PLAN, epochs=0.5, momentum=0.0, nesterov=False, weight_decay=0.0, schedule="constant", clip=0.01)
    begin = Model(mlp(), CPU).begin(X, 0)
    moved = train_network(mlp(), X, y, None, once).network.arrays
    names = ("hidden.weight", "hidden.bias", "scores.weight", "scores.bias")
    length = math.sqrt(sum(float(np.square(moved[name] - begin[name]).sum()) for name in names))
    assert length == pytest.approx(0.05 * 0.01, rel=1e-3)


def test_dropout_depends_on_the_step_alone() -> None:
    X, y = planted(64)
    plan = change(PLAN, epochs=1)
    torch.manual_seed(1)
    one = train_network(convnet(dropout=0.5), X, y, None, plan).network
    torch.manual_seed(2)
    assert same(one, train_network(convnet(dropout=0.5), X, y, None, plan).network)


def test_bfloat16_is_close_to_float32() -> None:
    X, y = planted(96)
    losses = [
        train_network(convnet(), X, y, None, change(PLAN, precision=precision)).history[-1]["loss"]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], abs=0.05)


def test_bfloat16_gives_the_same_bits_and_keeps_the_weights_in_float32() -> None:
    X, y = planted(200)
    plan = change(PLAN, epochs=2, precision="bfloat16", optimiser="muon", augmentation="flip,shift=1")
    one, two = (train_network(convnet(), X, y, None, plan).network for _ in range(2))
    assert same(one, two)
    wide = train_network(convnet(), X, y, None, change(plan, precision="float32")).network
    assert not same(one, wide)
    assert {array.dtype for array in one.arrays.values()} == {np.dtype(np.float32)}


def test_float_rows_can_be_learned_as_they_are() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 1, 5, 1)).astype(np.float32)
    y = (X[:, 0, 0, 0] > 0).astype(int)
    layers = (("flat", Flatten()), ("hidden", Linear(8)), ("act", Activation("tanh")), ("scores", Linear(2)))
    architecture = Architecture("rows", layers, (1, 5, 1), 2)
    trained = train_network(architecture, X, y, None, change(PLAN, epochs=10, rate=0.1))
    assert trained.history[-1]["accuracy"] > 0.9


def radial() -> Architecture:
    layers = (
        ("flat", Flatten()),
        ("hidden", Linear(12, init="lecun")),
        ("act", Activation("scaled_tanh")),
        ("scores", RadialOutputs(3, seed=4)),
    )
    return Architecture("radial", layers, (8, 8, 1), 3)


@pytest.mark.parametrize("loss", ["squared", "map", "cross_entropy"])
def test_radial_outputs_learn_with_every_loss(loss: str) -> None:
    X, y = planted(400)
    plan = change(PLAN, loss=loss, epochs=6, rate=0.003 if loss != "cross_entropy" else 0.01, weight_decay=0.0)
    trained = train_network(radial(), X, y, None, plan)
    assert trained.history[-1]["accuracy"] > 0.9
    start = Model(radial(), CPU).begin(X, 0)["scores.weight"]
    np.testing.assert_array_equal(trained.network.arrays["scores.weight"], start)  # fixed centres


def test_a_step_function_is_refused_by_name() -> None:
    X, y = planted(20)
    with pytest.raises(InputError, match="step"):
        train_network(mlp(activation="step"), X, y, None, PLAN)


def test_a_rate_that_diverges_at_once_is_an_error_that_names_it() -> None:
    X, y = planted(600)
    with pytest.raises(InputError, match=r"LL042 the loss diverged .* learning rate 1e\+06.*--lr 1e\+05") as caught:
        train_network(mlp(activation="tanh"), X, y, planted(30), change(PLAN, rate=1e6, epochs=20, schedule="constant"))
    assert caught.value.code in CODES


def test_weights_before_a_divergence_are_kept() -> None:
    X, y = planted(300)
    plan = change(PLAN, epochs=6, schedule="piecewise:3=1e9")
    trained = train_network(mlp(activation="tanh"), X, y, planted(100, seed=1), plan)
    assert trained.stop_reason == "diverged" and 1 <= trained.best_epoch <= 3
    assert "learning rate" in trained.message and f"epoch {trained.best_epoch}" in trained.message
    assert all(np.isfinite(array).all() for array in trained.network.arrays.values())
    shorter = train_network(mlp(activation="tanh"), X, y, planted(100, seed=1), change(plan, epochs=3)).network
    assert same(trained.network, shorter)


def test_a_dead_network_is_told() -> None:
    X, y = planted(100)
    arrays = Model(mlp(), CPU).begin(X, 0)
    arrays["hidden.bias"] = np.full(16, -1e3, np.float32)
    with pytest.raises(InputError, match="LL043 the network died in epoch 1: every unit of act is dead") as caught:
        train_network(mlp(), X, y, planted(30), PLAN, start=Network(mlp(), arrays))
    assert caught.value.code in CODES


def test_a_saturated_layer_is_told() -> None:
    X, y = planted(100)
    architecture = mlp(activation="sigmoid")
    arrays = Model(architecture, CPU).begin(X, 0)
    arrays["hidden.bias"] = np.full(16, 30.0, np.float32)
    trained = train_network(architecture, X, y, None, change(PLAN, epochs=1), start=Network(architecture, arrays))
    assert trained.history[0]["saturated"] == 1.0 and "act is saturated" in trained.history[0]["note"]


def test_health_counts_what_numpy_counts() -> None:
    from lastlayer.networks.diagnostics import layer_health

    outputs = np.random.default_rng(0).standard_normal((5, 4, 3, 3)).astype(np.float32)
    outputs[:, 1:3] = -np.abs(outputs[:, 1:3])
    found = layer_health("act", "relu", torch.from_numpy(np.maximum(outputs, 0.0)))
    assert found is not None and (found.units, found.dead, found.saturated) == (4, 2, None)
    x = np.linspace(-6, 6, 4001, dtype=np.float32).reshape(-1, 1)
    for name, derivative in (("tanh", 1 - np.tanh(x) ** 2), ("scaled_tanh", 1 - np.tanh(x / 1.5) ** 2)):
        value = np.tanh(x) if name == "tanh" else 1.7159 * np.tanh(x / 1.5)
        found = layer_health("act", name, torch.from_numpy(value))
        assert found is not None and found.saturated == pytest.approx(float((derivative < 0.05).mean()), abs=1e-3)
    assert layer_health("act", "gelu", torch.zeros(2, 2)) is None


def test_a_time_limit_sets_the_epochs_once() -> None:
    X, y = planted(400)
    plan = change(PLAN, epochs=0, time_limit=2.0)
    trained = train_network(mlp(), X, y, planted(50), plan)
    assert trained.stop_reason in ("epochs", "time_limit")  # the latter on a machine that slowed down meanwhile
    assert trained.seconds < 4.0 and "epochs in 2 s" in trained.history[0]["note"]
    few = train_network(mlp(), X, y, planted(50), change(plan, epochs=2, time_limit=100.0))
    assert len(few.history) == 2


def test_ctrl_c_returns_the_best_so_far() -> None:
    X, y = planted(200)

    def stop(record: dict[str, object]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    trained = train_network(mlp(), X, y, planted(50, seed=1), PLAN, log=stop)
    assert trained.interrupted and trained.stop_reason == "interrupted" and len(trained.history) == 2
    assert trained.best_epoch in (1, 2)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (np.zeros((4, 8, 9, 1), np.uint8), np.zeros(4, int), "8x8x1 and met images of 8x9x1"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int), "8x8x1 and met images of 8x8x3"),
        (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(3, int), "one whole number for each image"),
        (np.zeros((4, 8, 8, 1), np.uint8), np.full(4, 3), "run from 3 to 3; small mlp 16 relu has 3 classes"),
        (np.zeros((4, 8, 8, 1), np.uint8), np.full(4, 0.5), "one whole number"),
        (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, int), "at least one"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(X: np.ndarray, y: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train_network(mlp(), X, y, None, PLAN)
    good = planted(10)
    with pytest.raises(InputError, match=words):
        train_network(mlp(), *good, (X, y), PLAN)


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert choose_device("auto") == CPU
    with pytest.raises(InputError, match="finds no CUDA device"):
        choose_device("cuda")


def test_a_rate_is_found_that_learns() -> None:
    X, y = planted(600)
    told = [find_rate(mlp(), X, y, change(PLAN, optimiser=name)) for name in ("sgd", "adam")]
    for (rate, records), name in zip(told, ("sgd", "adam")):
        lowest = min(records, key=lambda record: record["smoothed"])
        assert rate == pytest.approx(0.1 * lowest["rate"], rel=0.06)
        trained = train_network(mlp(), X, y, None, change(PLAN, optimiser=name, rate=rate))
        assert trained.history[-1]["accuracy"] > 0.9
    assert find_rate(mlp(), X, y, change(PLAN, optimiser="sgd")) == told[0]
    with pytest.raises(InputError, match="at least 20"):
        find_rate(mlp(), X, y, PLAN, steps=5)


def test_what_is_judged_is_what_the_network_gives() -> None:
    X, _ = planted(50)
    model = Model(convnet(), CPU)
    arrays = model.begin(X, 0)
    scores = model.scores(model.tensors(arrays), model.images(X), EVALUATION).numpy()
    np.testing.assert_allclose(Network(convnet(), arrays).scores(X), scores, rtol=1e-4, atol=1e-5)


def test_a_parameter_can_be_frozen_from_an_epoch_on() -> None:
    X, y = planted(64)
    plan = change(PLAN, epochs=3, schedule="constant")
    free, after_one = (
        train_network(mlp(), X, y, None, change(plan, epochs=epochs)).network.arrays for epochs in (3, 1)
    )
    frozen = train_network(mlp(), X, y, None, change(plan, frozen="hidden.*@1")).network.arrays
    for name in ("hidden.weight", "hidden.bias"):
        np.testing.assert_array_equal(frozen[name], after_one[name])
        assert not np.array_equal(frozen[name], free[name])
    assert not np.array_equal(frozen["scores.weight"], after_one["scores.weight"])
