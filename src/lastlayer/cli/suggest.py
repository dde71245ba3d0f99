"""``lastlayer suggest``."""

from __future__ import annotations

import csv
import sys
from typing import Any

import click

from lastlayer.cli.options import common, execution


@click.command(name="suggest")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--n", "count", type=click.IntRange(1), default=50, show_default=True, help="Images to suggest.")
@click.option(
    "--by",
    type=click.Choice(["margin", "entropy"]),
    default="margin",
    show_default=True,
    help="What makes an answer unsure.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print.",
)
@common
def command(model: str, images: tuple[str, ...], count: int, by: str, form: str, as_json: bool, **values: Any) -> int:
    """Rank unlabelled IMAGES (files and folders) by what a label would be worth to the MODEL (a run folder or file).

    Unsure answers come first, each unlike the images that were trained on or suggested before it. No file is moved; the
    csv has an empty column label to fill in.
    """
    from lastlayer._files import display_name
    from lastlayer.cli.console import print_json
    from lastlayer.pipeline.suggesting import suggest

    found = suggest(model, images, count, by=by, execution=execution(values))
    for path, reason in found.refused:
        click.echo(f"LL003 {display_name(path)}: {reason}", err=True)
    if as_json or form == "json":
        print_json(
            {
                "looked_at": found.looked_at,
                "refused": [{"path": display_name(path), "reason": reason} for path, reason in found.refused],
                "suggestions": [{**one.to_dict(), "path": display_name(one.path)} for one in found.chosen],
            }
        )
    elif form == "csv":
        _print_csv(found.chosen)
    else:
        _print_table(found)
    return 0


def _print_csv(chosen: tuple[Any, ...]) -> None:
    from lastlayer.pipeline.suspects import cell_label, cell_path

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rank", "path", "label", "suggested", "p", "next", "p_next", "unsure", "score"])
    for one in chosen:
        tops = [cell for name, p in one.top for cell in (cell_label(name), f"{p:.6g}")]
        tops += [""] * (4 - len(tops))
        writer.writerow([one.rank, cell_path(one.path), "", *tops, f"{one.unsure:.6g}", f"{one.score:.6g}"])


def _print_table(found: Any) -> None:
    from lastlayer._files import display_name
    from lastlayer.cli.console import table

    lines = []
    for one in found.chosen:
        label, p = one.top[0]
        rest = "  ".join(f"{name} {q:.2f}" for name, q in one.top[1:])
        cells = (str(one.rank), display_name(one.path), display_name(label), f"{p:.2f}", display_name(rest))
        lines.append((*cells, f"{one.score:.3f}"))
    click.echo(table(("rank", "file", "label?", "p", "next", "score"), lines, right=[0]))
    click.echo(f"\n{len(found.chosen)} of {found.looked_at:,} images, the most worthwhile first; no file was moved")
