"""k nearest neighbours of 10,000 × 60,000 × 784: lastlayer, scikit-learn's brute force and FAISS's flat index, in turn.

    python benchmarks/neighbours.py --arrays FOLDER [--faiss-python VENV/bin/python] [--metric l1]

FOLDER holds mnist_train.npy and mnist_test.npy (uint8). On the clock are the index and the search for k neighbours of
all test rows, in memory as the library wants them: uint8 for lastlayer, and float32 for all. Every contestant is a
process of its own with all cores, warmed up on few rows; they take turns, `--repeats` rounds, and medians are compared.

    limit = 2 N M D / matrix product rate of all cores together (float32)

"lastlayer, all columns" ranks every row by all columns, as the others do: its share of the limit says what the search
costs beside the products. "lastlayer" itself may look at a projection first, and is not bound by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine

Answer = tuple[np.ndarray, np.ndarray]
CONTESTANTS = {
    "lastlayer": "uint8",
    "lastlayer, float32": "float32",
    "lastlayer, all columns": "uint8",
    "scikit-learn brute": "float32",
    "FAISS flat": "float32",
}
WARM_UP = 3000


def prepare(name: str, metric: str) -> Callable[[np.ndarray, np.ndarray, int], Answer]:
    """The contestant's index and search: rows, queries, k to distances and row numbers."""
    if name.startswith("lastlayer"):
        from lastlayer.neighbours import Index, search

        if name.endswith("all columns"):
            search.SHADOWS_FROM = 2**62

        def ours(X: np.ndarray, Q: np.ndarray, k: int) -> Answer:
            found = Index(X, metric).nearest(Q, k)
            return found.distances, found.rows

        return ours
    if name == "scikit-learn brute":
        from sklearn.neighbors import NearestNeighbors

        theirs = {"l2": "euclidean", "l1": "manhattan", "cosine": "cosine"}[metric]

        def brute(X: np.ndarray, Q: np.ndarray, k: int) -> Answer:
            return NearestNeighbors(n_neighbors=k, algorithm="brute", metric=theirs, n_jobs=-1).fit(X).kneighbors(Q)

        return brute
    import faiss

    def flat(X: np.ndarray, Q: np.ndarray, k: int) -> Answer:
        index = faiss.IndexFlatL2(X.shape[1])
        index.add(X)
        squares, rows = index.search(Q, k)
        return np.sqrt(squares), rows

    return flat


def work(name: str, options: argparse.Namespace) -> None:
    """A contestant's process: one search for each line of its input, one line of JSON for each."""
    dtype = CONTESTANTS[name]
    X, Q = (np.load(options.arrays / f"mnist_{side}.npy") for side in ("train", "test"))
    X, Q = X.reshape(len(X), -1), Q.reshape(len(Q), -1)
    order = np.random.default_rng(0).permutation(len(X))[: options.rows]
    X, Q = X[order].astype(dtype), Q[np.random.default_rng(1).permutation(len(Q))[: options.queries]].astype(dtype)
    find = prepare(name, options.metric)
    find(X, Q[: max(1, 2**31 // X.size + 1)], options.k)
    find(X[:WARM_UP], Q[:100], options.k)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        rows = find(X, Q, options.k)[1]
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "rows": np.sort(rows, axis=1).tolist()}), flush=True)


def take_turns(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All contestants in turn; those that are not installed are left out."""
    here = {"FAISS flat": options.faiss_python} if options.faiss_python else {}
    names = [name for name in CONTESTANTS if name != "FAISS flat" or (options.faiss_python and options.metric == "l2")]
    names = [name for name in names if options.metric == "l2" or name != "lastlayer, all columns"]
    workers = {}
    for name in names:
        command = [str(here.get(name, sys.executable)), __file__, "--worker", name, "--arrays", str(options.arrays)]
        for key in ("metric", "k", "rows", "queries"):
            command += [f"--{key}", str(getattr(options, key))]
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if workers[name].stdout.readline() != "ready\n":
            raise SystemExit(f"{name} did not start")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(options.repeats):
        for name, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            found[name].append(json.loads(worker.stdout.readline()))
            print(f"round {turn + 1}: {name} {found[name][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=Path, required=True)
    parser.add_argument("--faiss-python", type=Path, help="an interpreter with faiss-cpu")
    parser.add_argument("--metric", choices=["l2", "l1", "cosine"], default="l2")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options)
        return
    from lastlayer._threads import available_threads, single_blas_thread
    from one_pass import product_rate
    from peers.tables import table

    cores = available_threads()
    with single_blas_thread(), ThreadPoolExecutor(cores) as pool:
        rate = product_rate(pool, cores)
        found = take_turns(options)
        rate = max(rate, product_rate(pool, cores))
    limit = 2.0 * options.queries * options.rows * 784 / rate
    print(f"{machine.describe()}\n{rate / 1e9:.0f} GFLOP/s float32 on {cores} cores; limit {limit:.2f} s\n")
    ours = float(np.median([run["seconds"] for run in found["lastlayer"]]))
    lines = []
    for name, runs in found.items():
        seconds = sorted(run["seconds"] for run in runs)
        middle = float(np.median(seconds))
        same = np.mean([a == b for a, b in zip(runs[0]["rows"], found["lastlayer"][0]["rows"])])
        spread, share = f"{seconds[0]:.2f}-{seconds[-1]:.2f}", f"{limit / middle:.2f}"
        lines.append([name, f"{middle:.2f}", spread, f"{middle / ours:.2f}", share, f"{100 * same:.2f}%"])
    head = ["contestant", "median s", "spread", "time / ours", "limit / time", "queries of the same rows"]
    print(table(head, lines))


if __name__ == "__main__":
    main()
