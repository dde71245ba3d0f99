"""The ledger of looks: how often a test split was used to judge models.

Every model scored on a split makes the best of their scores a little more optimistic. A look is one
(model, split) pair; scoring the pair again adds none.
"""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lastlayer import _files


class Look(NamedTuple):
    """One line of the ledger: this model was scored on this split."""

    split: str
    model: str
    time: str


class LedgerWarning(UserWarning):
    """Part of the ledger cannot be read; the count may be too low."""


def read_looks(ledger: Path) -> tuple[tuple[Look, ...], tuple[str, ...]]:
    """All looks in the order of the file, and one note per line that cannot be read.

    A missing ledger is an empty one.
    """
    try:
        lines = ledger.read_bytes().split(b"\n")
    except FileNotFoundError:
        return (), ()
    looks, notes = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        look = _parse(line)
        if look is None:
            notes.append(f"{ledger.name} line {number} is damaged and was skipped; the count of looks may be too low")
        else:
            looks.append(look)
    return tuple(looks), tuple(notes)


def record_look(ledger: Path, model_digest: str, split_hash: str, *, notes: list[str] | None = None) -> int:
    """Record that a model was scored on a split, and return which look at that split this is.

    Parameters
    ----------
    ledger : Path
        ``runs/looks.jsonl``; made if missing.
    model_digest, split_hash : str
        What identifies the model file and the content of the split.
    notes : list of str, optional
        Receives one note per damaged line. Without it a `LedgerWarning` is issued.

    Returns
    -------
    int
        1 for the first model ever scored on the split. A pair already in the ledger keeps its number.
    """
    looks, _ = read_looks(ledger)
    if not any((look.split, look.model) == (split_hash, model_digest) for look in looks):
        ledger.parent.mkdir(parents=True, exist_ok=True)
        if _ends_mid_line(ledger):
            _files.append_line(ledger, "")
        entry = {
            "split": split_hash,
            "model": model_digest,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _files.append_line(ledger, json.dumps(entry))
    # Read again: the number is the place in the file, also when another process wrote in between.
    looks, damaged = read_looks(ledger)
    if notes is not None:
        notes.extend(damaged)
    else:
        for note in damaged:
            warnings.warn(note, LedgerWarning, stacklevel=2)
    models = list(dict.fromkeys(look.model for look in looks if look.split == split_hash))
    return models.index(model_digest) + 1


def _parse(line: bytes) -> Look | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):  # not UTF-8 and not JSON are ValueErrors
        return None
    if not isinstance(entry, dict):
        return None
    split, model, time = entry.get("split"), entry.get("model"), entry.get("time", "")
    if isinstance(split, str) and isinstance(model, str) and isinstance(time, str):
        return Look(split, model, time)
    return None


def _ends_mid_line(path: Path) -> bool:
    """Whether a crash left the last line without its end, which would swallow the next one."""
    try:
        with path.open("rb") as stream:
            if stream.seek(0, 2) == 0:
                return False
            stream.seek(-1, 2)
            return stream.read(1) != b"\n"
    except FileNotFoundError:
        return False
