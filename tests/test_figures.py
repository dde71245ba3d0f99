"""The figures show the numbers they are given; every one is drawn once without a warning."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lastlayer import figures
from lastlayer._arrays import InputError
from lastlayer.figures._canvas import COLOURS, line_styles
from lastlayer.selection.fit import fit_linear
from lastlayer.selection.learning_rate import search_learning_rate
from lastlayer.selection.range_test import RangeTest
from lastlayer.solvers import FunctionProblem, GradientDescent, Scheduled, Solution, StopReason
from lastlayer.solvers.base import Record
from lastlayer.solvers.steps import constant, polynomial_decay


def drawn(figure: figures.learning_curve) -> bytes:  # type: ignore[valid-type]
    """The PNG: layout and text are made only now."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def lines(figure: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    axes = figure.axes[0]  # type: ignore[attr-defined]
    return {line.get_label(): line.get_data() for line in axes.lines if not line.get_label().startswith("_")}


def solution(values: list[float], reason: StopReason = StopReason.MAX_ITER, passes: float = 1.0) -> Solution:
    history = tuple(Record(i, v, abs(v) / abs(values[0]), 0.1, passes * i, 0.01 * i) for i, v in enumerate(values))
    return Solution(np.zeros(1), min(values), 0.0, reason, passes * len(values), history)


def bowl() -> FunctionProblem:
    return FunctionProblem(lambda x: (0.5 * float(x @ x), x), np.ones(3), bound=1.0)


# --- schedules ---------------------------------------------------------------------------------------------------


def test_a_schedule_is_drawn_as_it_is() -> None:
    figure = figures.schedule({"constant": constant(0.1), "1/t": polynomial_decay(0.1, 5.0)}, 30)
    shown = lines(figure)
    assert list(shown) == ["constant", "1/t"]
    np.testing.assert_array_equal(shown["1/t"][1], [polynomial_decay(0.1, 5.0)(i) for i in range(30)])
    np.testing.assert_array_equal(shown["constant"][0], np.arange(30))
    assert figure.axes[0].get_xlabel() == "step" and figure.axes[0].get_ylabel() == "learning rate"
    assert drawn(figure).startswith(b"\x89PNG")


def test_one_schedule_has_no_legend_and_panels_have_titles() -> None:
    assert figures.schedule(constant(0.1), 5).axes[0].get_legend() is None
    panels = figures.schedule({name: constant(1.0 + len(name)) for name in ("a", "bb", "ccc")}, 5, panels=True)
    assert [axes.get_title(loc="left") for axes in panels.axes] == ["a", "bb", "ccc", ""]
    assert len({axes.get_ylim() for axes in panels.axes[:3]}) == 1
    drawn(panels)
    assert figures.schedule(polynomial_decay(1.0), 9, log=True).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1])
def test_a_schedule_without_sense_is_refused_by_name(rate: float) -> None:
    with pytest.raises(InputError, match=r"schedule odd gives .* at step 3"):
        figures.schedule({"odd": lambda count: rate if count == 3 else 0.1}, 10)
    for schedules, steps in (({}, 3), (constant(0.1), 0)):
        with pytest.raises(InputError, match="at least one schedule"):
            figures.schedule(schedules, steps)


# --- learning curves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", ["passes", "iteration", "seconds"])
def test_the_gap_is_relative_to_the_reference(x: str) -> None:
    given = solution([4.0, 3.0, 2.5], passes=2.0)
    figure = figures.learning_curve({"descent": given}, x=x, y="gap", reference=2.0)
    places, heights = lines(figure)["descent"]
    np.testing.assert_allclose(heights, [1.0, 0.5, 0.25])
    np.testing.assert_allclose(places, [getattr(r, x) for r in given.history])
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_ylabel() == "gap  (J − J*) / |J*|"
    drawn(figure)


