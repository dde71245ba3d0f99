"""Which rows belong together: exact copies by content, and groups, joined transitively."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import BoolArray, Int32, IntArray, UInt8


def contents(sha256: UInt8, readable: BoolArray) -> tuple[IntArray, Int32]:
    """Number the different contents in the order of their SHA-256.

    Returns
    -------
    content : int (N,)
        Rank of the row's digest; -1 for unreadable rows.
    dup_group : int32 (N,)
        Groups of two and more identical images numbered by first row; -1 for the others.
    """
    rows = np.flatnonzero(readable)
    content = np.full(len(readable), -1, dtype=np.int64)
    dup_group = np.full(len(readable), -1, dtype=np.int32)
    if not len(rows):
        return content, dup_group
    words = np.ascontiguousarray(sha256[rows]).view(">u8").astype(np.uint64)
    order = np.argsort(words[:, 0], kind="stable")
    same = words[order[1:], 0] == words[order[:-1], 0]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    order[tied] = order[tied][np.lexsort(words[order[tied]].T[::-1])]  # only copies get this far
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    content[rows[order]] = np.cumsum(new) - 1
    counts = np.bincount(content[rows])
    copied = rows[counts[content[rows]] > 1]
    _, first, inverse = np.unique(content[copied], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    dup_group[copied] = rank[inverse]
    return content, dup_group


def join_units(content: IntArray, groups: Int32 | None, usable: BoolArray) -> tuple[IntArray, IntArray]:
    """Join rows of one content or one group into units, numbered by their smallest SHA-256.

    Returns
    -------
    unit : int (N,)
        -1 for rows that are not usable.
    representative : int (U,)
        A row of each unit whose digest is the unit's smallest.
    """
    rows = np.flatnonzero(usable)
    unit = np.full(len(usable), -1, dtype=np.int64)
    tied = np.flatnonzero(usable & (groups >= 0)) if groups is not None else rows[:0]
    component = content.copy()
    if groups is not None and len(tied):
        component[rows] = _components(content, groups, rows, tied)
    smallest = np.full(int(component.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component[rows], content[rows])
    _, first, unit_of = np.unique(smallest[component[rows]], return_index=True, return_inverse=True)
    unit[rows] = unit_of
    return unit, rows[_smallest_rows(content[rows], unit_of, len(first))]


def _components(content: IntArray, groups: Int32, rows: IntArray, tied: IntArray) -> IntArray:
    """Connected components of the graph whose edges tie a content to a group, for `rows`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_contents = int(content.max()) + 1
    size = n_contents + int(groups.max()) + 1
    edges = (np.ones(len(tied), dtype=np.int8), (content[tied], n_contents + groups[tied].astype(np.int64)))
    _, labels = connected_components(coo_array(edges, shape=(size, size)), directed=False)
    found: IntArray = labels[content[rows]]
    return found


def _smallest_rows(content: IntArray, unit: IntArray, n_units: int) -> IntArray:
    """For every unit, the position of a row with its smallest content."""
    order = np.lexsort((content, unit))
    starts = np.searchsorted(unit[order], np.arange(n_units))
    return order[starts]
