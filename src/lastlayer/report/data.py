"""What a report is made of: plain values, filled in by the pipeline and read by the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, final

from lastlayer._arrays import Float32, UInt8
from lastlayer._codes import Problem
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.calibration import CalibrationError
from lastlayer.evaluation.intervals import Estimate, Proportion
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.evaluation.metrics import Evaluation

TRUSTED = 0.97
"""Accuracy from which on a doubted label is more likely wrong than the model."""


class Setting(NamedTuple):
    """One line of the plan: what was set, to what, and the flag that changes it (empty: none does)."""

    key: str
    value: str
    flag: str = ""


class Picture(NamedTuple):
    """A named image, uint8 (h, w, 3) or (h, w, 1)."""

    name: str
    thumbnail: UInt8


class TemplateImages(Protocol):
    """Learned weights of each class as pictures.

    Shapes
    ------
    images : (K, h, w, 3), 0..1, ready to show.
    """

    @property
    def kind(self) -> str:
        """Which representation: ``pixels``, ``hog``, ``colour``."""

    @property
    def note(self) -> str:
        """How to read the pictures."""

    @property
    def images(self) -> Float32:
        """One picture per class."""


@final
@dataclass(frozen=True)
class PathRow:
    """One regularisation strength tried: C, λ, and what came of it."""

    C: float
    l2: float
    train_loss: float
    val_accuracy: Proportion
    val_loss: float
    passes: int
    seconds: float
    converged: bool


class Near(NamedTuple):
    """A training image close to another one: its name, class, and how close it is in the units of the note."""

    name: str
    label: int
    closeness: float
    thumbnail: UInt8


@final
@dataclass(frozen=True)
class Mistake:
    """An image answered wrong; `label` and `predicted` are positions in the class names, `near` the nearest first."""

    name: str
    label: int
    predicted: int
    p_predicted: float
    p_label: float
    thumbnail: UInt8
    near: Sequence[Near] = ()


class Doubt(NamedTuple):
    """An image whose label (`suspects`) or answer (`unsure`) is in doubt: two classes and their probabilities.

    Of a suspected label `first` is the label and `second` the class suggested; of an unsure answer they are the most
    probable class and the next one.
    """

    name: str
    first: int
    second: int
    p_first: float
    p_second: float
    thumbnail: UInt8


@final
@dataclass(frozen=True)
class Suspects:
    """Labels that are probably wrong.

    Attributes
    ----------
    rows : sequence of Doubt
        The most suspicious first.
    found, judged, estimate : int
        Labels suspected, labels judged, wrong ones among these by the confident joint.
    accuracy : Proportion
        Of the model on the labels judged.
    how : str
        Where the probabilities come from, in one sentence.
    """

    rows: Sequence[Doubt]
    found: int
    judged: int
    estimate: int
    accuracy: Proportion
    how: str

    @property
    def trusted(self) -> bool:
        """Whether the model is good enough for its doubts to be about labels rather than about itself."""
        return self.accuracy.n > 0 and self.accuracy.value >= TRUSTED


@final
@dataclass(frozen=True)
class Calibration:
    """Calibration on the quoted split, before and after a temperature.

    Attributes
    ----------
    before, after : CalibrationError
        `after` is None where no other rows were there to fit a temperature on.
    loss_before, loss_after : Estimate
        Log loss.
    temperature : float or None
    fitted_on : str
        The rows the temperature was fitted on.
    """

    before: CalibrationError
    loss_before: Estimate
    after: CalibrationError | None = None
    loss_after: Estimate | None = None
    temperature: float | None = None
    fitted_on: str = ""

    @property
    def already(self) -> bool:
        """Whether the model's own probabilities hold that temperature: dividing changes nothing."""
        after = self.loss_after
        return after is not None and abs(after.value - self.loss_before.value) <= 1e-4 * abs(self.loss_before.value)


