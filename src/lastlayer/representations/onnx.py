"""A frozen network in an ONNX file: φ(x) is one of its tensors, as a rule the one the class scores are made of.

    onnx:FILE[#TENSOR][:size=224,mean=imagenet,std=imagenet,range=1,order=rgb,layout=nchw,pool=mean,logits=true,…]

Images run one at a time, several side by side, each on one thread: a row's bits depend on its image alone. Needs the
packages onnx and onnxruntime; a model file that holds its network needs onnxruntime alone.
"""

from __future__ import annotations

import os
import re
import weakref
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer._files import display_name
from lastlayer.representations import backbone_files as files
from lastlayer.representations import onnx_graph, onnx_pixels
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
from lastlayer.representations.onnx_run import open_session, run_session

EMBEDDED = 64 * 2**20
"""Bytes up to which a model file holds the network itself (cut at the tensor)."""
_OPTIONS = ("size", "layout", "mean", "std", "range", "order", "pool", "logits", "sha256")
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")
_SESSIONS: weakref.WeakKeyDictionary[Onnx, Any] = weakref.WeakKeyDictionary()
_FOLDERS: weakref.WeakKeyDictionary[Onnx, str] = weakref.WeakKeyDictionary()
_FOUND: weakref.WeakKeyDictionary[Onnx, Onnx] = weakref.WeakKeyDictionary()


def onnx_settings(text: str) -> dict[str, Any]:
    """Parameters of the text behind ``onnx:``.

    >>> onnx_settings("nets/resnet18.onnx#flatten:size=224,mean=imagenet")
    {'file': 'nets/resnet18.onnx', 'tensor': 'flatten', 'size': 224, 'mean': 'imagenet'}
    """
    rest, colon, settings = text.strip().rpartition(":")
    given = {}
    if colon and re.match(r"\s*[a-z0-9_]+\s*=", settings):
        given = options("onnx", settings, _OPTIONS)
        text = rest
    file, _, tensor = re.sub(r"(?i)(\.onnx)#", "\\1\0", text.strip(), count=1).partition("\0")
    if not tensor:
        file, _, tensor = file.partition("#")
    return {"file": file.strip(), **({"tensor": tensor.strip()} if tensor.strip() else {}), **given}


