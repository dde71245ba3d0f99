r"""Labels that are probably wrong, by confident learning on out-of-fold probabilities.

A class is believed of an image when its probability reaches what the class usually gets from the images that carry
its label:

.. math::
    t_j = \frac{1}{n_j} \sum_{i:\, \tilde y_i = j} p_j(x_i), \qquad
    C_{kj} = \#\{i : \tilde y_i = k,\; j = \arg\max_{l:\, p_l(x_i) \ge t_l} p_l(x_i)\}

C, scaled so that each row sums to the images of that label, estimates how many images of true class j carry label k.
Of these the ones with the largest margin :math:`p_j - p_k` are suspected.

Source: Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", equations 1-2
(confident joint), 3 (calibration) and method 4 (prune by noise rate). The probabilities must come from models that did
not see the image: `CrossValidation.out_of_fold`, `LogisticRegressionCV.out_of_fold_`.

Shapes
------
N : images, K : classes. Labels are (N,) in −1..K−1, probabilities (N, K); −1 has no label and is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, FloatArray, InputError, IntArray

__all__ = ["LabelIssues", "class_thresholds", "confident_joint", "find_label_issues", "normalised_margin"]

_SLACK = 1e-6  # a probability equal to its threshold but for rounding reaches it


@final
@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Which labels are probably wrong, and which class they should probably carry.

    Attributes
    ----------
    suspect : bool (N,)
    score : float (N,)
        The label's `normalised_margin`, 0..1: low is suspect; NaN for images that were not judged.
    suggested : int (N,)
        The most probable class; the label itself where that is not suspect.
    joint : int (K, K)
        Estimated images by label (row) and true class (column).
    thresholds : float (K,)
        t; NaN for classes without a labelled image.
    """

    suspect: BoolArray
    score: Float64
    suggested: IntArray
    joint: IntArray
    thresholds: Float64

    @property
    def ranked(self) -> IntArray:
        """Rows that were judged, the most suspicious first."""
        judged = np.flatnonzero(~np.isnan(self.score))
        return judged[np.argsort(self.score[judged], kind="stable")]

    @property
    def suspects(self) -> IntArray:
        """Rows that are suspected, the most suspicious first."""
        ranked = self.ranked
        return ranked[self.suspect[ranked]]

    @property
    def estimate(self) -> int:
        """How many labels are wrong, as the joint has it."""
        return int(self.joint.sum() - np.trace(self.joint))


def find_label_issues(labels: IntArray, probabilities: FloatArray) -> LabelIssues:
    """Find labels that are probably wrong.

    Parameters
    ----------
    labels : int (N,)
    probabilities : float (N, K)
        Out-of-fold; rows with NaN (never held out) are not judged.

    Raises
    ------
    InputError
        When the shapes disagree, a label is out of range, or a row is no distribution.

    Notes
    -----
    A label that is also the most probable class is never suspected, and of every class at least one image is not.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9], [0.2, 0.8]])
    >>> find_label_issues(np.array([0, 0, 1, 1, 1]), p).suspects
    array([2])
    """
    labels = np.asarray(labels)
    judged = _judged(labels, probabilities)
    y, p = labels[judged].astype(np.intp), np.asarray(probabilities)[judged].astype(np.float64)
    n, k = len(labels), probabilities.shape[1]
    suspect, score = np.zeros(n, dtype=bool), np.full(n, np.nan)
    suggested = labels.astype(np.int64)
    if not len(y):
        return LabelIssues(suspect, score, suggested, np.zeros((k, k), np.int64), np.full(k, np.nan))
    thresholds = class_thresholds(y, p)
    joint = confident_joint(y, p, thresholds)
    found = _by_noise_rate(y, p, joint)
    score[judged] = normalised_margin(y, p)
    suspect[judged[found]] = True
    suggested[judged[found]] = p[found].argmax(axis=1)
    return LabelIssues(suspect, score, suggested, joint, thresholds)


