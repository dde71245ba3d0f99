"""A network without its last layer: φ(x) = f_{L-1}(… f_1(x)), what the last layer is given.

    lenet5, mlp:300-100, …      a network that `train` trains first: its labels are needed, so that `fit` refuses
    network:FILE                the trained network in a model file (or run folder), as it is, for new classes

A fitted one holds all numbers of its network, so that a model file needs no other file; PyTorch is needed to compute
(`networks`), and imported then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer._files import display_name
from lastlayer.networks.presets import is_network
from lastlayer.representations._threads import spread
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)

if TYPE_CHECKING:
    from lastlayer.networks.network import Network

_BLOCK_NUMBERS = 1 << 20  # pixels of a block of images
_MOST_ROWS = 64
_LARGEST = 1 << 30
_FILE = "model.safetensors"
_SUFFIX = ".safetensors"


def network_settings(text: str) -> dict[str, Any]:
    """Parameters of the text behind ``network:``, or of a preset's name.

    >>> network_settings("mlp:300-100"), network_settings("runs/train-001")
    ({'preset': 'mlp:300-100'}, {'file': 'runs/train-001'})
    """
    text = text.strip()
    if not text:
        raise InputError("network: which one?", "Write network:runs/train-001, or a network to train such as lenet5")
    return {"preset": text} if is_network(text) else {"file": text}


def network_term(term: str) -> str:
    """What a term of φ names a network by: a preset, a model file or run folder; "" where it names none.

    >>> network_term("lenet5"), network_term("network:a/b"), network_term("hog:cell=4")
    ('lenet5', 'a/b', '')
    """
    term = term.strip()
    head, colon, rest = term.partition(":")
    if colon and head.strip().lower() == "network":
        return rest.strip()
    if is_network(term):
        return term
    if len(head) > 1 and colon:  # a part with settings, and no drive letter
        return ""
    named = term.endswith(_SUFFIX) or (os.sep in term and (Path(term).expanduser() / _FILE).is_file())
    return term if named else ""


@final
@dataclass(frozen=True, eq=False)
class NetworkFeatures(Representation):
    """What the last layer of a network trained here is given.

    Parameters
    ----------
    preset : str
        Of a network to train, or that was trained; "" where it came from a file.
    file : str
        Model file or run folder with a trained network; "" after `fit`.
    network : mapping
        The architecture and what else is no array, as `networks.Network.to_dict` gives it; empty before `fit`.
    layout : sequence of [name, [lengths]]
        Where each array lies in `numbers`: one after another.
    numbers : float32 (P,), optional
        All parameters and statistics of the network.
    image_shape : (H, W, C), optional
    """

    preset: str = ""
    file: str = ""
    network: Mapping[str, Any] = field(default_factory=dict, repr=False)
    layout: tuple[tuple[str, tuple[int, ...]], ...] = field(default=(), repr=False)
    numbers: Float32 | None = field(default=None, kw_only=True, repr=False)
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "network"

    def __post_init__(self) -> None:
        for name in ("preset", "file"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > 4096:
                raise InputError(f"network: {name} is {value!r:.60}; text is needed")
        if self.numbers is None:
            if bool(self.preset) == bool(self.file) or self.network or self.image_shape is not None:
                raise InputError("network: one preset or one file is needed", "Write lenet5, or network:FILE")
            return
        if self.file or self.image_shape is None:
            raise InputError("network: a fitted network has its numbers and an image shape, and no file")
        object.__setattr__(self, "layout", _checked_layout(self.layout))
        object.__setattr__(self, "numbers", _checked_numbers(self.numbers, self.layout))
        shape = self.trained.architecture.input_shape  # refuses numbers that do not belong to the architecture
        if tuple(shape) != self.image_shape:
            raise InputError(f"network: it is for images of {tuple(shape)}, not {self.image_shape}")

    @classmethod
    def of(cls, network: Network, preset: str = "") -> NetworkFeatures:
        """φ of a trained network."""
        names = sorted(network.arrays)
        layout = tuple((name, tuple(int(n) for n in np.shape(network.arrays[name]))) for name in names)
        numbers = np.concatenate([np.asarray(network.arrays[name], np.float32).ravel() for name in names])
        height, width, channels = network.architecture.input_shape
        shape = int(height), int(width), int(channels)
        return cls(preset, "", dict(network.to_dict()), layout, numbers=numbers, image_shape=shape)

    # ---- the network

    @property
    def to_train(self) -> bool:
        """Whether the network is still to be trained, which takes labels."""
        return self.numbers is None and bool(self.preset)

    @cached_property
    def trained(self) -> Network:
        """The network itself.

        Raises
        ------
        InputError
            Before `fit`, and for numbers that do not belong to the architecture.
        """
        from lastlayer.networks.network import Network

        if self.numbers is None:
            fitted_shape(None, self.name)
        return Network.from_dict(dict(self.network), dict(self._parts()))

    def _parts(self) -> Iterator[tuple[str, Float32]]:
        start = 0
        for name, lengths in self.layout:
            size = int(np.prod(lengths, dtype=np.int64))
            assert self.numbers is not None
            yield name, self.numbers[start : start + size].reshape(lengths)
            start += size

    @cached_property
    def source(self) -> NetworkFeatures:
        """The fitted network of the file named; itself where there is none to read.

        Raises
        ------
        InputError
            When there is no such file, or its φ holds no network.
        """
        return _from_file(self.file) if self.file else self

    @property
    def wanted(self) -> Shape:
        """(H, W, C) of the images that the network takes; of one to train there is none yet."""
        return fitted_shape(self.source.image_shape, self.name)

    # ---- the representation

    @property
    def n_features(self) -> int:
        """D: what the last layer is given."""
        return len(self.source.trained.head()[0])

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Return the network as it is, bound to its images; nothing is learned.

        Raises
        ------
        InputError
            For a network that is still to be trained, which takes labels, and for images of another size.
        """
        if self.to_train:
            raise InputError(
                f"phi {self.preset} is a network, which is trained on images with labels",
                f"Use `lastlayer train DATA --phi {self.preset}`; then --phi RUN takes what it learned anywhere",
            )
        shape, found = check_fit_images(images), self.source
        if found.image_shape != shape:
            assert found.image_shape is not None
            height, width, channels = found.image_shape
            raise InputError(
                f"the network was trained on images of {height}x{width} pixels and {channels} channels, and meets "
                f"{shape[0]}x{shape[1]} and {shape[2]}",
                f"Give images of that kind: --size {height}",
            )
        return replace(self, **{name: getattr(found, name) for name in _FITTED}, file="")

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D), in blocks of one size, filled up with zeros: an image's bits depend on no other image."""
        check_transform_images(images, self.image_shape, self.name)
        return in_blocks(self.trained.features, images, self.n_features)

    def parameters(self) -> dict[str, Any]:
        """Return the preset or file, and after `fit` the architecture with the layout of its numbers."""
        layout = [[name, list(lengths)] for name, lengths in self.layout]
        return {"preset": self.preset, "file": self.file, "network": dict(self.network), "layout": layout}

    def arrays(self) -> dict[str, Array]:
        """All numbers of the network, one array after another as `layout` says."""
        if self.numbers is None:
            fitted_shape(None, self.name)
            return {}
        return {"numbers": self.numbers}

    def table(self) -> list[str]:
        """The architecture, line by line."""
        return list(self.source.trained.architecture.describe())

    def filters(self) -> Float32 | None:
        """The first layer's weights as pictures (n, h, w, 3) in 0..1; None where they are none."""
        return self.source.trained.filters()

    def describe(self) -> str:
        """The network, its size, and the features."""
        if self.to_train:
            return f"{self.preset}: a network, trained here"
        architecture = self.source.trained.architecture
        height, width, channels = architecture.input_shape
        return (
            f"{architecture.name} without its last layer, {architecture.n_parameters:,} parameters, "
            f"{self.n_features} features; input {height}x{width}x{channels}"
        )

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Nothing to show for a class: the features are a network's; `filters` shows its first layer."""
        check_weights(W, self.n_features, self.name)
        return ()


