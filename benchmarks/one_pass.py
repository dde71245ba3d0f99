"""One pass over the data (scores, losses, gradient) as a share of what the machine allows.

    python benchmarks/one_pass.py

    limit = max(4 N D K / matrix product rate, 4 N D bytes / read bandwidth)

The rate is the best float32 square product over all cores, one single-thread BLAS product a core; the bandwidth is that
of the inner product of an array larger than any cache with itself, by all cores (NumPy's sum is slower than memory).
Medians; X is read once in the limit, whatever the pass does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np

import machine
from lastlayer._threads import available_threads
from lastlayer.linear import single_blas_thread
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from peers.tables import table

SHAPES = ((60_000, 784, 10, 0.6), (50_000, 3072, 10, 0.6), (50_000, 512, 200, 0.8), (50_000, 512, 1000, 0.8))
"""N, D, K and the share asked for."""


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall times, after one call that does not count."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return sorted(found)


def product_rate(pool: ThreadPoolExecutor, cores: int, side: int = 2048) -> float:
    """Best float32 rate of all cores together, in flop/s."""
    a = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    out = [np.empty_like(a) for _ in range(cores)]

    def everywhere() -> None:
        list(pool.map(lambda target: np.matmul(a, a, out=target), out))

    return cores * 2.0 * side**3 / seconds(everywhere, 9)[0]


def read_rate(pool: ThreadPoolExecutor, cores: int, size: int = 2**27) -> float:
    """Best read bandwidth of all cores together, in bytes/s."""
    parts = np.array_split(np.ones(size, np.float32), cores)
    return 4.0 * size / seconds(lambda: list(pool.map(lambda part: np.dot(part, part), parts)), 9)[0]


def measure(n: int, d: int, k: int, repeats: int) -> float:
    """Median seconds of one pass as L-BFGS makes it: a line with its trial at step 1, and the gradient there."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    y = rng.integers(0, k, n)
    y[:k] = np.arange(k)
    problem = Objective(X, y, k, by_name("cross_entropy"), 1e-4)
    params = np.vstack([rng.standard_normal((d, k)) / np.sqrt(d), np.zeros(k)])
    point = problem.at(params)
    directions = itertools.cycle((0.1 * params, -0.1 * params))

    def step() -> None:
        nonlocal point
        line = point.line(next(directions))
        line.evaluate(1.0)
        point = line.move(1.0)
        _ = point.value, point.gradient

    before = problem.passes
    found = seconds(step, repeats)
    made = problem.passes - before
    if made != repeats + 1:
        raise RuntimeError(f"{repeats + 1} passes were to be timed, {made} were made")
    return found[len(found) // 2]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for trials")
    options = parser.parse_args()
    cores = available_threads()
    shapes = [(max(k + 1, round(n * options.scale)), d, k, target) for n, d, k, target in SHAPES]
    with single_blas_thread(), ThreadPoolExecutor(cores) as pool:
        before = product_rate(pool, cores), read_rate(pool, cores)
        taken = [measure(n, d, k, options.repeats) for n, d, k, _ in shapes]
        # Once more: where the machine was busy the first time, its limit would look too low.
        rate, bandwidth = max(before[0], product_rate(pool, cores)), max(before[1], read_rate(pool, cores))
    rows = []
    for (n, d, k, target), passed in zip(shapes, taken):
        by_rate, by_bandwidth = 4.0 * n * d * k / rate, 4.0 * n * d / bandwidth
        limit, bound = max((by_rate, "products"), (by_bandwidth, "bandwidth"))
        found = {"n": n, "d": d, "k": k, "seconds": passed, "limit": limit, "bound": bound}
        rows.append(found | {"share": limit / passed, "target": target})
    if options.json:
        print(json.dumps({"flop/s": rate, "bytes/s": bandwidth, "rows": rows}))
        return
    print(f"{machine.describe()}\n{rate / 1e9:.0f} GFLOP/s float32, {bandwidth / 1e9:.1f} GB/s read, {cores} cores\n")
    lines = []
    for r in rows:
        shape, allowed = f"{r['n']:,} × {r['d']} × {r['k']}", f"{1e3 * r['limit']:.1f} ({r['bound']})"
        met = "yes" if r["share"] >= r["target"] else "no"
        lines.append([shape, f"{1e3 * r['seconds']:.1f}", allowed, f"{r['share']:.2f}", f"≥ {r['target']:g}", met])
    print(table(["N × D × K", "pass ms", "limit ms", "share", "target", "met"], lines))


if __name__ == "__main__":
    main()