@final
@dataclass(frozen=True, eq=False)
class Onnx(Representation):
    """A tensor of a frozen network.

    Parameters
    ----------
    file : str
        Path of the ``.onnx`` file.
    tensor : str
        Name of the tensor; "" is the input of the product that makes the class scores, found by walking back from the
        output.
    size : int or (int, int), optional
        Rows and columns of the network's input; None is what the file says, 224 where it leaves them open.
    layout : {"auto", "nchw", "nhwc"}
    mean, std : "auto", "imagenet", None, number or three
        Taken off the pixels, and what they are divided by after that. "auto": what the graph does itself, else what
        its metadata say, else ImageNet's for RGB.
    range : float
        Value of a white pixel before that; 0 is "auto", 1 where nothing else is known.
    order : {"auto", "rgb", "bgr"}
    pool : {"auto", "none", "mean", "max", "cls"}
        What becomes of a tensor with places or tokens: their mean by default.
    logits : bool
        Allow class scores as features.
    sha256 : str
        Refuse a file with another SHA-256.
    channels, dtype, shape, last, features
        Found by `fit`: the input's channels and type, the tensor's shape, whether its channels come last, and D.
    image_shape : (H, W, C), optional
    content : uint8 (bytes,), optional
        The network cut at the tensor, where it is small enough for the model file.
    """

    file: str
    tensor: str = ""
    size: int | tuple[int, int] | None = None
    layout: str = "auto"
    mean: Any = "auto"
    std: Any = "auto"
    range: float = 0.0
    order: str = "auto"
    pool: str = "auto"
    logits: bool = False
    sha256: str = ""
    channels: int = 0
    dtype: str = ""
    shape: tuple[int, ...] = ()
    last: bool = False
    features: int = 0
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)
    content: UInt8 | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "onnx"

    def __post_init__(self) -> None:
        put = object.__setattr__
        files.check_name("onnx", self.file)
        if not isinstance(self.tensor, str) or len(self.tensor) > 4096:
            raise InputError(f"onnx: the tensor is {self.tensor!r:.60}; a name is needed")
        put(self, "size", check_size("onnx", self.size))
        put(self, "pool", "none" if self.pool is None else self.pool)  # none is a word of the options
        for name, choices in (
            ("layout", ("auto", "nchw", "nhwc")),
            ("order", ("auto", "rgb", "bgr")),
            ("pool", POOLS),
            ("dtype", ("", "float32", "float16", "float64", "uint8")),
        ):
            check_choice("onnx", name, getattr(self, name), choices)
        for name in ("mean", "std"):
            put(self, name, check_statistic("onnx", name, getattr(self, name)))
        put(self, "range", check_range("onnx", self.range))
        for name in ("logits", "last"):
            check_flag("onnx", name, getattr(self, name))
        if not isinstance(self.sha256, str) or not _DIGEST.fullmatch(self.sha256):
            raise InputError(f"onnx: sha256 is {self.sha256!r:.80}; 64 lower-case hexadecimal digits are needed")
        self._check_found()
        _FOLDERS[self] = files.folder_beside()

    def _check_found(self) -> None:
        check_whole("onnx", "channels", self.channels, 0, 3)
        check_whole("onnx", "features", self.features, 0, WIDEST)
        shape = tuple(self.shape) if isinstance(self.shape, (tuple, list)) else (-1,)
        for length in shape:
            check_whole("onnx", "shape", length, 1, WIDEST)
        object.__setattr__(self, "shape", shape)
        if self.content is not None and (self.content.dtype != np.uint8 or self.content.ndim != 1):
            raise InputError("onnx: the network in the model file is no row of bytes")
        if self.image_shape is None:
            return
        files.check_stored_name("onnx", self.file)
        known = self.channels in (1, 3) and self.dtype and self.features and self.sha256 and self.tensor
        if not known or "auto" in (self.layout, self.order, self.mean, self.std) or not self.range or not self.size:
            raise InputError("onnx: a fitted network states its input, its tensor and its SHA-256")
        statistics(self.mean, self.std, self.range, self.channels, False)  # refuses what does not fit the channels

    # ---- what the file says

    def resolve(self) -> Onnx:
        """The same with everything that "auto" leaves open taken from the file; runs the network once.

        Raises
        ------
        InputError
            For a file that is no such network, a tensor that is not in it, and class scores that nobody asked for
            (LL032).
        """
        if self.features:
            return self
        if self not in _FOUND:
            _FOUND[self] = self._look()
        return _FOUND[self]

    def _look(self) -> Onnx:
        path = os.path.abspath(self.file)
        graph, sha256, tensors = _opened(path, _stamp(path))
        if self.sha256 and self.sha256 != sha256:
            raise InputError(f"onnx: {self.file} has the SHA-256 {sha256}, not the one given", "Check the file")
        tensor = self.tensor or tensors.default
        self._check_tensor(tensor, graph, tensors)
        last = onnx_graph.channels_last(graph, tensor)
        found = replace(_described(self, graph), file=path, tensor=tensor, sha256=sha256, last=last)
        session = open_session(onnx_graph.cut(graph, tensor))
        height, width = found._sides()
        out = run_session(session, found._preprocessing().apply(np.zeros((height, width, found.channels), np.uint8)))
        row = pooled("onnx", out, self.pool, last)
        found = replace(found, shape=tuple(int(length) for length in np.shape(out)) or (1,), features=len(row))
        _SESSIONS[found] = session
        return found

    def _check_tensor(self, tensor: str, graph: Any, tensors: onnx_graph.Tensors) -> None:
        there = onnx_graph.all_tensors(graph)
        if tensor not in there:
            import difflib

            near = difflib.get_close_matches(tensor, there, n=3, cutoff=0.3) or there[-3:]
            raise InputError(f"onnx: {self.file} has no tensor {tensor!r:.80}", f"There are {', '.join(near)}, …")
        if tensor in tensors.scores and not self.logits:
            raise InputError(
                f"onnx: the tensor {tensor} of {self.file} holds class scores or probabilities",
                f"Leave #{tensor} out: #{tensors.default} is what they are made of; or give logits=true",
                "LL032",
            )

    @property
    def wanted(self) -> tuple[int, int]:
        """Rows and columns of images that need no resizing."""
        return self.resolve()._sides()

    def _sides(self) -> tuple[int, int]:
        assert isinstance(self.size, tuple)
        return self.size

    def _preprocessing(self) -> Preprocessing:
        mean, std = statistics(self.mean, self.std, self.range, self.channels, False)
        return Preprocessing(*self._sides(), self.channels, self.layout, self.dtype, self.range, mean, std, self.order)

    # ---- the representation

    @property
    def n_features(self) -> int:
        """D; known once the file was looked at."""
        return self.resolve().features

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Bind to the image shape and to the file's content; nothing is learned."""
        shape = check_fit_images(images)
        found = self.resolve()
        content = found.content
        if content is None:
            graph, _, _ = _opened(found.file, _stamp(found.file))
            cut = onnx_graph.cut(graph, found.tensor)
            content = np.frombuffer(cut, np.uint8) if len(cut) <= EMBEDDED else None
        fitted = replace(self, **{f: getattr(found, f) for f in found._typed()}, image_shape=shape, content=content)
        if found in _SESSIONS:
            _SESSIONS[fitted] = _SESSIONS[found]
        _opened.cache_clear()  # the graph with all its weights is not needed any more
        return fitted

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D)."""
        check_transform_images(images, self.image_shape, self.name)
        session, prepare = self._open(), self._preprocessing()
        out = np.empty((len(images), self.features), np.float32)

        def one(i: int) -> None:
            row = pooled("onnx", run_session(session, prepare.apply(np.asarray(images[i]))), self.pool, self.last)
            if len(row) != self.features:
                raise InputError(f"onnx: the tensor gives {len(row)} features, not {self.features}")
            out[i] = row

        spread(one, range(len(images)))
        return out

    def _open(self) -> Any:
        """The network, ready to run: of the model file, or of a file with the right SHA-256."""
        if self not in _SESSIONS:
            _SESSIONS[self] = open_session(self._search() if self.content is None else self.content.tobytes())
        return _SESSIONS[self]

    def _search(self) -> bytes:
        beside = _FOLDERS[self]
        differing = []
        for path in files.candidates(self.file, beside):
            graph, sha256, _ = _opened(path, _stamp(path))
            if sha256 == self.sha256:
                return onnx_graph.cut(graph, self.tensor)
            differing.append(path)
        raise files.not_found("onnx", self.file, beside, self.sha256, differing)

    def _typed(self) -> list[str]:
        return [*_OPTIONS, "file", "tensor", "channels", "dtype", "shape", "last", "features"]

    def parameters(self) -> dict[str, Any]:
        """Return everything typed, and after `fit` everything found."""
        values = {name: getattr(self, name) for name in self._typed()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def arrays(self) -> dict[str, Array]:
        """The network, where it is at most 64 MiB: a model file is then all that is needed."""
        return {} if self.content is None else {"content": self.content}

    def describe(self) -> str:
        """The file with its SHA-256, the tensor with its shape, and what becomes of the pixels."""
        found = self.resolve()
        shape = "x".join(map(str, found.shape))
        guessed = (
            " (ImageNet's: give mean=,std= for others)" if self.mean == "auto" and len(set(found.mean)) > 1 else ""
        )
        return (
            f"onnx: {display_name(os.path.basename(found.file))} (sha256 {found.sha256[:12]}), tensor "
            f"{display_name(found.tensor)} ({shape}){pool_words(found.pool, found.shape)}, {found.features} features; "
            f"input {found._preprocessing().describe()}{guessed}"
        )

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Nothing to show: the features are a network's."""
        check_weights(W, self.n_features, self.name)
        return ()


