"""An architecture on a device, with its arrays as tensors: what training and its checks run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32
from lastlayer._errors import InputError
from lastlayer.networks._checks import need_torch
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.base import EVALUATION, Mode
from lastlayer.networks.layers import Activation, Dropout, RadialOutputs

STARTS = 1
BLOCK_ROWS, BLOCK_NUMBERS = 512, 1 << 26
"""Images are judged so many at a time, or fewer, so that no layer's output has more numbers."""


@final
class Model:
    """An architecture on a device.

    Attributes
    ----------
    learned, running : list of str
        Names of the arrays that gradients move, and of the others but the input's.
    random : bool
        Whether a forward pass in training draws random numbers.
    radial : bool
        Whether the scores are ``-½ ‖x - w_k‖²``.
    rows : int
        How many images are judged at a time.
    """

    def __init__(self, architecture: Architecture, device: Any) -> None:
        architecture.check_trainable()
        self.architecture, self.device = architecture, device
        self.n_classes = architecture.n_classes
        self.learned = architecture.learned
        others = (name for name in architecture.parameters if name not in set(self.learned))
        self.running = [name for name in others if not name.startswith("input.")]
        self.random = any(isinstance(layer, Dropout) for _, layer in architecture.layers)
        self.radial = isinstance(architecture.layers[-1][1], RadialOutputs)
        largest = max(int(np.prod(shape, dtype=np.int64)) for shape in architecture.shapes())
        self.rows = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // largest))

    def begin(self, images: Array, seed: int) -> dict[str, Float32]:
        """Arrays before training: random weights by the seed, and what the training images decide."""
        rng = np.random.default_rng([seed, STARTS])
        return {**self.architecture.initial(rng), **self.architecture.prepare(images)}

    def tensors(self, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Copies on the device; filters in channels-last memory, as the images are."""
        torch = need_torch()
        found = {}
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.array(array, np.float32)).to(self.device)
            found[name] = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        return found

    def arrays(self, tensors: Mapping[str, Any]) -> dict[str, Float32]:
        """Copies of the tensors as plain arrays."""
        return {name: tensor.detach().cpu().contiguous().numpy().copy() for name, tensor in tensors.items()}

    def images(self, images: Array) -> Any:
        """Images (B, H, W, C) as a tensor on the device."""
        return need_torch().from_numpy(np.array(images)).to(self.device)

    def scores(
        self,
        tensors: Mapping[str, Any],
        images: Any,
        mode: Mode = EVALUATION,
        *,
        bfloat16: bool = False,
        activations: list[tuple[str, str, Any]] | None = None,
    ) -> Any:
        """Scores (B, K) of a tensor of images (B, H, W, C), float32.

        Parameters
        ----------
        tensors : dict
        images : tensor, uint8 or float32
        mode : Mode
        bfloat16 : bool
            Products and convolutions in bfloat16.
        activations : list, optional
            Takes (layer, function, outputs) of every activation layer.
        """
        torch = need_torch()
        x = self.architecture.input.forward(images, tensors["input.mean"], tensors["input.std"])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            for name, layer, keys in self.architecture.plan:
                x = layer.forward(x, {own: tensors[full] for own, full in keys}, mode)
                if activations is not None and isinstance(layer, Activation):
                    activations.append((name, layer.name, x))
        return x.float()


def choose_device(name: str) -> Any:
    """The device of a plan: "auto" is a GPU where PyTorch finds one.

    Raises
    ------
    InputError
        For a GPU that is not there.
    """
    torch = need_torch()
    there = torch.cuda.is_available()
    if there and name != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    if name.startswith("cuda") and not there:
        raise InputError(f"device is {name}, and PyTorch {torch.__version__} finds no CUDA device", "Give --device cpu")
    try:
        device = torch.device("cuda" if name == "auto" and there else "cpu" if name == "auto" else name)
    except RuntimeError:
        raise InputError(f"device is {name!r}", "Give auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device is {name}; there are {torch.cuda.device_count()} CUDA devices", "Give --device cuda")
    return device


@contextmanager
def deterministic(device: Any) -> Iterator[None]:
    """Let PyTorch use deterministic algorithms alone inside; the settings found are restored.

    On a GPU an operation that has none is told as PyTorch's warning, and runs.
    """
    torch = need_torch()
    settings, cudnn = torch.utils.deterministic, torch.backends.cudnn
    mode = torch.get_deterministic_debug_mode()
    before = (settings.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark)
    # use_deterministic_algorithms would do the same, and import PyTorch's compiler for some seconds
    torch.set_deterministic_debug_mode("warn" if device.type == "cuda" else "error")
    # filling memory with NaN finds bugs of kernels, and costs time
    settings.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark = False, True, False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        settings.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark = before
