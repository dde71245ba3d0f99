"""What a report is made of: plain values, filled in by the pipeline and read by the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, final

from lastlayer._arrays import Float32, UInt8
from lastlayer._codes import Problem
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.metrics import Evaluation


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


@final
@dataclass(frozen=True)
class Mistake:
    """An image answered wrong; `label` and `predicted` are positions in the class names."""

    name: str
    label: int
    predicted: int
    p_predicted: float
    p_label: float
    thumbnail: UInt8


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

    @property
    def quoted(self) -> Evaluation | None:
        """The evaluation to quote, if any."""
        return self.splits.get(self.quote)
