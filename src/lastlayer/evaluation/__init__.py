"""Scores that travel with their conditions: counts, intervals, baselines and the number of looks."""

from lastlayer.evaluation.baselines import (
    Baseline,
    majority,
    nearest_neighbour,
    paired,
    separated,
    unseparated_problems,
)
from lastlayer.evaluation.comparison import PairedComparison, mcnemar
from lastlayer.evaluation.intervals import Proportion, wilson
from lastlayer.evaluation.ledger import Look, read_looks, record_look
from lastlayer.evaluation.metrics import ClassScore, Confusion, Evaluation, evaluate_scores, row_losses
from lastlayer.evaluation.predictions import COLUMNS, margins, prediction_rows

__all__ = [
    "COLUMNS",
    "Baseline",
    "ClassScore",
    "Confusion",
    "Evaluation",
    "Look",
    "PairedComparison",
    "Proportion",
    "evaluate_scores",
    "majority",
    "margins",
    "mcnemar",
    "nearest_neighbour",
    "paired",
    "prediction_rows",
    "read_looks",
    "record_look",
    "row_losses",
    "separated",
    "unseparated_problems",
    "wilson",
]
