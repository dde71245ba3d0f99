"""Summaries in Markdown, for pull requests: an evaluation with its gates, a comparison with its verdicts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastlayer._arrays import InputError
from lastlayer._files import display_name
from lastlayer.evaluation.intervals import Estimate, Proportion

if TYPE_CHECKING:
    from lastlayer.pipeline.comparing import Comparison, Pair
    from lastlayer.pipeline.requirements import Verdict

MOST_CLASSES = 30
MOST_CONFUSIONS = 5
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]()#+!|~$"})


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is: names of classes and files are not trusted.

    >>> print(escaped("<b>a|b</b>"))
    &lt;b&gt;a\|b&lt;/b&gt;
    """
    plain = display_name(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.translate(_SPECIAL).replace("@", "&#64;")


def evaluation_markdown(metrics: Mapping[str, Any], verdicts: Sequence[Verdict] = ()) -> str:
    """Score, gates and classes of ``metrics.json`` (of ``evaluate``, ``train`` or ``probe``)."""
    split = metrics["splits"][metrics["quote"]]
    accuracy = Proportion.from_dict(split["accuracy"])
    look = f" (test look #{metrics['look']})" if metrics.get("look") else ""
    lines = [f"**{metrics['quote']}: {accuracy}**{look}", ""]
    lines += _table(("score", "value [95%]"), _score_rows(split))
    for rival in metrics["baselines"]:
        lines.append(f"| {escaped(rival['name'])} (baseline) | {Proportion.from_dict(rival['accuracy'])} |")
    lines.append("")
    if verdicts:
        rows = [
            (
                "✅" if verdict.holds else "❌",
                escaped(str(verdict.requirement)),
                "n/a" if verdict.found is None else f"{verdict.found:.4g}",
            )
            for verdict in verdicts
        ]
        lines += [*_table(("", "required", "found"), rows), ""]
    confused = [
        f"{escaped(entry['label'])} → {escaped(entry['predicted'])} {entry['count']} of {entry['of']}"
        for entry in metrics.get("top_confusions", ())[:MOST_CONFUSIONS]
    ]
    if confused:
        lines += [f"Most confused: {', '.join(confused)}", ""]
    curve = metrics.get("learning_curve")
    if curve is not None:
        lines += [escaped(str(curve["sentence"])), ""]
    lines += _classes(split)
    for problem in metrics.get("problems", ()):
        lines.append(f"- {problem['code']} {escaped(problem['message'])}")
    return "\n".join(lines).rstrip() + "\n"


def run_markdown(run: str | os.PathLike[str]) -> str:
    """Summary of a run folder of ``train``, ``evaluate`` or ``probe``.

    Raises
    ------
    InputError
        When the folder holds no scores.
    """
    folder = Path(run)
    folder = folder.parent if folder.is_file() else folder
    where = display_name(str(folder))
    try:
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="ascii"))
        return f"### {escaped(folder.resolve().name)}\n\n" + evaluation_markdown(metrics)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{where} holds no metrics.json", "Give a run folder such as runs/train-001") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}/metrics.json cannot be read: {error}", "Score the model again") from error


def _score_rows(split: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    intervals = split.get("intervals")
    if intervals is not None:
        for name, label in (("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro F1")):
            rows.append((label, Estimate.from_dict(intervals[name]).percent()))
        rows.append(("log loss", str(Estimate.from_dict(intervals["log_loss"]))))
        rows.append(("calibration error (ECE)", ece_text(intervals["ece"])))
    else:
        rows.append(("balanced accuracy", _percent(split["balanced_accuracy"])))
    return rows


def _classes(split: Mapping[str, Any]) -> list[str]:
    """The classes, the least recognised first; of many those that need looking at."""
    entries = sorted(
        (entry for entry in split["per_class"] if entry["n"]), key=lambda entry: (entry["recall"]["value"], -entry["n"])
    )
    shown = entries[:MOST_CLASSES]
    rows = [
        (
            escaped(entry["name"]),
            str(entry["n"]),
            str(Proportion.from_dict(entry["recall"])),
            str(Proportion.from_dict(entry["precision"])),
        )
        for entry in shown
    ]
    title = f"{len(shown)} classes of lowest recall, of {len(entries)}" if len(shown) < len(entries) else "Classes"
    table = _table(("class", "n", "recall [95%]", "precision [95%]"), rows)
    return ["<details>", f"<summary>{title}</summary>", "", *table, "", "</details>", ""]


def comparison_markdown(comparison: Comparison) -> str:
    """The table of runs, and one line for every pair."""
    metric = comparison.metric
    lines = [f"Same {escaped(comparison.split)} split: {comparison.n:,} images, {comparison.same_by}.", ""]
    rows = [
        (escaped(run.name), f"{right.k}/{right.n}", metric_text(metric, score)) for run, right, score in comparison.runs
    ]
    lines += _table(("run", "correct/n", f"{metric.replace('_', ' ')} [95%]"), rows)
    lines.append("")
    for pair in comparison.pairs:
        counts = pair.result.pair
        text = (
            f"{pair.first} − {pair.second}: {difference_text(metric, pair.result.difference)}; right alone "
            f"{counts.only_first} and {counts.only_second}; {pair.result.test} p = {pair.result.p_value:.2g}"
        )
        if len(comparison.pairs) > 1:
            text += f", {pair.p_holm:.2g} after Holm"
        lines.append(f"- {escaped(text)} → **{escaped(verdict(comparison, pair))}**")
    return "\n".join(lines) + "\n"


def verdict(comparison: Comparison, pair: Pair) -> str:
    """One sentence: which run is better on these images, or that the difference is within noise."""
    values = {run.name: score for run, _, score in comparison.runs}
    one, two = (metric_text(comparison.metric, values[name], interval=False) for name in (pair.first, pair.second))
    if pair.better is None:
        return f"the difference is within noise ({one} and {two}): claim nothing"
    best, other = (one, two) if pair.better == pair.first else (two, one)
    return f"{pair.better} is better on this data ({best} vs {other})"


def metric_text(metric: str, score: Estimate, interval: bool = True) -> str:
    """A score in its usual unit: percent, or three digits of a log loss."""
    if metric == "log_loss":
        return str(score) if interval else f"{score.value:.3f}"
    return score.percent() if interval else f"{100 * score.value:.1f}%"


def difference_text(metric: str, difference: Estimate) -> str:
    """A difference in points, or in units of log loss, with its interval."""
    if metric == "log_loss":
        return f"{difference.value:+.3f}{difference.interval()}"
    return f"{100 * difference.value:+.1f} points{difference.interval(100, 1)}"


def ece_text(ece: Mapping[str, Any]) -> str:
    """The usual number, then what is left of it without the noise of the bins.

    >>> ece_text({"value": 0.041, "debiased": 0.03, "low": 0.012, "high": 0.051})
    '4.1%, without the noise of its bins 3.0% [1.2, 5.1]'
    """
    if ece["value"] is None:
        return "n/a"
    if ece["debiased"] is None:
        return _percent(ece["value"])
    left = Estimate.from_dict({**ece, "value": ece["debiased"]})
    return f"{_percent(ece['value'])}, without the noise of its bins {left.percent()}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}%"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
