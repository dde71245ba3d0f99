"""``lastlayer demo``: the whole way on data that everybody has."""

from __future__ import annotations

import webbrowser
from typing import Any

import click

from lastlayer.cli import EXIT_INTERRUPTED, EXIT_OK
from lastlayer.cli.options import common, execution, run_folder


@click.command(name="demo")
@click.option("--open", "open_report", is_flag=True, help="Open the report in the browser.")
@run_folder
@common
def command(open_report: bool, as_json: bool, **values: Any) -> int:
    """Train on 1,797 real handwritten digits that ship with scikit-learn, and write a report."""
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.cli.scores import print_outcome
    from lastlayer.pipeline.settings import TrainSettings
    from lastlayer.pipeline.training import run_training

    settings = TrainSettings(data="demo:digits", phi="pixels+hog")
    run = run_training(settings, execution(values), ConsoleObserver(as_json))
    if as_json:
        print_json({"run": str(run.folder), **run.metrics})
    else:
        print_outcome(run)
        click.echo("\nNext   lastlayer train FOLDER     a folder that holds one folder of images per class")
    if open_report:
        webbrowser.open(run.report_path.absolute().as_uri())
    return EXIT_INTERRUPTED if run.interrupted else EXIT_OK
