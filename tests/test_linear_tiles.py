"""The products in registers against NumPy in float64: every remainder of rows, classes and columns, on every processor.

Code for other processors than this one is made by telling numba of one with fewer features, in a process of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lastlayer._arrays import aligned_empty
from lastlayer.linear.kernels import add_gradient, add_scores, columns_at_a_time

COLUMNS = (1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 784, 1024, 1030, 1600)
CLASSES = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 20, 23, 100)
ROWS = (1, 3, 4, 5, 8, 17)


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def check(D: int) -> None:
    """Products with D columns; what lies beside the results is left alone."""
    rng = np.random.default_rng(D)
    for K in CLASSES:
        for n in ROWS:
            X, W, P = numbers(rng, n, D), numbers(rng, K, D), numbers(rng, K, n + 3)
            scores, gradient = numbers(rng, K, n + 2), numbers(rng, K, D)
            expected = scores.astype(np.float64)
            expected[:, :n] += W.astype(np.float64) @ X.T
            total = gradient + P[:, :n].astype(np.float64) @ X
            add_scores(X, W, scores)
            add_gradient(X, P, gradient, 0)
            np.testing.assert_allclose(scores, expected, atol=2e-6 * D + 1e-6)
            np.testing.assert_array_equal(scores[:, n:], expected[:, n:])
            np.testing.assert_allclose(gradient, total, atol=2e-6 * n + 1e-6)


@pytest.mark.parametrize("D", COLUMNS)
def test_products_agree_with_numpy(D: int) -> None:
    check(D)


@pytest.mark.parametrize(
    ("processor", "features"),
    [("znver3", "+avx2,+fma,+avx,+sse4.2"), ("x86-64", "+sse2"), ("generic", "")],
    ids=["eight lanes", "four lanes", "no vectors named"],
)
def test_products_agree_on_other_processors(processor: str, features: str, tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip(f"this is a {platform.machine()}: its code generator knows no other x86-64 processors")
    told = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "import test_linear_tiles as t; [t.check(D) for D in (1, 9, 33, 63)]; print(t.lanes())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=Path(__file__).parent, env=os.environ | told,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8"]


def lanes() -> int:
    from lastlayer.linear.tiles import LANES

    return LANES


def test_a_row_has_the_same_scores_wherever_it_stands() -> None:
    """In a tile of four rows or alone, first or last."""
    rng = np.random.default_rng(0)
    X, W = numbers(rng, 11, 797), numbers(rng, 13, 797)
    found = np.zeros((13, 11), np.float32)
    add_scores(X, W, found)
    for n in (1, 4, 7):
        for first in range(12 - n):
            part = np.zeros((13, n), np.float32)
            add_scores(X[first : first + n], W, part)
            np.testing.assert_array_equal(part, found[:, first : first + n])


@pytest.mark.parametrize("K", [13, 200])
def test_a_row_has_the_same_scores_among_other_classes(K: int) -> None:
    """Few classes' weights stay in the first-level cache, many come by in tiles: one sum all the same."""
    rng = np.random.default_rng(2)
    X, W = numbers(rng, 64, 500), numbers(rng, K, 500)
    found, five = np.zeros((K, 64), np.float32), np.zeros((5, 64), np.float32)
    add_scores(X, W, found)
    add_scores(X, W[:5].copy(), five)
    np.testing.assert_array_equal(found[:5], five)


def test_parts_of_the_columns_cover_them() -> None:
    for D in (1, 16, 1023, 1024, 1025, 1040, 1536, 1537, 2604, 3072, 20_000):
        width = columns_at_a_time(D)
        assert 0 < width <= 1024
        assert width == D or width % 16 == 0
        parts = -(-D // width)
        assert (parts - 1) * width < D
        assert width * parts - D < 16 * parts  # equal shares


def test_a_sum_may_have_rows_further_apart() -> None:
    rng = np.random.default_rng(3)
    X, P = numbers(rng, 40, 70), numbers(rng, 12, 40)
    plain, apart = np.zeros((12, 70), np.float32), np.full((12, 80), 7, np.float32)
    apart[:, :70] = 0
    add_gradient(X, P, plain, 0)
    add_gradient(X, P, apart, 0)
    np.testing.assert_array_equal(apart[:, :70], plain)
    np.testing.assert_array_equal(apart[:, 70:], 7)


def test_aligned_room_begins_a_cache_line() -> None:
    for shape in ((1, 1), (10, 784), (7, 33)):
        for dtype in (np.float32, np.float64):
            room = aligned_empty(shape, dtype)
            assert room.shape == shape
            assert room.dtype == dtype
            assert room.flags.c_contiguous
            assert room.ctypes.data % 64 == 0


def test_asking_for_the_next_rows_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    X, P = numbers(rng, 64, 200), numbers(rng, 12, 32)
    one, other = np.zeros((2, 12, 200), np.float32)
    add_gradient(X[:32], P, one, 0)
    add_gradient(X[:32], P, other, 32)
    np.testing.assert_array_equal(one, other)
