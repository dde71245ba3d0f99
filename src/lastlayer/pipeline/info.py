"""``info``: what a model file holds, without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lastlayer.artifacts import read_artifact
from lastlayer.pipeline.predicting import open_model
from lastlayer.pipeline.probe_head import ProbeHead
from lastlayer.representations.network import network_in


def describe(path: Path) -> list[str]:
    """Lines for a person: the model's own, then the scores of the run folder where there is one."""
    probe = _probe(path)
    lines = list(_model_lines(path) if probe is None else probe.describe())
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
    probe = _probe(path)
    if probe is not None:
        return {
            "kind": "probe",
            "classes": list(probe.class_names),
            "n_features": len(probe.weights),
            "normalize": probe.normalize,
            "standardised": probe.scaling is not None,
            "loss": probe.loss,
            "temperature": probe.temperature,
            "digest": probe.digest,
            "provenance": probe.provenance,
            "metrics": _metrics(path),
        }
    model = open_model(path)
    network = network_in(model.representation)
    return {
        "classes": list(model.class_names),
        "image_format": model.image_format.to_dict(),
        "n_features": int(model.weights.shape[0]),
        "loss": model.loss,
        "temperature": model.temperature,
        "digest": model.digest,
        "provenance": model.provenance,
        "network": None if network is None else network.table(),
        "metrics": _metrics(path),
    }


def _model_lines(path: Path) -> list[str]:
    """The model's own lines, then the layers of the network in it, where there is one."""
    model = open_model(path)
    network = network_in(model.representation)
    return list(model.describe()) + ([] if network is None else ["", *network.table(), ""])


def _probe(path: Path) -> ProbeHead | None:
    """The probe in a file or run folder; None where it holds a model of images (whose reader then names faults)."""
    file = path if path.is_file() else path / "model.safetensors"
    if not file.is_file() or read_artifact(file)[0].get("kind") != "probe":
        return None
    return ProbeHead.load(file)


def _metrics(path: Path) -> dict[str, Any] | None:
    file = path / "metrics.json"
    if not file.is_file():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
    return content
