"""What `fit` is given, made ready: rows, class numbers and weights, checked in the order scikit-learn's checks want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, final

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d, validate_data

from lastlayer._arrays import Array, Float64, InputError, IntArray, first_not_finite
from lastlayer.estimators.labels import check_labels
from lastlayer.estimators.parameters import check_number
from lastlayer.linear import device


@final
@dataclass(frozen=True, eq=False)
class Training:
    """Training data of a classifier.

    Attributes
    ----------
    X : ndarray or torch.Tensor
        (N, D) features of any real type.
    codes : ndarray
        (N,) number of each row's class; rows of weight zero have any.
    classes : ndarray
        (K,) the labels that have rows of positive weight, sorted.
    weights : ndarray or None
        (N,) weights, class weights included; None when all are 1.
    """

    X: Array
    codes: IntArray
    classes: Array
    weights: Float64 | None

    def total_weight(self) -> float:
        """``Σᵢ sᵢ``."""
        if self.weights is None:
            return float(len(self.X))
        with np.errstate(over="ignore"):
            total = float(self.weights.sum())
        if not np.isfinite(total):
            raise InputError("the sum of the sample weights is infinite", "Divide them by their maximum")
        return total


def read_features(estimator: Any, X: Any, instead: str, *, y: Any = None, fit: bool = False) -> Any:
    """X (and y in `fit`) as scikit-learn's `validate_data` gives them, every row finite and dense.

    No type is imposed: uint8 stays uint8, so that images are not copied. A torch tensor stays a tensor where it is used
    on its device: in predictions, and in the fits of `fits_tensors`; elsewhere one in main memory is taken as an array.
    """
    if device.is_tensor(X):
        if not fit or fits_tensors(estimator):
            return _read_tensor(estimator, X, y, fit)
        _refuse_device(estimator, X)
        X, y = device.on_host(X), device.on_host(y)
    if issparse(X):
        raise InputError(
            f"X is a sparse {type(X).__name__}; sparse data is not supported by {type(estimator).__name__}",
            f"Use {instead}, or give X.toarray()",
        )
    options = {"dtype": "numeric", "ensure_all_finite": False}
    read = validate_data(estimator, X, y, **options) if fit else validate_data(estimator, X, reset=False, **options)
    _check_finite(estimator, read[0] if fit else read)
    return read


def fits_tensors(estimator: Any) -> bool:
    """Whether `fit` computes on the device of a tensor."""
    name = type(estimator).__name__
    return name in ("LogisticRegression", "LinearClassifier") or (
        name == "LinearSVC" and estimator.loss == "squared_hinge"
    )


def _refuse_device(estimator: Any, X: Any) -> None:
    if X.device.type != "cpu":
        raise InputError(
            f"X is on {X.device}, where {type(estimator).__name__} does not fit",
            "Give X.cpu(), or use LogisticRegression or LinearClassifier",
        )


def _read_tensor(estimator: Any, X: Any, y: Any, fit: bool) -> Any:
    """X as it is, checked; y, as `validate_data` makes it, in main memory."""
    device.check_tensor(X)
    validate_data(estimator, X, reset=fit, skip_check_array=True)
    device.refuse_not_finite(X, "X")
    if not fit:
        return X
    y = column_or_1d(device.on_host(y), warn=True)
    assert_all_finite(y, input_name="y")
    check_consistent_length(X, y)
    return X, y


def _check_finite(estimator: Any, X: Array) -> None:
    where = first_not_finite(X)
    if where is None:
        return
    row, column = where
    names = getattr(estimator, "feature_names_in_", None)
    place = f"column {column}" if names is None else f"column {column} ({names[column]!r})"
    value = "NaN" if np.isnan(X[row, column]) else "infinite (inf)"
    raise InputError(f"X is {value} in row {row}, {place}", "Repair or drop that row", "LL030")


def read_training(estimator: Any, X: Any, y: Any, sample_weight: Any, class_weight: Any, instead: str) -> Training:
    """Check everything that `fit` was given.

    Rows of weight zero count as absent: a class that has no others is not among the classes.

    Raises
    ------
    InputError
        For sparse, NaN or infinite features, continuous or missing labels, weights that are negative, all zero or of
        the wrong shape, unknown keys of `class_weight`, and fewer than two classes (naming the one there is).
    """
    y = device.on_host(y)
    if y is not None:
        check_labels(y)
    X, y = read_features(estimator, X, instead, y=y, fit=True)
    try:
        check_classification_targets(y)
    except ValueError as error:
        raise InputError(str(error)) from None
    given, codes = np.unique(y, return_inverse=True)
    weights = _read_weights(device.on_host(sample_weight), len(X))
    if isinstance(class_weight, Mapping):
        weights = _times(weights, _listed(class_weight, given)[codes])
    present = np.bincount(codes, None if weights is None else weights > 0, minlength=len(given)) > 0
    classes = given[present]
    if len(classes) < 2:
        rows = "1 sample has" if len(X) == 1 else f"{len(X)} samples have"
        without = "" if len(given) == len(classes) else " where their weight is positive"
        raise InputError(
            f"the {rows} one class only{without}: {classes.tolist()[0]!r}; at least two classes are needed",
            "Add examples of another class",
        )
    codes = np.maximum(np.cumsum(present) - 1, 0)[codes]
    if isinstance(class_weight, str) and class_weight == "balanced":
        weights = _times(weights, _balanced(codes, len(classes), weights)[codes])
    elif class_weight is not None and not isinstance(class_weight, Mapping):
        raise InputError(f"class_weight is {class_weight!r}", 'A dict {class: weight}, "balanced" or None is needed')
    return Training(X, codes, classes, weights)


def _read_weights(sample_weight: Any, n: int) -> Float64 | None:
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n, float(sample_weight))
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("sample_weight holds what is not a number", "Give one number a row") from None
    if weights.shape != (n,):
        raise InputError(f"sample_weight has shape {weights.shape}; ({n},) is needed")
    for wrong, what in ((~np.isfinite(weights), "not finite"), (weights < 0, "negative")):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"sample_weight is {what} in row {row}: {weights[row]}", "Weights are at least 0")
    if not weights.any():
        raise InputError("every sample weight is zero", "Give at least one row of each class a positive weight")
    return weights


def _times(weights: Float64 | None, factors: Float64) -> Float64:
    with np.errstate(over="ignore"):
        product = factors if weights is None else weights * factors
    if not (np.isfinite(product).all() and product.any()):
        raise InputError(
            "class_weight makes every weight zero or one of them infinite", "Give finite positive class weights"
        )
    return product


def _balanced(codes: IntArray, n_classes: int, weights: Float64 | None) -> Float64:
    """``Σ s / (K Σ_{y = k} s)`` for each class: in weights, not rows, so that a weight of 2 is a row given twice."""
    share = np.bincount(codes, None if weights is None else weights / weights.max(), minlength=n_classes)
    return np.asarray(share.sum() / (n_classes * share), dtype=np.float64)


def _listed(class_weight: Mapping[Any, Any], given: Array) -> Float64:
    """The factor of each class given; classes not listed keep 1.

    A key that is no class is taken for a misspelling when some class is not listed, as scikit-learn does: a fold
    that lacks a class is still fitted with a dict for all of them.
    """
    labels = given.tolist()
    unknown = [key for key in class_weight if key not in labels]
    missing = [label for label in labels if label not in class_weight]
    if unknown and missing:
        raise InputError(
            f"class_weight names {unknown[0]!r}, which is not among the labels, and lacks {missing[0]!r}",
            f"The classes are {', '.join(repr(label) for label in labels[:20])}",
        )
    for label, value in class_weight.items():
        check_number(value, f"class_weight[{label!r}]", 0.0)
    return np.array([float(class_weight.get(label, 1.0)) for label in labels])
