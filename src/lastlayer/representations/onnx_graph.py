"""What an ONNX file says of itself: its image input, and the tensor before the class scores.

The graph is cut in memory: what the chosen tensor does not need is dropped, and the tensor becomes the only output.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from lastlayer._arrays import InputError
from lastlayer.representations.backbone import CLASS_COUNTS
from lastlayer.representations.backbone_files import Source, read_regular, source

Node = Any
Model = Any

# between the class scores and an output: these change the form of the scores, or turn them into probabilities
_PASS = {
    *("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Dropout"),
    *("QuantizeLinear", "DequantizeLinear", "ArgMax"),
}
_PROBABILITIES = {"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid"}
ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
_PRODUCTS = {"Gemm", "MatMul", "QGemm", "QLinearMatMul", "MatMulInteger", "FusedMatMul", "FusedGemm"}
# a network may also score classes with a 1x1 convolution, and average over places afterwards
_POOLING = {"GlobalAveragePool", "AveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax", "Relu", "Clip"}
_CONVOLUTIONS = {"Conv", "QLinearConv"}
_TYPES = {1: "float32", 10: "float16", 11: "float64", 2: "uint8"}


@final
@dataclass(frozen=True)
class ImageInput:
    """The one input of a graph: images.

    Attributes
    ----------
    name, dtype, layout : str
    channels : int
    height, width : int or None
        None where the file leaves them open.
    """

    name: str
    dtype: str
    layout: str
    channels: int
    height: int | None
    width: int | None


@final
@dataclass(frozen=True)
class Tensors:
    """Where features can be taken.

    Attributes
    ----------
    default : str
        The input of the product that makes the class scores, or an output where there is no such product.
    why : str
        One of the two, in words.
    scores : frozenset of str
        Tensors that hold class scores or probabilities.
    """

    default: str
    why: str
    scores: frozenset[str]


def need_onnx() -> Any:
    """Return the onnx package.

    Raises
    ------
    InputError
        LL060 when it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(
            f"phi onnx needs the package onnx ({error})", "pip install 'lastlayer[onnx]'", "LL060"
        ) from None
    return onnx


def open_graph(path: str) -> tuple[Model, Source]:
    """The graph of a file with its tensors, also those in files beside it, and the SHA-256 of all of them.

    Raises
    ------
    InputError
        When the file cannot be read, is no ONNX model, or names tensors outside its folder.
    """
    onnx = need_onnx()
    data = read_regular("onnx", path)
    try:
        model = onnx.load_model_from_string(data)
        empty = not model.graph.node or not model.graph.output
    except Exception as error:  # protobuf raises types of its own, some of them private
        raise InputError(f"onnx: {path} is no ONNX model ({type(error).__name__})", "Check the file") from None
    if empty:
        raise InputError(f"onnx: {path} holds no graph", "Check the file")
    folder = os.path.dirname(os.path.abspath(path))
    parts: dict[str, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(onnx, tensor, folder, parts)
    return model, source("onnx", path, data, parts)


def _tensors(model: Model) -> Iterator[Any]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner)


def _load_external(onnx: Any, tensor: Any, folder: str, parts: dict[str, bytes]) -> None:
    """Bring a tensor's bytes in from the file it names, which must lie below the model's folder."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    name = facts.get("location", "")
    inside = os.path.realpath(os.path.join(folder, name)).startswith(os.path.realpath(folder) + os.sep)
    if not name or os.path.isabs(name) or ".." in name.replace("\\", "/").split("/") or not inside:
        raise InputError(f"onnx: the model names tensors outside its folder ({name[:60]!r})", "Export it anew")
    if name not in parts:
        parts[name] = read_regular("onnx", os.path.join(folder, name))
    try:
        start = int(facts.get("offset", "0"))
        length = int(facts.get("length", str(len(parts[name]) - start)))
    except ValueError:
        raise InputError(f"onnx: the tensor {tensor.name[:60]!r} has no place in {name[:60]!r}") from None
    if start < 0 or length < 0 or start + length > len(parts[name]):
        raise InputError(f"onnx: {name[:60]!r} ends before the tensor {tensor.name[:60]!r}", "Copy it again")
    tensor.raw_data = parts[name][start : start + length]
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def image_input(model: Model, layout: str) -> ImageInput:
    """The input that takes images; `layout` settles what the file leaves open.

    Raises
    ------
    InputError
        When there is not exactly one input, it takes no images, or it takes only batches of several.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(given.name for given in inputs[:5]) or "none"
        raise InputError(f"onnx: the model has {len(inputs)} inputs ({names}); one, for images, is needed")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in _TYPES:
        raise InputError(f"onnx: the input {inputs[0].name} is of type {tensor.elem_type}; float or uint8 is needed")
    sides = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    if len(sides) != 4:
        raise InputError(f"onnx: the input {inputs[0].name} has {len(sides)} axes; images in batches have 4")
    if sides[0] not in (None, 1):
        raise InputError(
            f"onnx: the model takes only batches of {sides[0]}", "Export it with a batch of 1, or of any size"
        )
    found = _layout(sides, inputs[0].name) if layout == "auto" else layout
    where, rest = (1, sides[2:]) if found == "nchw" else (3, sides[1:3])
    channels = 3 if sides[where] is None else sides[where]
    if channels not in (1, 3):
        raise InputError(f"onnx: as {found} the input has {channels} channels; 1 or 3 are needed")
    return ImageInput(inputs[0].name, _TYPES[tensor.elem_type], found, channels, rest[0], rest[1])


