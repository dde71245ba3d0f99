"""Points of two features, and where classifiers draw the line between their classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import Array, Float64, InputError, IntArray, check_matrix
from lastlayer.figures._canvas import COLOURS, is_long, legend, line_styles, markers, new_figure, plain_axes
from lastlayer.linear import scores
from lastlayer.selection.fit import LinearFit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Classifier = LinearFit | Callable[[Float64], Array]
"""A fit, or a function of (N, 2) points that gives scores (N, K) or labels (N,) from 0..K-1."""

SIDE = 300
ROOM = 0.12


def decision_boundary(
    X: Array,
    y: Array,
    classifiers: Classifier | Mapping[str, Classifier],
    *,
    class_names: Sequence[str] | None = None,
    features: tuple[str, str] = ("feature 1", "feature 2"),
    limits: tuple[float, float, float, float] | None = None,
    title: str = "",
) -> Figure:
    """Draw points and decision boundaries.

    One classifier is drawn with its regions tinted; several by name are drawn as lines on the same points, so that
    they can be compared.

    Parameters
    ----------
    X : (N, 2) points.
    y : (N,) labels 0..K-1.
    classifiers : LinearFit, callable, or mapping of str to either
        A callable takes (n, 2) float64 points and gives scores (n, K) or labels (n,), such as ``model.predict`` of
        an estimator trained on labels 0..K-1.
    class_names : sequence of str, optional
        "class 0", "class 1", … when None.
    features : tuple of str
        Labels of the axes, with their units where they have some.
    limits : (left, right, bottom, top), optional
        What is shown; the points with some room around them when None.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        For points that are not (N, 2), labels that do not fit, answers of another shape, and without matplotlib.
    """
    points, labels = _checked(X, y, class_names)
    named = classifiers if isinstance(classifiers, Mapping) else {"": classifiers}
    left, right, bottom, top = limits or _around(points)
    grid_x, grid_y = np.meshgrid(np.linspace(left, right, SIDE), np.linspace(bottom, top, SIDE))
    grid = np.column_stack([grid_x.ravel(), grid_y.ravel()])
    beside = len(named) > 1 or is_long(int(labels.max()) + 1)
    figure = new_figure(8.6 if beside else 6.6, 5.0)
    axes = figure.subplots()
    plain_axes(axes, features[0], features[1], title)
    axes.grid(False)
    for (name, classifier), style in zip(named.items(), line_styles(len(named))):
        leads = _leads(name, classifier, grid).reshape(-1, SIDE, SIDE)
        if len(named) == 1:
            _tint(axes, leads, (left, right, bottom, top))
        _boundary(axes, grid_x, grid_y, leads, name, style if len(named) > 1 else {"color": "black", "linewidth": 1.4})
    _scatter(axes, points, labels, class_names, muted=len(named) > 1)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    legend(axes, beside)
    return figure


def _checked(X: Array, y: Array, class_names: Sequence[str] | None) -> tuple[Float64, IntArray]:
    points = np.asarray(check_matrix(np.asarray(X), "X"), dtype=np.float64)
    labels = np.asarray(y)
    if points.shape[1] != 2 or labels.shape != (len(points),):
        raise InputError(
            f"X has shape {points.shape} and y {labels.shape}; (N, 2) and (N,) are needed",
            "Choose two columns, or project the features to two",
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"y holds {labels.dtype} from {labels.min()}", "Give labels as integers 0..K-1")
    if class_names is not None and len(class_names) <= labels.max():
        raise InputError(f"{len(class_names)} class names for labels up to {labels.max()}", "Name every class")
    return points, labels


def _around(points: Float64) -> tuple[float, float, float, float]:
    low, high = points.min(axis=0), points.max(axis=0)
    room = ROOM * np.where(high > low, high - low, 1.0)
    (left, bottom), (right, top) = low - room, high + room
    return float(left), float(right), float(bottom), float(top)


def _leads(name: str, classifier: Classifier, grid: Float64) -> Float64:
    """By how much each class leads the best other one, (K, n): its region is where that is positive."""
    if isinstance(classifier, LinearFit):
        answer: Array = scores(grid, classifier.weights, classifier.bias)
    else:
        answer = np.asarray(classifier(grid))
    if answer.ndim == 1 and len(answer) == len(grid) and answer.dtype.kind in "iu":
        answer = np.eye(max(2, int(answer.max()) + 1))[answer]
    if answer.ndim != 2 or answer.shape[0] != len(grid) or answer.shape[1] < 2:
        raise InputError(
            f"classifier {name or 'given'} answers {answer.dtype} of shape {answer.shape} for {len(grid)} points",
            "Give a function with scores (N, K) or integer labels (N,)",
        )
    answer = np.asarray(answer, dtype=np.float64)
    top = np.sort(answer, axis=1)[:, -2:]
    first = answer == top[:, 1:]
    return np.asarray(np.where(first, answer - top[:, :1], answer - top[:, 1:]).T)


def _tint(axes: Any, leads: Float64, extent: tuple[float, float, float, float]) -> None:
    """Each region in a pale shade of its class's colour."""
    from matplotlib.colors import to_rgb

    shades = np.array([to_rgb(COLOURS[k % len(COLOURS)]) for k in range(len(leads))])
    image = 0.82 + 0.18 * shades[leads.argmax(axis=0)]
    axes.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="nearest", zorder=0)


def _boundary(axes: Any, x: Float64, y: Float64, leads: Float64, name: str, style: dict[str, Any]) -> None:
    """The lines between the regions, each drawn once so that its dashes stay, and their entry in the legend."""
    dashes = {"linestyles": [style["linestyle"]]} if "linestyle" in style else {}
    drawn = False
    winner = leads.argmax(axis=0)
    for k in range(1, len(leads)):
        # class k against the best other one, where that comes before k; the others see this line from their side
        rival = np.where(winner == k, _without(leads, k), winner)
        lead = np.ma.masked_where(rival > k, leads[k])
        if lead.count() and lead.min() < 0 < lead.max():
            axes.contour(x, y, lead, levels=[0.0], colors=[style["color"]], linewidths=style["linewidth"], **dashes)
            drawn = True
    if name:
        axes.plot([], [], label=name if drawn else f"{name} (no boundary here)", **style)


def _without(leads: Float64, k: int) -> IntArray:
    """The best class but k."""
    others = leads.copy()
    others[k] = -np.inf
    return np.asarray(others.argmax(axis=0))


def _scatter(axes: Any, points: Float64, labels: IntArray, class_names: Sequence[str] | None, muted: bool) -> None:
    """Points by class: shape and colour both tell; grey shades where the colours belong to the lines."""
    count = int(labels.max()) + 1
    size = float(np.clip(4000.0 / len(points), 14.0, 90.0))
    for k, marker in zip(range(count), markers(count)):
        mine = points[labels == k]
        shade = str(0.15 + 0.5 * k / max(1, count - 1)) if muted else COLOURS[k % len(COLOURS)]
        name = class_names[k] if class_names is not None else f"class {k}"
        axes.scatter(
            *mine.T, s=size, marker=marker, color=shade, edgecolors="white", linewidths=0.6, label=name, zorder=3
        )
