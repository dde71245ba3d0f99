"""Embeddings φ(x) from any encoder, with labels, ids and groups: read, checked and joined.

Shapes
------
N : rows, D : numbers of an embedding, K : classes. X is (N, D) of any real type and is not copied: ``.npy`` and
``.safetensors`` stay on disk until a block of rows is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from lastlayer._arrays import Array, InputError, Int32, IntArray, UInt8, check_matrix
from lastlayer._codes import Problem
from lastlayer.data.alignment import align, by_position, check_ids
from lastlayer.data.arrays import label_texts
from lastlayer.data.embedding_formats import MATRIX_SUFFIXES, NamedArrays, open_arrays
from lastlayer.data.groups import group_rows

NORMALISATIONS: Final = ("", "l2")
_X_NAMES = (
    *("x", "embeddings", "embedding", "features", "feature", "image_embeds", "image_features", "embeds", "emb"),
    *("z", "vectors", "vector", "data", "arr_0"),
)
_Y_NAMES = "y label labels target targets class category class_name label_name arr_1".split()
_SAMPLE = 5_000
_BLOCK_NUMBERS = 1 << 22


@final
@dataclass(frozen=True, eq=False)
class Embeddings:
    """Rows of numbers with what is known of each.

    Attributes
    ----------
    name : str
        What messages call them.
    X : ndarray, (N, D)
        Finite real numbers of the type they were saved in.
    labels : tuple of (str or None)
        Text of each row's label; None without one.
    ids : tuple of str or None
        Unique texts, where there are ids.
    groups : int32 (N,) or None
        Rows of one number stay on one side of a split; -1 is alone.
    problems : tuple of Problem
    notes : tuple of str
        What was done to them, one sentence each.
    rows : int (N,) or None
        Where each row is in its file; None: in order.
    """

    name: str
    X: Array
    labels: tuple[str | None, ...]
    ids: tuple[str, ...] | None = None
    groups: Int32 | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    rows: IntArray | None = None

    def __len__(self) -> int:
        return len(self.X)

    def shape(self) -> str:
        """``50000×768 float16``."""
        return f"{self.X.shape[0]}×{self.X.shape[1]} {self.X.dtype.newbyteorder('=').name}"

    def row_names(self) -> list[str]:
        """The ids, or ``name#0, name#1, …``."""
        if self.ids is not None:
            return list(self.ids)
        rows = range(len(self)) if self.rows is None else self.rows.tolist()
        return [f"{self.name}#{row}" for row in rows]

    def digests(self) -> UInt8:
        """SHA-256 of the numbers of each row, uint8 (N, 32)."""
        out = np.empty((len(self), 32), dtype=np.uint8)
        for row in range(len(self)):
            out[row] = np.frombuffer(hashlib.sha256(np.ascontiguousarray(self.X[row]).tobytes()).digest(), np.uint8)
        return out


def read_embeddings(
    source: str,
    name: str,
    *,
    x: str = "",
    y: str = "",
    labels: str = "",
    ids: str = "",
    group_by: str = "",
) -> Embeddings:
    """Read embeddings and their labels from files.

    Parameters
    ----------
    source : str
        ``.npy .npz .safetensors .parquet``.
    name : str
        ``train``, ``val`` or ``test``: what messages call them.
    x, y : str
        Names of the embeddings and of the labels in the file, or of the labels in `labels`; empty: the usual names,
        or the only array that can be meant.
    labels : str
        A file of its own for the labels.
    ids : str
        Name of the ids, in the file and in `labels`: rows are joined by it.
    group_by : str
        Name of the groups in either file, or a pattern that finds them in the ids.

    Raises
    ------
    InputError
        When an array is missing or ambiguous, X is not (N, D) of finite real numbers (LL030), rows and labels do not
        match in number, or ids do not match (LL033).
    """
    file = open_arrays(source, MATRIX_SUFFIXES)
    label_file = open_arrays(labels) if labels else file
    x_name = _find_x(file, x)
    X = _matrix(file.load(x_name), f"{file.name}{':' + x_name if x_name else ''}")
    y_name = _find_y(label_file, y, x_name if label_file is file else None)
    texts = label_texts(label_file.load(y_name), f"{label_file.name}{':' + y_name if y_name else ''}")
    problems: list[Problem] = []
    notes: list[str] = []
    row_ids: list[str] | None = None
    where: IntArray | None = None
    if ids:
        row_ids = check_ids(_texts(file, ids, "--ids"), file.name)
        _check_rows(row_ids, X, file.name, ids)
    if ids and label_file is not file:
        label_ids = check_ids(_texts(label_file, ids, "--ids"), label_file.name)
        where, spare = align(row_ids or [], label_ids, file.name, label_file.name)
        texts = [texts[row] for row in where.tolist()]
        notes.append(
            f"{name}: labels joined by {ids!a}" + (f"; {spare:,} of {label_file.name} not used" if spare else "")
        )
    elif label_file is not file:
        problems.append(by_position(len(X), len(texts), file.name, label_file.name))
    _check_rows(texts, X, file.name, y_name or label_file.name)
    groups = _groups(file, label_file, where, row_ids, group_by, len(X)) if group_by else None
    return Embeddings(
        name, X, tuple(texts), None if row_ids is None else tuple(row_ids), groups, tuple(problems), tuple(notes)
    )