def test_any_solver_s_history_is_drawn() -> None:
    good = GradientDescent(Scheduled(constant(0.5)), 1e-6, 50).minimise(bowl())
    bad = GradientDescent(Scheduled(constant(3.0)), 1e-6, 50).minimise(bowl())
    figure = figures.learning_curve({"good": good, "bad": bad}, y="gap", reference=0.0)
    assert list(lines(figure)) == ["good", "bad (diverged)"]
    assert "J − J*" in figure.axes[0].get_ylabel() and "/" not in figure.axes[0].get_ylabel()
    [cross] = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    low, high = figure.axes[0].get_ylim()
    assert low < cross.get_ydata()[0] <= high == pytest.approx(10 * good.history[0].value)
    drawn(figure)


def test_without_a_reference_the_lowest_value_is_it_and_is_said_so() -> None:
    figure = figures.learning_curve(solution([4.0, 2.0]), solution([4.0, 3.0]), y="gap")
    shown = lines(figure)
    np.testing.assert_allclose(shown["run 1"][1], [1.0])
    np.testing.assert_allclose(shown["run 2"][1], [1.0, 0.5])
    assert "J min" in figure.axes[0].get_ylabel()
    other = figures.learning_curve(solution([4.0, 3.0]), y="gap", reference=solution([4.0, 1.0]))
    np.testing.assert_allclose(lines(other)["run 1"][1], [3.0, 2.0])


def test_what_cannot_be_drawn_is_left_out_and_the_axis_fits_the_values() -> None:
    values = solution([4.0, float("nan"), 3.0])
    figure = figures.learning_curve(values)
    np.testing.assert_array_equal(lines(figure)["run 1"][1], [4.0, 3.0])
    assert figure.axes[0].get_yscale() == "linear"
    assert figures.learning_curve(solution([4.0, 1e-3])).axes[0].get_yscale() == "log"
    assert figures.learning_curve(solution([4.0, -1.0])).axes[0].get_yscale() == "linear"
    blind = replace(values, history=tuple(r._replace(gradient_norm=float("nan")) for r in values.history))
    assert len(lines(figures.learning_curve({"a": blind, "b": solution([2.0, 1.0])}, y="gradient_norm"))["a"][0]) == 0
    with pytest.raises(InputError, match="no record"):
        figures.learning_curve(blind, y="gradient_norm")


