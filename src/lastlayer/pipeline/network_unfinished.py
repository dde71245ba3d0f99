"""Where the training of a network that was not ended lies: ``runs/.unfinished/KEY``.

KEY is a hash of everything that decides the result: settings, images, labels, split and version. A run that is killed
leaves ``checkpoint/`` there with ``config.toml``, ``split.csv`` and ``log.jsonl``; the same command with ``--resume``,
or ``--resume FOLDER``, goes on from it and ends with the result that it would have had. A finished run removes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer import __version__, _files
from lastlayer._arrays import InputError, IntArray
from lastlayer.pipeline import toml
from lastlayer.pipeline.observer import Observer
from lastlayer.pipeline.preparing import Prepared
from lastlayer.pipeline.settings import Execution, TrainSettings

FOLDER = ".unfinished"
_NOT_IN_KEY = ("data", "labels", "split", "strict", "phi", "size")
"""Settings that decide nothing once images, labels and split are known; φ and size are in the key as found."""


@dataclass(frozen=True)
class Unfinished:
    """The folder of one training that is under way, held by this process alone.

    Attributes
    ----------
    folder : Path
    lock : int
        Descriptor of the locked folder, −1 on Windows; the system lets go of it when the process ends, however it ends.
    """

    folder: Path
    lock: int

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""
        return self.folder / "checkpoint"

    def log(self, record: dict[str, Any]) -> None:
        """Append one epoch to the log of the unfinished run, which outlives a kill."""
        _files.append_line(self.folder / "log.jsonl", json.dumps(record, allow_nan=False))

    def close(self, keep: bool) -> None:
        """Let go of the folder, and remove it unless it is to be gone on from."""
        if not keep:
            shutil.rmtree(self.folder)
        _let_go(self.lock)
        if not keep:
            parent = self.folder.parent
            if not any(parent.iterdir()):
                parent.rmdir()


def key_of(prepared: Prepared, order: IntArray, counts: tuple[int, int, int], settings: TrainSettings) -> str:
    """Hash of everything that decides the network; test images are not part of it."""
    seen = order[: counts[0] + counts[1]]
    digest = hashlib.sha256(np.ascontiguousarray(prepared.decoded.sha256[seen]).tobytes())
    digest.update(np.ascontiguousarray(prepared.dataset.labels[seen], dtype=np.int64).tobytes())
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in _NOT_IN_KEY}
    facts = {
        "settings": {name: repr(value) for name, value in values.items()},
        "phi": prepared.phi_text,
        "format": prepared.choice.format.to_dict(),
        "classes": len(prepared.dataset.class_names),
        "counts": list(counts[:2]),
        "version": __version__,
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def begin(
    key: str, prepared: Prepared, settings: TrainSettings, execution: Execution, observer: Observer
) -> Unfinished:
    """Take the folder of this training: as it was left with ``--resume``, else anew.

    What an earlier process left is put aside as ``KEY.old`` when it is not gone on from.

    Raises
    ------
    InputError
        When there is nothing to go on from, or another process trains this very network.
    """
    parent = execution.runs / FOLDER
    folder = parent / key
    known = (folder / "checkpoint").is_dir() and any((folder / "checkpoint").iterdir())
    if execution.resume and not known:
        raise InputError(
            f"there is no unfinished training of these images with these settings in {parent}",
            _others(parent) or "Leave --resume out",
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder)
    if known and not execution.resume:
        lock = _aside(folder, lock)
        observer.note(
            "resume", f"an unfinished run of the same is now in {folder}.old; --resume goes on from such a one"
        )
    if execution.resume:
        observer.note("resume", f"going on from {folder}")
        return Unfinished(folder, lock)
    prepared.split.save(folder / "split.csv", prepared.dataset, prepared.decoded.sha256)
    _files.write_text(folder / "config.toml", _config(settings, execution))
    return Unfinished(folder, lock)


def _config(settings: TrainSettings, execution: Execution) -> str:
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    values = {name: value for name, value in values.items() if value == value} | {"split": "split.csv"}
    made = {"lastlayer": __version__, "command": execution.command}
    return toml.dump({"train": values, "made": made}, comment="Go on with: lastlayer train --resume THIS_FOLDER")


def _locked(folder: Path) -> int:
    """Descriptor of a lock on the folder.

    Raises
    ------
    InputError
        When another process holds it.
    """
    if os.name == "nt":  # no such locks there: two runs of the same network at once are the user's to avoid
        return -1
    import fcntl

    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise InputError(
            f"another process trains this very network: {folder} is locked", "Wait for it, or give another --seed"
        ) from error
    return lock


def _aside(folder: Path, lock: int) -> int:
    """Put what was left aside, and lock a new folder."""
    old = folder.with_name(folder.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    os.rename(folder, old)
    folder.mkdir()
    _let_go(lock)
    return _locked(folder)


def _let_go(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def _others(parent: Path) -> str:
    """What else there is to go on from, as a mend."""
    found = sorted(parent.glob("*/config.toml"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not found:
        return ""
    shown = [f"{config.parent} ({toml.load(config)['train'].get('phi', '')})" for config in found[:3]]
    return f"There is {', '.join(shown)}: lastlayer train --resume FOLDER"
