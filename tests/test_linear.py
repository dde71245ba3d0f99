"""Scores, sums over rows and factors: the same bits on any number of threads, and right."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from lastlayer._arrays import InputError
from lastlayer.linear import Rows, parallel, scores, single_blas_thread, tree_sum
from lastlayer.linear.inverse import inverse_factor
from lastlayer.linear.rows import LARGE_PART, LEAF_ROWS


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize(("d", "k"), [(1, 2), (7, 3), (64, 10), (784, 10), (300, 130)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_a_row_do_not_depend_on_the_batch(d: int, k: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    Z, W, b = rng.standard_normal((300, d)).astype(dtype), rng.standard_normal((d, k)), rng.standard_normal(k)
    whole = scores(Z, W, b)
    assert whole.dtype == dtype
    np.testing.assert_allclose(whole, Z.astype(float) @ W + b, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-3)
    for i in (0, 1, 77, 127, 128, 299):
        np.testing.assert_array_equal(scores(Z[i : i + 1], W, b)[0], whole[i])
    np.testing.assert_array_equal(scores(Z[100:233], W, b), whole[100:233])
    np.testing.assert_array_equal(scores(np.asfortranarray(Z), W, b), whole)
    with threadpool_limits(1):
        np.testing.assert_array_equal(scores(Z, W, b), whole)


def test_scores_of_nothing_and_of_the_wrong_shape() -> None:
    assert scores(np.zeros((0, 3)), np.zeros((3, 2)), np.zeros(2)).shape == (0, 2)
    with pytest.raises(InputError, match=r"\(N, 3\)"):
        scores(np.zeros((4, 2)), np.zeros((3, 2)), np.zeros(2))


def test_tree_has_arity_four_and_adds_left_to_right() -> None:
    rng = np.random.default_rng(0)
    parts = [np.array(v) for v in rng.standard_normal(21) * 10.0 ** rng.integers(0, 17, 21)]

    def left(values: list[np.ndarray]) -> np.ndarray:
        total = values[0]
        for v in values[1:]:
            total = total + v
        return total

    level = [left(parts[i : i + 4]) for i in range(0, 21, 4)]
    expected = left([left(level[:4]), left(level[4:])])
    assert tree_sum(parts) == expected
    assert len({float(left(parts)), float(left(parts[::-1])), float(expected)}) > 1, "order matters for these numbers"


def test_sums_have_the_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    n = 70 * LEAF_ROWS // 8 + 123
    Z = rng.standard_normal((n, 9), dtype=np.float32)
    w = rng.random(n, dtype=np.float32)
    results = []
    for threads in (1, 2, 3, 16):
        rows = Rows(Z, threads=threads)
        moments, sums, total = rows.second_moments(w)
        results.append((rows.column_sums(w).tobytes(), moments.tobytes(), sums.tobytes(), total))
    assert len(set(results)) == 1
    np.testing.assert_allclose(rows.column_sums(w), w.astype(float) @ Z, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(moments, (Z * w[:, None]).astype(float).T @ Z, rtol=1e-4, atol=0.5)


def test_subtrees_as_tasks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((1000, 3))
    rows = Rows(Z, threads=2)
    monkeypatch.setattr("lastlayer.linear.rows.LEAF_ROWS", 8)

    def term(start: int, stop: int) -> np.ndarray:
        return Z[start:stop].sum(axis=0)

    expected = tree_sum([term(i, min(i + 8, 1000)) for i in range(0, 1000, 8)])
    np.testing.assert_array_equal(rows.sum_over(term, 8), expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_few_large_terms_are_alive_at_a_time(threads: int) -> None:
    """Two of a thread, and the sums of subtrees of four; and they change no bit."""
    alive = most = 0
    lock = threading.Lock()
    rng = np.random.default_rng(0)
    terms = rng.standard_normal((64, LARGE_PART))

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def term(start: int, _: int) -> np.ndarray:
        nonlocal alive, most
        made = terms[start // 8].copy()
        weakref.finalize(made, gone)
        with lock:
            alive += 1
            most = max(most, alive)
        return made

    found = Rows(np.zeros((512, 1)), threads=threads).sum_over(term, 8, size=LARGE_PART)
    np.testing.assert_array_equal(found, tree_sum(list(terms)))
    assert most <= 16 + threads


def test_rows_of_any_type_and_order_give_the_same_blocks() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (50, 6)).astype(np.uint8)
    numbers = np.array([3, 1, 40])
    for Z in (base, base.astype(np.float32), np.asfortranarray(base), np.repeat(base, 2, axis=0)[::2]):
        np.testing.assert_array_equal(Rows(Z).block(2, 9), base[2:9].astype(np.float32))
        np.testing.assert_array_equal(Rows(Z, rows=numbers).block(1, 3), base[[1, 40]])
        np.testing.assert_array_equal(Rows(Z, rows=numbers).pick(np.array([2, 0])), base[[40, 3]])
    moved = Rows(base, shift=np.full(6, 3.0), scale=np.full(6, 0.5))
    np.testing.assert_array_equal(moved.block(0, 5), (base[:5] - 3.0) * 0.5)
    assert moved.dtype == np.float32
    assert Rows(base.astype(np.int64)).dtype == np.float64


@pytest.mark.parametrize("n", [1, 5, 256, 257, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inverse_factor(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    X = rng.standard_normal((2 * n + 5, n))
    A = (X.T @ X / len(X) + 0.1 * np.eye(n)).astype(dtype)
    with single_blas_thread():
        M = inverse_factor(A, 1)
        np.testing.assert_array_equal(inverse_factor(A, 3), M)
    np.testing.assert_array_equal(M, np.tril(M))
    limit = 1e-3 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(M.T @ (M @ A), np.eye(n), atol=limit)


def test_inverse_factor_refuses_what_is_not_positive_definite() -> None:
    with single_blas_thread(), pytest.raises(np.linalg.LinAlgError):
        inverse_factor(np.diag([1.0, -1.0]))


def test_blas_threads_are_restored_by_the_last_to_leave() -> None:
    before = blas_threads()
    with single_blas_thread():
        assert set(blas_threads()) == {1}
        with single_blas_thread():
            pass
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with single_blas_thread():
            entered.set()
            leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        entered.wait(10)
        with single_blas_thread():
            leave.set()
            held.result()
            assert set(blas_threads()) == {1}, "the first to enter has left, the second is still inside"
    assert blas_threads() == before


def test_blas_threads_are_limited_in_a_thread_that_did_not_set_them_first() -> None:
    before = blas_threads()

    def inside() -> list[int]:
        with single_blas_thread():
            return blas_threads()

    with threadpool_limits(2), ThreadPoolExecutor(1) as pool:
        assert set(pool.submit(inside).result()) == {1}
        assert set(blas_threads()) == {2}
    assert blas_threads() == before


def test_blas_threads_are_restored_after_an_error() -> None:
    before = blas_threads()
    with pytest.raises(RuntimeError), single_blas_thread():
        raise RuntimeError
    assert blas_threads() == before


@pytest.mark.parametrize("threads", [2, 4, 8, 16])
def test_leaves_are_shared_evenly(threads: int) -> None:
    for n in (4_097, 9_999, 50_000, 60_000, 123_457, 1_000_000):
        sizes = [stop - start for start, stop in Rows(np.empty((n, 1), np.float32)).leaves()]
        assert sum(sizes) == n
        assert LEAF_ROWS // 2 - 16 < max(sizes) <= LEAF_ROWS
        if len(sizes) >= threads:
            each = -(-len(sizes) // threads) * max(sizes)
            assert each * threads < n + threads * 16 * len(sizes), "the busiest thread has its share and little more"
    assert Rows(np.empty((LEAF_ROWS, 1), np.float32)).leaves() == [(0, LEAF_ROWS)]


def test_parallel_keeps_the_order_and_passes_errors_on() -> None:
    assert parallel(lambda i: i * i, range(20), 3) == [i * i for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        parallel(lambda i: 1 // i, [1, 0, 2], 2)


def test_parallel_raises_the_first_error_and_takes_no_more_items() -> None:
    both, seen = threading.Barrier(2), []

    def work(number: int) -> None:
        seen.append(number)
        if number < 2:
            both.wait(5)  # both items are at work when both fail, whichever is faster
            raise ValueError(number)

    for _ in range(20):
        seen.clear()
        with pytest.raises(ValueError, match=r"^0$"):
            parallel(work, range(1000), 2)
        assert len(seen) < 1000
    assert parallel(lambda i: -i, range(5), 2) == [0, -1, -2, -3, -4], "the threads work on"


def test_parallel_uses_all_threads_at_once() -> None:
    together = threading.Barrier(3)
    assert parallel(lambda _: together.wait(5) is not None, range(3), 3) == [True, True, True]
