"""What an explanation found, and its plain values for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lastlayer._arrays import Float64, UInt8
from lastlayer._files import display_name
from lastlayer.evaluation.explanations import Decomposition, Occlusion, place_name
from lastlayer.evaluation.explanations_maps import Evidence
from lastlayer.evaluation.intervals import json_number

LARGEST = 10
"""Terms that are listed."""


@dataclass(frozen=True, eq=False)
class Related:
    """A training image shown beside an explanation: its name, its class, and its similarity or effect."""

    name: str
    label: str
    value: float
    picture: UInt8

    def to_dict(self, what: str) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"path": display_name(self.name), "label": self.label, what: round(self.value, 6)}


@dataclass(frozen=True, eq=False)
class InfluenceFound:
    """The training images that did most for the answer and most against it.

    Attributes
    ----------
    supporting, opposing : tuple of Related
        Removing one of the first lowers the margin by minus its value, one of the others raises it.
    n : int
        Training images judged, all of them.
    products : int
        Products with the Hessian.
    corrected : bool
        Whether leverage was taken into account.
    """

    supporting: tuple[Related, ...]
    opposing: tuple[Related, ...]
    n: int
    products: int
    corrected: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """Everything about one image."""

    path: str
    picture: UInt8
    class_names: tuple[str, ...]
    probabilities: Float64
    margin: Decomposition
    feature_names: tuple[str, ...]
    evidence: Evidence
    own_evidence: Float64
    occlusion: Occlusion
    label: str | None
    trained_on: bool
    neighbours: tuple[Related, ...]
    influence: InfluenceFound | None
    left_out: tuple[str, ...]

    @property
    def predicted(self) -> int:
        """The class answered."""
        return int(self.probabilities.argmax())

    def thirds(self) -> dict[str, float]:
        """Evidence of the upper, middle and lower third of the image."""
        edges = [i * len(self.evidence.map) // 3 for i in range(4)]
        rows = self.evidence.map.sum(axis=1)
        names = ("top third", "middle", "bottom")
        return {name: float(rows[a:b].sum()) for name, a, b in zip(names, edges, edges[1:])}

    def flip(self) -> tuple[str, str, float] | None:
        """Where covering changes the answer, to which class, with which probability."""
        found = self.occlusion.flip(self.predicted)
        if found is None:
            return None
        grid = (len(self.occlusion.drop), self.occlusion.drop.shape[1])
        answer = int(self.occlusion.answers[found])
        return place_name(*found, grid), self.class_names[answer], float(self.occlusion.probabilities[found])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        m, o = self.margin, self.occlusion
        a, b, p = self.class_names[m.a], self.class_names[m.b], self.probabilities
        terms = [
            {"feature": name, "value": float(m.features[j]), "term": float(m.terms[j])}
            for j, name in zip(m.largest(LARGEST).tolist(), self.feature_names)
        ]
        flip = self.flip()
        return {
            "path": display_name(self.path),
            "label": self.label,
            "trained_on": self.trained_on,
            "predicted": {"class": self.class_names[self.predicted], "p": float(p.max())},
            "compared": {"class": a, "p": float(p[m.a]), "versus": b, "p_versus": float(p[m.b])},
            "margin": {
                "value": m.margin,
                "bias": m.bias,
                "reference": m.reference,
                "terms": float(m.terms.sum()),
                "n_features": len(m.terms),
                "error": m.error,
                "parts": [{"name": part.name, "n_features": part.n_features, "sum": part.total} for part in m.parts],
                "largest": terms,
            },
            "evidence": {
                "sum": float(self.evidence.map.sum()),
                "leftover": self.evidence.leftover,
                "without": list(self.evidence.without),
                "thirds": self.thirds(),
                "grid": o.evidence.tolist(),
            },
            "occlusion": {
                "drop": o.drop.tolist(),
                "rank_correlation": json_number(float("nan") if o.correlation is None else o.correlation),
                "noise": o.noise,
                "margins_by_evidence": o.by_evidence.tolist(),
                "margins_at_random": o.at_random.tolist(),
                "flip": None if flip is None else {"place": flip[0], "answer": flip[1], "p": flip[2]},
            },
            "neighbours": [each.to_dict("similarity") for each in self.neighbours],
            "influence": None if self.influence is None else _influence_dict(self.influence),
            "left_out": list(self.left_out),
        }


def _influence_dict(found: InfluenceFound) -> dict[str, Any]:
    return {
        "n": found.n,
        "products": found.products,
        "leverage_corrected": found.corrected,
        "supporting": [each.to_dict("margin_change_if_removed") for each in found.supporting],
        "opposing": [each.to_dict("margin_change_if_removed") for each in found.opposing],
    }
