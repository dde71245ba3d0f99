"""A PyTorch module made by a factory that the user names, and the tensor before its class scores.

PyTorch is imported here, inside functions, and only when a representation of this kind is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, InputError
from lastlayer.representations.backbone import CLASS_COUNTS

TRUSTED = "LASTLAYER_TRUST"
"""Environment variable: factories that a model file may have imported, as in ``torch:PACKAGE:FACTORY``, with commas."""
LIBRARIES = ("timm", "torchvision")
_NAMED: set[tuple[str, str]] = set()
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LIBRARY_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")


def check_factory(package: Any, factory: Any) -> None:
    """Refuse what is no dotted name of a module and of something in it; for timm and torchvision a model's name."""
    if not isinstance(package, str) or len(package) > 256 or not _DOTTED.fullmatch(package):
        raise InputError(
            f"torch: the package is {package!r:.60}; a dotted name is needed", "Write torch:PACKAGE:FACTORY"
        )
    right = _LIBRARY_MODEL if package in LIBRARIES else _DOTTED
    if not isinstance(factory, str) or len(factory) > 256 or not right.fullmatch(factory):
        raise InputError(f"torch: the factory is {factory!r:.60}; a name in {package} is needed")


def name_factory(package: str, factory: str) -> None:
    """Remember that the user has named this factory: from now on it may be imported."""
    _NAMED.add((package, factory))


def refuse_unnamed(package: str, factory: str) -> None:
    """A model file alone must never make Python import something: it comes from anywhere.

    Raises
    ------
    InputError
        When the user has named the factory neither in this process nor in the environment.
    """
    shown = f"{package}:{factory}" if package in LIBRARIES else f"torch:{package}:{factory}"
    allowed = [entry.strip() for entry in os.environ.get(TRUSTED, "").split(",")]
    if (package, factory) not in _NAMED and shown not in allowed:
        raise InputError(
            f"the model needs {shown}, which is code that has to be imported",
            f"If you trust it, set {TRUSTED}={shown} and try again",
        )


def need_torch() -> Any:
    """Return the torch package.

    Raises
    ------
    InputError
        LL060 when it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        what = f"phi torch needs the package torch ({error})"
        raise InputError(what, "pip install 'lastlayer[torch]'", "LL060") from None
    return torch


def build(package: str, factory: str, arguments: Mapping[str, Any], seed: int) -> Any:
    """Call the factory; what it draws at random is drawn from `seed`.

    Raises
    ------
    InputError
        LL060 when the package cannot be imported; otherwise when it has no such factory, or this fails or gives no
        module.
    """
    torch = need_torch()
    maker = _maker(package, factory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = maker(**arguments)
        except Exception as error:  # whatever the user's code raises
            told = f"{type(error).__name__}: {str(error)[:300]}"
            raise InputError(f"torch: {package}:{factory} failed ({told})", "Check its arguments") from error
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"torch: {package}:{factory} gives a {type(module).__name__}, no torch.nn.Module")
    return module.eval().requires_grad_(False)


def _maker(package: str, factory: str) -> Any:
    library = {"timm": "timm", "torchvision": "torchvision.models"}.get(package, package)
    try:
        found: Any = importlib.import_module(library)
    except ImportError as error:
        mend = f"pip install {package}" if package in LIBRARIES else "Give the name of an installed module"
        raise InputError(f"torch: {library} cannot be imported ({error})", mend, "LL060") from None
    if package == "timm":
        return lambda **arguments: found.create_model(factory, **arguments)
    if package == "torchvision":
        return lambda **arguments: found.get_model(factory, **arguments)
    for part in factory.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"torch: {package} has no factory {factory}", "Write torch:PACKAGE:FACTORY")
    return found


def weights_hash(module: Any) -> str:
    """SHA-256 of all parameters and buffers, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        here = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {here.dtype} {tuple(here.shape)}\n".encode())
        digest.update(here.flatten().view(dtype=need_torch().uint8).numpy().tobytes() if here.numel() else b"")
    return digest.hexdigest()


