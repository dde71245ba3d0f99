"""scikit-learn's own tests of the classes that lastlayer replaces, run on lastlayer's: what passes, and why not.

    python benchmarks/drop_in.py [--only test_logistic] [--list]

The installed scikit-learn brings its tests; `tests/drop_in_plugin.py` puts our classes in place of its own there, and
`tests/drop_in_catalogue.py` says by name which tests do not hold and why. Only tests that call our classes are counted.
Tests on sparse X, on the solver "liblinear" and with other words run a second time with dense X, "lbfgs" and any words
(see the plugin); "second run" counts those that then pass.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from drop_in_catalogue import MODULES, NOT_OURS, VERSION, explain

TESTS = Path(__file__).resolve().parent.parent / "tests"


def run(modules: Sequence[str], without: Sequence[str] = NOT_OURS, original: bool = False) -> list[dict[str, Any]]:
    """One record for every test of the modules, but those `without` (parts of names), from a pytest of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings, report = Path(folder, "pytest.ini"), Path(folder, "report.json")
        settings.write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-c", str(settings), "--rootdir", folder]
        command += ["-p", "no:cacheprovider", "-p", "drop_in_plugin", "--drop-in-report", str(report)]
        command += ["-k", " and ".join(f"not {name}" for name in without)] if without else []
        command += ["--drop-in-original"] if original else []
        paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Array API tests depend on what else is installed, and have their own tests here.
        settings_of = {name: value for name, value in os.environ.items() if name != "SCIPY_ARRAY_API"}
        done = subprocess.run(
            [*command, "--pyargs", *modules],
            cwd=folder,
            env={**settings_of, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 1) or not report.exists():
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        records: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    return records


def table(records: Sequence[dict[str, Any]]) -> str:
    """Passed, failed and why, for the tests that call our classes."""
    ours = [record for record in records if record["called"]]
    outcomes = Counter(record["outcome"] for record in ours)
    failed = [record for record in ours if record["outcome"] == "failed"]
    reasons = Counter((explain(record) or ("DEFECT: not in the catalogue", ""))[0] for record in failed)
    second = Counter(
        (explain(record) or ("DEFECT: not in the catalogue", ""))[0]
        for record in failed
        if record.get("second") == "passed"
    )
    lines = [f"{count:5d}  {outcome}" for outcome, count in outcomes.most_common()]
    lines += ["", "tests  second run passes  reason"]
    lines += [f"{count:5d}  {second[reason]:18d}  {reason}" for reason, count in reasons.most_common()]
    return "\n".join([f"{len(ours)} tests of scikit-learn call our classes", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where a failure is not in the catalogue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [module.rpartition(".")[2] for module in MODULES]
    parser.add_argument("--only", action="append", choices=names, help="module (repeatable; all by default)")
    parser.add_argument("--list", action="store_true", help="also every failure")
    options = parser.parse_args(arguments)
    import sklearn

    if not sklearn.__version__.startswith(f"{VERSION}."):
        print(f"The catalogue is of scikit-learn {VERSION}, here is {sklearn.__version__}", file=sys.stderr)
    every: list[dict[str, Any]] = []
    for module in MODULES:
        if options.only and module.rpartition(".")[2] not in options.only:
            continue
        records = run([module])
        print(f"\n{module}\n{table(records)}", flush=True)
        every += records
    print(f"\nall\n{table(every)}")
    failed = [record for record in every if record["outcome"] == "failed" and record["called"]]
    for record in failed:
        reason = explain(record)
        if options.list or reason is None:
            print(f"{record['test']}: {'DEFECT' if reason is None else reason[0]}: {record['message'][:160]!r}")
    return int(any(explain(record) is None for record in failed))


if __name__ == "__main__":
    sys.exit(main())
