"""What the user probably meant: the answer to a source in which nothing was found (LL001)."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from lastlayer._arrays import InputError
from lastlayer._files import display_name
from lastlayer.data.cifar import cifar_layout
from lastlayer.data.idx import is_idx_name
from lastlayer.data.tables import TABLE_SUFFIXES
from lastlayer.data.walk import Entries, Findings, entries, looks_like_image

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_LOOKED_FOR = "class folders, train/val/test folders, metadata.csv, IDX and CIFAR files"
_DEEPEST = 3
_MOST_FOLDERS = 200


def is_archive(name: str) -> bool:
    """Tell whether a name is one of a packed folder."""
    return name.casefold().endswith(_ARCHIVES)


def missing_source(path: Path) -> InputError:
    """Return the error for a path that does not exist, with the nearest name beside it."""
    near: list[str] = []
    if path.parent.is_dir():
        near = difflib.get_close_matches(path.name, sorted(os.listdir(path.parent)), n=1)
    mend = f"Did you mean {display_name(str(path.parent / near[0]))}?" if near else "Check the spelling"
    return InputError(f"{display_name(str(path))} does not exist", mend, "LL001")


def nothing_found(root: Path) -> InputError:
    """Return the error for a folder without anything to learn from, naming what was probably meant."""
    shown = display_name(str(root))
    here = entries(os.fspath(root), "", Findings())
    images = sum(map(looks_like_image, here.files))
    what = f"found 0 class folders in {shown}; I looked for {_LOOKED_FOR}"
    if images:
        what += f"; it holds {images:,} images directly"
    return InputError(what, _mend(root, here, images), "LL001")


def wrapped(root: Path, only: str) -> InputError:
    """Return the error for a folder whose single folder holds the class folders."""
    inner = display_name(str(root / only))
    what = f"{display_name(only)!r} in {display_name(str(root))} is no class: it holds class folders in turn"
    return InputError(what, f"You probably want {inner}", "LL001")


def _mend(root: Path, here: Entries, images: int) -> str:
    inside = _usable_below(root)
    if inside is not None:
        return f"You probably want {display_name(str(inside))}"
    archive = next((name for name in here.files if is_archive(name)), None)
    if archive is not None:
        return f"Unpack {display_name(archive)} first and give the folder that it makes"
    parent = root.absolute().parent
    if images and _class_folders(parent) > 1:
        return f"It looks like one class folder; you probably want its parent {display_name(str(parent))}"
    if images or any(looks_like_image(n) for f in here.all_folders for n in _files(root / f)):
        return (
            "Give every class a folder of its own, or write a manifest labels.csv with the columns "
            "path,label and give that"
        )
    return "Point at the folder that holds one folder per class"


def _usable_below(root: Path) -> Path | None:
    """Find the first folder or file below, level by level, that would be understood."""
    level, looked = [root], 0
    for _ in range(_DEEPEST):
        deeper: list[Path] = []
        for folder in level:
            here = entries(os.fspath(folder), "", Findings())
            looked += 1
            if looked > _MOST_FOLDERS:
                return None
            if folder is not root and _is_usable(folder, here):
                return folder
            tables = [n for n in here.files if n.casefold().endswith((*TABLE_SUFFIXES, ".npz"))]
            if len(tables) == 1:
                return folder / tables[0]
            deeper += [folder / name for name in here.all_folders]
        level = deeper
    return None


def _is_usable(folder: Path, here: Entries) -> bool:
    known = any(map(is_idx_name, here.files)) or cifar_layout(folder, here.files) is not None
    return known or _class_folders(folder) > 1


def _class_folders(folder: Path) -> int:
    """Count the folders that hold images, up to the two that are needed."""
    found = 0
    for name in entries(os.fspath(folder), "", Findings()).all_folders:
        found += any(map(looks_like_image, _files(folder / name)))
        if found > 1:
            break
    return found


def _files(folder: Path) -> list[str]:
    return entries(os.fspath(folder), "", Findings()).files