def as_embeddings(
    name: str, X: Any, y: Any, *, ids: Sequence[Any] | None = None, groups: Sequence[Any] | None = None
) -> Embeddings:
    """Embeddings from arrays in memory: X (N, D), y (N,) numbers or text, ids and groups of any type."""
    matrix = _matrix(np.asarray(X), f"{name} X")
    texts = label_texts(y, f"{name} y")
    _check_rows(texts, matrix, f"{name} X", f"{name} y")
    row_ids = None if ids is None else check_ids([str(value) for value in ids], f"{name} ids")
    if row_ids is not None:
        _check_rows(row_ids, matrix, f"{name} X", "ids")
    numbers = None
    if groups is not None:
        _check_rows(groups, matrix, f"{name} X", "groups")
        numbers = group_rows(row_ids or [], {"group": [str(value) for value in groups]}, "group")[0]
    return Embeddings(name, matrix, tuple(texts), None if row_ids is None else tuple(row_ids), numbers)


def _find_x(file: NamedArrays, asked: str) -> str:
    if asked:
        return _named(file, asked, "--x")
    usual = _usual(file, _X_NAMES, 2)
    if usual is not None:
        return usual
    matrices = [name for name, shape in file.shapes.items() if len(shape) != 1]
    if len(matrices) == 1:
        return matrices[0]
    raise InputError(f"{file.name} holds {file.listing() or 'nothing'}", "Name the embeddings with --x")


def _find_y(file: NamedArrays, asked: str, x_name: str | None) -> str:
    """The labels: by name, by a usual name, or the only array of a label file."""
    own = x_name is not None  # labels in the same file as the embeddings
    if asked and (own or asked in file.shapes):
        return _named(file, asked, "--y")
    usual = _usual(file, _Y_NAMES, 1)
    if usual is not None and usual != x_name:
        return usual
    if not own and len(file.shapes) == 1:
        return next(iter(file.shapes))
    raise InputError(
        f"{file.name} holds {file.listing() or 'nothing'}, no labels that can be told",
        "Name the labels with --y, or give their file with --labels" if own else "Name their column with --y",
    )


def _usual(file: NamedArrays, names: Sequence[str], rank: int) -> str | None:
    by_name = {name.casefold(): name for name in reversed(list(file.shapes))}
    found = (by_name[name] for name in names if name in by_name)
    return next((name for name in found if len(file.shapes[name]) in (rank, 2) or rank == 2), None)


def _named(file: NamedArrays, asked: str, flag: str) -> str:
    if asked in file.shapes:
        return asked
    if list(file.shapes) == [""]:
        raise InputError(
            f"{flag} {asked!a}: {file.name} holds one array without a name", f"Leave {flag} out, or save an .npz"
        )
    import difflib

    near = difflib.get_close_matches(asked, list(file.shapes), n=1)
    hint = f"Did you mean {near[0]!a}?" if near else ""
    raise InputError(f"{flag} {asked!a} is not in {file.name}, which holds {file.listing() or 'nothing'}", hint)


def _texts(file: NamedArrays, asked: str, flag: str) -> list[str | None]:
    return label_texts(file.load(_named(file, asked, flag)), f"{file.name}:{asked}")


def _check_rows(values: Sequence[Any], X: Array, name: str, what: str) -> None:
    if len(values) != len(X):
        raise InputError(f"{name} has {len(X):,} rows, but {what} has {len(values):,}", "One a row is needed")


def _matrix(X: Array, name: str) -> Array:
    """Refuse what is not (N, D) of finite real numbers, with the expression that mends it."""
    if X.dtype.hasobject:
        raise InputError(f"{name} holds objects, not numbers", "Save one array of one length a row", "LL012")
    if X.ndim == 3:
        raise InputError(
            f"{name} has shape {X.shape}; one embedding a row is needed",
            "Of tokens, take the class token X[:, 0] or the mean X.mean(axis=1)",
        )
    if X.ndim == 4:
        raise InputError(
            f"{name} has shape {X.shape}; one embedding a row is needed",
            "For images, use `lastlayer train`; for feature maps, average them: X.mean(axis=(2, 3))",
        )
    return check_matrix(X, name)


