"""What a training run was asked to do (`TrainSettings`) and how it is carried out (`Execution`).

Settings decide the result and are written to ``config.toml``; execution (workers, cache, folders) does not
change a single bit of it and is not.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lastlayer._arrays import InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.networks.augment import parse_augmentation
from lastlayer.networks.presets import is_network, parse
from lastlayer.representations.views import Views


@dataclass(frozen=True)
class Head:
    """A last layer by its user's name: which loss, which solver, and how the report calls it."""

    loss: str
    solver: str
    title: str


HEADS: dict[str, Head] = {
    "logistic": Head("cross_entropy", "lbfgs", "softmax regression, cross-entropy"),
    "svm": Head("squared_hinge", "lbfgs", "linear SVM, squared hinge one-vs-rest"),
    "ridge": Head("squared", "closed_form", "ridge, squared loss in closed form"),
    "perceptron": Head("perceptron", "perceptron", "averaged perceptron, Rosenblatt's rule"),
}

DEFAULT_CS = tuple(float(f"{10 ** (k / 2):.6g}") for k in range(-10, 5))


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the result of ``train``.

    Attributes
    ----------
    data : str
        Folder, manifest, array file or ``demo:digits``.
    phi : str
        Representation, as in ``hog:orientations=9+colour``; empty: ``hog+colour``, or ``hog`` for gray images;
        ``auto``: chosen on validation data.
    time_limit : float
        Seconds that ``auto`` may try representations (0: 60), or that a network may be trained (0: no limit).
    augment : str
        Views of every training image to fit, as in ``flip,shift=1``; empty: the image alone. Of a network: what is
        done to images while it is trained, as in ``shift=2,elastic=4:34``; empty: its own, ``none``: nothing.
    views : str
        Views of an image over which its scores are averaged, in validation, test and use; empty: the image alone.
    head : str
        ``logistic``, ``svm``, ``ridge`` or ``perceptron``.
    size : int
        Side in pixels that every image is brought to; 0: chosen from the images.
    fit : str
        ``crop`` (shortest side, centre) or ``stretch``.
    C : tuple of float
        Inverse regularisation strengths to choose from, λ = 1/(C·n); one value: used as it is.
    l2 : float
        λ itself; NaN: chosen through C.
    val, test : float
        Shares of the images drawn for validation and test where the data does not give them.
    split : str
        A ``split.csv`` to reuse; files it does not name are drawn.
    labels : str
        A CSV ``path,label`` that corrects labels.
    group_by : str
        Manifest column or pattern over file names; a group stays on one side.
    class_weight : str
        ``""`` or ``"balanced"`` (a class weighs n / (K nₖ)).
    standardise : bool
        Centre and scale features by training statistics.
    max_iter : int
        Cap for the iterative solvers.
    epochs : float
        Cap for the perceptron (0: 20), or passes of a network over the training images (0: its own).
    batch_size, lr, momentum, optimiser, schedule, weight_decay, label_smoothing, patience, device, precision
        How a network is trained, see `networks.plan.TrainingPlan`; 0, negative or empty: the network's own; of
        momentum, decay, smoothing and patience 0 is 0. ``lr`` is a number as text, or ``find``.
    refit_last_layer : {"auto", "yes", "no"}
        Whether a network's last layer is fitted again exactly; auto: where that wins on validation data.
    tol : float
        Share of the objective that a further step may still promise when the final fit stops.
    seed : int
        Seed of everything random.
    strict : bool
        Stop at the first unreadable image or coded problem of the data.
    max_pixels : int
        Images with more pixels are refused before they are decoded.
    near_dup : bool
        Look for near duplicates, and keep them on one side of the split.
    label_check : bool
        Name labels that out-of-fold scores contradict.
    unknown : str
        A class of this name is none: its images are not trained on, and test abstention; empty: all are classes.
    learning_curve : bool
        Measure accuracy against the number of training images as well.
    """

    data: str = ""
    phi: str = ""
    time_limit: float = 0.0
    augment: str = ""
    views: str = ""
    head: str = "logistic"
    size: int = 0
    fit: str = "crop"
    C: tuple[float, ...] = DEFAULT_CS
    l2: float = math.nan
    val: float = 0.15
    test: float = 0.15
    split: str = ""
    labels: str = ""
    group_by: str = ""
    class_weight: str = ""
    standardise: bool = True
    max_iter: int = 1000
    epochs: float = 0.0
    batch_size: int = 0
    lr: str = ""
    momentum: float = -1.0
    optimiser: str = ""
    schedule: str = ""
    weight_decay: float = -1.0
    label_smoothing: float = -1.0
    patience: int = -1
    device: str = ""
    precision: str = ""
    refit_last_layer: str = "auto"
    tol: float = 1e-5
    seed: int = 0
    strict: bool = False
    max_pixels: int = 25_000_000
    near_dup: bool = True
    label_check: bool = True
    unknown: str = "unknown"
    learning_curve: bool = False

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"unknown head {self.head!r}", f"Use one of {', '.join(HEADS)}")
        if self.fit not in ("crop", "stretch"):
            raise InputError(f"unknown fit {self.fit!r}", "Use crop or stretch")
        if self.class_weight not in ("", "balanced"):
            raise InputError(f"unknown class weight {self.class_weight!r}", "Use balanced, or leave it out")
        for name in ("val", "test"):
            share = getattr(self, name)
            if not 0.0 <= share < 1.0:
                raise InputError(f"--{name} {share} is not a share of the images", "Give a number from 0 to below 1")
        if self.val + self.test >= 1.0:
            raise InputError(f"--val {self.val} and --test {self.test} leave nothing to train on", "Lower them")
        if not self.C or any(not (math.isfinite(c) and c > 0) for c in self.C):
            raise InputError(f"C = {self.C} is not a list of positive numbers", "Give e.g. --C 0.01,0.1,1")
        if not math.isnan(self.l2) and not (math.isfinite(self.l2) and self.l2 >= 0):
            raise InputError(f"--l2 {self.l2} is not a number from 0 up")
        if self.size < 0 or self.size > 4096:
            raise InputError(f"--size {self.size} is not a side in pixels", "Give 1 to 4096, or leave it out")
        for name in ("max_iter", "max_pixels"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1")
        for name in ("tol", "time_limit"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0) and not (name == "time_limit" and value == 0):
                raise InputError(f"--{name.replace('_', '-')} {value} is not a positive number")
        if not (math.isfinite(self.epochs) and self.epochs >= 0):
            raise InputError(f"--epochs {self.epochs} is not a number from 0 up")
        if self.refit_last_layer not in ("auto", "yes", "no"):
            raise InputError(f"--refit-last-layer {self.refit_last_layer!r} is not known", "Use auto, yes or no")
        if self.lr not in ("", "find"):
            _check_rate(self.lr)
        Views.parse(self.views)  # refuses what cannot be read
        if self.trains_network:
            parse_augmentation("" if self.augment == "none" else self.augment)
        else:
            Views.parse(self.augment)

    @property
    def trains_network(self) -> bool:
        """Whether φ is a network that is trained first."""
        return is_network(self.phi)

    @property
    def perceptron_epochs(self) -> int:
        """Most passes of the perceptron over the training images."""
        return math.ceil(self.epochs) or 20

    @property
    def search_seconds(self) -> float:
        """Seconds that ``auto`` may try representations."""
        return self.time_limit or 60.0

    @property
    def fitted_views(self) -> Views:
        """Views of every training image to fit; of a network's augmentation only whether it mirrors images."""
        if self.trains_network:
            return Views(flip="flip" in (self.augment or parse(self.phi).defaults.get("augmentation", "")))
        return Views.parse(self.augment)

    @property
    def scored_views(self) -> Views:
        """Views over which the scores of an image are averaged."""
        return Views.parse(self.views)


