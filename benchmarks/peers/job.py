"""What a contestant's process is told, and the reasons for which it may not take part."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class AbsentError(Exception):
    """The contestant is not installed."""


class SkippedError(Exception):
    """The contestant cannot do this problem on this machine."""


@dataclass(frozen=True)
class Job:
    """One contestant on one problem.

    Attributes
    ----------
    folder : str
        Where the trace and the result go; empty at the start.
    family : str
        Module of `peers`.
    options : dict
        The contestant's own.
    X, y : str
        Paths of the arrays.
    n_classes, loss, l2, bias
        The objective.
    dtype : str
        Of the features that the contestant gets, float32 or float64; converted on its clock.
    limit : float
        Seconds of the fit.
    target : float or None
        A value of the objective at which the fit may stop, checked with the clock stopped.
    details : dict
        What whole tasks need.
    """

    folder: str
    family: str
    options: dict[str, Any]
    X: str
    y: str
    n_classes: int
    loss: str
    l2: float
    bias: bool
    dtype: str = "float32"
    limit: float = 1200.0
    target: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def save(self) -> Path:
        """Write the job into its folder; returns the file."""
        path = Path(self.folder) / "job.json"
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read a job."""
        return cls(**json.loads(path.read_text()))
