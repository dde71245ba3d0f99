"""``predict --sort-into``: copies of images in a folder for each label. The images themselves stay as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lastlayer import _files
from lastlayer._arrays import InputError
from lastlayer.pipeline.predicting import Prediction

ABSTAINED = "_abstained"
"""Folder of images whose answer is withheld."""
_BLOCK = 1 << 20


def sort_into(
    answers: Iterable[Prediction], folder: str | os.PathLike[str], *, dry_run: bool = False
) -> Iterator[tuple[Prediction, Path | None]]:
    """Copy each image to ``folder/LABEL/NAME`` as its answer comes; unreadable files (None) are not copied.

    No file is overwritten: a name that is taken gets a number, unless that file has the same content already. Copies
    are whole or not there.

    Parameters
    ----------
    answers : iterable of Prediction
    folder : path
        Made where it is missing.
    dry_run : bool
        Write nothing; the paths are those that would be written to.

    Raises
    ------
    InputError
        When `folder` is a file, or an image lies inside it.
    """
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise InputError(f"--sort-into {root} is not a folder", "Give a folder; it is made where it is missing")
    taken: set[Path] = set()
    for answer in answers:
        if not answer.top:
            yield answer, None
            continue
        source = Path(answer.path)
        if root.resolve() in source.resolve().parents:
            raise InputError(f"{source} lies inside --sort-into {root}", "Sort into a folder of its own")
        target = _free(root / _folder_name(answer), source, taken)
        taken.add(target)
        if not dry_run and not target.exists():
            _copy(source, target)
        yield answer, target


def _folder_name(answer: Prediction) -> str:
    """A class name as the name of one folder: no separators, no dots in front, never empty.

    >>> _folder_name(Prediction("a.png", (("../cat", 0.9),)))
    '_.._cat'
    """
    if answer.abstained:
        return ABSTAINED
    name = "".join(
        "_" if character in '/\\:*?"<>|' or ord(character) < 32 else character for character in answer.top[0][0]
    )
    return f"_{name}" if not name.strip() or name[0] in "._ " else name.rstrip(". ")


def _free(folder: Path, source: Path, taken: set[Path]) -> Path:
    """The first of ``NAME``, ``NAME-2``, ``NAME-3``, … that no other file has."""
    number = 1
    while True:
        name = source.name if number == 1 else f"{source.stem}-{number}{source.suffix}"
        target = folder / name
        if target not in taken and (not target.exists() or _same(source, target)):
            return target
        number += 1


def _same(a: Path, b: Path) -> bool:
    if a.stat().st_size != b.stat().st_size:
        return False
    return a.read_bytes() == b.read_bytes()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as stream, _files.atomic_writer(target) as out:
        while block := stream.read(_BLOCK):
            out.write(block)
    facts = source.stat()
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