@dataclass(frozen=True)
class Execution:
    """How a verb is carried out; nothing here changes the result."""

    runs: Path = field(default_factory=lambda: Path("runs"))
    name: str = ""
    overwrite: bool = False
    workers: int | None = None
    cache: Path | None = None
    use_cache: bool = True
    progress: Progress = SILENT
    command: str = ""
    ignore: tuple[str, ...] = ()
    resume: bool = False


def _check_rate(text: str) -> None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--lr {text!r} is neither find nor a positive number")


def parse_Cs(text: str) -> tuple[float, ...]:
    """Read ``0.1``, ``0.01,0.1,1`` or ``logspace:-6:5:45`` (exponents of ten and a count).

    >>> parse_Cs("logspace:-2:0:3")
    (0.01, 0.1, 1.0)
    """
    try:
        if text.startswith("logspace:"):
            low, high, count = text.removeprefix("logspace:").split(":")
            n = int(count)
            step = (float(high) - float(low)) / max(1, n - 1)
            values = tuple(float(f"{10 ** (float(low) + k * step):.12g}") for k in range(n))
        else:
            values = tuple(float(part) for part in text.split(","))
    except (ValueError, OverflowError) as error:
        raise InputError(f"--C {text!r} cannot be read", "Give 0.1, a list 0.01,0.1,1 or logspace:-6:5:45") from error
    return tuple(sorted(values))


def settings_from(values: dict[str, Any], where: str) -> TrainSettings:
    """Build settings from plain values, naming unknown keys and wrong types."""
    known = {f.name: f for f in dataclasses.fields(TrainSettings)}
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: unknown setting {key!r}", f"Known are {', '.join(sorted(known))}")
        default = known[key].default
        if key == "C":
            items = value if isinstance(value, list | tuple) else [value]
            if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
                raise InputError(f"{where}: C = {value!r} is not a list of numbers")
            clean[key] = tuple(float(item) for item in items)
            continue
        if key == "lr" and isinstance(value, int | float) and not isinstance(value, bool):
            value = repr(value)
        wanted = type(default)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted:
            raise InputError(f"{where}: {key} = {value!r} should be a {wanted.__name__}")
        clean[key] = value
    return TrainSettings(**clean)