@final
@dataclass(frozen=True)
class Abstaining:
    """What answering only when sure is worth on the quoted split.

    Attributes
    ----------
    coverage, risk : tuple of float
        Share answered, surest first, and share of those answers that is wrong.
    aurc : Estimate
        Area under that curve.
    n : int
    threshold, wanted : float or None
        Probability from which on to answer, and the accuracy it was chosen for; None where nothing was promised.
    answered, right : Proportion or None
        What the threshold does on this split.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: Estimate
    n: int
    threshold: float | None = None
    wanted: float | None = None
    answered: Proportion | None = None
    right: Proportion | None = None

    def accuracy_at(self, share: float) -> float:
        """Accuracy of the surest `share` of the answers."""
        k = next((k for k, c in enumerate(self.coverage) if c >= share - 1e-9), len(self.coverage) - 1)
        return 1.0 - self.risk[k]


class Epoch(NamedTuple):
    """One epoch of training a network; None where it was not measured."""

    epoch: float
    loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    rate: float | None


@final
@dataclass(frozen=True)
class Training:
    """How a network was trained.

    Attributes
    ----------
    epochs : sequence of Epoch
    best_epoch : float or None
        The one whose weights were kept.
    stop_reason : str
    layers : sequence of str
        The architecture, line by line.
    filters : sequence of pictures, uint8 (h, w, 3)
        Of the first layer.
    """

    epochs: Sequence[Epoch]
    best_epoch: float | None = None
    stop_reason: str = ""
    layers: Sequence[str] = ()
    filters: Sequence[UInt8] = ()


@final
@dataclass(frozen=True)
class ReportData:
    """Everything one report shows. A part that is empty or None is left out, or said to be absent.

    Attributes
    ----------
    title : str
        Name of the run.
    command : str
        The exact command that makes it again.
    created : str
        Date and time, as shown.
    source, layout, description : str
        The data: where, in which layout, how many images of which classes.
    plan : sequence of Setting or (key, value, flag)
        Every setting used, defaults included.
    class_names : tuple of str
    splits : mapping of name to Evaluation
        In the order of the score table.
    quote : str
        Which of `splits` is the honest score; "" where there is none. The cards, the per-class table and
        the confusion matrix are about this split.
    selection : str
        One sentence: how the model was selected.
    look : int or None
        Which look at the test split this was.
    baselines : sequence of Baseline
        Scores without learning, on the quoted split.
    path : sequence of PathRow
        Regularisation strengths tried.
    chosen : int or None
        Position in `path` of the one used.
    templates : sequence of TemplateImages
    mistakes : sequence of Mistake
        Most confident first.
    confusion_images : mapping of (label, predicted) to pictures
        Images behind the cells of the confusion matrix.
    problems : sequence of Problem
    alterations : mapping of kind to count
        Images that were changed on reading.
    environment : mapping of str to str
    timings : mapping of str to seconds
    config_toml : str
        The resolved settings as a file.
    split_notes : mapping of str to str
        What a split was used for, where the usual words do not fit.
    quote_tag : str
        What stands before the score to quote.
    suspects : Suspects or None
        None: labels were not checked.
    unsure : sequence of Doubt
        Answers with the smallest lead over the next class, closest first.
    calibration : Calibration or None
    abstaining : Abstaining or None
    learning_curve : LearningCurve or None
    training : Training or None
        Of a network.
    near_note : str
        How the nearest training images of the mistakes were found, or why there are none.
    """

    title: str
    command: str
    created: str
    source: str
    layout: str
    description: str
    plan: Sequence[tuple[str, str, str]]
    class_names: tuple[str, ...]
    splits: Mapping[str, Evaluation]
    quote: str
    selection: str
    look: int | None = None
    baselines: Sequence[Baseline] = ()
    path: Sequence[PathRow] = ()
    chosen: int | None = None
    templates: Sequence[TemplateImages] = ()
    mistakes: Sequence[Mistake] = ()
    confusion_images: Mapping[tuple[int, int], Sequence[tuple[str, UInt8]]] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    alterations: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    config_toml: str = ""
    split_notes: Mapping[str, str] = field(default_factory=dict)
    quote_tag: str = "quote this one"
    suspects: Suspects | None = None
    unsure: Sequence[Doubt] = ()
    calibration: Calibration | None = None
    abstaining: Abstaining | None = None
    learning_curve: LearningCurve | None = None
    training: Training | None = None
    near_note: str = ""

    @property
    def quoted(self) -> Evaluation | None:
        """The evaluation to quote, if any."""
        return self.splits.get(self.quote)
