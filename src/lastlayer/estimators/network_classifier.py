"""`NetworkClassifier`: a network trained by gradient steps, as a scikit-learn estimator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError, IntArray, check_images
from lastlayer._progress import SILENT, stderr_progress
from lastlayer.estimators.labels import check_labels
from lastlayer.estimators.parameters import check_count, check_number, check_seed
from lastlayer.estimators.prediction import log_probabilities
from lastlayer.estimators.training import read_features, read_training
from lastlayer.linear import scores
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.presets import Preset, parse
from lastlayer.representations.network import in_blocks

if TYPE_CHECKING:
    from lastlayer.networks.network import Network

TABLE = {"optimiser": "adam", "rate": 0.01, "batch_size": 32, "weight_decay": 1e-4, "schedule": "cosine"}
"""How a network learns rows of a table: the presets' own plans are for images."""
TABLE_STEPS, TABLE_EPOCHS = 200, 20
_INSTEAD = "lastlayer's LinearClassifier after a TruncatedSVD"


@final
class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network f = f_L ∘ … ∘ f_1 whose last layer gives class scores, trained on minibatches.

    Parameters
    ----------
    architecture : str
        A preset: ``"mlp:300-100"``, ``"lenet5"``, ``"lenet5:modern"``, ``"alexnet:32"``, ``"convnet"`` and so on.
    epochs : float, optional
        Passes over the rows. None: the preset's; for a table as many as make 200 steps, at least 20.
    batch_size : int, optional
    rate : float, optional
        The largest learning rate.
    momentum : float, optional
    optimiser : {"sgd", "adam", "muon"}, optional
    schedule : str, optional
        As in `networks.schedules_text`: ``"cosine"``, ``"step:every=30"``, …
    weight_decay, label_smoothing : float, optional
    augmentation : str, optional
        As in `networks.augment`: ``"flip,shift=2"``; for images alone.
    validation_fraction : float
        Share of the rows, drawn at random, on which every epoch is judged: the best one is kept. 0: the last one is.
    patience : int, optional
        Stop after so many epochs without a better validation score.
    time_limit : float, optional
        Seconds.
    device : {"auto", "cpu", "cuda"}
    precision : {"float32", "bfloat16"}, optional
        Products and convolutions in bfloat16 are faster where the machine has units for it; weights stay float32.
    random_state : int, RandomState or None
        Seeds weights, order of rows, augmentation and validation rows. None: another each time.
    verbose : int
        Progress on stderr when positive.

    Attributes
    ----------
    classes_ : ndarray, (K,)
    n_features_in_ : int
        D; H·W·C for images.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.
    network_ : networks.network.Network
    history_ : list of dict
        One record an epoch.
    n_iter_ : int
        Epochs made.
    mean_, scale_ : ndarray, (D,), or None
        By which columns of a table are standardised.

    Notes
    -----
    X is uint8 (N, H, W) or (N, H, W, C), images, or real (N, D), a table, which takes a fully connected network.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.estimators.network_classifier import NetworkClassifier
    >>> classifier = NetworkClassifier("mlp:16", epochs=5, random_state=0)
    >>> classifier.get_params()["architecture"]
    'mlp:16'
    """

    def __init__(
        self,
        architecture: str = "mlp:100",
        *,
        epochs: float | None = None,
        batch_size: int | None = None,
        rate: float | None = None,
        momentum: float | None = None,
        optimiser: str | None = None,
        schedule: str | None = None,
        weight_decay: float | None = None,
        label_smoothing: float | None = None,
        augmentation: str | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        time_limit: float | None = None,
        device: str = "auto",
        precision: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
    ) -> None:
        self.architecture = architecture
        self.epochs = epochs
        self.batch_size = batch_size
        self.rate = rate
        self.momentum = momentum
        self.optimiser = optimiser
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.augmentation = augmentation
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.time_limit = time_limit
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Train the network from random weights.

        Parameters
        ----------
        X : uint8 (N, H, W) or (N, H, W, C), or (N, D) array-like of finite real numbers.
        y : (N,) array-like of labels.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters, images, features and labels that cannot be used, fewer than two classes, images that do not
            suit the architecture, and a loss that diverged (LL042); LL060 without PyTorch.
        """
        from lastlayer.networks.training import train_network

        if not isinstance(self.architecture, str):
            raise InputError(f"architecture is {self.architecture!r}; text such as 'mlp:100' is needed")
        preset = parse(self.architecture)
        seed = check_seed(self.random_state)
        share = check_number(self.validation_fraction, "validation_fraction", 0.0)
        if share >= 1:
            raise InputError(f"validation_fraction is {share:g}", "Give a share of the rows, below 1")
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        images, codes, classes = self._read_images(X, y) if _is_images(X) else self._read_table(X, y)
        train, held = _sides(codes, share, seed)
        plan = self._plan(preset, len(train), seed)
        shape = tuple(int(length) for length in images.shape[1:])
        trained = train_network(
            preset.architecture((shape[0], shape[1], shape[2]), len(classes)),
            images[train],
            codes[train],
            (images[held], codes[held]) if len(held) else None,
            plan,
            progress=stderr_progress() if self.verbose else SILENT,
        )
        self.classes_ = classes
        self.network_ = trained.network
        self.history_ = list(trained.history)
        self.n_iter_ = len(trained.history)
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """Class scores; a row's do not depend on the rows it comes with.

        Parameters
        ----------
        X : as in `fit`.

        Returns
        -------
        (N, K) scores; (N,) for two classes, positive for ``classes_[1]``.

        Raises
        ------
        InputError
            For images of another shape, and for sparse, NaN or infinite features.
        """
        check_is_fitted(self)
        network: Network = self.network_
        W, b = network.head()
        Z = in_blocks(network.features, self._rows(X), len(W))
        z = scores(Z, W, b)
        return np.asarray(z[:, 1] - z[:, 0]) if len(self.classes_) == 2 else np.asarray(z)

    def predict(self, X: Any) -> Array:
        """The class of the largest score, (N,) labels out of `classes_`."""
        decided = self.decision_function(X)
        picked = (decided > 0).astype(np.intp) if decided.ndim == 1 else decided.argmax(axis=1)
        return np.asarray(self.classes_[picked])

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities ``softmax(scores)``, (N, K)."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of the class probabilities, (N, K); finite where the probabilities round to zero."""
        return log_probabilities(np.asarray(self.decision_function(X), np.float64))

    # ---- what it is given

    def _read_images(self, X: Any, y: Any) -> tuple[Array, IntArray, Array]:
        images = _as_images(X)
        check_labels(y)
        # labels are checked by scikit-learn's rules beside a column that stands for the images
        data = read_training(self, np.zeros((len(images), 1)), y, None, None, _INSTEAD)
        self.n_features_in_ = int(np.prod(images.shape[1:]))
        self.image_shape_: tuple[int, ...] | None = images.shape[1:]
        self.mean_: Float64 | None = None
        self.scale_: Float64 | None = None
        return images, data.codes, data.classes

    def _read_table(self, X: Any, y: Any) -> tuple[Array, IntArray, Array]:
        data = read_training(self, X, y, None, None, _INSTEAD)
        Z = np.asarray(data.X, np.float64)
        self.image_shape_ = None
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = Z.mean(axis=0), Z.std(axis=0)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise InputError("the features are too large to be standardised", "Divide them by their largest value")
        self.mean_, self.scale_ = mean, np.where(scale > 1e-12 * np.abs(mean), scale, 1.0)
        return self._standardised(Z), data.codes, data.classes

    def _rows(self, X: Any) -> Array:
        if self.image_shape_ is None:
            return self._standardised(np.asarray(read_features(self, X, _INSTEAD), np.float64))
        images = _as_images(X)
        if images.shape[1:] != self.image_shape_:
            raise InputError(
                f"the images have the shape {images.shape[1:]}, those of fit had {self.image_shape_}",
                "Bring them to one size, and to gray or RGB as in fit",
            )
        return images

    def _standardised(self, Z: Array) -> Float32:
        assert self.mean_ is not None and self.scale_ is not None
        out: Float32 = ((Z - self.mean_) / self.scale_).astype(np.float32)
        return out.reshape(len(out), 1, -1, 1)

    def _plan(self, preset: Preset, n: int, seed: int) -> TrainingPlan:
        """The preset's plan, or that for tables, with what was given."""
        base = TrainingPlan.from_dict(dict(preset.defaults))
        given: dict[str, Any] = {"seed": seed, "device": self.device}
        if self.image_shape_ is None:
            given |= TABLE | {"nesterov": False, "augmentation": "", "patience": 0, "warm_up": 0.0}
        for name in ("epochs", "batch_size", "rate", "momentum", "optimiser", "schedule", "weight_decay"):
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        for name in ("label_smoothing", "augmentation", "patience", "time_limit", "precision"):
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        if self.image_shape_ is None and self.epochs is None:
            steps = math.ceil(n / given["batch_size"])
            given["epochs"] = max(TABLE_EPOCHS, math.ceil(TABLE_STEPS / steps))
        return base.adjusted(given)


def _is_images(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype == np.uint8 and X.ndim in (3, 4)


def _as_images(X: Any) -> Array:
    images = np.asarray(X)
    if images.ndim == 3:
        images = images[..., None]
    return check_images(images, "X")


def _sides(codes: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Rows to train on and rows to judge by, every class on the first side."""
    n = len(codes)
    if not share:
        return np.arange(n), np.arange(0)
    order = np.random.default_rng(seed).permutation(n)
    _, first = np.unique(codes[order], return_index=True)
    kept = order[first]  # one row of every class stays
    free = order[~np.isin(order, kept)]
    held = free[: min(len(free), max(1, round(share * n)))]
    return np.setdiff1d(np.arange(n), held), np.sort(held)