def _groups(
    file: NamedArrays,
    label_file: NamedArrays,
    where: IntArray | None,
    ids: Sequence[str] | None,
    group_by: str,
    rows: int,
) -> Int32 | None:
    """Group numbers from a column of either file, or from a pattern over the ids."""
    columns: dict[str, list[str | None]] = {}
    if group_by in file.shapes and len(file.shapes[group_by]) == 1:
        columns[group_by] = _texts(file, group_by, "--group-by")
    elif group_by in label_file.shapes:
        values = _texts(label_file, group_by, "--group-by")
        columns[group_by] = values if where is None else [values[row] for row in where.tolist()]
    elif ids is None:
        raise InputError(
            f"--group-by {group_by!a} is in neither {file.name} nor {label_file.name}",
            f"{file.name} holds {file.listing()}; a pattern needs --ids to be searched in",
        )
    if group_by in columns and len(columns[group_by]) != rows:
        raise InputError(f"--group-by {group_by!a} has {len(columns[group_by]):,} values for {rows:,} rows")
    return group_rows(ids or [], columns, group_by)[0]


def normalise(X: Array, rule: str) -> tuple[Array, int]:
    """Rows divided by their Euclidean length (rule "l2"), block by block into float32 (float64 stays float64).

    Returns
    -------
    X : ndarray (N, D)
        As given for the rule "".
    zeros : int
        Rows without length, which stay zero.
    """
    if rule not in NORMALISATIONS:
        raise InputError(f"--normalize {rule!a} is unknown", "Use l2, or leave it out")
    if not rule:
        return X, 0
    out = np.empty(X.shape, dtype=np.float64 if X.dtype == np.float64 else np.float32)
    zeros = 0
    rows = max(1, _BLOCK_NUMBERS // X.shape[1])
    for start in range(0, len(X), rows):
        block = X[start : start + rows].astype(np.float64)
        largest = np.abs(block).max(axis=1, keepdims=True)
        block /= np.where(largest > 0, largest, 1.0)  # squares of huge or tiny numbers would leave the range
        length = np.sqrt(np.einsum("ij,ij->i", block, block))
        zeros += int(np.count_nonzero(length == 0))
        out[start : start + rows] = block / np.where(length > 0, length, 1.0)[:, None]
    return out, zeros


def refuse_outputs(X: Array, y: IntArray, n_classes: int, name: str) -> None:
    """LL032: what looks like the outputs of a classifier is no representation.

    Told by a sample of rows: not negative and summing to 1 (probabilities), exponentials that do (their logarithms),
    or as many columns as classes with the largest one naming the label in 9 of 10 rows (logits).
    """
    rows = np.linspace(0, len(X) - 1, min(len(X), _SAMPLE)).astype(np.int64)
    sample = np.asarray(X[rows], dtype=np.float64)
    mend = "Pick the penultimate tensor; --allow-logits if these are features all the same"
    if sample.shape[1] < 2:
        return
    if (sample >= 0).all() and (np.abs(sample.sum(axis=1) - 1) < 5e-3).all():
        raise InputError(f"{name} looks like probabilities: rows are not negative and sum to 1", mend, "LL032")
    if (sample <= 0).all() and (np.abs(np.exp(sample).sum(axis=1) - 1) < 5e-3).all():
        raise InputError(f"{name} looks like log-probabilities: their exponentials sum to 1", mend, "LL032")
    known = y[rows] >= 0
    if sample.shape[1] != n_classes or not known.any():
        return
    share = float((sample[known].argmax(axis=1) == y[rows][known]).mean())
    if share >= 0.9:
        raise InputError(
            f"{name} looks like logits: {n_classes} columns for {n_classes} classes, and the largest one names the "
            f"label in {100 * share:.1f}% of rows",
            mend,
            "LL032",
        )


def take(rows: Embeddings, keep: IntArray) -> Embeddings:
    """The embeddings of some rows; names stay those of the file."""
    return dataclasses.replace(
        rows,
        X=rows.X[keep],
        labels=tuple(rows.labels[row] for row in keep.tolist()),
        ids=None if rows.ids is None else tuple(rows.ids[row] for row in keep.tolist()),
        groups=None if rows.groups is None else rows.groups[keep],
        rows=keep if rows.rows is None else rows.rows[keep],
    )
