"""How a network is trained: every choice in one frozen value, checked before anything starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lastlayer._errors import InputError
from lastlayer.networks.augment import parse_augmentation
from lastlayer.networks.schedules_text import parse_schedule

OPTIMISERS = ("sgd", "adam", "muon")
LOSSES = ("cross_entropy", "squared", "map")
PRECISIONS = ("float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
OPTIMISER_VALUES: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"rate": 0.02, "momentum": 0.9, "nesterov": True},
    "adam": {"rate": 1e-3, "momentum": 0.9, "nesterov": False},
    "muon": {"rate": 0.02, "momentum": 0.6, "nesterov": True},
}
"""Where an optimiser takes the place of a recipe's own (Adam's: Kingma & Ba 2015)."""


@final
@dataclass(frozen=True)
class TrainingPlan:
    """Every choice of a training run.

    Parameters
    ----------
    epochs : float
        Passes over the training images; need not be whole. 0 means as many as fit into `time_limit`.
    batch_size : int
    optimiser : {"sgd", "adam", "muon"}
        ``v ← m v + g, w ← w - η v`` with ``g`` the gradient plus ``weight_decay · w`` (Polyak 1964, in PyTorch's
        form); Adam with decoupled decay (Kingma & Ba 2015; Loshchilov & Hutter 2019), whose β₁ is `momentum`; or Muon
        (Jordan et al. 2024), which turns matrices and filters but the last layer's by η of their norm along ``U Vᵀ``
        of their momentum ``U S Vᵀ``, and steps with everything else as SGD does.
    rate : float
        The largest learning rate η.
    momentum : float
    nesterov : bool
    beta2, epsilon : float
        Adam's.
    weight_decay : float
        Acts on arrays with two axes or more, which spares biases and batch normalisation, unless `decay_all`.
    decay_all : bool
    schedule : str
        See `schedules_text`.
    warm_up : float
        Epochs of climbing to the first rate.
    rates : str
        Multipliers of the rate by parameter name, the first match counts: ``"*norm*.bias=64,*.bias=2"``.
    decays : str
        Multipliers of the decay in the same form, for arrays that it acts on: ``"scores.weight=250"``.
    frozen : str
        Names of parameters that stay as they begin, ``"conv1.*"``, or from some epoch on: ``"whiten.bias@3"``.
    clip : float
        Largest norm of the gradient; 0 is no limit.
    loss : {"cross_entropy", "squared", "map"}
        ``squared`` is ½‖z - e_y‖², or with radial outputs the squared distance to the right centre (LeCun et al.
        1998, equation 8); ``map`` is their equation 9, for radial outputs alone.
    map_floor : float
        The j of equation 9, which keeps images that resemble no class from pushing centres without end.
    label_smoothing : float
        Share of the target spread evenly over all classes; cross-entropy alone.
    augmentation : str
        See `augment`.
    patience : int
        Stop after so many epochs without a better validation score; 0 never stops.
    average : float
        Decay per step of the running average of the weights, which is then what is judged and kept; 0 is off.
    seed : int
    device : {"auto", "cpu", "cuda"} or "cuda:N"
    precision : {"float32", "bfloat16"}
        Products and convolutions in bfloat16 where the machine has units for it; weights stay float32.
    time_limit : float
        Seconds; the number of epochs is set once from the speed of the first steps. 0 is no limit.

    Raises
    ------
    InputError
        For a value that makes no sense, naming it.
    """

    epochs: float = 10.0
    batch_size: int = 128
    optimiser: str = "sgd"
    rate: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 5e-4
    decay_all: bool = False
    schedule: str = "cosine"
    warm_up: float = 0.0
    rates: str = ""
    decays: str = ""
    frozen: str = ""
    clip: float = 0.0
    loss: str = "cross_entropy"
    map_floor: float = 1.0
    label_smoothing: float = 0.0
    augmentation: str = ""
    patience: int = 0
    average: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    time_limit: float = 0.0

    def __post_init__(self) -> None:
        _choice("optimiser", self.optimiser, OPTIMISERS)
        _choice("loss", self.loss, LOSSES)
        _choice("precision", self.precision, PRECISIONS)
        if not (isinstance(self.device, str) and (self.device in DEVICES or self.device.startswith("cuda:"))):
            raise InputError(f"device is {self.device!r}", "Give auto, cpu, cuda or cuda:N")
        for name, low, high in _RANGES:
            _within(name, getattr(self, name), low, high)
        for name in ("batch_size", "patience", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value):
                raise InputError(f"{name} is {value!r}; a whole number is needed")
        if self.rate <= 0:
            raise InputError(f"rate is {self.rate:g}", "Give a learning rate above 0, such as 0.05")
        self._check_pairs()
        parse_schedule(self.schedule)
        parse_augmentation(self.augmentation)
        self.multipliers()
        self.decay_multipliers()
        self.freezes()

    def _check_pairs(self) -> None:
        if self.epochs == 0 and self.time_limit == 0:
            raise InputError("neither epochs nor time_limit is given", "Give epochs=20, or time_limit=600 (seconds)")
        if self.nesterov and self.momentum == 0 and self.optimiser != "adam":
            raise InputError("nesterov needs momentum", "Give momentum=0.9, or nesterov=False")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise InputError(f"label_smoothing goes with cross_entropy, not {self.loss}", "Give label_smoothing=0")

    def adjusted(self, given: Mapping[str, Any]) -> TrainingPlan:
        """Return the plan with other values.

        With another optimiser the plan's rate, momentum and multipliers go: they were chosen for its own, and
        `OPTIMISER_VALUES` take their place where nothing is given. Nesterov's rule goes where there is no momentum.

        Raises
        ------
        InputError
            For a value that makes no sense.

        >>> recipe = TrainingPlan(optimiser="muon", rate=0.12, momentum=0.6, rates="norm*.bias=300")
        >>> other = recipe.adjusted({"optimiser": "adam", "epochs": 3.0})
        >>> other.rate, other.momentum, other.rates, other.nesterov
        (0.001, 0.9, '', False)
        """
        values = dict(given)
        optimiser = values.get("optimiser", self.optimiser)
        if optimiser != self.optimiser:
            values = {"rates": "", "decays": "", **OPTIMISER_VALUES.get(optimiser, {}), **values}
        ahead = values.get("nesterov", self.nesterov) and optimiser != "adam"
        values["nesterov"] = bool(ahead and values.get("momentum", self.momentum) > 0)
        return dataclasses.replace(self, **values)

    def multipliers(self) -> tuple[tuple[str, float], ...]:
        """Patterns of parameter names with what the rate of each is multiplied by; 0 for frozen ones, which come first.

        >>> TrainingPlan(rates="*.bias=2", frozen="first.*").multipliers()
        (('first.*', 0.0), ('*.bias', 2.0))
        """
        found = [(pattern, 0.0) for pattern, epochs in self.freezes() if epochs == 0]
        return (*found, *_multipliers("rates", self.rates))

    def decay_multipliers(self) -> tuple[tuple[str, float], ...]:
        """Patterns of parameter names with what the decay of each is multiplied by.

        >>> TrainingPlan(decays="scores.weight=250").decay_multipliers()
        (('scores.weight', 250.0),)
        """
        return _multipliers("decays", self.decays)

    def freezes(self) -> tuple[tuple[str, float], ...]:
        """Patterns of parameter names with the epochs after which they stay as they are; 0 is from the beginning.

        >>> TrainingPlan(frozen="first.*, whiten.bias@3").freezes()
        (('first.*', 0.0), ('whiten.bias', 3.0))
        """
        found = []
        for part in filter(None, (part.strip() for part in self.frozen.split(","))):
            pattern, at, epochs = part.partition("@")
            number = _number(epochs) if at else 0.0
            if not (pattern and math.isfinite(number) and (number > 0 or not at)):
                raise InputError(f"frozen: {part!r} is not of the form NAME or NAME@EPOCHS", 'Write "whiten.bias@3"')
            found.append((pattern, number))
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingPlan:
        """The plan of these values; others are the defaults.

        Raises
        ------
        InputError
            For a name that is not a choice of a plan.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise InputError(f"{name!r} is no choice of a training plan", f"Known: {', '.join(sorted(known))}")
        return cls(**values)


