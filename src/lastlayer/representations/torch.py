"""A frozen PyTorch network: φ(x) is what its last Linear layer, the class scores, is given.

    torch:PACKAGE:FACTORY[:size=224,mean=imagenet,std=imagenet,range=1,order=rgb,pool=mean,module=NAME,…]
    timm:NAME:pretrained=true          torchvision:NAME:weights=DEFAULT

Options that are not ours go to the factory. A network is made on the user's word alone, once in a process; weights are
downloaded by the library, where the user names a pretrained model. A model file holds their SHA-256, not the weights,
and never imports anything by itself (see `torch_modules.refuse_unnamed`).
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations import torch_modules as modules
from lastlayer.representations._checks import check_choice, check_flag, check_whole
from lastlayer.representations._threads import spread
from lastlayer.representations.backbone import (
    POOLS,
    USUAL_SIDE,
    WIDEST,
    Preprocessing,
    check_range,
    check_size,
    check_statistic,
    options,
    pool_words,
    pooled,
    statistics,
)
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
)

_OWN = ("size", "channels", "mean", "std", "range", "order", "pool", "module", "logits", "device", "seed", "sha256")
_FOUND_FIELDS = ("size", "mean", "std", "range", "module", "side", "sha256", "shape", "features")
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")
# what was found is None for what is fitted: a value that holds its key would keep it for ever
_READY: weakref.WeakKeyDictionary[Torch, tuple[Torch | None, modules.Tapped]] = weakref.WeakKeyDictionary()


def torch_settings(text: str) -> dict[str, Any]:
    """Parameters of the text behind ``torch:``; the user has named the factory by writing it.

    >>> torch_settings("nets.small:make:depth=3,size=32")
    {'package': 'nets.small', 'factory': 'make', 'size': 32, 'arguments': {'depth': 3}}
    """
    package, _, rest = (part.strip() for part in text.partition(":"))
    factory, _, settings = (part.strip() for part in rest.partition(":"))
    return _settings(package, factory, settings)


def timm_settings(text: str) -> dict[str, Any]:
    """Parameters of the text behind ``timm:``."""
    factory, _, settings = (part.strip() for part in text.partition(":"))
    given = _settings("timm", factory, settings)
    _say_which_weights("timm", factory, given, "pretrained", "pretrained=true", "pretrained=false")
    return given


def torchvision_settings(text: str) -> dict[str, Any]:
    """Parameters of the text behind ``torchvision:``."""
    factory, _, settings = (part.strip() for part in text.partition(":"))
    given = _settings("torchvision", factory, settings)
    _say_which_weights("torchvision", factory, given, "weights", "weights=DEFAULT", "weights=none")
    return given


def _settings(package: str, factory: str, settings: str) -> dict[str, Any]:
    modules.check_factory(package, factory)
    given = options("torch", settings, ())
    own = {key: value for key, value in given.items() if key in _OWN}
    modules.name_factory(package, factory)
    arguments = {key: value for key, value in given.items() if key not in _OWN}
    return {"package": package, "factory": factory, **own, "arguments": arguments}


def _say_which_weights(library: str, name: str, given: dict[str, Any], key: str, yes: str, no: str) -> None:
    if key not in given["arguments"]:
        raise InputError(
            f"{library}:{name}: with which weights?",
            f"Write {library}:{name}:{yes} ({library} downloads them once), or {no} for random ones",
        )


@final
@dataclass(frozen=True, eq=False)
class Torch(Representation):
    """What the last layer of a frozen network is given.

    Parameters
    ----------
    package, factory : str
        Module to import, and what in it returns a ``torch.nn.Module``; for "timm" and "torchvision" a model's name.
    arguments : dict
        Passed to the factory by name: numbers, text, true, false, None.
    size : int or (int, int), optional
        Rows and columns of the network's input, 224 by default.
    channels : {3, 1}
    mean, std : "auto", "imagenet", None, number or three
        "auto" is what timm states of its model, else ImageNet's for RGB.
    range : float
        Value of a white pixel before that; 0 is "auto", 1.
    order : {"rgb", "bgr"}
    pool : {"auto", "none", "mean", "max", "cls"}
        What becomes of a tensor with places or tokens: their mean by default.
    module : str
        Submodule whose output to take, as in ``named_modules``; "" is the input of the last Linear to run, or the
        network's output where that is not a Linear's.
    logits : bool
        Allow class scores as features.
    device : {"cpu", "cuda"}
    seed : int
        What the factory draws at random is drawn from it.
    sha256 : str
        Refuse weights with another SHA-256.
    side, shape, features
        Found by `fit`: "input" or "output" of the module, the tensor's shape, and D.
    image_shape : (H, W, C), optional
    """

    package: str
    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size: int | tuple[int, int] | None = None
    channels: int = 3
    mean: Any = "auto"
    std: Any = "auto"
    range: float = 0.0
    order: str = "rgb"
    pool: str = "auto"
    module: str = ""
    logits: bool = False
    device: str = "cpu"
    seed: int = 0
    sha256: str = ""
    side: str = ""
    shape: tuple[int, ...] = ()
    features: int = 0
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "torch"

    def __post_init__(self) -> None:
        put = object.__setattr__
        modules.check_factory(self.package, self.factory)
        put(self, "arguments", _plain_arguments(self.arguments))
        put(self, "size", check_size("torch", self.size))
        put(self, "pool", "none" if self.pool is None else self.pool)  # none is a word of the options
        check_choice("torch", "order", self.order, ("rgb", "bgr"))
        check_choice("torch", "pool", self.pool, POOLS)
        check_choice("torch", "device", self.device, ("cpu", "cuda"))
        check_choice("torch", "side", self.side, ("", "input", "output"))
        check_whole("torch", "seed", self.seed, 0, 2**32 - 1)
        check_whole("torch", "features", self.features, 0, WIDEST)
        check_flag("torch", "logits", self.logits)
        if type(self.channels) is not int or self.channels not in (1, 3):
            raise InputError(f"torch: channels is {self.channels!r:.20}; 1 or 3 is needed")
        for name in ("mean", "std"):
            put(self, name, check_statistic("torch", name, getattr(self, name)))
        put(self, "range", check_range("torch", self.range))
        if not isinstance(self.module, str) or len(self.module) > 1024:
            raise InputError(f"torch: the module is {self.module!r:.60}; a name is needed")
        if not isinstance(self.sha256, str) or not _DIGEST.fullmatch(self.sha256):
            raise InputError(f"torch: sha256 is {self.sha256!r:.80}; 64 lower-case hexadecimal digits are needed")
        shape = tuple(self.shape) if isinstance(self.shape, (tuple, list)) else (-1,)
        for length in shape:
            check_whole("torch", "shape", length, 1, WIDEST)
        put(self, "shape", shape)
        if self.image_shape is not None:
            self._check_fitted()

    def _check_fitted(self) -> None:
        found = self.features and self.sha256 and self.side and self.size and self.range
        if not found or "auto" in (self.mean, self.std):
            raise InputError("torch: a fitted network states its input, its tensor and its SHA-256")
        statistics(self.mean, self.std, self.range, self.channels, False)  # refuses what does not fit the channels

    # ---- the network

    def resolve(self) -> Torch:
        """The same with everything found that "auto" leaves open; makes the network and runs it once.

        Raises
        ------
        InputError
            LL060 where something is not installed; LL032 for class scores that nobody asked for; otherwise when the
            network cannot be made, or is another one than it was.
        """
        return self if self.features else self._open()[0] or self

    def _open(self) -> tuple[Torch | None, modules.Tapped]:
        if self not in _READY:
            found, tapped = self._make()
            _READY[self] = (None if self.features else found), tapped
        return _READY[self]

    def _make(self) -> tuple[Torch, modules.Tapped]:
        modules.refuse_unnamed(self.package, self.factory)
        torch = modules.need_torch()
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("torch: device=cuda, and there is none", "Leave device out")
        network = modules.build(self.package, self.factory, self.arguments, self.seed)
        sha256 = modules.weights_hash(network)
        if self.sha256 and sha256 != self.sha256:
            raise InputError(
                f"torch: the weights of {self.package}:{self.factory} have the SHA-256 {sha256[:12]}…, "
                f"not {self.sha256[:12]}… as in training",
                "Install the version of the package, and the weights, that the model was trained with",
            )
        network = network.to(self.device)
        found = self._with_input(network)
        prepare = found._preprocessing()
        with modules.one_thread_each():
            x = prepare.apply(np.zeros((prepare.height, prepare.width, self.channels), np.uint8))
            tap = modules.find_tap(network, x, self.module if self.side != "input" else "")
            if tap.scores and not self.logits:
                raise InputError(
                    f"torch: the module {tap.module} of {self.factory} gives class scores",
                    "Leave module= out: what it is given is the default; or give logits=true",
                    "LL032",
                )
            tapped = modules.Tapped(network, tap)
            out = tapped(x)
        row = pooled("torch", out, self.pool)
        shape = tuple(int(length) for length in out.shape) or (1,)
        if self.features and (self.features, self.side, self.module) != (len(row), tap.side, tap.module):
            raise InputError("torch: the network gives other features than in training", "Train the model again")
        found = replace(found, module=tap.module, side=tap.side, sha256=sha256, shape=shape, features=len(row))
        return found, tapped

    def _with_input(self, network: Any) -> Torch:
        """Size and normalisation: as given, else what timm states of its model, else the usual."""
        said: Any = getattr(network, "pretrained_cfg", None) if self.package == "timm" else None
        said = said if isinstance(said, Mapping) else {}
        mean, std, white = self.mean, self.std, self.range
        if mean == "auto" and std == "auto" and not white and "mean" in said and "std" in said:
            mean, std = check_statistic("timm", "mean", said["mean"]), check_statistic("timm", "std", said["std"])
        usual = not white
        white = white or 1.0
        mean, std = statistics(mean, std, white, self.channels, usual)
        size = self.size or check_size("timm", tuple(said.get("input_size", (3, USUAL_SIDE, USUAL_SIDE)))[1:])
        return replace(self, size=size, mean=mean, std=std, range=white)

    @property
    def wanted(self) -> tuple[int, int]:
        """Rows and columns of images that need no resizing."""
        prepare = self.resolve()._preprocessing()
        return prepare.height, prepare.width

    def _preprocessing(self) -> Preprocessing:
        assert isinstance(self.size, tuple)
        mean, std = statistics(self.mean, self.std, self.range, self.channels, False)
        return Preprocessing(*self.size, self.channels, "nchw", "float32", self.range, mean, std, self.order)

    # ---- the representation

    @property
    def n_features(self) -> int:
        """D; known once the network was run."""
        return self.features or self.resolve().features

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Bind to the image shape and to the weights; nothing is learned."""
        shape = check_fit_images(images)
        modules.name_factory(self.package, self.factory)
        found, tapped = self.resolve(), self._open()[1]
        fitted = replace(self, **{name: getattr(found, name) for name in _FOUND_FIELDS}, image_shape=shape)
        _READY[fitted] = None, tapped
        return fitted

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D): one image at a time, several side by side on the processor."""
        check_transform_images(images, self.image_shape, self.name)
        tapped, prepare = self._open()[1], self._preprocessing()
        out = np.empty((len(images), self.features), np.float32)

        def one(i: int) -> None:
            modules.one_thread_here()
            out[i] = pooled("torch", tapped(prepare.apply(np.asarray(images[i]))), self.pool)

        with modules.one_thread_each():
            spread(one, range(len(images)), threads=1 if self.device == "cuda" else None)
        return out

    def parameters(self) -> dict[str, Any]:
        """Return everything given, and after `fit` everything found."""
        names = ["package", "factory", "arguments", *_OWN, "side", "shape", "features"]
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def arrays(self) -> dict[str, Array]:
        """Nothing: the weights are the package's, and named by their SHA-256."""
        return {}

    def describe(self) -> str:
        """The factory, the module with the tensor's shape, the weights' SHA-256, and what becomes of the pixels."""
        found = self.resolve()
        shape = "x".join(map(str, found.shape))
        where = f"{found.side} of {found.module}" if found.module else "output"
        lead = self.package if self.package in modules.LIBRARIES else f"torch:{self.package}"
        tensor = f"{where} ({shape}){pool_words(found.pool, found.shape)}, {found.features} features"
        weights = f"weights sha256 {found.sha256[:12]}"
        return f"{lead}:{self.factory} ({weights}), {tensor}; input {found._preprocessing().describe()}"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Nothing to show: the features are a network's."""
        check_weights(W, self.n_features, self.name)
        return ()


def _plain_arguments(arguments: Any) -> dict[str, Any]:
    """Arguments as JSON values: names with numbers, text, true, false, None or lists of numbers."""
    if not isinstance(arguments, Mapping) or len(arguments) > 64:
        raise InputError("torch: the arguments are no mapping of at most 64 names")
    plain = {}
    for key, value in arguments.items():
        numbers = isinstance(value, (tuple, list)) and all(type(part) in (int, float) for part in value)
        if (
            not isinstance(key, str)
            or not key.isidentifier()
            or not (numbers or value is None or type(value) in (str, int, float, bool))
        ):
            raise InputError(f"torch: the argument {key!r:.60} is no name with a number, text, true or false")
        plain[key] = list(value) if numbers else value
    return plain
