"""The plan of a training run, line by line: every decision with the option that changes it."""

from __future__ import annotations

from lastlayer.pipeline.imaging import FormatChoice, networks
from lastlayer.pipeline.network_settings import network_lines, with_augmentation
from lastlayer.pipeline.observer import PlanLine
from lastlayer.pipeline.settings import HEADS, TrainSettings
from lastlayer.representations.base import Representation
from lastlayer.representations.views import Views


def plan(
    settings: TrainSettings, choice: FormatChoice, split_line: str, phi_text: str, phi: Representation | None
) -> tuple[PlanLine, ...]:
    """Images, split, φ with the tensors of frozen networks, views and head; `phi` is None where it is to be chosen."""
    head = HEADS[settings.head]
    standardised = ", standardised" if settings.standardise and not settings.trains_network else ""
    if phi is None:
        phi_text = f"auto: chosen on validation data within {settings.search_seconds:g} s (--time-limit)"
    return (
        PlanLine("images", choice.why, "--size --fit"),
        PlanLine("split", split_line, "--split --val --test --seed"),
        PlanLine("phi", phi_text + standardised, "--phi"),
        *(PlanLine("", network.describe(), "") for network in networks(phi)),
        *(network_lines(with_augmentation(settings, choice.format.channels)) if settings.trains_network else ()),
        *_view_lines(settings),
        *(_last_layer_lines(settings) if settings.trains_network else ()),
        PlanLine("head", f"{settings.head} ({head.title}), {_choice_line(settings)}", "--head --C"),
    )


def _last_layer_lines(settings: TrainSettings) -> tuple[PlanLine, ...]:
    """What becomes of the network's last layer."""
    said = {
        "auto": "fitted again exactly, kept where it wins on validation data",
        "yes": "fitted again exactly",
        "no": "the network's own",
    }
    return (PlanLine("last", said[settings.refit_last_layer], "--refit-last-layer"),)


def _view_lines(settings: TrainSettings) -> tuple[PlanLine, ...]:
    """What augmentation and averaged views cost, in features computed and rows fitted."""
    fitted = Views() if settings.trains_network else settings.fitted_views
    scored = settings.scored_views
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
        return f"at most {settings.perceptron_epochs} epochs (--epochs)"
    if settings.l2 == settings.l2:
        return f"λ = {settings.l2:g}"
    if len(settings.C) == 1:
        return f"C = {settings.C[0]:g}"
    return f"C chosen on validation data from {len(settings.C)} values {settings.C[0]:g} … {settings.C[-1]:g}"
