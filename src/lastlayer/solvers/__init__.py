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
from lastlayer.solvers.check import GradientCheck, check_gradient, loss_problem, penalty_problem
from lastlayer.solvers.closed_form import ClosedForm
from lastlayer.solvers.differences import FiniteDifferenceProblem, ValueProblem, difference_gradient
from lastlayer.solvers.directions import Adam, Direction, Momentum, Nesterov, Plain
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.newton import Newton, NewtonCG
from lastlayer.solvers.perceptron_rule import PerceptronRule
from lastlayer.solvers.preconditioner import FactoredInverse, Preconditioner, PseudoInverse
from lastlayer.solvers.sampled_newton import SampledNewton
from lastlayer.solvers.schedules import Plateau, PlateauState
from lastlayer.solvers.steps import Armijo, ExactLineSearch, Schedule, Scheduled, StepRule, StrongWolfe
from lastlayer.solvers.stochastic import SGD
from lastlayer.solvers.stopping import EarlyStopped, EarlyStopping, minimise_with_early_stopping
from lastlayer.solvers.variance_reduced import SVRG
from lastlayer.solvers.zeroth_order import SPSA, EvolutionStrategy

__all__ = [
    "LBFGS",
    "SGD",
    "SPSA",
    "SVRG",
    "Adam",
    "Armijo",
    "Callback",
    "ClosedForm",
    "Direction",
    "EarlyStopped",
    "EarlyStopping",
    "EvolutionStrategy",
    "ExactLineSearch",
    "FactoredInverse",
    "FiniteDifferenceProblem",
    "FunctionProblem",
    "GradientCheck",
    "GradientDescent",
    "Line",
    "LineValue",
    "Momentum",
    "Nesterov",
    "Newton",
    "NewtonCG",
    "PerceptronRule",
    "Plain",
    "Plateau",
    "PlateauState",
    "Point",
    "Preconditioner",
    "Problem",
    "PseudoInverse",
    "Record",
    "RowProblem",
    "SampledNewton",
    "Schedule",
    "Scheduled",
    "Solution",
    "Solver",
    "StepRule",
    "StopReason",
    "StrongWolfe",
    "ValueProblem",
    "check_gradient",
    "difference_gradient",
    "loss_problem",
    "minimise_with_early_stopping",
    "penalty_problem",
]
