"""How a network is trained: what was asked for over what its preset recommends, every choice with its option."""

from __future__ import annotations

import dataclasses
from typing import Any

from lastlayer._arrays import InputError
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.presets import Preset, parse
from lastlayer.pipeline.observer import PlanLine
from lastlayer.pipeline.settings import HEADS, TrainSettings

_OFF = "none"


def resolved(settings: TrainSettings) -> TrainSettings:
    """Settings with every choice of the preset written out, so that the configuration says what was done.

    All but the augmentation, which `with_augmentation` adds when the images are known.

    Raises
    ------
    InputError
        For what a network cannot be trained with, and values that make no sense.
    """
    if not settings.trains_network:
        return settings
    if settings.class_weight:
        raise InputError("--class-weight does not go with a network", "Leave it out")
    if HEADS[settings.head].solver == "perceptron":
        raise InputError("--head perceptron does not go with a network", "Use logistic, svm or ridge")
    if settings.learning_curve:
        raise InputError(
            "--learning-curve is of a last layer on fixed features, and a network learns its features anew",
            "Leave it out, or give it with --phi RUN of a trained network",
        )
    default = _defaults(parse(settings.phi))
    default = default.adjusted({"optimiser": settings.optimiser or default.optimiser})
    full = dataclasses.replace(
        settings,
        epochs=settings.epochs or default.epochs,
        batch_size=settings.batch_size or default.batch_size,
        lr=settings.lr or repr(default.rate),
        momentum=_given(settings.momentum, default.momentum),
        optimiser=default.optimiser,
        schedule=settings.schedule or default.schedule,
        weight_decay=_given(settings.weight_decay, default.weight_decay),
        label_smoothing=_given(settings.label_smoothing, default.label_smoothing),
        patience=settings.patience if settings.patience >= 0 else default.patience,
        device=settings.device or default.device,
        precision=settings.precision or default.precision,
        time_limit=settings.time_limit or default.time_limit,
    )
    training_plan(full)  # refused before the data are read
    return full


def with_augmentation(settings: TrainSettings, channels: int) -> TrainSettings:
    """The preset's augmentation for images of so many channels, where the user gave none."""
    if settings.augment or not settings.trains_network:
        return settings
    text = parse(settings.phi).recipe(channels).get("augmentation", "")
    return dataclasses.replace(settings, augment=text or _OFF)


def training_plan(settings: TrainSettings, rate: float | None = None) -> TrainingPlan:
    """The plan of resolved settings; `rate` is the one found for ``--lr find``."""
    default = _defaults(parse(settings.phi))
    if rate is None:
        rate = default.rate if settings.lr == "find" else float(settings.lr)
    given = {
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "rate": rate,
        "momentum": settings.momentum,
        "optimiser": settings.optimiser,
        "schedule": settings.schedule,
        "weight_decay": settings.weight_decay,
        "label_smoothing": settings.label_smoothing,
        "patience": settings.patience,
        "augmentation": settings.augment.removeprefix(_OFF),
        "device": settings.device,
        "precision": settings.precision,
        "time_limit": settings.time_limit,
        "seed": settings.seed,
    }
    return default.adjusted(given)


def network_lines(settings: TrainSettings) -> tuple[PlanLine, ...]:
    """The plan of training a network, with the option behind every choice."""
    plan = training_plan(settings)
    rate = "found by a range test" if settings.lr == "find" else f"{plan.rate:g}"
    momentum = f"momentum {plan.momentum:g}" + (", Nesterov" if plan.nesterov else "")
    until = f"{plan.epochs:g} epochs" if plan.epochs else "as many epochs as fit"
    if plan.time_limit:
        until += f", at most {plan.time_limit:g} s"
    stop = "the weights of the best epoch on validation data are kept"
    if plan.patience:
        stop += f"; stops after {plan.patience} epochs without a better one"
    warm = f", warm-up {plan.warm_up:g} epochs" if plan.warm_up else ""
    lines = [
        PlanLine("train", f"{until}, batches of {plan.batch_size}", "--epochs --time-limit --batch-size"),
        PlanLine("", f"{plan.optimiser}, {momentum}", "--optimiser --momentum"),
        PlanLine("", f"rate {rate}, {plan.schedule}{warm}", "--lr --schedule"),
        PlanLine(
            "",
            f"weight decay {plan.weight_decay:g}, label smoothing {plan.label_smoothing:g}, loss {plan.loss}",
            "--weight-decay --label-smoothing",
        ),
        PlanLine("", f"augmentation {plan.augmentation or _OFF}", "--augment"),
        PlanLine("", stop, "--patience --val"),
        PlanLine("", f"device {plan.device}, {plan.precision}, seed {plan.seed}", "--device --precision --seed"),
    ]
    return tuple(lines)


def _defaults(preset: Preset) -> TrainingPlan:
    return TrainingPlan.from_dict(_plain(preset.defaults))


def _plain(values: Any) -> dict[str, Any]:
    return dict(values)


def _given(value: float, default: float) -> float:
    return default if value < 0 else value
