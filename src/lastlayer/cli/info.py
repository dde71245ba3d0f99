"""``lastlayer info``."""

from __future__ import annotations

from pathlib import Path

import click

from lastlayer._files import display_name


@click.command(name="info")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(model: str, as_json: bool) -> None:
    """Say what MODEL (a run folder or a model file) holds: classes, representation, scores, data hash."""
    from lastlayer.cli.console import print_json
    from lastlayer.pipeline.info import describe, describe_json

    if as_json:
        print_json(describe_json(Path(model)))
        return
    for line in describe(Path(model)):
        click.echo(display_name(line))