def in_blocks(function: Callable[[Array], Float32], images: Array, width: int) -> Float32:
    """Rows of ``function(images)``, (N, width), computed in blocks of one size, the last one filled up with zeros.

    A product's sums may be taken in another order for another number of rows: so every block has the same number, and
    PyTorch one thread a block, blocks side by side. An image's bits then depend on no other image and on no machine's
    number of cores.
    """
    from lastlayer.representations.torch_modules import one_thread_each, one_thread_here

    rows = max(1, min(_MOST_ROWS, _BLOCK_NUMBERS // int(np.prod(images.shape[1:]))))
    out = np.empty((len(images), width), np.float32)

    def block(start: int) -> None:
        one_thread_here()
        part = np.zeros((rows, *images.shape[1:]), images.dtype)
        count = min(rows, len(images) - start)
        part[:count] = images[start : start + count]
        out[start : start + count] = function(part)[:count]

    with one_thread_each():
        spread(block, range(0, len(images), rows))
    return out


_FITTED = ("network", "layout", "numbers", "image_shape", "preset")


def _checked_layout(layout: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names with lengths of axes, each once; what a hostile model file states is refused."""
    wrong = InputError("network: the layout is no list of names with lengths")
    if not isinstance(layout, (tuple, list)) or len(layout) > 4096:
        raise wrong
    checked: list[tuple[str, tuple[int, ...]]] = []
    for entry in layout:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            raise wrong
        name, lengths = entry
        right = isinstance(lengths, (tuple, list)) and len(lengths) <= 8
        if not isinstance(name, str) or not right or not all(type(n) is int and 0 < n <= _LARGEST for n in lengths):
            raise wrong
        checked.append((name, tuple(lengths)))
    if len({name for name, _ in checked}) != len(checked):
        raise wrong
    return tuple(checked)


def _checked_numbers(numbers: Any, layout: tuple[tuple[str, tuple[int, ...]], ...]) -> Float32:
    total = 0
    for _, lengths in layout:
        size = 1
        for n in lengths:
            size *= n  # Python's integers do not wrap
        total += size
    numbers = np.asarray(numbers)
    if numbers.dtype != np.float32 or numbers.shape != (total,):
        raise InputError(f"network: the layout holds {total} numbers, the array is {numbers.dtype} {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise InputError("network: its numbers are not finite", "Train it again with a lower --lr", "LL030")
    found: Float32 = np.array(numbers) if numbers.flags.writeable else numbers
    found.flags.writeable = False
    return found


def _from_file(text: str) -> NetworkFeatures:
    """The network in a model file or run folder."""
    from lastlayer.artifacts import read_artifact
    from lastlayer.representations.specs import from_spec

    path = Path(text).expanduser()
    path = path / _FILE if path.is_dir() else path
    shown = display_name(os.fspath(path))
    if not path.is_file():
        raise InputError(f"there is no model in {shown}", "Give a run folder, or a model.safetensors")
    header, tensors = read_artifact(path)
    spec = header.get("representation")
    if not isinstance(spec, dict):
        raise InputError(f"{shown} holds no classifier of images", "Give a run of a network: --phi runs/train-001")
    arrays = {name.removeprefix("phi."): array for name, array in tensors.items() if name.startswith("phi.")}
    found = network_in(from_spec(spec, arrays))
    if found is None:
        phi = display_name(str(spec.get("name")))
        raise InputError(f"{shown} holds no network: its φ is {phi}", "Name its φ itself, or give a network's run")
    return found


def network_in(phi: Representation) -> NetworkFeatures | None:
    """The network that a representation is, or averages, or standardises."""
    while not isinstance(phi, NetworkFeatures):
        base = getattr(phi, "base", None)
        if not isinstance(base, Representation):
            return None
        phi = base
    return phi
