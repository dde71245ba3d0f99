"""The score tables that ``train`` and ``evaluate`` print."""

from __future__ import annotations

from typing import Any

import click

from lastlayer._files import display_name
from lastlayer.cli.console import proportion_cells, table
from lastlayer.pipeline.run import Run

_REMARKS = {
    "train": "(seen in training)",
    "val": "(used to choose the model)",
}


def score_table(metrics: dict[str, Any]) -> str:
    """One row per split and baseline: counts, accuracy with its interval, and what the row is good for."""
    rows = []
    for name, split in metrics["splits"].items():
        counts, accuracy = proportion_cells(split["accuracy"])
        remark = _REMARKS.get(name, "")
        if name == metrics["quote"] and name not in ("train",):
            look = f"  (test look #{metrics['look']})" if metrics.get("look") else ""
            remark = (
                f"← quote this one{look}" if name != "val" else "(used to choose the model; there is no test split)"
            )
        rows.append((name, counts, accuracy, remark))
    for rival in metrics["baselines"]:
        counts, accuracy = proportion_cells(rival["accuracy"])
        rows.append((rival["name"], counts, accuracy, "(baseline)"))
    return table(("", "correct/n", "accuracy [95%]", ""), rows, right=[1])


def print_outcome(run: Run) -> None:
    """What ``train`` prints at its end."""
    metrics = run.metrics
    click.echo()
    click.echo(score_table(metrics))
    quoted = metrics["splits"][metrics["quote"]]
    click.echo(
        f"balanced accuracy {_percent(quoted['balanced_accuracy'])}   log loss {_number(quoted['log_loss'])}   "
        f"{metrics['selection']}"
    )
    confused = metrics["top_confusions"][:3]
    if confused:
        parts = [f"{c['label']} → {c['predicted']} {c['count']}" for c in confused]
        click.echo(f"Most confused  {display_name(' · '.join(parts))}")
    if run.interrupted:
        click.echo("interrupted: the best weights so far were kept", err=True)
    size = run.report_path.stat().st_size / 1e6
    model = run.model_path.stat().st_size / 1e6
    click.echo()
    where = display_name(str(run.report_path))
    click.echo(f"{where}  ({size:.1f} MB)   model.safetensors ({model:.1f} MB)   {metrics['seconds']:.0f} s")


def print_evaluation(metrics: dict[str, Any]) -> None:
    """What ``evaluate`` prints: the score, then every class."""
    click.echo(score_table(metrics))
    split = metrics["splits"][metrics["quote"]]
    click.echo(f"balanced accuracy {_percent(split['balanced_accuracy'])}   log loss {_number(split['log_loss'])}")
    click.echo()
    rows = []
    for score in split["per_class"]:
        recall, precision = proportion_cells(score["recall"]), proportion_cells(score["precision"])
        rows.append((display_name(score["name"]), str(score["n"]), *recall, *precision))
    click.echo(table(("class", "n", "found", "recall [95%]", "right", "precision [95%]"), rows, right=[1, 2, 4]))


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
