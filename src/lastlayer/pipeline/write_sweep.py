"""The files of a sweep: ``sweep.json``, ``best.toml`` for ``train --config``, ``split.csv``, the report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer import __version__, _files
from lastlayer._arrays import FloatArray, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.evaluation.baselines import majority
from lastlayer.evaluation.intervals import Estimate, Proportion, json_number
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.evaluation.scaling import fit_temperature
from lastlayer.model import softmax
from lastlayer.pipeline import toml
from lastlayer.pipeline.checking import problem_to_dict
from lastlayer.pipeline.environment import environment
from lastlayer.pipeline.imaging import FormatChoice
from lastlayer.pipeline.reporting import cell_images, mistakes, write_report
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import HEADS, Execution, TrainSettings
from lastlayer.pipeline.sweep_choice import Candidate, Difference, Nested
from lastlayer.pipeline.sweep_settings import SweepSettings
from lastlayer.report import PathRow, ReportData

if TYPE_CHECKING:
    from lastlayer.pipeline.preparing import Clock, Prepared

SCHEMA_VERSION = 1
OOF, NESTED = "cross-validation", "nested"


@dataclass(frozen=True, eq=False)
class SweepOutcome:
    """Everything a sweep found out.

    Attributes
    ----------
    rows, y : int (N,)
        The images compared on, and their classes.
    scores : (N, K)
        Of these images by the folds that held them out, for the φ and C chosen.
    pixels : uint8 (…, H, W, C)
        All images as the chosen φ saw them.
    """

    settings: SweepSettings
    execution: Execution
    prepared: Prepared
    rows: IntArray
    y: IntArray
    n_test: int
    grouped: bool
    candidates: tuple[Candidate, ...]
    choices: tuple[FormatChoice, ...]
    best: int
    differences: tuple[Difference, ...]
    nested: Nested | None
    curve: LearningCurve | None
    scores: FloatArray
    pixels: UInt8
    problems: tuple[Problem, ...]
    interrupted: bool

    @property
    def winner(self) -> Candidate:
        """The φ chosen."""
        return self.candidates[self.best]

    @property
    def within_noise(self) -> tuple[str, ...]:
        """Other φ that the folds do not tell from the best."""
        return tuple(difference.phi for difference in self.differences if difference.within_noise)


def write_sweep(writer: RunWriter, outcome: SweepOutcome, clock: Clock) -> None:
    """Write every file of a sweep into the writer's folder."""
    folder = writer.folder
    facts = environment()
    config = best_toml(outcome)
    outcome.prepared.split.save(folder / "split.csv", outcome.prepared.dataset, outcome.prepared.decoded.sha256)
    _files.write_text(folder / "best.toml", config)
    _files.write_json(folder / "env.json", facts)
    write_report(folder, _report(outcome, facts, config, clock))
    clock.lap("report")
    _files.write_json(folder / "sweep.json", document(outcome, clock))
    for candidate in outcome.candidates:
        writer.log("cross-validated", phi=candidate.phi, accuracy=candidate.mean, C=candidate.C)
    for problem in outcome.problems:
        writer.log("problem", **problem_to_dict(problem))


def best_toml(outcome: SweepOutcome) -> str:
    """Settings that train the winner on everything that is not test, with the same split."""
    values = {f.name: getattr(outcome.settings.train, f.name) for f in dataclasses.fields(TrainSettings)}
    values |= {"phi": outcome.winner.phi, "C": (outcome.winner.C,), "split": "split.csv"}
    del values["l2"]
    made = {
        "lastlayer": __version__,
        "command": outcome.execution.command,
        "chosen_by": f"{outcome.settings.cv}-fold cross-validation of {len(outcome.candidates)} representations",
    }
    return toml.dump(
        {"train": values, "made": made},
        comment="Train the winner of the sweep, and score it on test, with: lastlayer train --config THIS_FILE",
    )


def document(outcome: SweepOutcome, clock: Clock) -> dict[str, Any]:
    """``sweep.json``."""
    settings = outcome.settings
    noise = {difference.phi: difference for difference in outcome.differences}
    return {
        "schema_version": SCHEMA_VERSION,
        "verb": "sweep",
        "source": display_name(outcome.prepared.dataset.source),
        "class_names": list(outcome.prepared.dataset.class_names),
        "test": {"n": outcome.n_test, "touched": False},
        "n": len(outcome.rows),
        "folds": settings.cv,
        "repeats": settings.repeats,
        "units_kept_together": outcome.grouped,
        "standardised": "by the training rows of each fold" if settings.train.standardise else "no",
        "head": settings.train.head,
        "interrupted": outcome.interrupted,
        "rows": [
            {
                **_candidate(candidate),
                "images": choice.why,
                "chosen": k == outcome.best,
                "behind_by": noise[candidate.phi].points if candidate.phi in noise else 0.0,
                "p_value": noise[candidate.phi].p_value if candidate.phi in noise else None,
            }
            for k, (candidate, choice) in enumerate(zip(outcome.candidates, outcome.choices))
        ],
        "best": {"phi": outcome.winner.phi, "C": outcome.winner.C},
        "within_noise": list(outcome.within_noise),
        "nested": _nested(outcome),
        "learning_curve": _curve(outcome),
        "problems": [problem_to_dict(problem) for problem in outcome.problems],
        "seconds_by_stage": dict(clock.seconds),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "phi": candidate.phi,
        "n_features": candidate.n_features,
        "C": candidate.C,
        "Cs": [table.C for table in candidate.tables],
        "accuracy": {"mean": candidate.mean, "sd": candidate.sd, "interval": candidate.interval.to_dict()},
        "seconds_per_fold": round(candidate.seconds, 4),
        "folds": [
            {"repeat": r, "fold": f, "k": int(table.right[f, table.best]), "n": int(table.sizes[f])}
            for r, table in enumerate(candidate.tables)
            for f in range(len(table.sizes))
        ],
        "path": [
            {
                "C": float(C),
                "loss": json_number(float(np.mean([table.losses[:, c].mean() for table in candidate.tables]))),
                "accuracy": json_number(
                    float(np.mean([(table.right[:, c] / table.sizes).mean() for table in candidate.tables]))
                )
                if all(np.isfinite(table.losses[:, c]).all() for table in candidate.tables)
                else None,
            }
            for c, C in enumerate(candidate.tables[0].Cs)
        ],
    }


