"""`KernelClassifier`: a linear classifier on the Nyström features of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer._progress import SILENT, stderr_progress
from lastlayer.estimators.content import in_order_of_content
from lastlayer.estimators.fitting import SMALL, Plan, learn
from lastlayer.estimators.kernel_all import learn_all
from lastlayer.estimators.kernel_scale import Spread
from lastlayer.estimators.linear_svc import learn_hinge
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_seed, check_threads
from lastlayer.estimators.prediction import log_probabilities
from lastlayer.estimators.training import Training, _read_weights, read_features, read_training
from lastlayer.linear import single_blas_thread
from lastlayer.representations.gram import gram_scores
from lastlayer.representations.kernels import (
    RBF,
    CustomKernel,
    Kernel,
    KernelFunction,
    Laplacian,
    Polynomial,
    kernel_named,
)
from lastlayer.representations.landmarks import CHOICES
from lastlayer.representations.nystrom import NystromMap

LOSSES = ("squared_hinge", "hinge", "cross_entropy", "squared")
WITHOUT_GAMMA = ("linear", "sigmoid", "precomputed")


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss != "cross_entropy":
        raise AttributeError(
            f"loss {estimator.loss!r} gives no probabilities; use loss='cross_entropy', or scikit-learn's "
            "CalibratedClassifierCV around this classifier"
        )
    return True


def _width_of(kernel: Kernel) -> float | None:
    """γ of kernels that have one."""
    return kernel.gamma if isinstance(kernel, RBF | Polynomial | Laplacian) else None


@final
class KernelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Nonlinear support vector machine, logistic regression or ridge classifier: linear in the features of a kernel.

    Minimises ``C Σᵢ sᵢ L(W φ(xᵢ) + b, yᵢ) + ½ ‖W‖²`` over W and b, where ``φ(x)·φ(z)`` is the kernel ``k(x, z)`` as
    seen from m landmarks (Nyström's approximation, `lastlayer.representations.nystrom`). With as many landmarks as rows
    it is the kernel machine itself. N m numbers are held; N² only with ``n_landmarks="all"``.

    Parameters
    ----------
    kernel : {"rbf", "poly", "linear", "laplacian"} or callable
        ``exp(-γ ‖x - z‖²)``, ``(γ x·z + c)^d``, ``x·z``, ``exp(-γ ‖x - z‖₁)``, or a positive semidefinite function of
        two matrices, (n, D), (m, D) -> (n, m).
    gamma : {"scale", "auto"} or float
        γ > 0; "scale" is 1 / (D · variance of all numbers in X), for "laplacian" 1 / (D · their standard deviation), so
        that the unit of the features does not matter; "auto" is 1 / D.
    degree : int
        d of "poly".
    coef0 : float
        c ≥ 0 of "poly".
    loss : {"squared_hinge", "hinge", "cross_entropy", "squared"}
        L, for two classes of one score. The hinges are one class against the rest, margin 1; cross-entropy is that of
        the softmax, and gives probabilities; squared is half the squared distance to one-hot targets.
    C : float
        Inverse strength of the penalty, positive.
    n_landmarks : int or "all"
        m; where there are no more distinct rows than that, all are landmarks. "all", for the squared loss: every row,
        however many; N² kernel values are held (10 GB for 50,000 rows) and solved by conjugate gradients
        (`lastlayer.selection.kernel_ridge`), where decomposing them would take a hundred times as long.
    landmarks : {"kmeans", "uniform"}
        Centres of groups of rows, or rows drawn at random.
    fit_intercept : bool
        Whether there is a b; it is not penalised.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    tol : float
        Relative gradient norm to be reached (1 at the best constant prediction, 0 at the optimum); the relative duality
        gap for the hinge; with n_landmarks="all" the share of the objective by which it may be above its minimum.
    max_iter : int
        Most iterations; visits of the rows for the hinge.
    random_state : int, RandomState or None
        Seeds the choice of landmarks, and the order in which the hinge's solver visits rows. None: another each time.
    verbose : int
        Progress on stderr when positive.
    n_jobs : int or None
        Threads: None and -1 for all cores. Changes no digit of the result.

    Attributes
    ----------
    landmarks_ : ndarray
        (m, D) float64.
    dual_coef_ : ndarray
        (K, m), or (1, m) for two classes: scores are ``k(x, landmarks_) · dual_coef_ + intercept_``.
    coef_ : ndarray
        (K, r) or (1, r), weights of the r ≤ m features `map_` makes; not with n_landmarks="all".
    intercept_ : ndarray
        (K,) or (1,).
    map_ : NystromMap
        φ; not with n_landmarks="all".
    gamma_ : float or None
        γ; None for kernels that have none.
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : int
        Iterations, at least 1; products with the kernel matrix with n_landmarks="all".
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    For two classes and m = n the decisions are those of scikit-learn's SVC (hinge) and, without an intercept,
    KernelRidge (squared, ``alpha = 1/C``, targets -1 and 1). For more classes the hinges are one against the rest,
    where SVC is one against one. "sigmoid" is refused: it is no scalar product. γ sees the sample weights: a weight of
    2 is a row given twice. Up to 2²⁰ numbers in X the order of the rows changes nothing; beyond, other landmarks are
    drawn. There φ is made by products in float32 while training where float32 holds X exactly; scores are always made
    in float64.

    Examples
    --------
    >>> from sklearn.datasets import make_circles
    >>> from lastlayer.estimators.kernel_classifier import KernelClassifier
    >>> X, y = make_circles(200, factor=0.5, noise=0.05, random_state=0)
    >>> classifier = KernelClassifier("rbf", n_landmarks=20).fit(X, y)
    >>> classifier.score(X, y)
    1.0
    >>> classifier.landmarks_.shape
    (20, 2)
    """

    def __init__(
        self,
        kernel: str | KernelFunction = "rbf",
        *,
        gamma: float | str = "scale",
        degree: int = 3,
        coef0: float = 0.0,
        loss: str = "squared_hinge",
        C: float = 1.0,
        n_landmarks: int | str = 1000,
        landmarks: str = "kmeans",
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        tol: float = 1e-4,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.loss = loss
        self.C = C
        self.n_landmarks = n_landmarks
        self.landmarks = landmarks
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.verbose = verbose
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose landmarks, and fit the weights of their features.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, or None. A weight of 2 is a row given twice, a weight
            of 0 a row not given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters, features, labels or weights that cannot be used, kernels that are not positive semidefinite,
            and for fewer than two classes.

        Warns
        -----
        ConvergenceWarning
            LL040, once, when `tol` was not reached.
        """
        plan, C = self._plan(), check_number(self.C, "C", 0.0, above=True)
        everything = self._wants_all()
        m = 0 if everything else check_count(self.n_landmarks, "n_landmarks", 1)
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        plan = replace(plan, l2=1.0 / C / data.total_weight())
        # As in scikit-learn, γ looks away from class weights.
        plain = replace(data, weights=_read_weights(sample_weight, len(data.X)))
        if data.X.size <= SMALL:
            data, plain = in_order_of_content(data), in_order_of_content(plain)
        spread = Spread.of(plain.X, plain.weights)
        kernel = self._kernel(spread)
        if everything:
            single = len(data.X) ** 2 > SMALL and spread.is_tame and np.can_cast(data.X.dtype, np.float32)
            machine = learn_all(data, kernel, plan, "float32" if single else "float64")
            # as a map and its features would be left over from a fit before
            for name in ("map_", "coef_"):
                self.__dict__.pop(name, None)
            self.landmarks_: Array = data.X
            self.n_iter_ = machine.iterations
            self.dual_coef_, self.intercept_ = np.asarray(machine.coef), machine.intercept
            self.gamma_, self.classes_ = _width_of(kernel), data.classes
            return self
        single = np.can_cast(data.X.dtype, np.float32) and spread.is_tame and len(data.X) * min(m, len(data.X)) > SMALL
        empty = NystromMap(kernel, m, self.landmarks, "float32" if single else "float64")
        with single_blas_thread(), plan.progress.task("kernel features", 2) as task:
            made = empty.fit(data.X, np.random.default_rng(plan.seed), data.weights, plan.threads)
            task.advance(1, "landmarks")
            features = Training(made.transform(data.X, plan.threads), data.codes, data.classes, data.weights)
            task.advance(1, "features")
        found = learn_hinge(features, plan) if self.loss == "hinge" else learn(features, plan)
        self.gamma_, self.classes_ = _width_of(kernel), data.classes
        assert made.landmarks is not None
        self.map_, self.landmarks_, self.n_iter_ = made, made.landmarks, found.iterations
        self.coef_, self.intercept_ = found.coef, found.intercept
        self.dual_coef_ = np.ascontiguousarray(made.shares(found.coef.T).T)
        return self

    def decision_function(self, X: Any) -> Float64:
        """Scores ``k(X, landmarks_) dual_coef_ᵀ + intercept_`` in float64.

        A row's scores do not depend on the rows it comes with.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        (N, K) scores; (N,) for two classes, positive for ``classes_[1]``.

        Raises
        ------
        InputError
            For sparse, NaN or infinite features.
        """
        check_is_fitted(self)
        X = read_features(self, X, self._sparse_alternative)
        A, threads = np.asarray(self.dual_coef_.T, dtype=np.float64), check_threads(self.n_jobs)
        with single_blas_thread():
            if hasattr(self, "map_"):
                out = self.map_.scores(X, A, self.intercept_, threads)
            else:
                kernel = self._kernel_fitted()
                out = gram_scores(kernel, self.landmarks_, A, self.intercept_, X, "float64", threads)
        return np.asarray(out[:, 0] if out.shape[1] == 1 else out)

    def predict(self, X: Any) -> Array:
        """The class of the largest score.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        (N,) labels out of `classes_`.
        """
        decided = self.decision_function(X)
        picked = (decided > 0).astype(np.intp) if decided.ndim == 1 else decided.argmax(axis=1)
        return np.asarray(self.classes_[picked])

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities ``softmax(scores)``, (N, K); with loss "cross_entropy" only."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of the class probabilities, (N, K); finite where the probabilities round to zero."""
        return log_probabilities(self.decision_function(X))

    def _wants_all(self) -> bool:
        """Whether every row is a landmark, however many."""
        if not isinstance(self.n_landmarks, str):
            return False
        if self.n_landmarks != "all":
            raise InputError(f"n_landmarks is {self.n_landmarks!r}; a whole number of at least 1, or 'all', is needed")
        if self.loss != "squared":
            raise InputError(
                f"n_landmarks='all' goes with loss='squared', not {self.loss!r}",
                "Take loss='squared', or a number of landmarks; as many as rows make the kernel machine itself",
            )
        return True

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's SVC"

    def _plan(self) -> Plan:
        if self.loss not in LOSSES:
            raise InputError(f"loss is {self.loss!r}", f"There are {', '.join(LOSSES)}")
        if self.landmarks not in CHOICES:
            raise InputError(f"landmarks is {self.landmarks!r}", f"There are {', '.join(CHOICES)}")
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        return Plan(
            loss=self.loss,
            solver="auto",
            l2=0.0,
            tol=check_number(self.tol, "tol", 0.0, above=self.loss == "hinge"),
            max_iter=check_count(self.max_iter, "max_iter"),
            fit_intercept=check_flag(self.fit_intercept, "fit_intercept"),
            seed=check_seed(self.random_state),
            threads=check_threads(self.n_jobs),
            progress=stderr_progress() if self.verbose else SILENT,
        )

    def _kernel(self, spread: Spread) -> Kernel:
        """The kernel with its γ."""
        if callable(self.kernel):
            return CustomKernel(self.kernel)
        if not isinstance(self.kernel, str):
            raise InputError(f"kernel is {self.kernel!r}; a name or a function of two matrices is needed")
        if self.kernel in WITHOUT_GAMMA:
            return kernel_named(self.kernel)
        degree = check_count(self.degree, "degree", 1)
        return kernel_named(self.kernel, self._width(spread), degree, check_number(self.coef0, "coef0", 0.0))

    def _kernel_fitted(self) -> Kernel:
        """The kernel with the γ that was fitted."""
        if callable(self.kernel):
            return CustomKernel(self.kernel)
        return kernel_named(self.kernel, self.gamma_ or 1.0, self.degree, self.coef0)

    def _width(self, spread: Spread) -> float:
        """γ."""
        if not isinstance(self.gamma, str):
            return check_number(self.gamma, "gamma", 0.0, above=True)
        if self.gamma not in ("scale", "auto"):
            raise InputError(f"gamma is {self.gamma!r}", "A positive number, 'scale' or 'auto' is needed")
        return (
            spread.gamma(1 if self.kernel == "laplacian" else 2) if self.gamma == "scale" else 1.0 / spread.n_features
        )
