"""``train --phi lenet5``: the network is trained, then everything goes on as for any other φ.

Images are prepared as always. The network learns from the training images, with validation images for choosing the
epoch; without its last layer it is φ; the exact solver fits the last layer again (`network_head`); a linear classifier
on hand-crafted features says whether it was worth it (`network_rival`). Test images are scored once, at the end.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Float32, InputError, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer.evaluation.intervals import json_number
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.presets import parse
from lastlayer.networks.rate_search import find_rate
from lastlayer.networks.training import TrainedNetwork, train_network
from lastlayer.pipeline.features import Features, extract
from lastlayer.pipeline.learn import Examples, Learned
from lastlayer.pipeline.network_head import LastLayer, last_layer
from lastlayer.pipeline.network_rival import Rival, linear_rival
from lastlayer.pipeline.network_settings import training_plan
from lastlayer.pipeline.network_unfinished import begin, key_of
from lastlayer.pipeline.observer import Observer
from lastlayer.pipeline.preparing import Clock, Prepared
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.network import NetworkFeatures
from lastlayer.solvers.base import StopReason

_LOGGED = {"step": "steps", "val_count": "val_n", "seconds": "train_seconds"}
"""Names of an epoch's record in the run's log, whose own seconds count from the start of the run."""
_STOPS = {
    "patience": StopReason.EARLY,
    "interrupted": StopReason.INTERRUPTED,
    "diverged": StopReason.DIVERGED,
    "dead": StopReason.DIVERGED,
}


@dataclass(frozen=True, eq=False)
class NetworkRun:
    """What training a network gave.

    Attributes
    ----------
    architecture : Architecture
    trained : TrainedNetwork
    features : Features
        Of all rows, φ being the network without its last layer.
    last : LastLayer
    rival : Rival or None
        None where the run was interrupted.
    seconds : float
        Of training and of the last layer, without the rival.
    rate : float
        As trained with.
    problems : tuple of Problem
    """

    architecture: Architecture
    trained: TrainedNetwork
    features: Features
    last: LastLayer
    rival: Rival | None
    seconds: float
    rate: float
    problems: tuple[Problem, ...]

    @property
    def learned(self) -> Learned:
        """The last layer taken, and the problems met on the way."""
        learned = self.last.learned
        return dataclasses.replace(
            learned,
            problems=(*self.problems, *learned.problems),
            interrupted=learned.interrupted or self.trained.interrupted,
        )

    @property
    def filters(self) -> Float32 | None:
        """The first layer's weights as pictures, where they are such."""
        return self.trained.network.filters()

    def say(self, sides: tuple[SideScores, ...], observer: Observer) -> None:
        """Tell how the linear classifier did beside the network."""
        if self.rival is None:
            observer.note("linear", "no linear classifier was fitted beside it: the run was interrupted")
            return
        for number, line in enumerate(self.rival.lines(sides, self.seconds)):
            observer.note("linear" if number == 0 else "", line)

    def provenance(self) -> dict[str, Any]:
        """What the model file says of its training."""
        trained = self.trained
        return {"epochs": len(trained.history), "best_epoch": trained.best_epoch, "stop_reason": trained.stop_reason}

    def to_dict(self, sides: tuple[SideScores, ...]) -> dict[str, Any]:
        """Plain values for ``metrics.json``."""
        trained = self.trained
        return {
            "architecture": self.architecture.name,
            "table": list(self.architecture.describe()),
            "n_parameters": int(self.architecture.n_parameters),
            "epochs": len(trained.history),
            "best_epoch": trained.best_epoch,
            "stop_reason": trained.stop_reason,
            "rate": self.rate,
            "seconds": round(self.seconds, 3),
            "last_layer": self.last.to_dict(),
            "linear": None if self.rival is None else self.rival.to_dict(sides),
        }


def run_network(
    prepared: Prepared,
    order: IntArray,
    counts: tuple[int, int, int],
    settings: TrainSettings,
    execution: Execution,
    observer: Observer,
    cache: FeatureCache,
    writer: RunWriter,
    clock: Clock,
) -> NetworkRun:
    """Train the network of the settings, choose its last layer, and fit the linear classifier beside it.

    Parameters
    ----------
    prepared : Prepared
    order : int (n,)
        Rows of training, validation and test images, one after another.
    counts : tuple of int
        How many of each.
    settings : TrainSettings
        Resolved, see `network_settings.resolved`.
    execution, observer, cache, writer, clock

    Raises
    ------
    InputError
        When the network does not fit the images, or there is nothing to resume.
    """
    start = time.perf_counter()
    form = prepared.choice.format
    y = prepared.dataset.labels[order]
    _two_classes(y[: counts[0]])
    shape = form.height, form.width, form.channels
    architecture = parse(settings.phi).architecture(shape, len(prepared.dataset.class_names))
    for number, line in enumerate(architecture.describe()):
        observer.note("network" if number == 0 else "", line)
    trained, rate = _train(architecture, prepared, order, counts, y, settings, execution, observer)
    _log(writer, trained, architecture, counts)
    clock.lap("network")
    features = _features(trained, prepared, order, counts, settings, cache, execution)
    clock.lap("features")
    K = len(prepared.dataset.class_names)
    examples = Examples(features.Z, y, features.twins, features.n_views, counts[0], counts[1], K, features.unit)
    W, b = trained.network.head()
    stopped = _STOPS.get(trained.stop_reason, StopReason.MAX_ITER)
    last = last_layer(W, b, examples, settings, execution.progress, stopped)
    observer.note("last", last.learned.selection)
    clock.lap("fit")
    seconds = time.perf_counter() - start
    rival = None
    if not (trained.interrupted or last.learned.interrupted):
        rival = linear_rival(prepared, order, counts, settings, cache, execution.progress)
        clock.lap("linear")
    problems = _problems(trained, rate)
    return NetworkRun(architecture, trained, features, last, rival, seconds, rate, problems)


