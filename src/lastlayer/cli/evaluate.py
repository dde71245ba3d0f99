"""``lastlayer evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lastlayer.cli import EXIT_REQUIRE
from lastlayer.cli.options import common, execution, run_folder


@click.command(name="evaluate")
@click.argument("model")
@click.argument("data", required=False)
@click.option("--split", type=click.Choice(["test", "val", "train", "all"]), help="Rows to score [test; all of DATA].")
@click.option("--by", default="", help="Manifest column or file-name pattern: accuracy of each group as well.")
@click.option(
    "--require",
    multiple=True,
    metavar="CONDITION",
    help="Exit with code 3 unless it holds: 'accuracy>=0.9', 'accuracy.low>=0.9', 'recall[cat]>=80%'; may be repeated.",
)
@click.option(
    "--abstain",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Accuracy wanted of the answers; the threshold is chosen on validation rows [half of the errors].",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of prediction sets that shall hold the class [0.95].",
)
@click.option("--sets", type=click.Choice(["lac", "aps", "raps"]), help="Kind of prediction sets [lac].")
@click.option("--sets-by-class", is_flag=True, help="Promise the coverage for every class.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Also write a summary in Markdown.")
@run_folder
@common
def command(
    model: str,
    data: str | None,
    split: str | None,
    by: str,
    require: tuple[str, ...],
    abstain: float | None,
    coverage: float | None,
    sets: str | None,
    sets_by_class: bool,
    markdown: Path | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Score the MODEL (a run folder) on its own test split, or on labelled images in DATA.

    Every score comes with its 95% interval. Writes runs/evaluate-NNN with metrics.json, predictions.csv, split.csv and
    report.html.
    """
    from lastlayer import _files
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.cli.scores import print_evaluation
    from lastlayer.pipeline.deciding import DecisionSettings
    from lastlayer.pipeline.evaluating import run_evaluation
    from lastlayer.pipeline.markdown import evaluation_markdown
    from lastlayer.pipeline.requirements import check_requirements, parse_requirement

    requirements = [parse_requirement(text) for text in require]
    given: dict[str, Any] = {"accuracy": abstain, "coverage": coverage, "rule": sets, "by_class": sets_by_class or None}
    settings = DecisionSettings(**{key: value for key, value in given.items() if value is not None})
    how = execution(values)
    evaluated = run_evaluation(model, data, split or "", how, ConsoleObserver(as_json), by=by, settings=settings)
    metrics = evaluated.metrics
    verdicts = check_requirements(requirements, metrics)
    if markdown is not None:
        _files.write_text(markdown, evaluation_markdown(metrics, verdicts))
    if as_json:
        print_json({"run": str(evaluated.folder), **metrics, "requirements": [each.to_dict() for each in verdicts]})
    else:
        print_evaluation(metrics)
        click.echo(f"\n{evaluated.folder / 'report.html'}   metrics.json   predictions.csv")
    for verdict in verdicts:
        click.echo(verdict.line(), err=as_json or not verdict.holds)
    return 0 if all(verdict.holds for verdict in verdicts) else EXIT_REQUIRE
