r"""Whether an image is unlike everything the classifier was trained on.

A linear layer is sure of whatever lies far out in a direction it knows. Two numbers of the standardised features say
whether an image lies where the training images do:

    direction   1 − cos(z, nearest of the training rows kept)
    length      ln ‖z‖, too short or too long

Each becomes its rank among validation images, the larger rank is the distance, and the image is far where fewer than
1% of validation images are as far.

Chosen by experiment (8 classes of 5,000 images of MNIST or CIFAR-10, thresholds that flag 5% of validation images,
share flagged of strange images; last columns images of the two classes left out):

    MNIST, hog              photographs  noise   black  unseen classes
    direction and length        100       100     100        30
    direction alone              99       100     100        43
    nearest, Euclidean          100       100     100         5
    Mahalanobis                 100       100     100         4
    1 − largest probability      42        59       0        82

    MNIST, pixels           photographs  noise   black  unseen classes
    direction and length        100       100     100         7
    direction alone             100       100       0        16
    Mahalanobis                 100       100       0         6
    1 − largest probability       1         1     100        22

On CIFAR-10 with hog+colour length finds pictures of digits and flat pictures (100% each) where direction finds none;
nothing tried finds noise. It is a guard against pictures of another kind, and no detector of new classes: for those the
probability is the better sign, and both are shown.

Shapes
------
N : rows, D : features, M : training rows kept. Z : (N, D).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float32, Float64, FloatArray, InputError, IntArray

KEPT = 1000
_BLOCK_NUMBERS = 1 << 22


@final
@dataclass(frozen=True, eq=False)
class DistanceFlag:
    """A fitted flag; using it needs NumPy alone.

    Attributes
    ----------
    directions : float32 (M, D)
        Training rows of length 1.
    mean, scale : float32 (D,)
        Standardisation before.
    angles, lengths : float64 (V,)
        Of the validation rows, ascending: what is usual.
    share : float
        Share of validation rows that are called far.
    """

    directions: Float32
    mean: Float32
    scale: Float32
    angles: Float64
    lengths: Float64
    share: float = 0.01

    def distances(self, Z: FloatArray) -> Float64:
        """Rank among validation rows of the more unusual of direction and length, in 0..1; 1 is beyond them all."""
        angles, lengths = measures(Z, self.directions, self.mean, self.scale)
        V = len(self.angles)
        above = np.searchsorted(self.angles, angles, side="left") / V
        rank = np.searchsorted(self.lengths, lengths, side="left") / V
        tie = np.searchsorted(self.lengths, lengths, side="right") / V
        return np.asarray(np.maximum.reduce([above, 2 * rank - 1, 1 - 2 * tie, np.zeros(len(above))]))

    def far(self, Z: FloatArray) -> BoolArray:
        """Whether each row is farther out than all but `share` of the validation rows."""
        # each of the two measures has half of the share to flag
        out: BoolArray = self.distances(Z) > 1 - self.share / 2
        return out

    def arrays(self) -> dict[str, Array]:
        """What must be stored to use it again."""
        return {
            "directions": self.directions,
            "mean": self.mean,
            "scale": self.scale,
            "angles": self.angles,
            "lengths": self.lengths,
        }


def fit_distance(
    Z: Array, labels: IntArray, Z_val: Array, *, share: float = 0.01, kept: int = KEPT, seed: int = 0
) -> DistanceFlag:
    """Fit on training features, and calibrate on validation features.

    Parameters
    ----------
    Z, labels : (N, D), (N,)
        Training rows; up to `kept` of them, drawn by class with `seed`, are stored.
    Z_val : (V, D)
        Rows that were not trained on; what is usual is read off them. Below about 2 / `share` of them nothing but what
        is beyond all of them is flagged.
    share : float
        Share of usual images that may be flagged.

    Raises
    ------
    InputError
        When shapes do not fit, or there is no row on either side.
    """
    from lastlayer.evaluation.baselines import stratified_sample

    labels = np.asarray(labels)
    if Z.ndim != 2 or Z_val.ndim != 2 or Z.shape[1] != Z_val.shape[1] or labels.shape != Z.shape[:1]:
        raise InputError(f"features have shapes {Z.shape} and {Z_val.shape}, labels {labels.shape}")
    if not len(Z) or not len(Z_val):
        raise InputError("no training or no validation row to tell usual images from", "Give validation images")
    if not 0 < share < 1:
        raise InputError(f"the share {share} is not between 0 and 1", "Give 0.01, say")
    rows = stratified_sample(labels, kept, np.random.default_rng(seed))
    mean, spread = _moments(Z)
    # a column that hardly varies in training must not make its noise the largest feature of all
    floor = 1e-3 * float(spread.max(initial=0.0))
    scale = np.where(spread > floor, spread, float(spread.max(initial=0.0)) or 1.0)
    mean32, scale32 = mean.astype(np.float32), scale.astype(np.float32)
    picked = (Z[rows].astype(np.float32) - mean32) / scale32
    norms = np.sqrt(np.einsum("ij,ij->i", picked, picked))
    directions = picked / np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
    angles, lengths = measures(Z_val, directions, mean32, scale32)
    return DistanceFlag(directions, mean32, scale32, np.sort(angles), np.sort(lengths), share)


def _moments(Z: Array) -> tuple[Float64, Float64]:
    """Mean and standard deviation of the columns, block by block."""
    mean = Z.mean(axis=0, dtype=np.float64)
    squares = np.zeros(Z.shape[1])
    block = max(1, _BLOCK_NUMBERS // max(1, Z.shape[1]))
    for start in range(0, len(Z), block):
        apart = Z[start : start + block] - mean
        squares += np.einsum("ij,ij->j", apart, apart)
    return mean, np.sqrt(squares / len(Z))


def measures(Z: Array, directions: Float32, mean: Float32, scale: Float32) -> tuple[Float64, Float64]:
    """Angle (1 − cosine to the nearest direction) and length (ln ‖z‖) of each row, block by block."""
    if Z.ndim != 2 or Z.shape[1] != len(mean):
        raise InputError(f"features have shape {Z.shape}; (N, {len(mean)}) is needed")
    N = len(Z)
    angles, lengths = np.empty(N), np.empty(N)
    block = max(1, _BLOCK_NUMBERS // max(Z.shape[1], len(directions)))
    for start in range(0, N, block):
        part = slice(start, start + block)
        z = (Z[part].astype(np.float32) - mean) / scale
        norms = np.maximum(np.sqrt(np.einsum("ij,ij->i", z, z, dtype=np.float64)), np.finfo(np.float32).tiny)
        angles[part] = 1.0 - (z @ directions.T).max(axis=1) / norms
        lengths[part] = np.log(norms)
    return angles, lengths
