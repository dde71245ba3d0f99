"""``info``: what a model file holds, without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lastlayer.pipeline.predicting import open_model


def describe(path: Path) -> list[str]:
    """Lines for a person: the model's own, then the scores of the run folder where there is one."""
    lines = list(open_model(path).describe())
    metrics = _metrics(path)
    if metrics is not None:
        for name, split in metrics["splits"].items():
            score = split["accuracy"]
            if score["n"]:
                lines.append(
                    f"{name:<12}{score['k']}/{score['n']} = {100 * score['value']:.1f}% "
                    f"[{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
                )
    return lines


def describe_json(path: Path) -> dict[str, Any]:
    """The same as plain values."""
    model = open_model(path)
    return {
        "classes": list(model.class_names),
        "image_format": model.image_format.to_dict(),
        "n_features": int(model.weights.shape[0]),
        "loss": model.loss,
        "temperature": model.temperature,
        "digest": model.digest,
        "provenance": model.provenance,
        "metrics": _metrics(path),
    }


def _metrics(path: Path) -> dict[str, Any] | None:
    file = path / "metrics.json"
    if not file.is_file():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
    return content
