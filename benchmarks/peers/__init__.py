"""The contestants of `make bench-solvers`. A family of peers is one file; this table names who is in it.

A family has one function ``prepare(job, X, y, trace)``. It imports its library, warms it up on the few rows given, and
returns ``fit(X, y)``, which runs on the clock. What a family cannot do here it says with `AbsentError` or
`SkippedError`.
This package must import without `lastlayer`: peers may live in another environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OWN, OTHER = "own", "peers"


@dataclass(frozen=True)
class Contestant:
    """Who fits, in which file, with which interpreter and options."""

    family: str
    python: str = OWN
    options: dict[str, Any] = field(default_factory=dict)
    runs: int = 1
    """How many times the limit it may take: more than 1 where fits are repeated, each to a tighter tolerance."""


def _sklearn(solver: str) -> Contestant:
    return Contestant("sklearn_logistic", options={"solver": solver})


CONTESTANTS: dict[str, Contestant] = {
    "lastlayer": Contestant("own_fit"),
    "reference": Contestant("own_fit", options={"reference": True}),
    "reference-liblinear": Contestant("liblinear", options={"dual": True, "tolerances": [1e-5]}),
    "memory": Contestant("own_memory"),
    "sklearn-lbfgs": _sklearn("lbfgs"),
    "sklearn-newton-cg": _sklearn("newton-cg"),
    "sklearn-newton-cholesky": _sklearn("newton-cholesky"),
    "sklearn-saga": _sklearn("saga"),
    "sklearnex-lbfgs": Contestant("sklearn_logistic", OTHER, {"solver": "lbfgs", "intel": True}),
    "torch-lbfgs-10": Contestant("torch_lbfgs", OTHER, {"history": 10}),
    "torch-lbfgs-100": Contestant("torch_lbfgs", OTHER, {"history": 100}),
    "liblinear-primal": Contestant("liblinear", options={"dual": False}, runs=4),
    "liblinear-dual": Contestant("liblinear", options={"dual": True}, runs=4),
    "lastlayer-cv": Contestant("own_tasks", options={"task": "cv"}),
    "sklearn-cv": Contestant("sklearn_tasks", options={"task": "cv"}),
    "reference-cv": Contestant("own_tasks", options={"task": "cv-reference"}),
    "lastlayer-ridge": Contestant("own_tasks", options={"task": "ridge"}),
    "sklearn-ridge": Contestant("sklearn_tasks", options={"task": "ridge"}),
    "lastlayer-protocol": Contestant("own_tasks", options={"task": "protocol"}),
}
