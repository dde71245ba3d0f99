"""What machine a benchmark ran on, in one line, and the matrix product rate that bounds everything."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np


def describe() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )


def matmul_rate(side: int = 3000, repeats: int = 5) -> float:
    """Median float32 matrix product rate in GFLOP/s."""
    a = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / float(np.median(seconds)) / 1e9


if __name__ == "__main__":
    print(describe())
    print(f"float32 matrix product: {matmul_rate():.0f} GFLOP/s")