# ---- helpers


def _stamp(path: str) -> tuple[int, int, int]:
    """Changes when the file does."""
    try:
        facts = os.stat(path)
    except OSError:  # reading it says why
        return (0, 0, 0)
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


@lru_cache(maxsize=1)
def _opened(path: str, stamp: tuple[int, int, int]) -> tuple[Any, str, onnx_graph.Tensors]:
    """The last file opened, with its SHA-256 and where features can be taken."""
    graph, origin = onnx_graph.open_graph(path)
    return graph, origin.sha256, onnx_graph.find_tensors(graph)


def _described(asked: Onnx, graph: Any) -> Onnx:
    """Input size, layout, type and normalisation: as asked for, else as the file says, else the usual."""
    given = onnx_graph.image_input(graph, asked.layout)
    said = onnx_pixels.metadata(graph)
    white, mean, std = _pixels(asked, graph, given, said)
    return replace(
        asked,
        size=_input_size(asked, given, said),
        layout=given.layout,
        mean=mean,
        std=std,
        range=white,
        order=asked.order if asked.order != "auto" else said.get("order", "rgb"),
        channels=given.channels,
        dtype=given.dtype,
    )


def _input_size(asked: Onnx, given: onnx_graph.ImageInput, said: dict[str, Any]) -> tuple[int, int]:
    wish = asked.size if isinstance(asked.size, tuple) else check_size("onnx", said.get("size"))
    height, width = wish or (USUAL_SIDE, USUAL_SIDE)
    fixed = (given.height or height, given.width or width)
    if asked.size is not None and fixed != asked.size:
        what = f"onnx: size={height}x{width}, but the model takes {fixed[0]}x{fixed[1]}"
        raise InputError(what, "Leave size out: images are brought to the model's size")
    return fixed


def _pixels(
    asked: Onnx, graph: Any, given: onnx_graph.ImageInput, said: dict[str, Any]
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Value of a white pixel, mean and std. What the graph does itself is not done again."""
    inside = onnx_pixels.normalisation(graph, given)
    raw = given.dtype == "uint8"
    mean, std = asked.mean, asked.std
    if mean == "auto" and std == "auto" and inside is None:
        mean = check_statistic("onnx", "mean", said.get("mean", "auto"))
        std = check_statistic("onnx", "std", said.get("std", "auto"))
    if raw and not (mean == "auto" and std == "auto"):
        raise InputError("onnx: the model takes uint8 pixels as they are", "Leave mean and std out")
    white = asked.range or float(said.get("range", 0))
    if not white and inside is not None:
        white = onnx_pixels.white_of(*inside)
    white = 255.0 if raw else white or 1.0
    usual = inside is None and not raw and not asked.range
    return white, *statistics(mean, std, white, given.channels, usual)
