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
@click.option("--near-dup/--no-near-dup", default=True, help="Look for resized, recompressed, moved copies [yes].")
@click.option("--shortcuts/--no-shortcuts", default=True, help="Look for what gives the class away [yes].")
@click.option("--label-check", is_flag=True, help="Cross-validate a classifier and name the labels it doubts.")
@click.option(
    "--labels-suspect",
    type=click.Path(path_type=Path),
    help="Write these labels to a CSV to edit and give to `train --labels`; implies --label-check.",
)
@click.option("--phi", default="", help="Representation for the label check [hog+colour].")
@click.option("--labels", type=click.Path(), default="", help="CSV path,label that corrects labels.")
@click.option("--group-by", default="", help="Manifest column or file-name pattern.")
@click.option("--max-pixels", type=int, default=25_000_000, help="Refuse larger images before decoding.")
@click.option("--seed", type=int, default=0, help="Seed of everything random.")
@cache
@common
def command(
    data: str,
    strict: bool,
    fix_list: Path | None,
    near_dup: bool,
    shortcuts: bool,
    label_check: bool,
    labels_suspect: Path | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Inspect DATA: layout, classes, unreadable files, copies, conflicting labels, shortcuts.

    Nothing is trained unless the label check is asked for, and no image is moved or changed.
    """
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.pipeline.checking import run_check, write_fix_list
    from lastlayer.pipeline.settings import TrainSettings

    how = execution(values)
    settings = TrainSettings(data=data, **values)
    findings = run_check(
        settings,
        how,
        ConsoleObserver(as_json),
        near_dup=near_dup,
        shortcuts=shortcuts,
        label_check=label_check,
        labels_suspect=labels_suspect,
    )
    if fix_list is not None:
        write_fix_list(fix_list, findings.problems)
    if as_json:
        print_json(findings.to_dict())
    else:
        click.echo(findings.summary())
        if fix_list is not None:
            click.echo(f"problem files listed in {fix_list}")
        if labels_suspect is not None:
            click.echo(
                f"suspected labels in {labels_suspect}: correct the column label, then `train --labels` takes it"
            )
    return EXIT_STRICT if strict and findings.problems else EXIT_OK
