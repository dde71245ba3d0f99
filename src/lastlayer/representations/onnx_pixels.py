"""What an ONNX file says of its pixels: the normalisation that its graph does itself, and its metadata."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from lastlayer._arrays import Array
from lastlayer.representations.onnx_graph import ARITHMETIC, ImageInput, Model, need_onnx

_LEADING = {"Cast", "Transpose", "Identity", "Unsqueeze", "Squeeze"}


def normalisation(model: Model, given: ImageInput) -> tuple[Array, Array] | None:
    """(a, b) of the a x + b that the graph itself does first, one number each or one a channel; None: nothing.

    Follows the input as long as one node uses it and that node is arithmetic with constants.
    """
    tensor, found = given.name, False
    a, b = np.ones(1), np.zeros(1)
    values = _values(model)
    while True:
        users = [node for node in model.graph.node if tensor in node.input]
        if len(users) != 1 or users[0].op_type not in _LEADING | ARITHMETIC:
            return (a, b) if found else None
        node = users[0]
        if node.op_type in ARITHMETIC:
            other = node.input[1] if node.input[0] == tensor else node.input[0]
            value = values.get(other)
            first = node.input[0] == tensor
            if value is None or value.size not in (1, given.channels) or (node.op_type == "Div" and not first):
                return (a, b) if found else None
            a, b = _then(node.op_type, first, value.reshape(-1).astype(np.float64), a, b)
            found = True
        tensor = node.output[0]


def _then(kind: str, first: bool, v: Array, a: Array, b: Array) -> tuple[Array, Array]:
    if kind == "Add":
        return a + 0 * v, b + v
    if kind == "Sub":
        return (a + 0 * v, b - v) if first else (-a + 0 * v, v - b)
    if kind == "Mul":
        return a * v, b * v
    return a / v, b / v


def _values(model: Model) -> dict[str, Array]:
    """Small constant tensors by name."""
    onnx = need_onnx()
    small = [tensor for tensor in model.graph.initializer if int(np.prod(tensor.dims, dtype=np.int64)) <= 3]
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in small}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            if int(np.prod(tensor.dims, dtype=np.int64)) <= 3:
                found[node.output[0]] = onnx.numpy_helper.to_array(tensor)
    return found


def white_of(a: Array, b: Array) -> float:
    """Value of a white pixel, 1 or 255, for which a x + b is a sensible normalisation.

    255 where the mean taken off is more than 1.5 (so it cannot be one of 0..1), or pixels are scaled down tenfold.
    """
    mean = np.abs(b / np.where(a == 0, 1.0, a))
    return 255.0 if bool((mean > 1.5).any()) or bool((np.abs(a) < 0.1).all()) else 1.0


def metadata(model: Model) -> dict[str, Any]:
    """What ``metadata_props`` say of the preprocessing, by the names of our options.

    Understood are ONNX's own ``Image.NominalPixelRange`` and ``Image.BitmapPixelFormat``, and ``mean``, ``std``,
    ``range``, ``order`` and ``size`` (or ``imgsz``) with JSON values.
    """
    props = {entry.key: entry.value for entry in model.metadata_props}
    found: dict[str, Any] = {}
    for key in ("mean", "std", "range", "size", "imgsz"):
        if key in props:
            try:
                value = json.loads(props[key])
            except ValueError:
                continue  # a word of somebody else's: no statement for us
            numbers = value if isinstance(value, list) else [value]
            if numbers and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers):
                found["size" if key == "imgsz" else key] = value
    pixels = props.get("Image.NominalPixelRange", "")
    if pixels == "NominalRange_0_255":
        found |= {"range": 255, "mean": None, "std": None}
    elif pixels == "Normalized_0_1":
        found |= {"range": 1, "mean": None, "std": None}
    elif pixels == "Normalized_1_1":
        found |= {"range": 1, "mean": 0.5, "std": 0.5}
    order = props.get("Image.BitmapPixelFormat", props.get("order", ""))[:3].lower()
    return found | ({"order": order} if order in ("rgb", "bgr") else {})
