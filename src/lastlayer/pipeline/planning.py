"""The plan of a training run, line by line: every decision with the option that changes it."""

from __future__ import annotations

from lastlayer.pipeline.imaging import FormatChoice, networks
from lastlayer.pipeline.observer import PlanLine
from lastlayer.pipeline.settings import HEADS, TrainSettings
from lastlayer.representations.base import Representation


def plan(
    settings: TrainSettings, choice: FormatChoice, split_line: str, phi_text: str, phi: Representation | None
) -> tuple[PlanLine, ...]:
    """Images, split, φ with the tensors of frozen networks, views and head; `phi` is None where it is to be chosen."""
    head = HEADS[settings.head]
    standardised = ", standardised" if settings.standardise else ""
    if phi is None:
        phi_text = f"auto: chosen on validation data within {settings.time_limit:g} s (--time-limit)"
    return (
        PlanLine("images", choice.why, "--size --fit"),
        PlanLine("split", split_line, "--split --val --test --seed"),
        PlanLine("phi", phi_text + standardised, "--phi"),
        *(PlanLine("", network.describe(), "") for network in networks(phi)),
        *_view_lines(settings),
        PlanLine("head", f"{settings.head} ({head.title}), {_choice_line(settings)}", "--head --C"),
    )


def _view_lines(settings: TrainSettings) -> tuple[PlanLine, ...]:
    """What augmentation and averaged views cost, in features computed and rows fitted."""
    fitted, scored = settings.fitted_views, settings.scored_views
    lines = []
    if len(fitted) > 1:
        text = f"{fitted.text}: {len(fitted)} rows an image are fitted, {len(fitted)} times the memory and time"
        lines.append(PlanLine("rows", text, "--augment"))
    if len(scored) > 1:
        text = f"{scored.text}: scores are averaged over {len(scored)} views, {len(scored)} times the time for features"
        lines.append(PlanLine("views", text, "--views"))
    return tuple(lines)


def _choice_line(settings: TrainSettings) -> str:
    if HEADS[settings.head].solver == "perceptron":
        return f"at most {settings.epochs} epochs (--epochs)"
    if settings.l2 == settings.l2:
        return f"λ = {settings.l2:g}"
    if len(settings.C) == 1:
        return f"C = {settings.C[0]:g}"
    return f"C chosen on validation data from {len(settings.C)} values {settings.C[0]:g} … {settings.C[-1]:g}"
