"""``lastlayer evaluate``."""

from __future__ import annotations

from typing import Any

import click

from lastlayer.cli import EXIT_REQUIRE
from lastlayer.cli.options import common, execution, run_folder


@click.command(name="evaluate")
@click.argument("model")
@click.argument("data", required=False)
@click.option("--split", type=click.Choice(["test", "val", "train", "all"]), help="Rows to score [test; all of DATA].")
@click.option("--require", help="Exit with code 3 unless it holds, e.g. 'accuracy>=0.9'.")
@run_folder
@common
def command(model: str, data: str | None, split: str | None, require: str | None, as_json: bool, **values: Any) -> int:
    """Score the MODEL (a run folder) on its own test split, or on labelled images in DATA.

    Writes runs/evaluate-NNN with metrics.json, predictions.csv and report.html.
    """
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.cli.scores import print_evaluation
    from lastlayer.pipeline.evaluating import parse_requirement, run_evaluation

    requirement = parse_requirement(require) if require else None
    how = execution(values)
    evaluated = run_evaluation(model, data, split or "", how, ConsoleObserver(as_json))
    if as_json:
        print_json({"run": str(evaluated.folder), **evaluated.metrics})
    else:
        print_evaluation(evaluated.metrics)
        click.echo(f"\n{evaluated.folder / 'report.html'}   metrics.json   predictions.csv")
    if requirement is not None and not requirement.holds(evaluated.metrics):
        click.echo(f"required {requirement}: not met", err=True)
        return EXIT_REQUIRE
    return 0
