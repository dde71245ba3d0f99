"""Small networks in ONNX files, and the same in NumPy: flattened pixels, one hidden layer, class scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, HIDDEN, CLASSES = 6, 5, 4
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def weights(channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(SIDE * SIDE * channels, HIDDEN)) / 10
    return first.astype(np.float32), rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32)


def hidden(x: np.ndarray, channels: int = 3) -> np.ndarray:
    """What the tensor "hidden" holds for prepared inputs (n, …)."""
    return np.maximum(x.reshape(len(x), -1).astype(np.float64) @ weights(channels)[0], 0)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=f"make_{output}", **attributes)


def constant(name: str, value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shape: list[Any],
    outputs: tuple[str, ...] = ("output",),
    dtype: str = "float32",
    metadata: dict[str, str] | None = None,
) -> Path:
    given = helper.make_tensor_value_info("pixels", TYPES[dtype], shape)
    made = [helper.make_empty_tensor_value_info(name) for name in outputs]
    for value in made:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph(nodes, "small", [given], made, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save_model(model, str(path))
    return path


def mlp(
    path: Path,
    layout: str = "nchw",
    batch: Any = "N",
    channels: int = 3,
    dtype: str = "float32",
    first: list[onnx.NodeProto] | None = None,
    first_constants: list[onnx.TensorProto] | None = None,
    sides: tuple[Any, Any] = (SIDE, SIDE),
    metadata: dict[str, str] | None = None,
) -> Path:
    """pixels -> (first) -> flat -> hidden -> logits -> output (softmax)."""
    W1, W2 = weights(channels)
    start = first[-1].output[0] if first else "pixels"
    nodes = [
        *(first or []),
        node("Flatten", [start], "flat", axis=1),
        node("MatMul", ["flat", "W1"], "product"),
        node("Relu", ["product"], "hidden"),
        node("Gemm", ["hidden", "W2", "b2"], "logits"),
        node("Softmax", ["logits"], "output", axis=1),
    ]
    constants = [constant("W1", W1), constant("W2", W2), constant("b2", np.zeros(CLASSES, np.float32))]
    shape = [batch, channels, *sides] if layout == "nchw" else [batch, *sides, channels]
    return save(path, nodes, [*constants, *(first_constants or [])], shape, dtype=dtype, metadata=metadata)


def convolutional(path: Path, scores: str = "gemm") -> Path:
    """pixels -> maps (4 places by 4) -> class scores from their mean, or by a 1x1 convolution, or none at all."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(7, 3, 3, 3)).astype(np.float32) / 5
    nodes = [node("Conv", ["pixels", "K"], "convolved"), node("Relu", ["convolved"], "maps")]
    constants = [constant("K", kernel)]
    if scores == "gemm":
        nodes += [
            node("GlobalAveragePool", ["maps"], "means"),
            node("Flatten", ["means"], "flat"),
            node("Gemm", ["flat", "W"], "output"),
        ]
        constants.append(constant("W", rng.normal(size=(7, CLASSES)).astype(np.float32)))
    elif scores == "conv":
        nodes += [
            node("Conv", ["maps", "W"], "places"),
            node("GlobalAveragePool", ["places"], "means"),
            node("Softmax", ["means"], "output", axis=1),
        ]
        constants.append(constant("W", rng.normal(size=(CLASSES, 7, 1, 1)).astype(np.float32)))
    else:
        nodes[-1] = node("Relu", ["convolved"], "output")
    return save(path, nodes, constants, ["N", 3, SIDE, SIDE])
