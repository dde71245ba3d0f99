"""Embeddings of a probe, checked together: classes by name, columns, leakage, outputs taken for features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Array, InputError, IntArray
from lastlayer._codes import Problem
from lastlayer.data.alignment import shared_rows
from lastlayer.data.classes import class_name, encode_labels
from lastlayer.data.embeddings import (
    Embeddings,
    as_embeddings,
    normalise,
    read_embeddings,
    refuse_outputs,
    take,
)
from lastlayer.pipeline.probe_settings import ProbeSettings

SIDES = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class ProbeSide:
    """Rows of one side, all of them labelled with a known class.

    Attributes
    ----------
    rows : Embeddings
    X : ndarray (N, D)
        Normalised where that was asked for.
    y : int (N,)
        Index in the class names.
    """

    rows: Embeddings
    X: Array
    y: IntArray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class ProbeData:
    """All sides of a probe.

    Attributes
    ----------
    class_names : tuple of str
        Of the training (and validation) labels, in natural order.
    train : ProbeSide
    val, test : ProbeSide or None
    groups : int (N,) or None
        Groups of the training rows, a number of its own for each row that is alone.
    problems : tuple of Problem
    notes : tuple of str
    """

    class_names: tuple[str, ...]
    train: ProbeSide
    val: ProbeSide | None
    test: ProbeSide | None
    groups: IntArray | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """``train 50000×768 float16 · test 10000×768 float16 · 10 classes``."""
        sides = [(name, getattr(self, name)) for name in SIDES]
        parts = [f"{name} {side.rows.shape()}" for name, side in sides if side is not None]
        aligned = any(problem.code == "LL031" for problem in self.problems)
        parts.append(f"{len(self.class_names)} classes")
        if aligned:
            parts.append("rows aligned by position (no ids given, LL031)")
        return " · ".join(parts)


def open_probe(settings: ProbeSettings, arrays: dict[str, Any] | None = None) -> ProbeData:
    """Read and check every side.

    Parameters
    ----------
    settings : ProbeSettings
    arrays : dict, optional
        ``train``, ``val``, ``test``: pairs (X, y), and ``groups`` of the training rows, in place of files.

    Raises
    ------
    InputError
        When a side cannot be used, sides do not fit together, or the embeddings look like outputs (LL032).
    """
    sides = _from_arrays(arrays) if arrays is not None else _from_files(settings)
    _check_columns(sides)
    train = sides["train"]
    known = [text for name in ("train", "val") if name in sides for text in sides[name].labels]
    codes, names = encode_labels(known, "the labels")
    if len(np.unique(codes[: len(train)][codes[: len(train)] >= 0])) < 2:
        raise InputError(
            f"the training labels name {len(np.unique(codes[: len(train)][codes[: len(train)] >= 0]))} classes",
            "A probe needs rows of at least two classes",
        )
    problems = [problem for side in sides.values() for problem in side.problems]
    notes = [note for side in sides.values() for note in side.notes]
    made: dict[str, ProbeSide] = {}
    for name, side in sides.items():
        kept, y = _labelled(side, names, problems, notes)
        if not settings.allow_logits:
            refuse_outputs(kept.X, y, len(names), f"{name} X")
        X, zeros = normalise(kept.X, settings.normalize)
        if zeros:
            notes.append(f"{name}: {zeros:,} rows are all zeros and keep length 0")
        made[name] = ProbeSide(kept, X, y)
    problems += _leaks(made)
    groups = made["train"].rows.groups
    return ProbeData(
        names,
        made["train"],
        made.get("val"),
        made.get("test"),
        None if groups is None else _alone_apart(groups),
        tuple(dict.fromkeys(problems)),
        tuple(notes),
    )


def _from_files(settings: ProbeSettings) -> dict[str, Embeddings]:
    names = {"x": settings.x, "y": settings.y, "ids": settings.ids}
    if not settings.embeddings:
        raise InputError("no embeddings given", "Give a file: lastlayer probe train.npy --labels labels.npy")
    sides = {
        "train": read_embeddings(
            settings.embeddings, "train", labels=settings.labels, group_by=settings.group_by, **names
        )
    }
    for name in ("val", "test"):
        source, labels = getattr(settings, name), getattr(settings, f"{name}_labels")
        if source:
            sides[name] = read_embeddings(source, name, labels=labels, **names)
        elif labels:
            raise InputError(f"--{name}-labels without --{name}", f"Give the embeddings with --{name}")
    return sides


def _from_arrays(arrays: dict[str, Any]) -> dict[str, Embeddings]:
    sides = {}
    for name in SIDES:
        pair = arrays.get(name)
        if pair is None:
            continue
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(f"{name} is no pair (X, y)", "Give embeddings and labels")
        sides[name] = as_embeddings(name, pair[0], pair[1], groups=arrays.get("groups") if name == "train" else None)
    return sides


def _check_columns(sides: dict[str, Embeddings]) -> None:
    D = sides["train"].X.shape[1]
    for name, side in sides.items():
        if side.X.shape[1] != D:
            raise InputError(
                f"{name} embeddings have {side.X.shape[1]} columns, training ones {D}",
                "All sides must come from the same encoder",
            )


def _labelled(
    side: Embeddings, names: tuple[str, ...], problems: list[Problem], notes: list[str]
) -> tuple[Embeddings, IntArray]:
    """The rows that have a label the probe knows, with its number; what is left out is said."""
    number = {name: k for k, name in enumerate(names)}
    codes = np.array([-1 if not text else number.get(class_name(text), -2) for text in side.labels], dtype=np.int64)
    blank, unknown = int((codes == -1).sum()), codes == -2
    if blank:
        notes.append(f"{side.name}: {blank:,} rows without label are not used")
    if unknown.any():
        strange = tuple(dict.fromkeys(str(side.labels[row]) for row in np.flatnonzero(unknown).tolist()))
        problems.append(
            Problem(
                "LL004",
                f"{int(unknown.sum()):,} {side.name} rows of classes without training rows are not scored",
                strange,
                mend="Give training rows of these classes; classes match by name",
            )
        )
    keep = np.flatnonzero(codes >= 0)
    if not len(keep):
        raise InputError(f"no {side.name} row has a label that is a class of the training rows", "", "LL004")
    absent = tuple(names[k] for k in np.flatnonzero(np.bincount(codes[keep], minlength=len(names)) == 0))
    if absent and side.name != "train":
        problems.append(Problem("LL022", f"{len(absent)} of {len(names)} classes have no {side.name} row", absent))
    return (side if len(keep) == len(side) else take(side, keep)), codes[keep]


def _leaks(sides: dict[str, ProbeSide]) -> list[Problem]:
    """LL008: rows of validation or test that are in another side, by id or to the bit."""
    problems = []
    with_ids = all(side.rows.ids is not None for side in sides.values())
    keys = {name: _keys(side, with_ids) for name, side in sides.items()}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        if first not in keys or second not in keys:
            continue
        shared = shared_rows(keys[first], keys[second])
        if shared:
            names = sides[second].rows.row_names()
            where = [row for row, key in enumerate(keys[second]) if key in set(shared[:1])][:1]
            problems.append(
                Problem(
                    "LL008",
                    f"{len(shared):,} of {len(keys[second]):,} {second} rows are {first} rows as well",
                    tuple(names[row] for row in where),
                    mend=f"Remove them from {first}: the score is of rows that were learned",
                )
            )
    return problems


def _keys(side: ProbeSide, with_ids: bool) -> list[str]:
    if with_ids and side.rows.ids is not None:
        return list(side.rows.ids)
    text = side.rows.digests().tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def _alone_apart(groups: IntArray) -> IntArray:
    """Groups in which every row that is alone (-1) has a number of its own."""
    out = groups.astype(np.int64)
    alone = np.flatnonzero(out < 0)
    out[alone] = int(out.max(initial=-1)) + 1 + np.arange(len(alone))
    return out


def content_hash(side: ProbeSide, class_names: Sequence[str]) -> str:
    """Hash of the (numbers, class name) pairs of a side, whatever their order: what the ledger of looks is keyed by."""
    digests = side.rows.digests()
    pairs = sorted(digests[row].tobytes() + class_names[k].encode() for row, k in enumerate(side.y.tolist()))
    total = hashlib.sha256()
    for pair in pairs:
        total.update(len(pair).to_bytes(4, "little") + pair)
    return total.hexdigest()