@final
@dataclass(frozen=True)
class Tap:
    """Where features are taken.

    Attributes
    ----------
    module : str
        Name of the submodule; "" is the whole network.
    side : {"input", "output"}
    scores : bool
        Whether they are class scores.
    """

    module: str
    side: str
    scores: bool


def find_tap(module: Any, x: Array, wanted: str) -> Tap:
    """The input of the last Linear to run, where the network's output is what it gives; else the output.

    A 1x1 convolution whose maps are averaged counts as well, where there are as many maps as there are usually classes.

    `wanted` names a submodule whose output to take instead.

    Raises
    ------
    InputError
        When there is no such submodule.
    """
    torch = need_torch()
    names = dict(module.named_modules())
    if wanted and wanted not in names:
        import difflib

        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.3)
        raise InputError(f"torch: the network has no module {wanted!r:.60}", f"There are {', '.join(near)}, …")
    ran: list[tuple[str, Any]] = []
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: ran.append((name, out)))
        for name, part in names.items()
        if isinstance(part, torch.nn.Linear) or (isinstance(part, torch.nn.Conv2d) and part.kernel_size == (1, 1))
    ]
    try:
        outputs = _tensors(forward(module, x))
    finally:
        for hook in hooks:
            hook.remove()
    last = next(((name, out) for name, out in reversed(ran) if any(_same(out, given) for given in outputs)), None)
    if wanted:
        return Tap(wanted, "output", last is not None and wanted == last[0])
    return Tap("", "output", False) if last is None else Tap(last[0], "input", False)


def _same(scores: Any, output: Any) -> bool:
    """Whether an output holds these scores, or probabilities made of them."""
    torch = need_torch()
    if isinstance(scores, torch.Tensor) and scores.ndim == 4 and scores.shape[1] in CLASS_COUNTS:
        means = (scores.mean(dim=(2, 3)), scores.relu().mean(dim=(2, 3)))
        return any(_same(mean, output) for mean in means)
    if not isinstance(scores, torch.Tensor) or scores.ndim == 4 or scores.numel() != output.numel():
        return False
    scores, output = scores.reshape(-1).double(), output.reshape(-1).double()
    forms = (scores, scores.softmax(0), scores.log_softmax(0), scores.sigmoid())
    return any(bool(torch.equal(form.to(output), output) or torch.allclose(form, output)) for form in forms)


def _tensors(value: Any) -> list[Any]:
    """Tensors of an output: itself, or those of a tuple, a list or a mapping."""
    if isinstance(value, need_torch().Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def forward(module: Any, x: Array) -> Any:
    """Run the network on a batch, without gradients."""
    torch = need_torch()
    first = next(module.parameters(), None)
    device = "cpu" if first is None else first.device
    try:
        with torch.inference_mode():
            return module(torch.from_numpy(x).to(device))
    except Exception as error:  # whatever the user's code raises
        told = f"{type(error).__name__}: {str(error)[:300]}"
        raise InputError(f"torch: the network fails on an image of {x.shape[1:]} ({told})", "Give size=") from error


class Tapped:
    """A module whose tap is read after every forward pass; several threads may run it at once."""

    def __init__(self, module: Any, tap: Tap) -> None:
        self.module, self.tap = module, tap
        self._here = threading.local()
        part = dict(module.named_modules())[tap.module]
        if tap.side == "input":
            part.register_forward_pre_hook(lambda _, inputs: self._keep(inputs))
        else:
            part.register_forward_hook(lambda _, __, output: self._keep(output))

    def _keep(self, value: Any) -> None:
        self._here.value = value

    def __call__(self, x: Array) -> Array:
        """The tensor at the tap for a batch."""
        self._here.value = None
        forward(self.module, x)
        tensors = _tensors(self._here.value)
        if not tensors:
            raise InputError(f"torch: the module {self.tap.module!r:.60} gives no tensor", "Give another module=")
        out: Array = np.asarray(tensors[0].float().cpu().numpy())
        return out


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """While several images run side by side each runs on one thread, so that its bits depend on nothing else."""
    torch = need_torch()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def one_thread_here() -> None:
    """The same for a thread of a pool: PyTorch keeps the number for each."""
    torch = need_torch()
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
