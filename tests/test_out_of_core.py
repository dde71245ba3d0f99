"""Features larger than memory: a fit from `numpy.memmap` needs little beside them, and gives the bits of one in memory.

A subprocess maps a sparse file, reads it once so that all its pages count as resident, and fits it. What the resident
size grows by at its highest is what the fit needs beside its features.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lastlayer.selection.fit import fit_linear

MIB = 2**20
FIXED = 48 * MIB
"""What a fit may need whatever the sizes: blocks in work on two threads, their partial sums, buffers of BLAS."""

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peaks of memory are read from Linux's /proc"
)

FIT = """
import ctypes, json, sys
import numpy as np
from lastlayer.selection.fit import fit_linear

ask = json.loads(sys.argv[1])

def fit(Z, y, k):
    return fit_linear(Z, y, k, ask["loss"], l2=1e-3, max_iter=4, threads=2)

def status(name):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

rng = np.random.default_rng(0)
n, d, k = ask["n"], ask["d"], ask["k"]
# Once on less data, but enough that modules, threads and compiled loops are loaded.
few = 2**22 // d + 1
some = rng.integers(0, 5, (few, d)).astype(ask["dtype"])
some.setflags(write=False)  # as the file below: loops are compiled for arrays that may be written to, and others
fit(some, np.arange(few) % k, k)
Z = np.memmap(ask["path"], dtype=ask["dtype"], mode="r", shape=(n, d))
y = np.arange(n, dtype=np.intp) % k
for start in range(0, n, 4096):
    Z[start : start + 4096].max()
trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
if trim is not None:
    trim(0)  # what has been freed is given back, so that it counts again when it is taken again
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the highest resident size starts again from here
done = fit(np.array(Z) if ask["copy"] else Z, y, k)
print(json.dumps([status("VmHWM") - before, before, done.solution.value, done.solution.iterations]))
"""


def sparse_file(path: Path, n: int, d: int, dtype: str) -> Path:
    """Mostly holes, which read as zeros and take no disk; a few thousand rows of numbers spread over all of it."""
    rng = np.random.default_rng(0)
    size = np.dtype(dtype).itemsize
    with open(path, "wb") as file:
        file.truncate(n * d * size)
        for first in range(0, n - 64, max(64, n // 64)):
            file.seek(first * d * size)
            file.write(rng.integers(0, 5, (64, d)).astype(dtype).tobytes())
    assert path.stat().st_size == n * d * size
    return path


def grown(path: Path, n: int, d: int, k: int, dtype: str, loss: str, copy: bool = False) -> int:
    """Bytes by which the process grew in a fit that did something."""
    ask = {"path": str(path), "n": n, "d": d, "k": k, "dtype": dtype, "loss": loss, "copy": copy}
    command = [sys.executable, "-W", "error", "-c", FIT, json.dumps(ask)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    growth, before, value, iterations = json.loads(done.stdout)
    assert before > path.stat().st_size, "the file's pages were not resident"
    assert value > 0 and iterations > 0
    return int(growth)


def promised(n: int, d: int, k: int) -> int:
    """3 N·K + 4 D² floats."""
    return 4 * (3 * n * k + 4 * d * d)


@on_linux
@pytest.mark.parametrize(("dtype", "d"), [("float32", 256), ("float16", 512), ("uint8", 1024)])
def test_a_file_of_400_mib_is_fitted_in_a_fifth_of_that(dtype: str, d: int, tmp_path: Path) -> None:
    n, k = 400 * MIB // (d * np.dtype(dtype).itemsize), 3
    path = sparse_file(tmp_path / "Z.bin", n, d, dtype)
    assert grown(path, n, d, k, dtype, "cross_entropy") < path.stat().st_size / 5


@on_linux
@pytest.mark.parametrize(
    ("loss", "n", "d", "k"),
    [
        ("cross_entropy", 100_000, 512, 40),
        ("cross_entropy", 40_000, 1024, 100),
        ("squared_hinge", 100_000, 512, 40),
        ("squared", 60_000, 1024, 40),
    ],
)
def test_memory_beside_float32_features(loss: str, n: int, d: int, k: int, tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "Z.bin", n, d, "float32")
    assert grown(path, n, d, k, "float32", loss) <= promised(n, d, k) + FIXED


@on_linux
def test_planted_bug_a_fit_that_copies_its_features_is_caught(tmp_path: Path) -> None:
    n, d, k = 100_000, 512, 40
    path = sparse_file(tmp_path / "Z.bin", n, d, "float32")
    assert grown(path, n, d, k, "float32", "cross_entropy", copy=True) > promised(n, d, k) + FIXED


def instance(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    Z = rng.integers(0, 200, (n, d)).astype(dtype)
    scores = Z[:, :4].astype(float) + 40 * rng.standard_normal((n, 4))
    return Z, scores.argmax(axis=1)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge", "squared"])
@pytest.mark.parametrize(
    ("n", "d", "dtype"),
    [(9_001, 120, "float16"), (9_001, 120, "float64"), (36_001, 120, "uint8"), (36_001, 120, "float32")],
    ids=["plain-float16", "plain-float64", "compiled-uint8", "compiled-float32"],
)
def test_same_bits_from_a_file_and_for_any_number_of_threads(
    n: int, d: int, dtype: str, loss: str, tmp_path: Path
) -> None:
    Z, y = instance(n, d, dtype)
    path = tmp_path / "Z.npy"
    np.save(path, Z)
    mapped = np.load(path, mmap_mode="r")
    seen = set()
    for features in (Z, mapped):
        for threads in (1, 2, 3):
            fit = fit_linear(features, y, 4, loss, l2=1e-2, max_iter=4, threads=threads)
            seen.add((fit.weights.tobytes(), fit.bias.tobytes(), fit.solution.value, fit.solution.passes))
    assert len(seen) == 1


def test_the_file_is_not_written_to(tmp_path: Path) -> None:
    Z, y = instance(9_001, 120, "uint8")
    path = tmp_path / "Z.npy"
    np.save(path, Z)
    before = path.read_bytes()
    fit_linear(np.load(path, mmap_mode="r+"), y, 4, l2=1e-2, max_iter=2)
    assert path.read_bytes() == before
