"""`KNeighborsClassifier`: the vote of the nearest rows, their number chosen by cross-validation where asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from lastlayer._arrays import Array, Float64, InputError, IntArray
from lastlayer._progress import SILENT, stderr_progress
from lastlayer.estimators.labels import check_labels
from lastlayer.estimators.neighbour_votes import Weights, choose, shares, winners
from lastlayer.estimators.parameters import check_count, check_number, check_seed, check_threads
from lastlayer.estimators.training import read_features
from lastlayer.linear import device
from lastlayer.neighbours import Index, Nearest
from lastlayer.selection.folds import assign_folds

AUTO = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50, 100)
"""Numbers of neighbours that "auto" tries, as far as there are rows."""
NAMES = {
    **{"l1": "l1", "manhattan": "l1", "cityblock": "l1"},
    **{"l2": "l2", "euclidean": "l2", "l3": "l3", "cosine": "cosine"},
}
THEIRS = {"l1": "manhattan", "l2": "euclidean", "l3": "minkowski", "cosine": "cosine"}
LEAVE_ONE_OUT = "leave_one_out"


@final
class KNeighborsClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Each row gets the class that most of its k nearest training rows have (Fix & Hodges 1951; Cover & Hart 1967).

    The search is exact: every distance that decides is computed in float64, of equal distances the row that came first
    is nearer, and neither the number of threads nor the rows that are asked together change anything. Rows stay of the
    type they have (uint8 images are not copied into floats), and a memory map is read block by block.

    Parameters
    ----------
    n_neighbors : int, "auto" or sequence of int
        k. A sequence, and "auto" (1 to 100), is chosen from by cross-validation: the number that is right most often,
        of equals the smallest.
    weights : {"uniform", "distance"}, callable or None
        What a vote counts: all alike, or 1/d (rows at distance 0 then count alone); or a function of the distances
        (n, k) to weights (n, k). None is "uniform".
    algorithm : {"auto", "brute"}
        All distances are ranked, by matrix products where the metric allows. There are no trees.
    leaf_size : int
        As in scikit-learn, of no effect without a tree.
    p : {1, 2, 3}
        Power of the metric "minkowski".
    metric : {"minkowski", "l2", "l1", "l3", "cosine", "euclidean", "manhattan", "cityblock"}
        ``Σ|x - z|^p`` to the power 1/p, or ``1 - x·z / (‖x‖ ‖z‖)``.
    metric_params : None
        There are none.
    n_jobs : int or None
        Threads: None and -1 for all cores. Changes no digit of the result.
    cv : int, "leave_one_out", splitter or iterable of pairs
        How k is chosen. A number of folds, drawn with `random_state`, every class spread evenly; or one row at a time.
    random_state : int, RandomState or None
        Seeds the folds.
    verbose : int
        Progress on stderr when positive.

    Attributes
    ----------
    n_neighbors_ : int
        k.
    cv_results_ : dict of ndarray
        Where k was chosen: one entry for each number tried, with right answers, rows and scores.
    classes_ : ndarray
        (K,) labels, sorted.
    n_samples_fit_ : int
        N.
    effective_metric_ : str
        scikit-learn's name of the metric.
    effective_metric_params_ : dict
        ``{"p": 3}`` for the metric of that power.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    Predictions are those of scikit-learn's class of the same name but for rows at equal, or nearly equal, distances:
    there it is left to chance and rounding who is a neighbour. X is kept, not copied: leave it as it is. With few
    columns and many rows scikit-learn's trees are faster.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lastlayer.estimators.k_neighbors import KNeighborsClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = KNeighborsClassifier("auto").fit(X[:1000], y[:1000])
    >>> classifier.n_neighbors_
    1
    >>> round(classifier.score(X[1000:], y[1000:]), 3)
    0.962
    """

    def __init__(
        self,
        n_neighbors: int | str | Sequence[int] = 5,
        *,
        weights: Weights = "uniform",
        algorithm: str = "auto",
        leaf_size: int = 30,
        p: float = 2,
        metric: str = "minkowski",
        metric_params: None = None,
        n_jobs: int | None = None,
        cv: int | str | Iterable[tuple[Any, Any]] | Any = 5,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.algorithm = algorithm
        self.leaf_size = leaf_size
        self.p = p
        self.metric = metric
        self.metric_params = metric_params
        self.n_jobs = n_jobs
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Keep the rows, and choose k where it is to be chosen.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers.
        y : (N,) array-like of labels.
        groups : (N,) array-like or None
            For choosing k: rows of one group are held out together.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters, features or labels that cannot be used.
        """
        metric = self._metric()
        self._check_parameters()
        y = device.on_host(y)
        if y is not None:
            check_labels(y)
        X, y = read_features(self, X, self._sparse_alternative, y=y, fit=True)
        try:
            check_classification_targets(y)
        except ValueError as error:
            raise InputError(str(error)) from None
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._codes = codes
        self._index = Index(X, metric)
        self.n_samples_fit_ = len(X)
        self.effective_metric_ = THEIRS[metric]
        self.effective_metric_params_ = {"p": 3} if metric == "l3" else {}
        self.__dict__.pop("cv_results_", None)
        if isinstance(self.n_neighbors, int | np.integer):
            self.n_neighbors_ = int(self.n_neighbors)
        else:
            self._choose(X, codes, groups)
        return self

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[Float64, IntArray] | IntArray:
        """The nearest training rows, nearest first.

        Parameters
        ----------
        X : (n, D) array-like, or None
            None asks the training rows; none of them is its own neighbour.
        n_neighbors : int or None
            k; `n_neighbors_` when None.
        return_distance : bool

        Returns
        -------
        distances : (n, k) float64, when asked for.
        rows : (n, k) row numbers.

        Raises
        ------
        InputError
            For sparse, NaN or infinite features, and where there are fewer rows than k.
        """
        found = self._nearest(X, n_neighbors)
        return (found.distances, found.rows) if return_distance else found.rows

    def kneighbors_graph(self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """Sparse (n, N) matrix with a 1 ("connectivity") or the distance ("distance") for each neighbour."""
        from scipy.sparse import csr_matrix

        if mode not in ("connectivity", "distance"):
            raise InputError(f"mode is {mode!r}", 'There are "connectivity" and "distance"')
        found = self._nearest(X, n_neighbors)
        n, k = found.rows.shape
        data = found.distances.ravel() if mode == "distance" else np.ones(n * k)
        return csr_matrix((data, found.rows.ravel(), np.arange(0, n * k + 1, k)), shape=(n, self.n_samples_fit_))

    def predict(self, X: Any) -> Array:
        """The class with most votes; of equals the first of `classes_`.

        Parameters
        ----------
        X : (n, D) array-like, or None for the training rows, each judged by the others.

        Returns
        -------
        (n,) labels out of `classes_`.
        """
        found = self._nearest(X, None)
        return np.asarray(
            self.classes_[winners(found.distances, self._codes[found.rows], len(self.classes_), self.weights)]
        )

    def predict_proba(self, X: Any) -> Float64:
        """Each class's share of the votes, (n, K)."""
        found = self._nearest(X, None)
        return shares(found.distances, self._codes[found.rows], len(self.classes_), self.weights)

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's KNeighborsClassifier"

    def _nearest(self, X: Any, n_neighbors: int | None) -> Nearest:
        check_is_fitted(self)
        k = self.n_neighbors_ if n_neighbors is None else check_count(n_neighbors, "n_neighbors", 1)
        own = None
        if X is None:
            X, own = self._index.X, np.arange(self.n_samples_fit_)
        else:
            X = read_features(self, device.on_host(X), self._sparse_alternative)
        others = self.n_samples_fit_ - (own is not None)
        if k > others:
            raise InputError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, n_samples_fit = {self.n_samples_fit_}, "
                f"n_samples = {len(X)}",
                f"Ask for 1 to {others} neighbours" if others else "Give more training rows",
            )
        return self._index.nearest(X, k, own=own, threads=check_threads(self.n_jobs), progress=self._progress())

    def _progress(self) -> Any:
        return stderr_progress() if self.verbose else SILENT

    def _metric(self) -> str:
        if self.metric != "minkowski":
            if self.metric not in NAMES:
                raise InputError(
                    f"metric is {self.metric!r}",
                    f"There are minkowski, {', '.join(NAMES)}; others are with {self._sparse_alternative}",
                )
            return NAMES[self.metric]
        power = check_number(self.p, "p", 0.0, above=True, infinite=True)
        if power not in (1, 2, 3):
            raise InputError(f"p is {self.p!r}", f"There are 1, 2 and 3; others are with {self._sparse_alternative}")
        return f"l{power:.0f}"

    def _check_parameters(self) -> None:
        if self.algorithm not in ("auto", "brute"):
            trees = self.algorithm in ("kd_tree", "ball_tree")
            raise InputError(
                f"algorithm is {self.algorithm!r}",
                f"There are no trees here: use 'auto', or {self._sparse_alternative} where there are few columns"
                if trees
                else "There are 'auto' and 'brute'",
            )
        if not (self.weights is None or callable(self.weights)) and self.weights not in ("uniform", "distance"):
            raise InputError(f"weights is {self.weights!r}", "There are 'uniform', 'distance', and functions")
        if self.metric_params:
            raise InputError(f"metric_params is {self.metric_params!r}", "The metrics have no parameters but p")
        check_count(self.leaf_size, "leaf_size", 1)
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        check_threads(self.n_jobs)
        if isinstance(self.n_neighbors, str):
            if self.n_neighbors != "auto":
                raise InputError(f"n_neighbors is {self.n_neighbors!r}", "A number, several, or 'auto' is needed")
        elif isinstance(self.n_neighbors, Sequence | np.ndarray):
            if not len(self.n_neighbors):
                raise InputError("n_neighbors is empty", "Give the numbers to choose from")
            for k in self.n_neighbors:
                check_count(k, "n_neighbors", 1)
        else:
            check_count(self.n_neighbors, "n_neighbors", 1)

    def _choose(self, X: Array, codes: IntArray, groups: Any) -> None:
        """Set `n_neighbors_` and `cv_results_`."""
        folds = self._folds(X, codes, groups)
        if isinstance(self.n_neighbors, str):
            fewest = len(X) - 1 if folds is None else min(len(np.arange(len(X))[train]) for train, _ in folds)
            ks = [k for k in AUTO if k <= fewest]
        else:
            ks = np.unique(np.asarray(self.n_neighbors)).tolist()
        made = choose(
            X,
            codes,
            len(self.classes_),
            ks,
            folds,
            metric=self._index.metric,
            weights=self.weights,
            threads=check_threads(self.n_jobs),
            progress=self._progress(),
        )
        self.n_neighbors_, self.cv_results_ = made.best, made.table()

    def _folds(self, X: Array, codes: IntArray, groups: Any) -> list[tuple[Any, Any]] | None:
        """Pairs (train, test); None to leave one row out at a time."""
        if len(X) < 2:
            raise InputError("n_neighbors is to be chosen, and there is 1 sample", "Give more rows, or a number")
        if isinstance(self.cv, str):
            if self.cv != LEAVE_ONE_OUT:
                raise InputError(f"cv is {self.cv!r}", f"A number of folds, {LEAVE_ONE_OUT!r} or a splitter is needed")
            if groups is not None:
                raise InputError("groups cannot be left out one row at a time", "Give a number of folds as cv")
            return None
        if isinstance(self.cv, int | np.integer):
            seed = check_seed(self.random_state)
            number = assign_folds(codes, int(self.cv), groups=None if groups is None else np.asarray(groups), seed=seed)
            return [(np.flatnonzero(number != f), np.flatnonzero(number == f)) for f in range(int(self.cv))]
        return list(check_cv(self.cv, self.classes_[codes], classifier=True).split(X, self.classes_[codes], groups))
