"""When not to answer, decided once by a training run and kept beside its model.

``decisions.json`` holds the threshold of ``predict --abstain auto``: the one that answers most while the answers are
right with the accuracy wanted, 95% sure (`choose_threshold`). It is chosen on validation rows, scored by weights that
did not see them. Where the data have images of no class (the folder ``unknown``), half of them, drawn by their content,
stand among those rows, and to answer one is a mistake; the other half tests the threshold and the flag, and says how
often each turns them away. The share of unknown images among the rows is that of the data.

``distance.safetensors`` holds what the flag "far from training data" needs (`evaluation.distance`): training features
of length 1, and the angles and lengths that are usual among validation rows.

Reading needs NumPy alone, for ``predict`` must start at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import BoolArray, Float32, Float64, InputError, IntArray
from lastlayer._files import display_name, write_json
from lastlayer.artifacts import FORMAT_VERSION, read_artifact, write_artifact
from lastlayer.evaluation.distance import KEPT, DistanceFlag
from lastlayer.pipeline.held_out import FILE as HELD_OUT
from lastlayer.pipeline.held_out import write_held_out

if TYPE_CHECKING:
    from lastlayer.evaluation.abstention import Threshold
    from lastlayer.model import Model
    from lastlayer.pipeline.features import Features
    from lastlayer.pipeline.preparing import Prepared
    from lastlayer.pipeline.scoring import SideScores
    from lastlayer.pipeline.settings import TrainSettings

FILE = "decisions.json"
DISTANCE = "distance.safetensors"
SURE = 0.95
_MOST_NUMBERS = 1 << 21  # of training features kept: 8 MB
_FEWEST_KEPT = 50
_BATCH = 1024
_ARRAYS = ("directions", "mean", "scale", "angles", "lengths")


@dataclass(frozen=True, eq=False)
class RunDecisions:
    """What a run decided.

    Attributes
    ----------
    threshold : float
        Answer when the probability exceeds it; NaN where no threshold keeps the promise.
    wanted : float
        The accuracy it promises; NaN without validation rows.
    far : DistanceFlag or None
        None where the run had no validation rows, or too many features.
    """

    threshold: float
    wanted: float
    far: DistanceFlag | None


def write_decisions(
    folder: Path,
    prepared: Prepared,
    features: Features,
    model: Model,
    sides: tuple[SideScores, ...],
    settings: TrainSettings,
) -> dict[str, Any]:
    """Write ``held_out.safetensors``, ``decisions.json`` and ``distance.safetensors`` of a training run.

    Returns
    -------
    dict
        What ``decisions.json`` holds.
    """
    by_side = {side.side: side for side in sides}
    val = by_side.get("val")
    held_out = val is not None and val.held_out
    if val is not None and held_out:
        write_held_out(folder / HELD_OUT, val.scores, val.labels, model.class_names)
    strange = _scores(model, prepared, prepared.unknown)
    p_strange = model.probabilities(strange).max(axis=1) if len(strange) else np.zeros(0)
    chosen_on = _drawn(prepared, settings.seed)
    threshold, wanted = _threshold(val if held_out else None, p_strange[chosen_on])
    flag = None
    if val is not None and "train" in by_side:
        flag = _fit_flag(features, len(by_side["train"].rows), len(val.rows), by_side["train"].labels, settings.seed)
    document: dict[str, Any] = {
        "schema_version": 1,
        "model_digest": model.digest,
        "wanted": wanted,
        "sure": SURE,
        "threshold": None if threshold is None else threshold.to_dict(),
        "chosen_on": {"val": len(val.labels) if val is not None and held_out else 0, "unknown": int(chosen_on.sum())},
        "far_share": None if flag is None else flag.share,
        "unknown": _tested(model, prepared, p_strange, ~chosen_on, threshold, flag),
    }
    write_json(folder / FILE, document)
    if flag is not None:
        header: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "kind": "distance",
            "model_digest": model.digest,
            "share": flag.share,
        }
        write_artifact(folder / DISTANCE, header, flag.arrays(), overwrite=True)
    return document


def read_decisions(folder: Path, model: Model) -> RunDecisions | None:
    """What the run in `folder` decided for this very model; None where it kept nothing, or another model's.

    Raises
    ------
    InputError
        When a file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="ascii"))
        if document["model_digest"] != model.digest:
            return None
        stored = document["threshold"]
        threshold = float("nan") if stored is None else float(stored["value"])
        wanted = float("nan") if document["wanted"] is None else float(document["wanted"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{display_name(str(path))} is damaged: {error!r}", "Delete it, or train again") from None
    return RunDecisions(threshold, wanted, _read_flag(folder / DISTANCE, model))


def _read_flag(path: Path, model: Model) -> DistanceFlag | None:
    if not path.is_file():
        return None
    header, tensors = read_artifact(path)
    if header.get("model_digest") != model.digest:
        return None
    share = header.get("share")
    D = model.representation.n_features
    fits = (
        header.get("kind") == "distance"
        and set(tensors) == set(_ARRAYS)
        and tensors["directions"].shape[1:] == tensors["mean"].shape == tensors["scale"].shape == (D,)
        and tensors["angles"].shape == tensors["lengths"].shape == (tensors["angles"].size,)
        and tensors["angles"].size > 0
    )
    if not fits or not isinstance(share, float) or not 0 < share < 1:
        raise InputError(f"{display_name(str(path))} does not hold distances of this model", "Delete it")
    return DistanceFlag(**{name: tensors[name] for name in _ARRAYS}, share=share)


def _drawn(prepared: Prepared, seed: int) -> BoolArray:
    """Half of the unknown images, by their content; copies are in the same half."""
    digests = np.ascontiguousarray(prepared.decoded.sha256[prepared.unknown])
    out: BoolArray = (digests[:, :8].astype(np.int64).sum(axis=1) + seed) % 2 == 0
    return out


def _scores(model: Model, prepared: Prepared, rows: IntArray) -> Float32:
    pixels = prepared.decoded.pixels
    parts = [model.scores(np.asarray(pixels[rows[s : s + _BATCH]])) for s in range(0, len(rows), _BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, len(model.class_names)), np.float32)


def _threshold(val: SideScores | None, p_strange: Float64) -> tuple[Threshold | None, float | None]:
    """The threshold, and the accuracy wanted: half of the mistakes that answering every validation image makes."""
    from lastlayer.evaluation.abstention import choose_threshold

    if val is None or not len(val.labels):
        return None, None
    confidence = np.minimum(np.append(val.probabilities.max(axis=1), p_strange), 1.0)
    correct = np.append(val.correct, np.zeros(len(p_strange), dtype=bool))
    mistakes = int(np.count_nonzero(~val.correct)) + 0.5
    wanted = 1 - 0.5 * mistakes / (len(val.labels) + 1)
    return choose_threshold(confidence, correct, wanted, sure=SURE), wanted


def _fit_flag(features: Features, n_train: int, n_val: int, labels: IntArray, seed: int) -> DistanceFlag | None:
    from lastlayer.evaluation.distance import fit_distance

    Z = features.Z
    kept = min(KEPT, _MOST_NUMBERS // max(1, Z.shape[1]))
    if kept < _FEWEST_KEPT or not n_val:
        return None
    return fit_distance(Z[:n_train], labels, Z[n_train : n_train + n_val], kept=kept, seed=seed)


def _tested(
    model: Model,
    prepared: Prepared,
    p_strange: Float64,
    rest: BoolArray,
    threshold: Threshold | None,
    flag: DistanceFlag | None,
) -> dict[str, Any] | None:
    """How many of the unknown images that took no part in choosing are turned away, and by what."""
    from lastlayer.evaluation.intervals import Proportion

    n = int(rest.sum())
    if not n:
        return None
    rows = prepared.unknown[rest]
    unsure = np.zeros(n, dtype=bool) if threshold is None else ~threshold.answers(np.minimum(p_strange[rest], 1.0))
    far = np.zeros(n, dtype=bool)
    if flag is not None:
        for start in range(0, n, _BATCH):
            pixels = np.asarray(prepared.decoded.pixels[rows[start : start + _BATCH]])
            far[start : start + _BATCH] = flag.far(model.representation.transform(pixels))
    found = {"abstained": unsure, "far": far, "either": unsure | far}
    return {name: Proportion(int(hits.sum()), n).to_dict() for name, hits in found.items()}
