"""The table that ``sweep`` prints."""

from __future__ import annotations

from typing import Any

from lastlayer._files import display_name
from lastlayer.cli.console import table


def sweep_lines(document: dict[str, Any], folder: str) -> list[str]:
    """The table of representations, what it means, and how to go on."""
    repeats = f" × {document['repeats']}" if document["repeats"] > 1 else ""
    header = (
        "phi",
        "dim",
        "C (median)" if document["repeats"] > 1 else "C",
        f"CV accuracy (mean ± s.d. of {document['folds']} folds{repeats})",
        "95%, corrected",
        "fit/fold",
        "",
    )
    rows = [
        (
            row["phi"],
            str(row["n_features"]),
            f"{row['C']:.3g}",
            _spread(row["accuracy"]),
            _interval(row["accuracy"]),
            _seconds(row["seconds_per_fold"]),
            "← chosen" if row["chosen"] else "",
        )
        for row in document["rows"]
    ]
    lines = ["", table(header, rows, right=[1, 2, 5])]
    nested = document["nested"]
    if nested is not None:
        cost = 100 * nested["cost_of_choosing"]
        price = f"cost of choosing: about {cost:.1f} points" if cost > 0 else "choosing cost nothing that shows"
        score = f"{_spread(nested['accuracy'])} {_interval(nested['accuracy'])}".rstrip()
        lines.append(f'nested estimate of "choose then fit": {score}      ({price})')
    lines.append("intervals allow for folds and repeats sharing images (Nadeau & Bengio 2003)")
    if len(rows) > 1:
        lines.append(f"within noise of the best: {', '.join(document['within_noise']) or 'none'}.")
    lines += _curve_lines(document["learning_curve"])
    where = display_name(folder)
    lines += ["", f"{where}/report.html   refit: lastlayer train --config {where}/best.toml"]
    return lines


def _curve_lines(curve: dict[str, Any] | None) -> list[str]:
    if curve is None:
        return []
    points = [f"{point['n']:,}: {100 * point['accuracy']['value']:.1f}" for point in curve["points"]]
    return [f"Learning curve (images: accuracy): {' · '.join(points)}", curve["sentence"]]


def _spread(accuracy: dict[str, Any]) -> str:
    return f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['sd']:.1f}"


def _interval(accuracy: dict[str, Any]) -> str:
    """The corrected interval; nothing where there is none."""
    low, high = accuracy["interval"]["low"], accuracy["interval"]["high"]
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 0.1 else f"{1000 * value:.0f} ms"
