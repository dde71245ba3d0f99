"""Class folders, flat or inside train/val/test folders; nothing but names is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from lastlayer._arrays import InputError
from lastlayer.data.classes import class_names
from lastlayer.data.dataset import NONE, TRAIN, FileImages
from lastlayer.data.listing import Listing
from lastlayer.data.sides import describe_sides, side_of
from lastlayer.data.walk import Entries, Findings, entries, looks_like_image, walk


@final
@dataclass(frozen=True)
class ClassFolder:
    """One class on one side: its name, its side and the paths of its files below the source."""

    name: str
    side: int
    files: list[str]


def read_class_folders(root: Path, labelled_elsewhere: bool = False) -> Listing | None:
    """List the class folders of `root`; None when it has none.

    Parameters
    ----------
    root : Path
    labelled_elsewhere : bool
        True when a labels file names the classes: then a folder without class folders is listed whole.

    Raises
    ------
    InputError
        When two folders spell one class with different code points (LL004).
    """
    findings = Findings()
    base = os.fspath(root)
    top = entries(base, "", findings)
    sides = split_folders(base, top)
    if sides:
        classes = [c for folder, side in sides for c in _classes_in(base, folder, side, findings)]
        in_use = {folder for folder, _ in sides}
        findings.beside.extend(name for name in top.all_folders if name not in in_use)
    elif top.all_folders and all(side_of(name) is not None for name in top.all_folders):
        classes = []  # train/ and test/ with images but without class folders: "train" is no class here
    else:
        classes = _classes_in(base, "", NONE, findings)
    if not any(c.files for c in classes):
        return _unlabelled(root, base) if labelled_elsewhere else None
    return _listing(root, classes, findings)


def split_folders(base: str, top: Entries) -> list[tuple[str, int]]:
    """Return the train/val/test folders of a source, or [] when its folders are classes.

    A folder called ``train`` may also be a class (pictures of trains). The folders are splits when there
    are splits of two kinds or nothing beside them, and those for training hold folders in turn.
    """
    named = [(name, side) for name in top.all_folders if (side := side_of(name)) is not None]
    holders = []
    for name, side in named:
        inside = entries(os.path.join(base, name), name, Findings())
        if inside.all_folders:
            holders.append((name, side))
        elif inside.files and side == TRAIN:
            return []
    kinds = {side for _, side in holders}
    alone = len(named) == len(top.all_folders)
    return named if len(kinds) > 1 or (kinds and (alone or len(named) > 1)) else []


def _classes_in(base: str, parent: str, side: int, findings: Findings) -> list[ClassFolder]:
    """List the class folders inside one folder, naming the empty ones and the images outside them."""
    folder = os.path.join(base, parent) if parent else base
    # at the root, entries() was asked before: its findings are in `findings` already
    here = entries(folder, parent, findings if parent else Findings())
    prefix = parent + "/" if parent else ""
    for name in here.files:
        if looks_like_image(name):
            findings.stray.append(prefix + name)
        elif os.path.islink(os.path.join(folder, name)) and not os.path.exists(os.path.join(folder, name)):
            findings.refused.append((prefix + name, "link: leads nowhere"))
    names = class_names(here.all_folders, f"folder {parent}" if parent else "the folder")
    found = []
    for raw, name in names.items():
        path = os.path.join(folder, raw)
        files = walk(path, prefix + raw, findings, above=(base, folder))
        found.append(ClassFolder(name, side, files))
        if not files:
            findings.empty.append(prefix + raw)
    return found


def _listing(root: Path, classes: list[ClassFolder], findings: Findings) -> Listing:
    classes = sorted((c for c in classes if c.files), key=lambda c: c.side)
    paths = [path for c in classes for path in c.files]
    names = tuple(dict.fromkeys(c.name for c in classes))
    number = {name: code for code, name in enumerate(names)}
    sizes = [len(c.files) for c in classes]
    given = np.repeat(np.array([c.side for c in classes], dtype=np.uint8), sizes)
    layout = "class folders, "
    if not given.any() and (inner := _sides_inside_classes(paths)):
        given, layout = np.array(inner, dtype=np.uint8), "class folders, each with "
    return Listing(
        layout=layout + describe_sides(set(given.tolist())),
        images=FileImages(root, paths),
        labels=np.repeat(np.array([number[c.name] for c in classes], dtype=np.int32), sizes),
        class_names=names,
        given=given,
        problems=findings.problems(),
    )


def _sides_inside_classes(paths: Sequence[str]) -> list[int]:
    """Return each row's side where every class folder holds train/test folders of files alone, else []."""
    sides = []
    for path in paths:
        folders = path.split("/")[1:-1]
        side = side_of(folders[0]) if len(folders) == 1 else None
        if side is None:
            return []
        sides.append(side)
    return sides


def _unlabelled(root: Path, base: str) -> Listing | None:
    findings = Findings()
    files = [name for name in walk(base, "", findings) if looks_like_image(name)]
    if not files:
        return None
    return Listing(
        layout="a folder of images",
        images=FileImages(root, files),
        labels=np.full(len(files), -1, dtype=np.int32),
        class_names=(),
        given=np.zeros(len(files), dtype=np.uint8),
        problems=findings.problems(),
    )


def list_images(path: str) -> list[str]:
    """List the files below a folder, hidden ones ignored, in sorted order.

    A subfolder that cannot be opened is listed too, so that whoever reads the list names it.

    Raises
    ------
    InputError
        When the folder itself cannot be listed.
    """
    findings = Findings()
    files = walk(path, "", findings)
    closed = [name for name, reason in findings.refused if not reason.startswith("link")]
    if path in closed or "" in closed:
        raise InputError(f"folder {path} cannot be listed", "Check its permissions", "LL003")
    return [os.path.join(path, name) for name in sorted(files + closed)]
