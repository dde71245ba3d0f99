"""``lastlayer sweep``."""

from __future__ import annotations

from typing import Any

import click

from lastlayer.cli import EXIT_INTERRUPTED, EXIT_OK
from lastlayer.cli.options import common, execution, run_folder


@click.command(name="sweep")
@click.argument("data")
@click.option("--phi", multiple=True, help="A representation to compare; may be repeated [pixels, hog, hog+colour].")
@click.option("--head", type=click.Choice(["logistic", "svm", "ridge"]), help="Last layer [logistic].")
@click.option("--C", "C", metavar="VALUES", help="C to choose from: 0.01,0.1,1 or logspace:-6:5:45.")
@click.option("--cv", type=click.IntRange(2), help="Folds [5].")
@click.option("--nested", is_flag=True, default=None, help="Cross-validate the choice of phi and C as well.")
@click.option("--repeats", type=click.IntRange(1), help="Cross-validations, each with its own folds [1].")
@click.option("--learning-curve", is_flag=True, default=None, help="Accuracy of the winner after fewer images.")
@click.option("--size", type=click.IntRange(1, 4096), help="Side in pixels of every image [from the images].")
@click.option("--fit", type=click.Choice(["crop", "stretch"]), help="How an image fills that square [crop].")
@click.option("--test", type=float, help="Share of images set aside, where the data gives none [0.15].")
@click.option("--split", type=click.Path(), help="A split.csv to reuse.")
@click.option("--labels", type=click.Path(), help="CSV path,label that corrects labels.")
@click.option("--group-by", help="Manifest column or file-name pattern; a group stays on one side.")
@click.option("--near-dup/--no-near-dup", default=None, help="Keep near duplicates in one fold and on one side [yes].")
@click.option("--unknown", metavar="NAME", help="Images of this class are of none, and left out [unknown].")
@click.option("--class-weight", type=click.Choice(["balanced"]), help="Weigh classes equally.")
@click.option("--standardise/--no-standardise", default=None, help="Centre and scale features, fold by fold [yes].")
@click.option("--seed", type=int, help="Seed of everything random [0].")
@click.option("--threads", type=click.IntRange(1), help="Threads of the fits [all cores]; changes no bit.")
@run_folder
@common
def command(data: str, threads: int | None, as_json: bool, **values: Any) -> int:
    """Compare representations of DATA by cross-validation; the test split is set aside and not touched.

    Writes runs/sweep-NNN with sweep.json, report.html, and best.toml for `lastlayer train --config`.
    """
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.cli.sweep_scores import sweep_lines
    from lastlayer.pipeline.settings import parse_Cs
    from lastlayer.pipeline.sweep_settings import sweep_settings
    from lastlayer.pipeline.sweeping import run_sweep

    how = execution(values)
    given = {key: value for key, value in values.items() if value is not None and value != ()}
    if "C" in given:
        given["C"] = parse_Cs(given["C"])
    settings = sweep_settings({**given, "data": data}, "options")
    sweep = run_sweep(settings, how, ConsoleObserver(as_json), threads=threads)
    document = sweep.document
    if as_json:
        print_json({"run": str(sweep.folder), **document})
    else:
        click.echo("\n".join(sweep_lines(document, str(sweep.folder))))
    if sweep.interrupted:
        click.echo("interrupted: what was complete is kept", err=True)
    return EXIT_INTERRUPTED if sweep.interrupted else EXIT_OK
