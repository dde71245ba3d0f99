"""``lastlayer check``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lastlayer.cli import EXIT_OK, EXIT_STRICT
from lastlayer.cli.options import cache, common, execution


@click.command(name="check")
@click.argument("data")
@click.option("--strict", is_flag=True, help="Exit with code 4 when a problem was found.")
@click.option(
    "--fix-list", type=click.Path(path_type=Path), help="Write code,path,detail of every problem to this CSV."
)
@click.option("--labels", type=click.Path(), default="", help="CSV path,label that corrects labels.")
@click.option("--group-by", default="", help="Manifest column or file-name pattern.")
@click.option("--max-pixels", type=int, default=25_000_000, help="Refuse larger images before decoding.")
@cache
@common
def command(data: str, strict: bool, fix_list: Path | None, as_json: bool, **values: Any) -> int:
    """Inspect DATA without training: layout, classes, unreadable files, duplicates, label conflicts."""
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.pipeline.checking import run_check, write_fix_list
    from lastlayer.pipeline.settings import TrainSettings

    how = execution(values)
    settings = TrainSettings(data=data, **values)
    findings = run_check(settings, how, ConsoleObserver(as_json))
    if fix_list is not None:
        write_fix_list(fix_list, findings.problems)
    if as_json:
        print_json(findings.to_dict())
    else:
        click.echo(findings.summary())
        if fix_list is not None:
            click.echo(f"problem files listed in {fix_list}")
    return EXIT_STRICT if strict and findings.problems else EXIT_OK
