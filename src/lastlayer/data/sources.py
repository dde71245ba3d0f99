"""Opens whatever the user points at: detects the layout, hands over to its reader, applies the common rules.

==============================  ===============================================
a folder                        `folders`, `manifests` (metadata), `idx`, `cifar`
``.csv .tsv .jsonl .parquet``   `manifests`
``.npz .npy``, a pair (X, y)    `arrays`
an IDX file                     `idx`
``demo:digits``                 `demo`
==============================  ===============================================
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lastlayer._arrays import InputError
from lastlayer._files import display_name
from lastlayer.data.arrays import from_pair, read_npz
from lastlayer.data.cifar import cifar_layout, read_cifar
from lastlayer.data.dataset import Dataset
from lastlayer.data.demo import read_demo
from lastlayer.data.folders import read_class_folders, split_folders
from lastlayer.data.idx import is_idx_name, read_idx_file, read_idx_folder
from lastlayer.data.listing import Listing, to_dataset
from lastlayer.data.manifests import has_columns, metadata_files, read_manifest, read_metadata
from lastlayer.data.overrides import override_labels
from lastlayer.data.suggest import is_archive, missing_source, nothing_found, wrapped
from lastlayer.data.tables import TABLE_SUFFIXES
from lastlayer.data.walk import Findings, entries, looks_like_image


def open_dataset(
    source: str | os.PathLike[str] | tuple[Any, Any],
    *,
    group_by: str | None = None,
    labels_file: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Open labelled images without reading any of them.

    Parameters
    ----------
    source : path, ``demo:NAME`` or pair (X, y)
        A folder, manifest, array file or IDX file; or images (N, H, W[, C]) and N labels.
    group_by : str, optional
        A manifest's column, or a pattern searched in each row's name; its first capture group (or the
        whole match) is the group that stays on one side of a split.
    labels_file : path, optional
        A table path,label that overrides labels by name.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        LL001 with what was looked for and what was probably meant, or the reader's own error.
    """
    if isinstance(source, (tuple, list)):
        if len(source) != 2:
            raise InputError(f"{len(source)} arrays given", "Give a pair (images, labels)")
        listing, shown = from_pair(source[0], source[1]), "arrays"
    else:
        shown = os.fspath(source)
        listing = _read(shown, labels_file is not None)
    if labels_file is not None:
        listing = override_labels(listing, Path(labels_file))
    return to_dataset(listing, display_name(shown), group_by)


def _read(source: str, labelled_elsewhere: bool) -> Listing:
    if source.startswith("demo:"):
        return read_demo(source.removeprefix("demo:"))
    path = Path(source)
    if "\0" in source or not path.exists():
        raise missing_source(path)
    return _read_folder(path, labelled_elsewhere) if path.is_dir() else _read_file(path)


def _read_file(path: Path) -> Listing:
    suffix = path.suffix.casefold()
    if suffix in TABLE_SUFFIXES:
        return read_manifest(path)
    if suffix == ".npz":
        return read_npz(path)
    if is_idx_name(path.name):
        return read_idx_file(path)
    shown = display_name(str(path))
    if suffix == ".npy":
        raise InputError(f"{shown} holds images without labels", "In Python: train((X, y)); or save an .npz")
    if is_archive(path.name):
        raise InputError(f"{shown} is packed", "Unpack it and give the folder that it makes", "LL001")
    if suffix in (".pkl", ".pickle", ".joblib"):
        raise InputError(f"{shown} is a pickle, which can run any code", "Save it as .npz", "LL012")
    if looks_like_image(path.name):
        parent = display_name(str(path.parent.absolute().parent))
        raise InputError(
            f"{shown} is one image",
            f"You probably want the folder that holds the class folders, {parent}",
            "LL001",
        )
    raise InputError(
        f"{shown} is none of {', '.join(TABLE_SUFFIXES)}, .npz or an IDX file",
        "Give a folder or one of these",
        "LL001",
    )


def _read_folder(root: Path, labelled_elsewhere: bool) -> Listing:
    files = entries(os.fspath(root), "", Findings()).files
    metadata = metadata_files(root)
    if metadata and has_columns(metadata):
        return read_metadata(root, metadata)
    if any(map(is_idx_name, files)):
        return read_idx_folder(root, files)
    version = cifar_layout(root, files)
    if version is not None:
        return read_cifar(root, files, version)
    listing = read_class_folders(root, labelled_elsewhere)
    if listing is None:
        if metadata:  # no class folders to fall back on: say which column is missing
            return read_metadata(root, metadata)
        raise nothing_found(root)
    if not listing.given.any():
        _refuse_wrappers(root, alone=len(listing.class_names) == 1)
    return listing


def _refuse_wrappers(root: Path, alone: bool) -> None:
    """Refuse a "class" that holds class folders in turn: the data set is one level further down."""
    for name in entries(os.fspath(root), "", Findings()).all_folders:
        inside = entries(os.fspath(root / name), name, Findings())
        while alone and not inside.files and len(inside.all_folders) == 1:
            name += "/" + inside.all_folders[0]
            inside = entries(os.fspath(root / name), name, Findings())
        nothing_but_folders = len(inside.all_folders) > 1 and not inside.files
        if (alone and nothing_but_folders) or split_folders(os.fspath(root / name), inside):
            raise wrapped(root, name)
