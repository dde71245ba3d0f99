"""The lines that ``probe`` prints at its end."""

from __future__ import annotations

from typing import Any

import click

from lastlayer._files import display_name
from lastlayer.cli.console import proportion_cells, table
from lastlayer.pipeline.run import Run


def print_probe(run: Run) -> None:
    """The score with its rivals, or the table of shots, then where the files are."""
    metrics = run.metrics
    click.echo("\n".join(shot_lines(metrics) if metrics["shots"] else score_lines(metrics)))
    if metrics["interrupted"]:
        click.echo("interrupted: the best so far was kept", err=True)
    click.echo()
    click.echo(f"{display_name(str(run.folder))}/   metrics.json   predictions.csv   model.safetensors")


def score_lines(metrics: dict[str, Any]) -> list[str]:
    """One line a side; the quoted one, last, carries everything."""
    width = max(len(name) for name in metrics["splits"])
    lines = []
    for name, split in metrics["splits"].items():
        counts, accuracy = proportion_cells(split["accuracy"])
        parts = [f"{name:<{width}}   {counts} = {accuracy}"]
        if name != metrics["quote"]:
            lines.append(f"{parts[0]}   (chose C)")
            continue
        if split["top5"] is not None:
            parts.append(f"top-5 {_percent(split['top5']['value'])}")
        parts.append(f"mean per class {_percent(split['balanced_accuracy'])}")
        parts.append(f"C={metrics['C']:.4g}")
        parts += [f"{rival['name']} {_percent(rival['accuracy']['value'])}" for rival in metrics["baselines"]]
        parts.append(f"CPU {_seconds(metrics['cpu_seconds'])}")
        lines.append("   ".join(parts) + _remark(metrics))
    return lines


def _remark(metrics: dict[str, Any]) -> str:
    if metrics["quote"] == "test":
        return f"   test look #{metrics['look']}"
    if metrics["quote"] == "val":
        if metrics["path"] and len(metrics["path"]) == 1:
            return "   (validation rows; one C, so nothing was chosen on them)"
        return "   (these rows chose C; there are no test rows, LL023)"
    return "   (every row by a probe that neither saw it nor chose C on it)"


def shot_lines(metrics: dict[str, Any]) -> list[str]:
    """The table of shots."""
    shots = metrics["shots"]
    rows = []
    for row in shots["rows"]:
        spread = "" if row["sd"] is None else f" ± {100 * row['sd']:.1f}"
        rows.append((str(row["shots"]), f"{100 * row['mean']:.1f}{spread}", row["chosen_on"]))
    draws = shots["rows"][0]["repeats"]
    header = ("shots", f"accuracy (mean over {draws} draws{' ± s.d.' if draws > 1 else ''})", "val used for C")
    n = [score["n"] for row in shots["rows"] for score in row["scores"]]
    size = f"{min(n):,}" if min(n) == max(n) else f"{min(n):,} to {max(n):,}"
    rivals = "".join(f"   {rival['name']} {_percent(rival['accuracy']['value'])}" for rival in metrics["baselines"])
    look = f"   test look #{metrics['look']}" if metrics["look"] else ""
    cost = f"CPU {_seconds(metrics['cpu_seconds'])}"
    return [table(header, rows), f"scored on {shots['scored_on']} ({size} a draw){rivals}   {cost}{look}"]


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}%"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