_RANGES = (
    ("epochs", 0.0, 1e6),
    ("batch_size", 1, 1e7),
    ("rate", 0.0, 1e6),
    ("momentum", 0.0, 0.9999999),
    ("beta2", 0.0, 0.9999999),
    ("epsilon", 1e-30, 1.0),
    ("weight_decay", 0.0, 1e3),
    ("warm_up", 0.0, 1e6),
    ("clip", 0.0, 1e9),
    ("map_floor", 0.0, 1e3),
    ("label_smoothing", 0.0, 0.99),
    ("patience", 0, 1e6),
    ("average", 0.0, 0.9999999),
    ("seed", 0, 2**32 - 1),
    ("time_limit", 0.0, 1e8),
)


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}", f"Give one of {', '.join(choices)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; a finite number is needed")
    if not low <= value <= high:
        raise InputError(f"{name} is {value:g}; a number from {low:g} to {high:g} is needed")


def _number(text: str) -> float:
    """The number, or NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _multipliers(name: str, text: str) -> tuple[tuple[str, float], ...]:
    return tuple(_multiplier(name, part) for part in text.split(",") if part.strip())


def _multiplier(name: str, part: str) -> tuple[str, float]:
    pattern, equals, value = (word.strip() for word in part.partition("="))
    factor = _number(value)
    if not (equals and pattern and math.isfinite(factor) and factor >= 0):
        raise InputError(f"{name}: {part.strip()!r} is not of the form NAME=FACTOR", f'Write {name}="*.bias=2"')
    return pattern, factor


USUAL = TrainingPlan()
"""What a run does when nothing is said."""
