"""``lastlayer predict``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
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
@click.option(
    "--abstain",
    metavar="P",
    help="Withhold answers whose probability is not above P; auto: the threshold chosen on validation data.",
)
@click.option(
    "--sort-into", type=click.Path(path_type=Path), metavar="DIR", help="Copy each image to DIR/LABEL/; none is moved."
)
@click.option("--dry-run", is_flag=True, help="With --sort-into: copy nothing, say what would be copied.")
@common
def command(
    model: str,
    images: tuple[str, ...],
    top_k: int,
    form: str,
    abstain: str | None,
    sort_into: Path | None,
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Label IMAGES (files and folders) with the MODEL (a run folder or a model file).

    Answers of a run that it holds for unsure, and images unlike its training images, are noted. Files that cannot be
    read are named with the reason; the exit code is 1 when there was one.
    """
    from lastlayer.pipeline.predicting import predictions

    if dry_run and sort_into is None:
        raise click.UsageError("--dry-run goes with --sort-into DIR")
    how = execution(values)
    answers = predictions(model, images, how, top_k=top_k, abstain=abstain)
    rows = list(answers) if sort_into is None else _sorted(answers, sort_into, dry_run)
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


def _sorted(answers: Any, folder: Path, dry_run: bool) -> list[Any]:
    """Copy each image as its answer comes, and say on stderr where to."""
    from collections import Counter

    from lastlayer._files import display_name
    from lastlayer.pipeline.sorting import sort_into

    rows, counts = [], Counter[str]()
    for row, target in sort_into(answers, folder, dry_run=dry_run):
        rows.append(row)
        if target is not None:
            counts[target.parent.name] += 1
            if dry_run:
                click.echo(f"would copy {display_name(row.path)} → {display_name(str(target))}", err=True)
    parts = ", ".join(f"{display_name(name)} {count}" for name, count in sorted(counts.items()))
    verb = "would be copied" if dry_run else "copied"
    click.echo(f"{sum(counts.values()):,} images {verb} into {display_name(str(folder))} ({parts})", err=True)
    return rows


def _print_csv(rows: list[Any], top_k: int) -> None:
    width = max((len(row.top) for row in rows), default=top_k)
    more = [name for k in range(2, width + 1) for name in (f"label_{k}", f"p_{k}")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "p", *more, "note"])
    for row in rows:
        cells = [cell for name, p in row.top for cell in (name, f"{p:.6g}")]
        if row.abstained:
            cells[0] = ""
        writer.writerow([row.path, *cells, *[""] * (2 * width - len(cells)), row.note])


def _print_table(rows: list[Any]) -> None:
    from lastlayer._files import display_name
    from lastlayer.cli.console import table

    lines = []
    for row in rows:
        label, p = row.top[0] if row.top else ("—", float("nan"))
        if row.abstained:
            label = "—"
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
