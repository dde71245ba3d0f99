"""Listing folders: which names count, what is hidden, where links lead. File contents are never read here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from lastlayer._codes import Problem
from lastlayer._files import display_name

_HIDDEN = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    }
    | {"lost+found", "icon\r", "__pycache__"}
)
_IMAGE_SUFFIXES = frozenset(
    "jpg jpeg jpe jfif png apng webp bmp dib gif tif tiff mpo ppm pgm heic heif avif jp2 svg".split()
)


def is_hidden(name: str) -> bool:
    """Tell whether a name is one that systems leave behind rather than data."""
    return name[0] == "." or name.casefold() in _HIDDEN


def looks_like_image(name: str) -> bool:
    """Guess from the suffix alone; used for hints only, the content decides."""
    return name.rpartition(".")[2].casefold() in _IMAGE_SUFFIXES


@final
@dataclass
class Findings:
    """What listing came across besides images; `problems` turns it into coded lines."""

    hidden: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def problems(self) -> tuple[Problem, ...]:
        """Return one problem per kind of finding."""
        found = []
        if self.empty:
            found.append(_problem("LL002", "empty class folder", "ignored", self.empty))
        if self.hidden:
            mend = "Nothing to mend if they are the system's own; rename them if they are data"
            found.append(_problem("LL002", "hidden file or folder", "ignored", self.hidden, mend))
        if self.beside:
            mend = "Move them into the train folder if they are classes"
            found.append(_problem("LL002", "folder", "beside the train/test folders ignored", self.beside, mend))
        if self.refused:
            names = [name for name, _ in self.refused]
            reasons = tuple(reason for _, reason in self.refused)
            found.append(_problem("LL003", "folder or link", "could not be followed", names, details=reasons))
        if self.stray:
            mend = "Put them into a class folder, or give a manifest with the columns path,label"
            found.append(_problem("LL005", "image", "outside the class folders ignored", self.stray, mend))
        return tuple(found)


def _problem(
    code: str, noun: str, verb: str, names: Sequence[str], mend: str = "", details: tuple[str, ...] = ()
) -> Problem:
    count = f"{len(names):,} {noun if len(names) == 1 else noun + 's'}"
    return Problem(code, f"{count} {verb}", tuple(display_name(name) for name in names), details, mend)


@final
@dataclass(frozen=True)
class Entries:
    """The names in one folder that count, each list sorted."""

    files: list[str]
    folders: list[str]
    linked_folders: list[str]

    @property
    def all_folders(self) -> list[str]:
        """Real and linked folders together, sorted."""
        return sorted(self.folders + self.linked_folders)


def entries(folder: str, name: str, findings: Findings) -> Entries:
    """List one folder; `name` is what the findings call it ("" at the root)."""
    prefix = name + "/" if name else ""
    found = Entries([], [], [])
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if is_hidden(entry.name):
                    findings.hidden.append(prefix + entry.name)
                elif not _is_folder(entry):
                    found.files.append(entry.name)
                elif entry.is_symlink():
                    found.linked_folders.append(entry.name)
                else:
                    found.folders.append(entry.name)
    except OSError as error:
        findings.refused.append((name or folder, reason_of(error)))
    for names in (found.files, found.folders, found.linked_folders):
        names.sort()
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: listed as a file, and refused by name when it is opened
        return False


def reason_of(error: OSError) -> str:
    """Return the short reason of a failed folder access."""
    if isinstance(error, PermissionError):
        return "permission"
    return "vanished" if isinstance(error, FileNotFoundError) else (error.strerror or "unreadable").casefold()


def walk(folder: str, name: str, findings: Findings, above: Sequence[str] = ()) -> list[str]:
    """List every file below a folder, as ``name/…`` paths in sorted order.

    Real folders come first, then those that links lead to; a link to a folder that was listed already, or to
    one of the folders `above`, is a finding and is not followed, so that every walk ends.
    """
    seen = {identity for path in above if (identity := _identity(path)) is not None}
    files: list[str] = []
    links: list[tuple[str, str]] = []
    stack = [(folder, name)]
    while stack or links:
        from_link = not stack
        path, label = stack.pop() if stack else links.pop()
        identity = _identity(path)
        if identity is None:
            findings.refused.append((label, "vanished"))
            continue
        if identity in seen:
            if from_link:
                findings.refused.append((label, "link: leads back to a folder listed already"))
            continue
        seen.add(identity)
        here = entries(path, label, findings)
        prefix = label + "/" if label else ""
        files.extend([prefix + file for file in here.files])
        stack.extend((os.path.join(path, sub), prefix + sub) for sub in here.folders)
        links[:0] = [(os.path.join(path, sub), prefix + sub) for sub in reversed(here.linked_folders)]
    files.sort()
    return files


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
