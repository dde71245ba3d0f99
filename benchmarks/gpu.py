"""The exact solver on a GPU: `LogisticRegression` on tensors there, against PyTorch's L-BFGS on the same tensors.

    python benchmarks/gpu.py --work FOLDER [--arrays FOLDER]

Times to a relative gap of 1e-4 on the problems of `problems.py` whose data are at hand (the synthetic ones need none).
Data are on the device before the clock starts; the clock ends after a synchronisation. Ours is fitted anew with a
tolerance ever tighter, and the first fit within the gap counts; it is judged in float64. L-BFGS (history 10 and 100) is
judged by its own float32 loss at its trial points. The optimum is that of a tight fit of ours on the CPU. Without a GPU
it says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import machine
from peers.objective import Array, Labels, objective
from peers.tables import table
from problems import PROBLEMS, Built, Problem, Source, build

GAP = 1e-4
TOLERANCES = tuple(float(t) for t in 10.0 ** np.arange(-1.0, -8.01, -1.0))
HISTORIES = (10, 100)


class Stop(Exception):
    """The gap is reached, or the time is up."""


def synchronise(device: str) -> None:
    """Wait for what was started on the device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ours(X: Any, y: Any, n: int, l2: float, tol: float) -> Array:
    """Parameters (D + 1, K) of our fit, on the CPU."""
    from lastlayer import LogisticRegression

    model = LogisticRegression(C=1.0 / (l2 * n), tol=tol, max_iter=5000).fit(X, y)
    coef, intercept = (np.asarray(v.cpu() if hasattr(v, "cpu") else v) for v in (model.coef_, model.intercept_))
    return np.vstack([coef.T, intercept]).astype(np.float64)


def time_ours(X: Any, y: Any, problem: Problem, device: str, judge: Any, target: float) -> tuple[float | None, float]:
    """Seconds of the first fit within the gap, and the lowest objective."""
    ours(X, y, len(X), problem.l2, 0.1)  # warm-up
    lowest = float("inf")
    for tol in TOLERANCES:
        synchronise(device)
        start = time.perf_counter()
        params = ours(X, y, len(X), problem.l2, tol)
        synchronise(device)
        seconds = time.perf_counter() - start
        lowest = min(lowest, judge(params))
        if lowest <= target:
            return seconds, lowest
    return None, lowest


def time_lbfgs(
    X: Any, y: Any, built: Built, problem: Problem, device: str, history: int, target: float, limit: float
) -> tuple[float | None, float]:
    """Seconds until L-BFGS's own loss is at or below the target, and the lowest loss."""
    import torch
    from torch.nn.functional import cross_entropy, linear

    labels = y.long()

    def run(iterations: int, limit: float) -> tuple[float | None, float]:
        W = torch.zeros(built.n_classes, X.shape[1], device=device, requires_grad=True)
        b = torch.zeros(built.n_classes, device=device, requires_grad=True)
        lowest, arrived = float("inf"), None
        optimiser = torch.optim.LBFGS(
            [W, b],
            max_iter=iterations,
            max_eval=10 * iterations,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=history,
            line_search_fn="strong_wolfe",
        )
        synchronise(device)
        start = time.perf_counter()

        def closure() -> Any:
            nonlocal lowest, arrived
            optimiser.zero_grad()
            loss = cross_entropy(linear(X, W, b), labels) + 0.5 * problem.l2 * W.square().sum()
            loss.backward()
            lowest = min(lowest, loss.item())  # `item` synchronises
            seconds = time.perf_counter() - start
            arrived = seconds if lowest <= target else None
            if arrived is not None or seconds > limit:
                raise Stop
            return loss

        try:
            optimiser.step(closure)
        except Stop:
            return arrived, lowest
        return None, lowest

    run(3, limit)
    return run(1_000_000, limit)


def optimum(X: Array, y: Labels, problem: Problem, judge: Any) -> float:
    """By a tight fit on the CPU."""
    return float(judge(ours(X, y, len(X), problem.l2, 1e-8)))


def rows(problem: Problem, built: Built, device: str, limit: float) -> list[list[str]]:
    """Ours and L-BFGS on one problem."""
    import torch

    X, y = np.load(built.X), np.load(built.y)

    def judge(params: Array) -> float:
        return objective(X, y, problem.loss, problem.l2, params)

    best = optimum(X, y, problem, judge)
    target = best * (1 + GAP)
    tensors = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    results = {"lastlayer": time_ours(*tensors, problem, device, judge, target)}
    for history in HISTORIES:
        found = time_lbfgs(*tensors, built, problem, device, history, target, limit)
        results[f"torch L-BFGS, history {history}"] = found
    mine = results["lastlayer"][0]
    lines = []
    for name, (seconds, lowest) in results.items():
        shown = "not reached" if seconds is None else f"{seconds:.3f}"
        ratio = f"{seconds / mine:.1f}×" if seconds is not None and mine is not None else ""
        lines.append([problem.title, name, shown, f"{max(0.0, lowest / best - 1):.1e}", ratio])
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 0 also where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [p.name for p in PROBLEMS if p.kind == "fit" and p.loss == "cross_entropy"]
    parser.add_argument("--work", type=Path, default=Path("build/bench-solvers"))
    parser.add_argument("--arrays", type=Path, help="folder with {mnist,cifar}_train.npy and .._train_y.npy")
    parser.add_argument("--only", action="append", choices=names)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for trials")
    parser.add_argument("--device", default="cuda", help="cpu tries the harness where there is no GPU")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of each L-BFGS")
    options = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("no GPU benchmark: PyTorch is not installed (pip install 'lastlayer[torch]')")
        return 0
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU benchmark: PyTorch sees no CUDA device")
        return 0
    source = Source(options.work.absolute(), options.arrays, scale=options.scale)
    lines = []
    for problem in PROBLEMS:
        if problem.name not in (options.only or names):
            continue
        try:
            built = build(problem.data, source)
        except FileNotFoundError as missing:
            print(f"{problem.title}: left out: {missing}", file=sys.stderr)
            continue
        lines += rows(problem, built, options.device, options.limit)
    device = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    print(f"{machine.describe()}\n{device}, PyTorch {torch.__version__}\n")
    print(table(["problem", "contestant", f"seconds to {GAP:g}", "last gap", "ours faster by"], lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
