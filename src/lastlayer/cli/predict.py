"""``lastlayer predict``."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from lastlayer.cli import EXIT_ERROR, EXIT_OK
from lastlayer.cli.options import common, execution


@click.command(name="predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(1), default=2, show_default=True, help="Classes to name per image.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="How to print.",
)
@common
def command(model: str, images: tuple[str, ...], top_k: int, form: str, as_json: bool, **values: Any) -> int:
    """Label IMAGES (files and folders) with the MODEL (a run folder or a model file).

    Files that cannot be read are named with the reason; the exit code is 1 when there was one.
    """
    from lastlayer.pipeline.predicting import predictions

    how = execution(values)
    rows = list(predictions(model, images, how, top_k=top_k))
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], indent=1))
    elif form == "jsonl":
        for row in rows:
            click.echo(json.dumps(row.to_dict()))
    elif form == "csv":
        _print_csv(rows, top_k)
    else:
        _print_table(rows)
    return EXIT_ERROR if any(row.note.startswith("LL003") for row in rows) else EXIT_OK


def _print_csv(rows: list[Any], top_k: int) -> None:
    width = max((len(row.top) for row in rows), default=top_k)
    more = [name for k in range(2, width + 1) for name in (f"label_{k}", f"p_{k}")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "p", *more, "note"])
    for row in rows:
        cells = [cell for name, p in row.top for cell in (name, f"{p:.6g}")]
        writer.writerow([row.path, *cells, *[""] * (2 * width - len(cells)), row.note])


def _print_table(rows: list[Any]) -> None:
    from lastlayer._files import display_name
    from lastlayer.cli.console import table

    lines = []
    for row in rows:
        label, p = row.top[0] if row.top else ("—", float("nan"))
        rest = "  ".join(f"{name} {q:.2f}" for name, q in row.top[1:])
        lines.append(
            (
                display_name(row.path),
                display_name(label),
                "" if p != p else f"{p:.2f}",
                display_name(rest),
                row.note,
            )
        )
    click.echo(table(("file", "label", "p", "next", "note"), lines))