def _nested(outcome: SweepOutcome) -> dict[str, Any] | None:
    found = outcome.nested
    if found is None:
        return None
    return {
        "accuracy": {"mean": found.mean, "sd": found.sd, "interval": found.interval.to_dict()},
        "pooled": Proportion(found.right, found.n).to_dict(),
        "cost_of_choosing": outcome.winner.mean - found.mean,
        "chosen": [{"phi": phi, "C": C} for phi, C in found.chosen],
    }


def _curve(outcome: SweepOutcome) -> dict[str, Any] | None:
    if outcome.curve is None:
        return None
    return {"phi": outcome.winner.phi, "C": outcome.winner.C, **outcome.curve.to_dict()}


def _percent(found: Estimate) -> str:
    if not (np.isfinite(found.low) and np.isfinite(found.high)):
        return "no interval"
    return f"95% [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _oof(outcome: SweepOutcome, name: str, z: FloatArray) -> SideScores:
    """Held-out scores as probabilities; the temperature of scores that are none is fitted on them."""
    T = 1.0 if HEADS[outcome.settings.train.head].loss == "cross_entropy" else fit_temperature(z, outcome.y)
    return SideScores(name, outcome.rows, outcome.y, np.asarray(z, np.float32), softmax(z, T), held_out=True)


def _report(outcome: SweepOutcome, facts: dict[str, str], config: str, clock: Clock) -> ReportData:
    """The winner's held-out answers as a report, with every φ in its plan."""
    prepared, winner = outcome.prepared, outcome.winner
    names = prepared.dataset.class_names
    sides = [_oof(outcome, OOF, outcome.scores)]
    if outcome.nested is not None:
        sides.append(_oof(outcome, NESTED, outcome.nested.scores))
    quoted = sides[-1]
    table = winner.tables[0]
    done = [bool(np.isfinite(table.losses[:, c]).all()) for c in range(len(table.Cs))]
    plan = [
        (
            "chosen" if candidate is winner else "phi",
            f"{candidate.phi} ({candidate.n_features} features, C = {candidate.C:g}): "
            f"{100 * candidate.mean:.1f} ± {100 * candidate.sd:.1f}% between folds, {_percent(candidate.interval)}",
            "--phi",
        )
        for candidate in outcome.candidates
    ]
    return ReportData(
        title=outcome.execution.name or "sweep",
        command=outcome.execution.command,
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        source=display_name(prepared.dataset.source),
        layout=prepared.dataset.layout,
        description=prepared.dataset.describe(),
        plan=(*plan, ("folds", f"{outcome.settings.cv}, {outcome.n_test} test images set aside", "--cv --test")),
        class_names=names,
        splits={side.side: side.evaluation(names) for side in sides},
        quote=quoted.side,
        quote_tag="quote this one" if outcome.nested is not None else "optimistic: it chose",
        selection=f"{winner.phi} and C = {winner.C:g} chosen by {outcome.settings.cv}-fold cross-validation",
        baselines=(majority(outcome.y, outcome.y, names),),
        path=tuple(
            PathRow(
                C=float(C),
                l2=float(table.l2[:, c].mean()),
                train_loss=float(table.train_losses[:, c].mean()),
                val_accuracy=Proportion(int(table.right[:, c].sum()), int(table.sizes.sum())),
                val_loss=float(table.losses[:, c].mean()),
                passes=round(float(table.passes[:, c].sum())),
                seconds=float(table.times[:, c].sum()),
                converged=bool(table.converged[:, c].all()),
            )
            for c, C in enumerate(table.Cs)
            if done[c]
        ),
        chosen=sum(done[: table.best]),
        mistakes=mistakes(quoted, prepared.dataset.names, outcome.pixels),
        confusion_images=cell_images(quoted, prepared.dataset.names, outcome.pixels),
        problems=outcome.problems,
        environment=facts,
        learning_curve=outcome.curve,
        timings=dict(clock.seconds),
        config_toml=config,
        split_notes={
            OOF: "each image by a fold that did not see it; optimistic, for φ and C were chosen on these scores",
            NESTED: "each image by a fit whose φ and C were chosen without it",
        },
    )
