"""What a linear classifier looks for: the weights of each class as an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lastlayer._arrays import FloatArray, InputError
from lastlayer.figures._canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weights(
    W: FloatArray,
    shape: tuple[int, int] | tuple[int, int, int],
    *,
    class_names: Sequence[str] | None = None,
    columns: int = 5,
    title: str = "",
) -> Figure:
    """Draw the weights of each class as an image of the shape of the pixels.

    Parameters
    ----------
    W : (D, K)
        Weights of pixels, one column a class (the transpose of `coef_`).
    shape : (H, W) or (H, W, C)
        ``D = H · W · C`` with C = 1 or 3, channels last.
    class_names : sequence of str, optional
        0, 1, … when None.
    columns : int
        Images in a row of the figure.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Grey images on one scale for all classes: orange for, purple against, white for zero. Colour images with
        middle grey for zero, each channel brighter where more of it speaks for the class.

    Raises
    ------
    InputError
        For shapes that do not fit, weights that are not finite, and without matplotlib.
    """
    W = np.asarray(W, dtype=np.float64)
    if (
        W.ndim != 2
        or len(shape) not in (2, 3)
        or W.shape[0] != int(np.prod(shape))
        or shape[2:] not in ((), (1,), (3,))
    ):
        raise InputError(
            f"W has shape {W.shape}, an image {tuple(shape)}",
            "Give W as (D, K) and the shape (H, W) or (H, W, 3) with D = H·W·C; coef_ is the transpose of W",
        )
    if not np.isfinite(W).all() or (class_names is not None and len(class_names) != W.shape[1]) or columns < 1:
        raise InputError("weights that are not finite, or names that do not fit the classes", "Give one name a column")
    names = [str(k) for k in range(W.shape[1])] if class_names is None else list(class_names)
    across = min(columns, len(names))
    down = -(-len(names) // across)
    figure = new_figure(1.35 * across + 0.9, 1.55 * down + (0.35 if title else 0.0))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    limit = float(np.abs(W).max()) or 1.0
    grey = len(shape) == 2 or shape[2] == 1
    for panel, column, name in zip(panels, W.T, names):
        image = column.reshape(shape[:2]) if grey else 0.5 + 0.5 * column.reshape(shape) / limit
        shown = panel.imshow(image, cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest")
        panel.set_title(name, fontsize=10)
    for panel in panels:
        panel.set_axis_off()
    if grey:
        figure.colorbar(shown, ax=panels.tolist(), label="weight of the pixel", shrink=0.8, pad=0.02)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
