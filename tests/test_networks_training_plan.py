"""Plans, schedules as text and losses: what they mean in numbers, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lastlayer._errors import InputError
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.schedules_text import NAMES, parse_schedule
from lastlayer.networks.timing import Speed
from lastlayer.networks.watch import LOOK, WINDOWS, Best, LossWatch, divergence_mend
from lastlayer.solvers import schedules as make


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("constant", make.constant(0.2)),
        ("cosine", make.cosine(0.2, 100)),
        ("cosine:floor=0.1", make.cosine(0.2, 100, 0.02)),
        ("step:every=3,factor=0.5", make.step_drop(0.2, 30, 0.5)),
        ("step", make.step_drop(0.2, 34, 0.1)),
        ("exponential:factor=0.5", make.exponential_decay(0.2, 0.5 ** (1 / 10))),
        ("inverse:shift=2", make.inverse_time(0.2, 20.0)),
        ("polynomial:half_life=2,power=0.5", make.polynomial_decay(0.2, 20.0, 0.5)),
        ("restarts:T0=1,T_mult=2", make.cosine_restarts(0.2, 10, 2)),
        ("restarts:T0=1,T_mult=1,floor=0.5", make.cosine_restarts(0.2, 10, 1, 0.1)),
        ("one-cycle:rise=0.4", make.one_cycle(0.2, 100, 0.4)),
        ("one-cycle:rise=0.23,first=0.2,last=0.07,linear=1", make.one_cycle(0.2, 100, 0.23, 0.2, 0.07, True)),
        ("linear", lambda count: 0.2 * (1 - count / 100)),
        ("plateau", make.constant(0.2)),
    ],
)
def test_a_schedule_in_epochs_is_the_solvers_in_steps(text: str, want: make.Schedule) -> None:
    built = parse_schedule(text).build(0.2, 100, 10)
    assert [built(count) for count in range(100)] == pytest.approx([want(count) for count in range(100)], rel=1e-12)


def test_a_warm_up_goes_before() -> None:
    built = parse_schedule("cosine").build(0.2, 100, 10, warm_up=1.5)
    want = make.warm_up(make.cosine(0.2, 85), 15)
    assert [built(count) for count in range(100)] == pytest.approx([want(count) for count in range(100)])
    with pytest.raises(InputError, match="leaves none of 100"):
        parse_schedule("cosine").build(0.2, 100, 10, warm_up=10)


def test_drops_are_where_they_are_written() -> None:
    built = parse_schedule("piecewise:80%=0.01, 2=0.5,50%=0.1").build(1.0, 100, 10)
    assert [built(count) for count in (0, 19, 20, 49, 50, 79, 80, 99)] == [1, 1, 0.5, 0.5, 0.1, 0.1, 0.01, 0.01]


def test_a_plateau_has_the_solvers_rule() -> None:
    found = parse_schedule("plateau:factor=0.2,patience=5").plateau()
    assert found == make.Plateau(0.2, 5, 1e-4)
    assert all(parse_schedule(name).plateau() is None for name in NAMES if name not in ("plateau", "piecewise"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cosinus", "Known: constant"),
        ("cosine:T0=3", "Its settings: floor"),
        ("cosine:floor", "setting=number"),
        ("cosine:floor=low", "setting=number"),
        ("cosine:floor=2", "floor"),
        ("linear:floor=-1", "floor"),
        ("step:factor=2", "factor"),
        ("step:every=-1", "every"),
        ("exponential:factor=0", "factor"),
        ("restarts:T_mult=1.5", "T_mult"),
        ("restarts:T0=0", "T0"),
        ("plateau:factor=1", "factor"),
        ("piecewise", "no drops"),
        ("piecewise:30%=-1", "30%"),
        ("piecewise:often=0.1", "EPOCH=FACTOR"),
    ],
)
def test_schedules_that_mean_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_schedule(text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": 0}, "time_limit=600"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "whole number"),
        ({"optimiser": "adamw"}, "sgd, adam"),
        ({"rate": 0}, "rate above 0"),
        ({"rate": math.nan}, "finite"),
        ({"rate": "fast"}, "finite number"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.0}, "nesterov"),
        ({"loss": "hinge"}, "cross_entropy, squared, map"),
        ({"loss": "squared", "label_smoothing": 0.1}, "label_smoothing"),
        ({"device": "gpu"}, "cuda"),
        ({"precision": "float16"}, "bfloat16"),
        ({"schedule": "cosinus"}, "cosinus"),
        ({"augmentation": "flop"}, "flop"),
        ({"rates": "bias"}, "NAME=FACTOR"),
        ({"rates": "*.bias=-1"}, "NAME=FACTOR"),
        ({"decays": "scores"}, "decays: 'scores' is not of the form NAME=FACTOR"),
        ({"frozen": "a@0"}, "NAME@EPOCHS"),
        ({"frozen": "a@soon"}, "NAME@EPOCHS"),
        ({"seed": -1}, "seed"),
    ],
)
def test_plans_that_make_no_sense_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainingPlan(**given)


def test_a_plan_is_plain_values_and_back() -> None:
    plan = TrainingPlan(epochs=3, augmentation="flip", rates="*.bias=2", frozen="a.*,b.*@2")
    assert TrainingPlan.from_dict(plan.to_dict()) == plan
    assert plan.multipliers() == (("a.*", 0.0), ("*.bias", 2.0))
    with pytest.raises(InputError, match="'speed' is no choice"):
        TrainingPlan.from_dict({"speed": 1})


def test_the_loss_is_watched() -> None:
    watch = LossWatch(10)
    assert watch.look(0.5) and watch.reference == pytest.approx(math.log(10))
    assert not watch.look(math.nan) and not watch.look(math.inf)
    high = 3.1 * math.log(10)
    assert all(watch.look(high) for _ in range(WINDOWS - 1)) and not watch.look(high)
    watch.look(1.0)
    assert watch.look(high) and LOOK >= 1
    begun = LossWatch(10)
    begun.look(500.0)  # radial outputs begin high
    assert begun.reference == 500.0 and begun.look(900.0)
    again = LossWatch(10)
    again.restore(watch.to_list())
    assert again == watch
    assert "--lr 0.05" in divergence_mend(TrainingPlan(rate=0.5)) and "warm_up" in divergence_mend(TrainingPlan())


def test_the_best_epoch_is_most_correct_then_lowest_in_loss() -> None:
    best = Best()
    assert [best.look(*one) for one in ((1, 5, 0.9), (2, 5, 0.8), (3, 4, 0.1), (4, 5, 0.8), (5, 6, 2.0))] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert (best.epoch, best.correct, best.misses) == (5, 6, 0)
    again = Best()
    again.restore(best.to_dict())
    assert again == best
    assert Best().look(3, None, None)


def test_epochs_that_fit_are_whole_from_two_on() -> None:
    speed = Speed(step=0.1, judged=0.0)
    assert speed.fitting(100.0, 100, 0) == 9 and speed.fitting(15.0, 100, 0) == 1.42
    assert speed.fitting(0.0, 100, 0) == 0.01


def test_losses_are_their_formulas() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")
    from lastlayer.networks.criteria import make_criterion

    rng = np.random.default_rng(0)
    x, w, y = rng.standard_normal((6, 4)), rng.standard_normal((3, 4)), rng.integers(0, 3, 6)
    d = np.square(x[:, None] - w).sum(axis=2)
    z, rows = -0.5 * d, np.arange(6)

    def value(radial: bool, **given: object) -> float:
        found = make_criterion(TrainingPlan(**given), radial)(torch.from_numpy(z), torch.from_numpy(y))
        return float(found)

    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    smooth = -(0.7 * log_p[rows, y] + 0.3 * log_p.mean(axis=1)).mean()
    assert value(False, label_smoothing=0.3) == pytest.approx(smooth)
    assert value(False, loss="squared") == pytest.approx(0.5 * np.square(z - np.eye(3)[y]).sum(axis=1).mean())
    assert value(True, loss="squared") == pytest.approx(d[rows, y].mean())
    competing = d[rows, y] + np.log(np.exp(-0.4) + np.exp(-d).sum(axis=1))
    assert value(True, loss="map", map_floor=0.4) == pytest.approx(competing.mean())
    with pytest.raises(InputError, match="radial outputs"):
        value(False, loss="map")


def test_another_optimiser_leaves_what_was_chosen_for_the_recipes_own() -> None:
    recipe = TrainingPlan(
        optimiser="muon", rate=0.12, momentum=0.6, rates="norm*.bias=300", frozen="whiten.bias@3", weight_decay=1e-3
    )
    other = recipe.adjusted({"optimiser": "sgd", "epochs": 3.0})
    assert (other.rate, other.momentum, other.nesterov, other.rates) == (0.02, 0.9, True, "")
    assert (other.epochs, other.frozen, other.weight_decay) == (3.0, "whiten.bias@3", 1e-3)
    given = recipe.adjusted({"optimiser": "sgd", "rate": 0.5, "momentum": 0.0})
    assert (given.rate, given.momentum, given.nesterov) == (0.5, 0.0, False)
    same = recipe.adjusted({"optimiser": "muon", "rate": 0.05})
    assert (same.rate, same.momentum, same.rates) == (0.05, 0.6, "norm*.bias=300")
    assert not recipe.adjusted({"optimiser": "adam", "nesterov": True}).nesterov
    with pytest.raises(InputError, match="optimiser"):
        recipe.adjusted({"optimiser": "magic"})