def _layout(sides: list[int | None], name: str) -> str:
    first, last = sides[1] in (1, 3), sides[3] in (1, 3)
    if first == last:
        raise InputError(
            f"onnx: where the channels of input {name} are is not clear from its shape {sides}",
            "Give layout=nchw or layout=nhwc",
        )
    return "nchw" if first else "nhwc"


# ---- the tensor before the class scores


def find_tensors(model: Model) -> Tensors:
    """Walk back from the outputs to the product that makes the class scores."""
    made = {name: node for node in model.graph.node for name in node.output}
    constant = _constants(model)
    scores: set[str] = set()
    default = ""
    for output in model.graph.output:
        product, passed = _walk_back(model, output.name, made, constant)
        if product is not None:
            scores |= set(passed)
            default = default or next(name for name in product.input if name not in constant)
    if default:
        return Tensors(default, "what the class scores are made of", frozenset(scores))
    return Tensors(model.graph.output[0].name, "the output: no class scores found", frozenset(scores))


def _walk_back(
    model: Model, tensor: str, made: Mapping[str, Node], constant: frozenset[str]
) -> tuple[Node | None, list[str]]:
    """The product behind an output, and the tensors on the way from it."""
    passed = [tensor]
    probabilities = pooling = False
    while tensor in made:
        node = made[tensor]
        free = [name for name in node.input if name and name not in constant]
        kind = node.op_type
        if kind in _PRODUCTS:
            return (node if len(free) == 1 and not pooling else None), passed
        if kind in _CONVOLUTIONS:
            return (node if _scores_classes(model, node, probabilities) else None), passed
        if kind in _PROBABILITIES:
            probabilities = True
        elif kind in _POOLING:
            pooling = True
        elif kind not in _PASS and kind not in ARITHMETIC:
            break
        if len(free) != 1:
            break
        tensor = free[0]
        passed.append(tensor)
    return None, passed


def _scores_classes(model: Model, node: Node, probabilities: bool) -> bool:
    """Whether a convolution is 1x1 and gives as many maps as there are usually classes, or probabilities follow."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    weights = next((shapes[name] for name in node.input[1:] if len(shapes.get(name, ())) == 4), None)
    return weights is not None and weights[2:] == (1, 1) and (probabilities or weights[0] in CLASS_COUNTS)


def _constants(model: Model) -> frozenset[str]:
    """Tensors that do not depend on the image."""
    known = {tensor.name for tensor in model.graph.initializer}
    known |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    for node in model.graph.node:  # in an order in which inputs come first
        inputs = [name for name in node.input if name]
        inner = any(True for attribute in node.attribute if attribute.HasField("g"))
        if node.op_type == "Constant" or (inputs and not inner and all(name in known for name in inputs)):
            known |= set(node.output)
    return frozenset(known)


def all_tensors(model: Model) -> list[str]:
    """Names of the tensors that depend on the image, first to last."""
    constant = _constants(model)
    return [name for node in model.graph.node for name in node.output if name and name not in constant]


def channels_last(model: Model, tensor: str) -> bool:
    """Whether a tensor of four axes has its channels last: something after a Transpose (0, 2, 3, 1)."""
    made = {name: node for node in model.graph.node for name in node.output}
    constant = _constants(model)
    while tensor in made:
        node = made[tensor]
        if node.op_type == "Transpose":
            return [list(a.ints) for a in node.attribute if a.name == "perm"] == [[0, 2, 3, 1]]
        free = [name for name in node.input if name and name not in constant]
        if len(free) != 1 or node.op_type in _CONVOLUTIONS or "Pool" in node.op_type:
            return False
        tensor = free[0]
    return False


# ---- the cut


def cut(model: Model, tensor: str) -> bytes:
    """The model with that tensor as its only output and without what it does not need.

    Raises
    ------
    InputError
        When the model is larger than 2 GiB after the cut.
    """
    onnx = need_onnx()
    needed, kept = {tensor}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(_reads(node))
    smaller = onnx.ModelProto()
    smaller.CopyFrom(_without_graph(model))
    graph = smaller.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(reversed(kept))
    graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    graph.sparse_initializer.extend(t for t in model.graph.sparse_initializer if t.values.name in needed)
    weights = {t.name for t in model.graph.initializer}
    graph.input.extend(given for given in model.graph.input if given.name not in weights)
    graph.output.append(onnx.ValueInfoProto(name=tensor))  # its type is inferred
    try:
        content: bytes = smaller.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's limit of 2 GiB
        raise InputError(f"onnx: the model is too large ({type(error).__name__})") from None
    return content


def _without_graph(model: Model) -> Model:
    onnx = need_onnx()
    head = onnx.ModelProto(ir_version=model.ir_version)
    head.opset_import.extend(model.opset_import)
    head.functions.extend(model.functions)
    return head


def _reads(node: Node) -> Iterator[str]:
    """Names that a node takes, those of its inner graphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for inner in graph.node:
                yield from _reads(inner)
            yield from (output.name for output in graph.output)