def test_a_logarithmic_x_keeps_the_start() -> None:
    figure = figures.learning_curve(solution([4.0, 3.0, 2.0]), log_x=True)
    assert figure.axes[0].get_xscale() == "log"
    np.testing.assert_allclose(lines(figure)["run 1"][0], [0.5, 1.0, 2.0])
    drawn(figure)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [((), {}), ((solution([1.0]),), {"x": "epochs"}), ((solution([1.0]),), {"y": "accuracy"})],
)
def test_curves_without_sense_are_refused(arguments: tuple[Solution, ...], settings: dict[str, str]) -> None:
    with pytest.raises(InputError):
        figures.learning_curve(*arguments, **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reference is nan"):
        figures.learning_curve(solution([1.0]), y="gap", reference=float("nan"))


# --- losses ------------------------------------------------------------------------------------------------------

FORMULAS = {
    "zero_one": lambda m: (m <= 0).astype(float),
    "squared": lambda m: 0.5 * (1 - m) ** 2,
    "hinge": lambda m: np.maximum(0, 1 - m),
    "squared_hinge": lambda m: np.maximum(0, 1 - m) ** 2,
    "cross_entropy": lambda m: np.log1p(np.exp(-m)),
    "perceptron": lambda m: np.maximum(0, -m),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_classes_give_the_formula_that_the_legend_states(name: str) -> None:
    m = np.linspace(-4, 4, 33)
    np.testing.assert_allclose(figures.margin_losses(name, m), FORMULAS[name](m), atol=1e-12)


def test_losses_are_on_one_figure() -> None:
    figure = figures.losses()
    shown = lines(figure)
    assert [label.split(":")[0] for label in shown] == ["0-1", "squared", "hinge", "squared hinge", "cross-entropy"]
    m, values = shown["hinge:  max(0, 1 − m)"]
    np.testing.assert_allclose(values, np.maximum(0, 1 - m))
    drawn(figure)
    with pytest.raises(InputError, match="No loss is called"):
        figures.losses(["hinge", "absolute"])
    with pytest.raises(InputError, match="low < high"):
        figures.losses(low=2.0, high=1.0)


# --- boundaries --------------------------------------------------------------------------------------------------


def blobs(k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])[:k]
    y = np.repeat(np.arange(k), 25)
    return centres[y] + 0.7 * rng.standard_normal((len(y), 2)), y


def contours(figure: object) -> list[np.ndarray]:
    from matplotlib.contour import ContourSet

    sets = [item for item in figure.axes[0].collections if isinstance(item, ContourSet)]  # type: ignore[attr-defined]
    return [np.concatenate([path.vertices for path in item.get_paths()]) for item in sets]


@pytest.mark.parametrize("how", ["fit", "scores", "labels"])
def test_the_boundary_is_where_the_scores_are_equal(how: str) -> None:
    X, y = blobs(2)
    fit = fit_linear(X, y, 2, l2=0.01)

    def scores(points: np.ndarray) -> np.ndarray:
        return points @ fit.weights + fit.bias

    given = {"fit": fit, "scores": scores, "labels": lambda points: scores(points).argmax(axis=1)}[how]
    figure = figures.decision_boundary(
        X, y, given, class_names=["left", "right"], features=("width (mm)", "height (mm)")
    )
    [line] = contours(figure)
    lead = np.diff(scores(line), axis=1)[:, 0]
    cell = np.ptp(X[:, 0]) * 1.3 / 300
    slope = np.linalg.norm(fit.weights[:, 1] - fit.weights[:, 0])
    assert np.abs(lead).max() < (1e-6 if how != "labels" else 1.5 * cell * slope)
    assert figure.axes[0].get_xlabel() == "width (mm)"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["left", "right"]
    drawn(figure)


def test_several_classifiers_share_the_points() -> None:
    X, y = blobs(3)
    fits = {loss: fit_linear(X, y, 3, loss, l2=0.01) for loss in ("cross_entropy", "squared")}
    figure = figures.decision_boundary(X, y, {**fits, "always 0": lambda p: np.zeros(len(p), dtype=int)})
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["cross_entropy", "squared", "always 0 (no boundary here)", "class 0", "class 1", "class 2"]
    parts = contours(figure)
    assert len(parts) == 4  # of each linear classifier the line 0|1, and 0|2 with 1|2
    for i, fit in enumerate(fits.values()):
        line = np.concatenate(parts[2 * i : 2 * i + 2])
        top = np.sort(line @ fit.weights + fit.bias, axis=1)
        assert np.quantile(top[:, 2] - top[:, 1], 0.97) < 1e-6
        winners = np.argsort(line @ fit.weights + fit.bias, axis=1)[:, 1:]
        assert {tuple(sorted(pair)) for pair in winners} == {(0, 1), (0, 2), (1, 2)}
    drawn(figure)


def test_points_and_answers_without_sense_are_refused() -> None:
    X, y = blobs(2)
    fit = fit_linear(X, y, 2, l2=0.01)
    with pytest.raises(InputError, match=r"\(N, 2\)"):
        figures.decision_boundary(np.column_stack([X, X]), y, fit)
    with pytest.raises(InputError, match="integers 0"):
        figures.decision_boundary(X, y - 1, fit)
    with pytest.raises(InputError, match="Name every class"):
        figures.decision_boundary(X, y, fit, class_names=["one"])
    with pytest.raises(InputError, match="classifier given answers float64"):
        figures.decision_boundary(X, y, lambda points: points[:, 0])


# --- learning rates ----------------------------------------------------------------------------------------------


def test_a_search_is_drawn_rung_by_rung_with_its_divergences() -> None:
    found = search_learning_rate(
        bowl(), lambda rate: GradientDescent(Scheduled(constant(rate)), 1e-12, 500), (0.01, 0.1, 0.5, 30.0), budget=90
    )
    figure = figures.learning_rates(found)
    shown = lines(figure)
    assert {"10 passes each", "30 passes each", "90 passes each", "diverged", "chosen: 0.5"} == set(shown)
    np.testing.assert_allclose(shown["diverged"][0], [30.0])
    first = [t for t in found.trials if t.rung == 1 and np.isfinite(t.value)]
    np.testing.assert_allclose(shown["10 passes each"][1], [t.value for t in first])
    assert figure.axes[0].get_ylabel() == "objective" and figure.axes[0].get_xscale() == "log"
    drawn(figure)


def test_a_range_test_is_drawn_with_its_suggestion() -> None:
    rates = np.geomspace(1e-3, 1.0, 20)
    losses = 1.0 - 0.5 * np.linspace(0, 1, 20)
    seen = RangeTest(rates, losses, losses, 1.0, 0.1, "all rates were tried")
    shown = lines(figures.learning_rates(seen))
    np.testing.assert_array_equal(shown["running mean"][1], losses)
    np.testing.assert_array_equal(shown["suggested: 0.1"][0], [0.1, 0.1])
    drawn(figures.learning_rates(seen))
    empty = np.zeros(0)
    with pytest.raises(InputError, match="no finite loss"):
        figures.learning_rates(RangeTest(empty, empty, empty, 1.0, None, "the loss is no longer finite at rate 1"))


# --- weights -----------------------------------------------------------------------------------------------------


def test_weights_are_the_columns_as_images_on_one_symmetric_scale() -> None:
    W = np.random.default_rng(0).standard_normal((12, 7))
    figure = figures.weights(W, (3, 4), class_names=list("abcdefg"))
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 7
    for k, image in enumerate(images):
        np.testing.assert_array_equal(image.get_array(), W[:, k].reshape(3, 4))
        assert image.get_clim() == (-np.abs(W).max(), np.abs(W).max())
    assert [axes.get_title() for axes in figure.axes[:7]] == list("abcdefg")
    drawn(figure)


def test_weights_of_colour_images_have_grey_for_zero() -> None:
    W = np.zeros((12, 2))
    W[0, 1] = -3.0
    figure = figures.weights(W, (2, 2, 3))
    first, second = (axes.images[0].get_array() for axes in figure.axes)
    assert (first == 0.5).all()
    assert second[0, 0, 0] == 0.0 and (second.ravel()[1:] == 0.5).all()
    drawn(figure)


def test_weights_that_do_not_fit_are_refused() -> None:
    W = np.ones((12, 2))
    for shape in ((3, 5), (2, 3, 2), (12,)):
        with pytest.raises(InputError, match="coef_ is the transpose"):
            figures.weights(W, shape)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one name a column"):
        figures.weights(W, (3, 4), class_names=["a"])
    with pytest.raises(InputError, match="not finite"):
        figures.weights(np.full((4, 2), np.nan), (2, 2))


# --- the canvas --------------------------------------------------------------------------------------------------


def test_many_lines_are_all_different() -> None:
    styles = [(style["color"], str(style["linestyle"])) for style in line_styles(28)]
    assert len(set(styles)) == 28
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(styles))


# Machado, Oliveira & Fernandes (2009), full strength, on linear RGB
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_stay_apart_for_colour_blind_readers(kind: str) -> None:
    """At least 10 units of CIE Lab between any two, where about 2 can just be seen."""
    from matplotlib.colors import to_rgb
    from skimage.color import rgb2lab

    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(BLINDNESS[kind]).T
    linear = linear.clip(0, 1)
    seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1e3 * np.eye(len(lab))
    assert apart.min() > 10


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install lastlayer\[figures\]"):
        figures.losses()


def test_importing_costs_no_matplotlib_and_drawing_no_pyplot() -> None:
    code = (
        "import sys, lastlayer.figures as f\n"
        "assert 'matplotlib' not in sys.modules\n"
        "f.losses()\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'sklearn' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
