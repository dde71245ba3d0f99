"""Figures of learning: schedules, learning curves, losses, activations, boundaries, rates and weights.

Each function returns a `matplotlib.figure.Figure` that is yours to change and save; nothing is shown, and no global
state of matplotlib is touched. They need ``pip install lastlayer[figures]``; importing this package does not.

>>> from lastlayer import figures
>>> from lastlayer.solvers.steps import constant, polynomial_decay
>>> figure = figures.schedule({"constant": constant(0.1), "1/t": polynomial_decay(0.1, 10.0)}, steps=50)
>>> [line.get_label() for line in figure.axes[0].lines]
['constant', '1/t']
"""

from lastlayer.figures.activations import activations
from lastlayer.figures.boundaries import decision_boundary
from lastlayer.figures.curves import learning_curve
from lastlayer.figures.losses import losses, margin_losses
from lastlayer.figures.rates import learning_rates
from lastlayer.figures.schedules import schedule
from lastlayer.figures.weights import weights

__all__ = [
    "activations",
    "decision_boundary",
    "learning_curve",
    "learning_rates",
    "losses",
    "margin_losses",
    "schedule",
    "weights",
]
