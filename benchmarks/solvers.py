"""The exact solver against every peer, all in one run.

    python benchmarks/solvers.py --mnist FOLDER --cifar FOLDER --peers-python VENV/bin/python --work FOLDER

Every contestant fits in a process of its own, on the same arrays, after a warm-up on a few rows; its iterates are
judged afterwards by one float64 objective (`peers/objective.py`). The time to a gap is that of the first iterate at or
below (1 + gap) times the lowest objective that any contestant, or a long reference run of ours, ever saw. The clock
runs from the call of fit to there, setup included, imports excluded, and stands still while iterates are written.
Peers, their configurations and the origin of their iterates are described in the files of `peers/`, the problems in
`problems.py`.

Peers that need another environment (scikit-learn-intelex, PyTorch) run under --peers-python:

    python -m venv VENV && VENV/bin/pip install scikit-learn scikit-learn-intelex torch==2.13.0

Prints the table of the issue and one of all contestants; writes results.json into --work after every problem, where
arrays and reference optima are kept for the next run, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine
from lastlayer._files import write_json
from peers.fits import Fits, Settings, say
from peers.tables import Row, as_data, full_table, issue_table
from peers.tasks import task_rows
from problems import PROBLEMS, Source, build

ONE_PASS = "one-pass"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*(problem.name for problem in PROBLEMS), ONE_PASS]
    parser.add_argument("--mnist", type=Path, help="folder with train/CLASS/*.png")
    parser.add_argument("--cifar", type=Path, help="folder with train/CLASS/*.jpg")
    parser.add_argument("--arrays", type=Path, help="folder with {mnist,cifar}_train.npy and .._train_y.npy instead")
    parser.add_argument("--work", type=Path, default=Path("build/bench-solvers"), help="where everything is kept")
    parser.add_argument("--peers-python", type=Path, help="interpreter with scikit-learn-intelex and torch")
    parser.add_argument("--only", action="append", choices=names, help="problem (repeatable; all by default)")
    parser.add_argument("--contestants", help="comma-separated peers (all by default); 'memory' is one")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of ours, and of peers below a minute; medians count"
    )
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds after which a fit is cut")
    parser.add_argument("--cut-at-target", action="store_true", help="cut peers at 1.3 × target × our time")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for trials")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run what is asked for."""
    options = parse(arguments)
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    source = Source(work, options.arrays, options.mnist, options.cifar, options.scale)
    chosen = None if options.contestants is None else tuple(options.contestants.split(","))
    settings = Settings(work, options.peers_python, chosen, options.repeats, options.limit, options.cut_at_target)
    about = {"machine": machine.describe(), "matmul GFLOP/s": machine.matmul_rate(), "scale": options.scale}
    say(f"{about['machine']}; float32 matrix product {about['matmul GFLOP/s']:.0f} GFLOP/s")
    rows: list[Row] = []
    for problem in PROBLEMS:
        if options.only and problem.name not in options.only:
            continue
        say(f"{problem.title}")
        built = build(problem.data, source)
        fits = Fits(problem, built, settings)
        rows += fits.rows() if problem.kind == "fit" else task_rows(fits, rows)
        save(work, about, options, rows)
    if not options.only or ONE_PASS in options.only:
        rows += one_pass()
    save(work, about, options, rows)
    print(f"{about['machine']}\nfloat32 matrix product {about['matmul GFLOP/s']:.0f} GFLOP/s\n")
    print(issue_table(rows), end="\n\n")
    print(full_table(rows))
    return rows


def one_pass() -> list[Row]:
    """Rows of `one_pass.py`, from a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("one_pass.py")), "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [
        Row(
            f"one pass, {r['n']:,} × {r['d']} × {r['k']}",
            "share",
            f"{r['seconds']:.4f}",
            f"limit {r['limit']:.4f} ({r['bound']})",
            f"{r['share']:.2f}",
            f"≥ {r['target']:g}",
            "yes" if r["share"] >= r["target"] else "no",
        )
        for r in found["rows"]
    ]


def save(work: Path, about: dict[str, Any], options: argparse.Namespace, rows: list[Row]) -> None:
    """results.json, whole or not at all."""
    given = {key: str(value) for key, value in vars(options).items()}
    write_json(work / "results.json", {**about, "options": given, "rows": as_data(rows)})


if __name__ == "__main__":
    main()
