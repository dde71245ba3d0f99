"""The run folder: made aside, filled, then given its name in one step, so that it is whole or not there."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lastlayer._arrays import InputError
from lastlayer._files import append_line
from lastlayer.pipeline import toml

if TYPE_CHECKING:
    from lastlayer.model import Model


@dataclass(frozen=True)
class Run:
    """A finished run on disk.

    Attributes
    ----------
    folder : Path
        Holds ``report.html``, ``model.safetensors``, ``metrics.json``, ``predictions.csv``, ``split.csv``,
        ``config.toml``, ``log.jsonl`` and ``env.json``.
    interrupted : bool
        Ctrl-C ended the fit early; the best weights so far are what was saved.
    """

    folder: Path
    interrupted: bool = False

    @property
    def model_path(self) -> Path:
        """The model file."""
        return self.folder / "model.safetensors"

    @property
    def report_path(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def model(self) -> Model:
        """The classifier, read from its file."""
        from lastlayer.model import Model

        return Model.load(self.model_path)

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` says."""
        content: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text(encoding="ascii"))
        return content

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """What ``config.toml`` says, by section."""
        return toml.load(self.folder / "config.toml")

    @property
    def predictions(self) -> list[dict[str, str]]:
        """The rows of ``predictions.csv``."""
        path = self.folder / "predictions.csv"
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return list(csv.DictReader(stream))

    def report(self) -> str:
        """The HTML text of the report."""
        return self.report_path.read_text(encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Run:
    """Open a run folder (or the model file inside one).

    Raises
    ------
    InputError
        When there is no model file there.
    """
    folder = Path(path)
    if folder.is_file() and folder.name == "model.safetensors":
        folder = folder.parent
    if not (folder / "model.safetensors").is_file():
        raise InputError(
            f"there is no model.safetensors in {folder}",
            "Give a run folder such as runs/train-001; `lastlayer train FOLDER` makes one",
        )
    return Run(folder)


class RunWriter:
    """Context manager that fills ``runs/.NAME.partial`` and renames it at the end.

    Leaving the block with an error removes the partial folder; `finish` makes it a run.
    """

    def __init__(self, runs: Path, verb: str, name: str = "", overwrite: bool = False) -> None:
        self.runs, self.verb, self.name, self.overwrite = runs, verb, name, overwrite
        self.start = time.monotonic()
        if name and (Path(name).name != name or name.startswith(".")):
            raise InputError(f"--name {name!r} is not a folder name", f"It is made inside {runs}")
        if name and (runs / name).exists() and not overwrite:
            raise InputError(f"{runs / name} exists already", "Choose another --name, or give --overwrite")
        self.folder = runs / f".{name or verb}.{os.getpid()}.{secrets.token_hex(3)}.partial"
        self.finished = False

    def __enter__(self) -> RunWriter:
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"cannot make a run folder in {self.runs}: {error.strerror}",
                "Go to a folder that you can write to, or give --runs",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.finished:
            shutil.rmtree(self.folder)

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to ``log.jsonl``."""
        line = {"event": event, "seconds": round(time.monotonic() - self.start, 3), **fields}
        append_line(self.folder / "log.jsonl", json.dumps(line, allow_nan=False))

    def finish(self) -> Path:
        """Give the folder its final name and return it."""
        target = self._rename_named() if self.name else self._rename_numbered()
        self.finished = True
        return target

    def _rename_named(self) -> Path:
        target = self.runs / self.name
        if self.overwrite and target.exists():
            aside = self.runs / f".{self.name}.{os.getpid()}.{secrets.token_hex(3)}.old"
            os.rename(target, aside)
            os.rename(self.folder, target)
            shutil.rmtree(aside)
            return target
        return self._claim(target)

    def _rename_numbered(self) -> Path:
        number = 1
        while True:
            target = self.runs / f"{self.verb}-{number:03d}"
            number += 1
            if target.exists():
                continue
            # another process may take the number between the look and the claim: then the next one is tried
            with contextlib.suppress(InputError):
                return self._claim(target)

    def _claim(self, target: Path) -> Path:
        # mkdir is the claim (it fails if the name is taken); renaming onto the empty folder is atomic
        try:
            target.mkdir()
        except FileExistsError as error:
            raise InputError(f"{target} exists already", "Choose another --name, or give --overwrite") from error
        if os.name == "nt":
            target.rmdir()
        os.rename(self.folder, target)
        return target
