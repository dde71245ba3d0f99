"""The image files that ``predict`` was given; apart from `sources`, whose readers it does not need to start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def list_sources(paths: Sequence[str]) -> list[str]:
    """List the image files that ``predict`` was given: files as they are, folders with all below them.

    Folders are listed in sorted order without hidden files; the arguments keep their order, and a file
    named twice is listed once.

    Raises
    ------
    InputError
        Naming the path that does not exist.
    """
    found: dict[str, None] = {}
    for path in map(os.fspath, paths):
        if os.path.isdir(path):
            from lastlayer.data.folders import list_images

            found.update(dict.fromkeys(list_images(path)))
        elif os.path.lexists(path):  # a dangling link is refused by name when it is read
            found[path] = None
        else:
            from lastlayer.data.suggest import missing_source

            raise missing_source(Path(path))
    return list(found)
