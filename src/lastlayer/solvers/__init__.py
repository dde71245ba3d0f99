"""argmin: solvers see a `Problem`, and know nothing of images, losses or classes.

Direction × step: a solver chooses the direction, `steps` how far to go.
"""

from lastlayer.solvers.base import (
    Callback,
    Line,
    LineValue,
    Point,
    Problem,
    Record,
    RowProblem,
    Solution,
    Solver,
    StopReason,
)
from lastlayer.solvers.check import GradientCheck, check_gradient
from lastlayer.solvers.closed_form import ClosedForm
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.perceptron_rule import PerceptronRule
from lastlayer.solvers.preconditioner import FactoredInverse, Preconditioner, PseudoInverse
from lastlayer.solvers.steps import Armijo, ExactLineSearch, Schedule, Scheduled, StepRule

__all__ = [
    "LBFGS",
    "Armijo",
    "Callback",
    "ClosedForm",
    "ExactLineSearch",
    "FactoredInverse",
    "FunctionProblem",
    "GradientCheck",
    "GradientDescent",
    "Line",
    "LineValue",
    "PerceptronRule",
    "Point",
    "Preconditioner",
    "Problem",
    "PseudoInverse",
    "Record",
    "RowProblem",
    "Schedule",
    "Scheduled",
    "Solution",
    "Solver",
    "StepRule",
    "StopReason",
    "check_gradient",
]