def class_thresholds(labels: IntArray, probabilities: FloatArray) -> Float64:
    """Mean probability that each class gets from the images of its label, (K,); NaN for classes without any."""
    k = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    counts = np.bincount(labels, minlength=k)
    sums = np.bincount(labels, weights=own, minlength=k)
    return np.asarray(np.divide(sums, counts, out=np.full(k, np.nan), where=counts > 0))


def confident_joint(labels: IntArray, probabilities: FloatArray, thresholds: Float64) -> IntArray:
    """Estimated images by label and true class, (K, K); each row sums to the images of that label."""
    k = probabilities.shape[1]
    reached = probabilities >= np.where(np.isnan(thresholds), np.inf, thresholds) - _SLACK
    believed = np.where(reached, probabilities, -1.0).argmax(axis=1)
    sure = reached.any(axis=1)
    counted = np.bincount(labels[sure] * k + believed[sure], minlength=k * k).reshape(k, k)
    present = np.bincount(labels, minlength=k)
    counted[np.diag_indices(k)] = np.maximum(counted.diagonal(), present > 0)  # a class of which nothing is sure
    scaled = counted / np.maximum(counted.sum(axis=1), 1)[:, None] * present[:, None]
    return _rounded_rows(scaled, present)


def _rounded_rows(values: Float64, totals: IntArray) -> IntArray:
    """Nearest whole numbers, then one up or down where that changes least until each row sums to its total."""
    whole = np.round(values)
    for k, missing in enumerate((totals - whole.sum(axis=1)).astype(int).tolist()):
        order = np.argsort(values[k] - whole[k])  # of equal changes the later class, going up, as cleanlab has it
        changed = order[::-1][:missing] if missing > 0 else order[: -missing or 0]
        whole[k, changed] += np.sign(missing)
    return whole.astype(np.int64)


def normalised_margin(labels: IntArray, probabilities: FloatArray) -> Float64:
    """``(p_label − largest other p + 1) / 2``, (N,): below ½ exactly where another class is more probable."""
    rows = np.arange(len(labels))
    p = np.asarray(probabilities, dtype=np.float64).copy()
    own = p[rows, labels]
    p[rows, labels] = -np.inf
    return np.asarray((own - p.max(axis=1) + 1) / 2)


def _by_noise_rate(y: IntArray, p: Float64, joint: IntArray) -> BoolArray:
    """For every label k and true class j the ``joint[k, j]`` images of label k with the largest ``p_j − p_k``."""
    prune = _keep_one(joint)
    found = np.zeros(len(y), dtype=bool)
    for k in range(joint.shape[0]):
        mine = np.flatnonzero(y == k)
        for j in np.flatnonzero(prune[k]).tolist():
            if j != k and len(mine):
                margin = p[mine, j] - p[mine, k]
                found[mine[np.argsort(-margin, kind="stable")[: prune[k, j]]]] = True
    return np.asarray(found & (p.argmax(axis=1) != y))


def _keep_one(joint: IntArray) -> IntArray:
    """The joint with at least one image on the diagonal of every class, taken from the rest of its row."""
    out = joint.copy()
    for k in np.flatnonzero((joint.diagonal() < 1) & (joint.sum(axis=1) > 0)).tolist():
        out[k, int(np.argmax(np.where(np.arange(len(joint)) == k, -1, joint[k])))] -= 1
        out[k, k] += 1
    return out


def _judged(labels: IntArray, probabilities: FloatArray) -> IntArray:
    p = np.asarray(probabilities)
    if p.ndim != 2 or labels.shape != (len(p),) or p.shape[1] < 2:
        raise InputError(
            f"labels of shape {labels.shape} and probabilities of shape {p.shape}", "Give (N,) and (N, K), K at least 2"
        )
    if len(labels) and (labels.max() >= p.shape[1] or labels.min() < -1):
        raise InputError(f"a label is not in -1..{p.shape[1] - 1}")
    rows = np.flatnonzero((labels >= 0) & ~np.isnan(p).any(axis=1))
    wrong = (p[rows] < -1e-6).any(axis=1) | (np.abs(p[rows].sum(axis=1, dtype=np.float64) - 1) > 1e-3)
    if wrong.any():
        raise InputError(f"row {rows[np.argmax(wrong)]} of the probabilities is no distribution")
    return rows
