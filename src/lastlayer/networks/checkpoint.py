"""Checkpoints of a training run: one file, written atomically, that only the same run can go on from.

The file is a safetensors file with a digest (`lastlayer.artifacts`), never a pickle: the arrays of each group
(parameters, best parameters, momentum, …) lie one after another in one tensor, and the header says which is where.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32
from lastlayer._errors import InputError
from lastlayer.artifacts.canonical import canonical
from lastlayer.artifacts.reading import read_artifact
from lastlayer.artifacts.writing import write_artifact

FILE = "training.safetensors"
INTERVAL = 30.0
SHARE = 20.0
"""A checkpoint is written at most every `INTERVAL` seconds within an epoch, and takes at most 1/`SHARE` of the time."""

Groups = dict[str, dict[str, Float32]]


@final
@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What must be the same for a run to go on.

    Attributes
    ----------
    architecture : str
        Its text, as in ``lenet5``.
    structure : str
        SHA-256 of its layers, shapes and number of classes.
    plan : dict
        `TrainingPlan.to_dict`.
    data : str
        SHA-256 of the training and validation images and labels.
    """

    architecture: str
    structure: str
    plan: Mapping[str, Any]
    data: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "architecture": self.architecture,
            "structure": self.structure,
            "plan": dict(self.plan),
            "data": self.data,
        }


@final
@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a run is.

    Attributes
    ----------
    state : dict
        Plain JSON values: step, epochs, running sums, best score, seconds.
    history : list of dict
        One record an epoch.
    groups : dict of dict of arrays
        ``groups["parameters"]["conv1.weight"]`` and so on.
    """

    state: dict[str, Any]
    history: list[dict[str, Any]]
    groups: Groups


def data_digest(*arrays: Array) -> str:
    """SHA-256 of the arrays' types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        rows = max(1, (1 << 24) // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows]).data)
    return digest.hexdigest()


def text_digest(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


@final
class CheckpointFile:
    """The checkpoint of one run, in a folder of its own.

    Parameters
    ----------
    folder : path
        Made when the first checkpoint is written.
    fingerprint : Fingerprint
        Of the run that asks.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: Fingerprint) -> None:
        self.path, self.fingerprint = Path(folder) / FILE, fingerprint
        self.written = time.monotonic()
        self.cost = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last one."""
        return time.monotonic() - self.written > max(INTERVAL, SHARE * self.cost)

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the file, atomically.

        Raises
        ------
        InputError
            When a number is not finite.
        OSError
            When the disk is full or the folder cannot be written; the checkpoint before is untouched.
        """
        began = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        layout, tensors = _flatten(checkpoint.groups)
        text = json.dumps(checkpoint.history, allow_nan=False)
        tensors["history"] = np.frombuffer(text.encode("ascii"), np.uint8)
        header = {
            "format_version": 1,
            "kind": "checkpoint",
            "run": self.fingerprint.to_dict(),
            "state": checkpoint.state,
            "layout": layout,
        }
        write_artifact(self.path, header, tensors, overwrite=True)
        self.written = time.monotonic()
        self.cost = self.written - began

    def read(self) -> Checkpoint | None:
        """The checkpoint to go on from; None where there is none.

        Raises
        ------
        InputError
            When the file is damaged, or belongs to another model, plan or data.
        """
        if not os.path.lexists(self.path):
            return None
        header, tensors = read_artifact(self.path)
        if header.get("kind") != "checkpoint":
            raise InputError(f"{self.path} is no checkpoint of a training run", _MEND)
        _refuse_another(str(self.path), header["run"], self.fingerprint)
        try:
            history = json.loads(tensors["history"].tobytes())
            groups = _unflatten(header["layout"], tensors)
            return Checkpoint(header["state"], history, groups)
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self.path} does not hold what a checkpoint must", _MEND) from None


_MEND = "Give another folder, or remove this one to begin anew"


def _refuse_another(path: str, found: Mapping[str, Any], wanted: Fingerprint) -> None:
    """One sentence that names all that differs."""
    differs = []
    if found.get("structure") != wanted.structure:
        name = found.get("architecture")
        same = name == wanted.architecture
        differs.append("of the same name but other layers" if same else f"of {name}, not of {wanted.architecture}")
    if found.get("data") != wanted.data:
        differs.append("of other images or labels")
    plan = found.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    for name, value in wanted.plan.items():
        if plan.get(name) != value:
            differs.append(f"with {name} {plan.get(name)!r}, not {value!r}")
    if differs:
        mend = "Go on with the same model, plan and data; or give another folder, or remove this one to begin anew"
        raise InputError(f"{path} is a checkpoint {', '.join(differs)}", mend)


def _flatten(groups: Groups) -> tuple[dict[str, list[list[Any]]], dict[str, Array]]:
    layout, tensors = {}, dict[str, Array]()
    for group, arrays in groups.items():
        names = sorted(arrays)
        layout[group] = [[name, list(arrays[name].shape)] for name in names]
        if names:
            tensors[group] = np.concatenate([np.asarray(arrays[name], np.float32).reshape(-1) for name in names])
    return layout, tensors


def _unflatten(layout: Mapping[str, list[list[Any]]], tensors: Mapping[str, Array]) -> Groups:
    groups: Groups = {}
    for group, entries in layout.items():
        groups[group], start = {}, 0
        for name, shape in entries:
            stop = start + math.prod(shape)
            groups[group][name] = tensors[group][start:stop].reshape(shape)
            start = stop
        if entries and start != len(tensors[group]):
            raise ValueError(f"{group} has {len(tensors[group])} numbers, not {start}")
    return groups
