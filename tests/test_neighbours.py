"""k nearest rows: exact for every metric and type, the same for any blocks and threads, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer._threads import single_blas_thread
from lastlayer.neighbours import METRICS, Index, search, shadows
from lastlayer.neighbours.filters import Range, make_filter


def reference(X, Q, k, metric):
    """All distances in float64, ties to the lower row."""
    X, Q = X.astype(np.float64), Q.astype(np.float64)
    if metric == "cosine":
        unit = [A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-300) for A in (X, Q)]
        d = 1.0 - unit[1] @ unit[0].T
    else:
        p = int(metric[1])
        d = (np.abs(Q[:, None] - X) ** p).sum(axis=2)
        d = d if p == 1 else d ** (1 / p)
    order = np.argsort(d, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(d, order, 1), order


def pixels(rng, n, d=40):
    return rng.integers(0, 256, (n, d), dtype=np.uint8)


KINDS = {
    "pixels": pixels,
    "normal": lambda rng, n: rng.normal(size=(n, 40)),
    "far from zero": lambda rng, n: (rng.normal(size=(n, 40)) + 1000).astype(np.float32),
    "half": lambda rng, n: rng.normal(size=(n, 40)).astype(np.float16),
    "huge": lambda rng, n: rng.normal(size=(n, 40)) * 1e90,
    "tiny": lambda rng, n: rng.normal(size=(n, 40)) * 1e-60,
    "counts": lambda rng, n: rng.integers(-1000, 1000, (n, 40)),
}


@pytest.fixture(params=["loops", "numpy"])
def way(request, monkeypatch):
    """With compiled loops, and without."""
    if request.param == "loops":
        monkeypatch.setattr(search, "COMPILED_FROM", 0)
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_that_of_the_definition(metric, kind, way):
    rng = np.random.default_rng(0)
    X, Q = KINDS[kind](rng, 500), KINDS[kind](rng, 70)
    found = Index(X, metric).nearest(Q, 6, query_rows=33, database_rows=100, threads=2)
    distances, rows = reference(X, Q, 6, metric)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-10, atol=1e-12 * (metric == "cosine"))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float32, np.float64])
def test_ties_go_to_the_lower_row(metric, dtype, way):
    """Few columns of few values: hundreds of rows at each distance, more than any list has room for."""
    rng = np.random.default_rng(1)
    X, Q = rng.integers(0, 2, (900, 3)).astype(dtype), rng.integers(0, 2, (20, 3)).astype(dtype)
    found = Index(X, metric).nearest(Q, 9, query_rows=7, database_rows=64)
    distances, rows = reference(X, Q, 9, metric)
    if metric == "cosine":  # the reference rounds equal angles differently
        np.testing.assert_allclose(found.distances, distances, atol=1e-12)
        distances = np.round(found.distances, 12)
        assert (np.diff(found.rows, axis=1)[np.diff(distances, axis=1) == 0] > 0).all()
    else:
        np.testing.assert_array_equal(found.rows, rows)


@pytest.mark.parametrize("metric", METRICS)
def test_neither_blocks_nor_threads_nor_company_change_a_bit(metric, monkeypatch):
    rng = np.random.default_rng(2)
    base = rng.normal(size=(40, 30)).astype(np.float32)
    X = base[rng.integers(0, 40, 700)] + rng.integers(0, 2, (700, 30)).astype(np.float32) * np.float32(1e-4)
    Q = base[rng.integers(0, 40, 90)] + np.float32(1e-4)
    whole = Index(X, metric).nearest(Q, 8)
    monkeypatch.setattr(search, "COMPILED_FROM", 0)
    tries = [Index(X, metric).nearest(Q, 8, query_rows=q, database_rows=d) for q, d in ((7, 50), (90, 700), (1, 64))]
    tries += [Index(X, metric).nearest(Q, 8, threads=t, query_rows=11) for t in (1, 3)]
    monkeypatch.setattr(search, "LISTED", 1)
    tries += [Index(X, metric).nearest(Q, 8, query_rows=16)]
    for other in tries:
        np.testing.assert_array_equal(other.rows, whole.rows)
        np.testing.assert_array_equal(other.distances, whole.distances)
    for i in (0, 41, 89):
        alone = Index(X, metric).nearest(Q[i : i + 1], 8)
        np.testing.assert_array_equal(alone.rows[0], whole.rows[i])
        np.testing.assert_array_equal(alone.distances[0], whole.distances[i])


def near_twins(rng, n, d):
    """Black-and-white rows and twins of them that differ by one grey level in one pixel."""
    base = 255 * rng.integers(0, 2, (n, d), dtype=np.uint8)
    twins = base.copy()
    twins[np.arange(n), rng.integers(0, d, n)] ^= 1
    return base, np.concatenate([twins, base])


@pytest.mark.parametrize("metric", ["l2", "l1", "l3", "cosine"])
def test_what_float32_cannot_tell_apart_is_told_apart(metric, way):
    queries, train = near_twins(np.random.default_rng(3), 24, 12_288)
    found = Index(train, metric).nearest(queries, 2)
    np.testing.assert_array_equal(found.rows, np.stack([np.arange(24, 48), np.arange(24)], axis=1))
    assert (found.distances[:, 0] == 0).all() and (found.distances[:, 1] > 0).all()
    if metric == "l2":  # hard enough: plain float32 gets some of them wrong
        a, b = queries.astype(np.float32), train.astype(np.float32)
        with single_blas_thread():
            assert not np.array_equal(((b * b).sum(axis=1) - 2 * a @ b.T).argmin(axis=1), found.rows[:, 0])


@pytest.mark.parametrize("metric", METRICS)
def test_the_bound_of_a_filter_holds(metric):
    """Ranks in float32 differ from those in float64 by no more than is said."""
    rng = np.random.default_rng(4)
    for X in (pixels(rng, 300, 900), rng.normal(size=(300, 900)) + 3, rng.normal(size=(300, 50)).astype(np.float32)):
        known = Range(X.mean(axis=0, dtype=np.float64), float(np.abs(X.astype(float)).max()))
        by = make_filter(metric, known, X.dtype, X.dtype, compiled=True)
        queries, rows = by.ready(X[:60]), by.ready(X[60:])
        ranks = np.empty((60, 240), np.float32)
        by.ranks(queries, rows, ranks)
        ranks = (ranks + rows.added).astype(np.float64)
        Q, Y = X[:60].astype(np.float64), X[60:].astype(np.float64)
        if metric == "l2":
            Q, Y = Q - by.centre, Y - by.centre
            exact = (Y * Y).sum(axis=1) - 2 * Q @ Y.T
        elif metric == "cosine":
            exact = -(Q / np.linalg.norm(Q, axis=1)[:, None]) @ (Y / np.linalg.norm(Y, axis=1)[:, None]).T
        else:
            exact = (np.abs(Q[:, None] - Y) ** int(metric[1])).sum(axis=2)
        error = np.abs(np.abs(ranks) ** (1 / by.power) - np.abs(exact) ** (1 / by.power))
        if by.power == 1:
            error = np.abs(ranks - exact)
        said = by.doubts(queries, float(rows.sizes.max()))[:, None] + by.ratio * np.abs(exact) ** (1 / by.power)
        assert (error <= said).all()
        assert not error.any() or X.dtype != np.uint8 or metric != "l1"  # sums of bytes are exact


def low_dimensional(rng, n, d, dtype):
    """Rows near a plane of 12 dimensions, as images are."""
    plane = np.random.default_rng(5).normal(size=(12, d))
    X = rng.normal(size=(n, 12)) * np.linspace(3, 0.5, 12) @ plane + 0.1 * rng.normal(size=(n, d))
    return np.clip(128 + 12 * X, 0, 255).astype(np.uint8) if dtype == np.uint8 else X.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 20])
def test_a_projection_changes_no_bit(dtype, k, monkeypatch):
    rng = np.random.default_rng(6)
    X, Q = low_dimensional(rng, 5_000, 160, dtype), low_dimensional(rng, 150, 160, dtype)
    X[4000:4100] = X[:100]  # ties
    Q[:200:4] = X[: len(Q[:200:4])]
    plain = Index(X).nearest(Q, k)
    made = []
    monkeypatch.setattr(search, "SHADOWS_FROM", 0)
    monkeypatch.setattr(search, "make_shadows", lambda *given: made.append(shadows.make_shadows(*given)) or made[-1])
    kept = np.sort(rng.permutation(5_000)[:4_000])
    for threads, size in ((1, 150), (3, 20)):
        found = Index(X).nearest(Q, k, threads=threads, query_rows=size)
        np.testing.assert_array_equal(found.rows, plain.rows)
        np.testing.assert_array_equal(found.distances, plain.distances)
    part = Index(X, "l2", kept).nearest(Q, k, rows=np.arange(10, 60))
    assert all(one is not None and one.basis.shape[1] < 80 for one in made) and len(made) == 3
    monkeypatch.setattr(search, "SHADOWS_FROM", 2**62)
    again = Index(X, "l2", kept).nearest(Q, k, rows=np.arange(10, 60))
    np.testing.assert_array_equal(part.rows, again.rows)
    itself = Index(X).nearest(X[:50], k, own=np.arange(50))
    monkeypatch.setattr(search, "SHADOWS_FROM", 0)
    np.testing.assert_array_equal(Index(X).nearest(X[:50], k, own=np.arange(50)).rows, itself.rows)


def test_a_projection_is_left_where_it_gains_nothing(monkeypatch):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(4_000, 60)).astype(np.float32)  # all directions alike
    made = []
    monkeypatch.setattr(search, "SHADOWS_FROM", 0)
    monkeypatch.setattr(search, "make_shadows", lambda *given: made.append(shadows.make_shadows(*given)) or made[-1])
    Index(X).nearest(X[:40], 5)
    assert made == [None]


def test_hundreds_of_equal_rows_within_a_projection(monkeypatch):
    rng = np.random.default_rng(8)
    X = np.repeat(low_dimensional(rng, 30, 160, np.float32), 200, axis=0)
    monkeypatch.setattr(search, "SHADOWS_FROM", 0)
    found = Index(X).nearest(X[::200], 5)
    np.testing.assert_array_equal(found.rows, 200 * np.arange(30)[:, None] + np.arange(5))


def test_no_row_is_its_own_neighbour(way):
    X = np.repeat(np.arange(20.0), 2)[:, None]
    for metric in ("l2", "l1"):
        found = Index(X, metric).nearest(X, 1, own=np.arange(40))
        assert found.rows[:, 0].tolist() == [i ^ 1 for i in range(40)]


def test_rows_in_use_are_named_as_in_the_whole(way):
    rng = np.random.default_rng(9)
    X, Q = pixels(rng, 300), pixels(rng, 50)
    kept, asked = np.arange(1, 300, 3), np.arange(40, 10, -2)
    found = Index(X, "l2", kept).nearest(Q, 4, rows=asked)
    plain = Index(X[kept]).nearest(Q[asked], 4)
    np.testing.assert_array_equal(found.rows, kept[plain.rows])
    np.testing.assert_array_equal(found.distances, plain.distances)


def test_a_row_of_zeros_is_at_cosine_distance_one_from_all(way):
    X = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    found = Index(X, "cosine").nearest(np.array([[0.0, 0.0], [2.0, 0.0]]), 3)
    assert found.distances.tolist() == [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]
    assert found.rows.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_cosines_of_small_angles_keep_their_digits():
    angles = np.array([1e-9, 3e-9, 2e-9])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = Index(X, "cosine").nearest(np.array([[5.0, 0.0]]), 3)
    assert found.rows.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(found.distances[0], np.sort(angles) ** 2 / 2, rtol=1e-6)


def test_queries_beyond_float32_find_their_rows(way):
    X = np.random.default_rng(10).normal(size=(300, 5))
    Q = np.array([[1e60, 0, 0, 0, 0], [0.1, 0, 0, 0, 0]])
    for metric in ("l2", "l1", "l3", "cosine"):
        np.testing.assert_array_equal(Index(X, metric).nearest(Q, 3).rows, reference(X, Q, 3, metric)[1])


def test_memory_is_a_few_blocks(tmp_path):
    rng = np.random.default_rng(11)
    np.save(tmp_path / "X.npy", pixels(rng, 40_000, 256))
    X, Q = np.load(tmp_path / "X.npy", mmap_mode="r"), pixels(rng, 1_000, 256)
    for metric in ("l2", "l1"):
        Index(X[:3000], metric).nearest(Q, 3)  # loops are loaded
        tracemalloc.start()
        found = Index(X, metric).nearest(Q, 3, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6  # the distances alone would be 160 MB, the database as float32 41 MB
        np.testing.assert_array_equal(found.rows[:5], Index(np.asarray(X), metric).nearest(Q[:5], 3).rows)


@pytest.mark.parametrize(
    ("X", "Q", "k", "words"),
    [
        (np.ones((3, 2)), np.ones((1, 2)), 4, "4 neighbours are asked for; there are 3 rows"),
        (np.ones((3, 2)), np.ones((1, 2)), 0, "Ask for 1 to 3"),
        (np.ones((3, 2)), np.ones((1, 3)), 1, r"shape \(1, 3\); numbers of shape \(N, 2\)"),
        (np.ones((3, 2)), np.ones(2), 1, r"shape \(2,\)"),
        (np.array([[0, 1], [np.nan, 1]]), np.ones((1, 2)), 1, "X is nan in row 1, column 0"),
        (np.ones((3, 2)), np.array([[0, 1], [1, np.inf]]), 1, "queries are inf in row 1, column 1"),
        (np.ones((0, 2)), np.ones((1, 2)), 1, "at least one row"),
    ],
)
def test_what_cannot_be_searched_is_refused(X, Q, k, words):
    with pytest.raises(InputError, match=words):
        Index(X).nearest(Q, k)


def test_unknown_metrics_are_refused_and_own_rows_need_the_whole():
    with pytest.raises(InputError, match="l2, l1, l3, cosine"):
        Index(np.ones((3, 2)), "hamming")
    with pytest.raises(InputError, match="own rows"):
        Index(np.ones((3, 2)), "l2", np.arange(2)).nearest(np.ones((1, 2)), 1, own=np.zeros(1, int))
    with pytest.raises(InputError, match="there are 2 other rows"):
        Index(np.ones((3, 2))).nearest(np.ones((1, 2)), 3, own=np.zeros(1, int))


def test_no_queries_have_no_neighbours(way):
    assert Index(np.ones((3, 2))).nearest(np.ones((0, 2)), 2).rows.shape == (0, 2)