def _two_classes(y: IntArray) -> None:
    present = len(np.unique(y))
    if present < 2:
        raise InputError(
            f"training needs images of at least two classes; {present} found",
            "Add a folder of images for a second class",
        )


def _train(
    architecture: Architecture,
    prepared: Prepared,
    order: IntArray,
    counts: tuple[int, int, int],
    y: IntArray,
    settings: TrainSettings,
    execution: Execution,
    observer: Observer,
) -> tuple[TrainedNetwork, float]:
    """Train, or go on with what a killed run left; the checkpoint is kept when this is interrupted as well."""
    n_train, n_val, _ = counts
    pixels = prepared.decoded.pixels
    images: UInt8 = np.asarray(pixels[order[:n_train]])
    validation = None
    if n_val:
        seen = slice(n_train, n_train + n_val)
        validation = np.asarray(pixels[order[seen]]), y[seen]
    else:
        observer.note("train", "no validation images: all epochs are made and the last weights are kept")
    unfinished = begin(key_of(prepared, order, counts, settings), prepared, settings, execution, observer)
    keep = True
    try:
        plan = training_plan(settings)
        if settings.lr == "find":
            rate, _ = find_rate(architecture, images, y[:n_train], plan, progress=execution.progress)
            plan = dataclasses.replace(plan, rate=rate)
            observer.note("rate", f"{rate:g}, found by a range test on training images")
        trained = train_network(
            architecture,
            images,
            y[:n_train],
            validation,
            plan,
            checkpoint=unfinished.checkpoint,
            progress=execution.progress,
            log=unfinished.log,
        )
        keep = trained.interrupted
    finally:
        unfinished.close(keep)
    if keep:
        observer.note("resume", f"interrupted: --resume {unfinished.folder} goes on from here")
    return trained, plan.rate


def _log(writer: RunWriter, trained: TrainedNetwork, architecture: Architecture, counts: tuple[int, int, int]) -> None:
    """One line an epoch, those before a kill included."""
    for record in trained.history:
        named = {_LOGGED.get(name, name): _plain(value) for name, value in record.items()}
        writer.log("epoch", **named)
    writer.log(
        "trained",
        stop_reason=trained.stop_reason,
        best_epoch=trained.best_epoch,
        epochs=len(trained.history),
        parameters=int(architecture.n_parameters),
        n_train=counts[0],
        table=list(architecture.describe()),
    )


def _plain(value: Any) -> Any:
    """A value for strict JSON: NaN and infinite numbers are None."""
    if isinstance(value, float):
        return json_number(value)
    return json.loads(json.dumps(value, default=float))


def _features(
    trained: TrainedNetwork,
    prepared: Prepared,
    order: IntArray,
    counts: tuple[int, int, int],
    settings: TrainSettings,
    cache: FeatureCache,
    execution: Execution,
) -> Features:
    """Features of all rows, columns as they are: the network's own head, and its own scale, belong to them.

    Standardising them would blow up units that hardly move. One number, the root of their mean variance over the
    training rows, is the unit in which C is meant.
    """
    found = extract(
        NetworkFeatures.of(trained.network, settings.phi),
        prepared.decoded.pixels,
        prepared.decoded.sha256,
        order,
        counts[0],
        standardise=False,
        seed=settings.seed,
        cache=cache,
        progress=execution.progress,
        n_val=counts[1],
        views=settings.scored_views,
    )
    spread = math.sqrt(float(np.var(found.Z[: counts[0]], axis=0, dtype=np.float64).mean()))
    return dataclasses.replace(found, unit=spread or 1.0)


def _problems(trained: TrainedNetwork, rate: float) -> tuple[Problem, ...]:
    """What ended the training before its time, and what was kept."""
    code = {"diverged": "LL042", "dead": "LL043"}.get(trained.stop_reason)
    if code is None:
        return ()
    return (Problem(code, trained.message, mend=f"Lower the learning rate: --lr {rate / 4:.2g}"),)
