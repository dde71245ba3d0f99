"""The score tables that ``train`` and ``evaluate`` print."""

from __future__ import annotations

from typing import Any

import click

from lastlayer._files import display_name
from lastlayer.cli.console import proportion_cells, table
from lastlayer.pipeline.run import Run

_SCORES = (
    ("balanced_accuracy", "balanced accuracy", 100, 1),
    ("macro_f1", "macro F1", 100, 1),
    ("log_loss", "log loss", 1, 3),
)
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
    click.echo(score_line(quoted))
    click.echo(metrics["selection"])
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
    """What ``evaluate`` prints: the score, every class, groups, and what was decided on validation rows."""
    click.echo(score_table(metrics))
    split = metrics["splits"][metrics["quote"]]
    click.echo(score_line(split))
    click.echo()
    rows = []
    for score in split["per_class"]:
        recall, precision = proportion_cells(score["recall"]), proportion_cells(score["precision"])
        f1 = _interval(score["f1"], score["f1_low"], score["f1_high"], 100, 1)
        rows.append((display_name(score["name"]), str(score["n"]), *recall, *precision, f1))
    header = ("class", "n", "found", "recall [95%]", "right", "precision [95%]", "F1 [95%]")
    click.echo(table(header, rows, right=[1, 2, 4]))
    if metrics["groups"] is not None:
        click.echo()
        groups = [(row["group"] or "(none)", *proportion_cells(row)) for row in metrics["groups"]["rows"]]
        click.echo(table((metrics["groups"]["by"], "right", "accuracy [95%]"), groups, right=[1]))
    lines = decision_lines(split, metrics["decisions"])
    if lines:
        click.echo("\n" + "\n".join(lines))


def score_line(split: dict[str, Any]) -> str:
    """Balanced accuracy, macro F1 and log loss, with their intervals where the run has them."""
    stored = split.get("intervals")
    parts = []
    for name, label, factor, digits in _SCORES:
        low, high = (None, None) if stored is None else (stored[name]["low"], stored[name]["high"])
        parts.append(f"{label} {_interval(split[name], low, high, factor, digits)}")
    return "   ".join(parts)


def decision_lines(split: dict[str, Any], decided: dict[str, Any]) -> list[str]:
    """Calibration, abstention and prediction sets: what was chosen on validation rows, and how it does here."""
    from lastlayer.pipeline.markdown import ece_text

    lines = []
    fitted = decided["fitted_on"]
    on = "" if fitted is None else f"{fitted['n']:,} {fitted['split']} rows"
    if split["intervals"] is not None:
        lines.append(f"calibration  ECE {ece_text(split['intervals']['ece'])}")
    if decided["calibration"] is not None:
        after = decided["calibration"]["temperature"]
        before, ece = decided["calibration"]["before"]["ece"], after["ece"]
        lines.append(
            f"             ECE {_percent(before['value'])} → {_percent(ece['value'])} after temperature "
            f"{after['temperature']:.3g} (fitted on {on})"
        )
    if decided["abstention"] is not None:
        lines.append(_abstention_line(decided["abstention"], on))
    if decided["prediction_sets"] is not None:
        found = decided["prediction_sets"]
        rule = found["rule"]
        every = " of every class" if rule["by_class"] else ""
        lines.append(
            f"sets         promised to hold the class of {100 * rule['coverage']:g}% of images{every} ({rule['rule']}, "
            f"fitted on {on}): hold {_share(found['covered'])}; {found['size']['value']:.2f} classes on average, one "
            f"class in {_percent(found['single']['value'])}"
        )
    return lines


def _abstention_line(found: dict[str, Any], on: str) -> str:
    promise = f"{_percent(found['wanted'])} right answers, {100 * found['sure']:g}% sure"
    if found["threshold"] is None:
        return f"abstaining   no threshold promises {promise}, from {on}"
    p = found["threshold"]["value"]
    how = f"below p = {p:.3f}" if p > 0 else "never"
    return (
        f"abstaining   {how} (chosen on {on} for {promise}): answers "
        f"{found['answered']['k']}/{found['answered']['n']}, of those {_share(found['right'])}"
    )


def _share(score: dict[str, Any]) -> str:
    counts, accuracy = proportion_cells(score)
    return f"{counts} = {accuracy}"


def _interval(value: float | None, low: float | None, high: float | None, factor: float, digits: int) -> str:
    if value is None:
        return "n/a"
    unit = "%" if factor == 100 else ""
    text = f"{factor * value:.{digits}f}{unit}"
    return text if low is None or high is None else f"{text} [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}%"
