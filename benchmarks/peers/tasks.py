"""Whole tasks: cross-validation over C, ridge with leave-one-out, the DINOv2 protocol."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from lastlayer._files import write_json
from peers.fits import MARGIN, Fits, say
from peers.running import Run, run
from peers.tables import Entry, Row, compare
from problems import ALPHAS, CS, Problem

FOLDS = 5
SINGLE_FITS = 3
"""The cross-validation is to take less time than this many fits of the best peer."""
SAME = 1e-3
"""Relative difference of leave-one-out errors between float32 computations of the same thing."""


def task_rows(fits: Fits, before: list[Row]) -> list[Row]:
    """Rows of one whole task; `before` are the rows so far, to which one target refers."""
    if fits.problem.kind == "cv":
        return _cv(fits, before)
    return _ridge(fits) if fits.problem.kind == "ridge" else _protocol(fits)


def _start(fits: Fits, contestant: str, limit: float, **details: object) -> Run:
    settings = fits.settings
    found = run(contestant, fits.job(contestant, contestant, limit, **details), settings.peers_python, None)
    total = found.details.get("total", found.seconds)
    say(f"  {fits.problem.name}: {contestant}: {found.status} {total:.1f} s {found.reason}")
    return found


def _ours(fits: Fits, contestant: str, **details: object) -> tuple[Entry, Run]:
    """The median of the repeats."""
    runs = []
    while len(runs) < fits.settings.repeats:
        runs.append(_start(fits, contestant, fits.settings.limit, **details))
        if runs[-1].status != "done" or not runs[-1].details["complete"]:
            found = runs[-1]
            reason = found.reason or f"not within the gap: {found.details.get('above_target')} above it"
            return Entry(contestant, "float32", found.status, None, None, None, reason), found
    seconds = sorted(found.details["total"] for found in runs)
    spread = f"{seconds[0]:.2f}–{seconds[-1]:.2f} s in {len(seconds)} runs"
    note = f"{spread}; {_facts(runs[0])}"
    return Entry(contestant, "float32", "done", float(np.median(seconds)), None, None, note), runs[0]


def _facts(found: Run) -> str:
    shown = ("promise", "passes", "C", "alpha")
    return ", ".join(f"{name} {found.details[name]:g}" for name in shown if name in found.details)


def _limit(fits: Fits, ours: Entry, target: float) -> float:
    limit = fits.settings.limit
    if not fits.settings.cut_at_target or ours.seconds is None:
        return limit
    return min(limit, MARGIN * target * ours.seconds)


def _cv(fits: Fits, before: list[Row]) -> list[Row]:
    ((gap, ratio),) = fits.problem.targets.items()
    optima = np.asarray(_cv_reference(fits))
    details = {"Cs": CS, "folds": FOLDS, "targets": (optima * (1 + gap)).tolist()}
    ours, _ = _ours(fits, "lastlayer-cv", **details)
    peers = []
    if fits.settings.asks("sklearn-cv"):
        peers = [_theirs(_start(fits, "sklearn-cv", _limit(fits, ours, ratio or 1.0), **details))]
    rows = [compare(fits.problem.title, f"{gap:g}", ours, peers, ratio)]
    best = _best_single(before, gap)
    if best is not None and ours.seconds is not None and best.seconds is not None:
        three = SINGLE_FITS * best.seconds
        label = f"{three:.2f} (3 × {best.contestant})"
        met = "yes" if ours.seconds < three else "no"
        shown = f"{ours.seconds:.2f}"
        rows.append(Row(fits.problem.title, "3 single fits", shown, label, f"{three / ours.seconds:.2f}×", "> 1×", met))
    return rows


def _best_single(before: list[Row], gap: float) -> Entry | None:
    """The best peer on MNIST at λ = 1e-4, to the same gap."""
    for row in before:
        if row.problem.startswith("MNIST pixels, λ = 1e-4") and row.measure == f"{gap:g}":
            arrived = [e for e in row.entries[1:] if e.seconds is not None]
            return min(arrived, key=lambda e: e.seconds or 0.0, default=None)
    return None


def _theirs(found: Run) -> Entry:
    """A task that was cut counts with its extrapolation, and says so."""
    if found.status != "done":
        at_least = found.limit if found.status == "cut" else None
        return Entry(found.contestant, "float32", found.status, None, at_least, None, found.reason)
    details = found.details
    if details["complete"]:
        return Entry(found.contestant, "float32", "done", details["total"], None, None, f"{details['fits']} fits")
    seconds = details.get("extrapolated", details["total"])
    measured = f"{details['fits']} fits measured within {found.limit:.0f} s, the rest extrapolated"
    if not details["fits"]:
        return Entry(found.contestant, "float32", "cut", None, found.limit, None, "not one fit done")
    return Entry(found.contestant, "float32", "cut", max(seconds, found.limit), None, None, measured)


def _cv_reference(fits: Fits) -> list[list[float]]:
    """Optimum of every fold and C, kept on disk."""
    problem: Problem = fits.problem
    key = hashlib.sha256(json.dumps([fits.built.digest, problem.loss, CS, FOLDS]).encode()).hexdigest()[:24]
    path = fits.settings.work / "references" / f"cv-{key}.json"
    if not path.is_file():
        found = _start(fits, "reference-cv", 7200.0, Cs=CS, folds=FOLDS)
        if found.status != "done":
            raise RuntimeError(f"{problem.name}: no reference: {found.status} {found.reason}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"problem": problem.title, "values": found.details["values"]})
    return list(json.loads(path.read_text())["values"])


def _ridge(fits: Fits) -> list[Row]:
    ((_, ratio),) = fits.problem.targets.items()
    ours, mine = _ours(fits, "lastlayer-ridge", alphas=ALPHAS)
    if not fits.settings.asks("sklearn-ridge"):
        return [compare(fits.problem.title, "exact", ours, [], ratio)]
    found = _start(fits, "sklearn-ridge", _limit(fits, ours, ratio or 1.0), alphas=ALPHAS)
    row = compare(fits.problem.title, "exact", ours, [_theirs(found)], ratio)
    return [row, *_agreement(fits.problem.title, mine, found)]


def _agreement(title: str, mine: Run, theirs: Run) -> list[Row]:
    """Both choose the same α, with the same leave-one-out error, where both are complete."""
    if "loo" not in theirs.details or "loo" not in mine.details:
        return []
    a, b = mine.details, theirs.details
    same = a["alpha"] == b["alpha"] and abs(a["loo"] - b["loo"]) <= SAME * b["loo"]
    ours, other = (f"α {d['alpha']:.3g}, error {d['loo']:.6g}" for d in (a, b))
    return [Row(title, "same answer", ours, other, "", f"within {SAME:g}", "yes" if same else "no")]


def _protocol(fits: Fits) -> list[Row]:
    (allowed,) = fits.problem.targets
    ours, _ = _ours(fits, "lastlayer-protocol")
    met = "yes" if ours.seconds is not None and ours.seconds <= allowed else "no"
    return [Row(fits.problem.title, "its own", ours.time(), "", "", f"≤ {allowed:g} s", met, [ours])]
