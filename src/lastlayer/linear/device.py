"""Rows that rest on a device: torch tensors, multiplied where they are.

torch is never imported here: a tensor can only come from somebody who has imported it. `DeviceRows` does for tensors
what `linear.rows.Rows` does for arrays. Rows are cut into leaves and parts of fixed size, products are made in float32
(or float64), and everything is added in float64 on the device, so that one device gives the same bits in every run;
another device, or another number of cores, gives other last digits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from lastlayer._arrays import Float64, FloatArray, InputError, IntArray
from lastlayer.linear.rows import WIDE

LEAF_ROWS = {"cuda": 2**16, "cpu": 2**14}
"""Most rows of a leaf for each type of device: few launches there, blocks that fit the cache here."""
LEAF_NUMBERS = 2**27
"""Most numbers of a leaf whose rows have to be converted, half a GiB in float32."""
PART_ROWS = 4096
"""Rows whose products are added in float32; also the rows of a block of `scores`."""
EXACT_IN_FLOAT32 = ("float32", "float16", "uint8", "bool")


def is_tensor(X: Any) -> bool:
    """Whether X is a torch tensor; CuPy arrays are refused by name."""
    if type(X).__module__.split(".")[0] == "cupy":
        raise InputError("X is a CuPy array; torch tensors are what is computed on a GPU", "Give torch.from_dlpack(X)")
    torch = sys.modules.get("torch")
    # While another thread imports torch, it has no Tensor yet, and nobody has one.
    return torch is not None and isinstance(X, getattr(torch, "Tensor", ()))


def on_host(X: Any) -> Any:
    """A tensor's numbers as an array in main memory; anything else as it is."""
    if not is_tensor(X):
        return X
    host = X.detach().cpu()
    return (host.float() if host.dtype == torch_module().bfloat16 else host).numpy()


def stored_type(X: Any) -> np.dtype[Any]:
    """NumPy's type for the numbers of an array or a tensor; float32 for bfloat16, which NumPy lacks."""
    if not is_tensor(X):
        plain: np.dtype[Any] = X.dtype
        return plain
    name = str(X.dtype).removeprefix("torch.")
    try:
        return np.dtype("float32" if name == "bfloat16" else name)
    except TypeError:
        raise InputError(f"X is a tensor of {X.dtype}; real numbers are needed", "Give X.float()") from None


def check_tensor(X: Any, name: str = "X") -> None:
    """Refuse what is not a dense, real tensor of two dimensions, with rows and columns, on the CPU or a CUDA device."""
    if X.device.type not in LEAF_ROWS:
        raise InputError(f"{name} is on {X.device}; cpu and cuda have the float64 sums that are needed", "Give X.cpu()")
    if X.layout != torch_module().strided:
        raise InputError(f"{name} is a sparse tensor; sparse data is not supported", "Give X.to_dense()")
    if X.ndim != 2 or X.numel() == 0:
        raise InputError(f"{name} has shape {tuple(X.shape)}; (N, D) with at least one row and one column is needed")
    if stored_type(X).kind not in "fiub":
        raise InputError(f"{name} has dtype {X.dtype}; real numbers are needed")


def first_not_finite(X: Any) -> tuple[int, int] | None:
    """Row and column of the first NaN or infinite entry of a tensor, or None."""
    if stored_type(X).kind != "f":
        return None
    step = max(1, LEAF_NUMBERS // (8 * X.shape[1]))
    for start in range(0, len(X), step):
        finite = X[start : start + step].isfinite()
        if not finite.all():
            row, column = (~finite).nonzero()[0].tolist()
            return start + row, column
    return None


def refuse_not_finite(X: Any, name: str) -> None:
    """`InputError` LL030 for a tensor with a NaN or infinite entry, naming the first one."""
    where = first_not_finite(X)
    if where is not None:
        raise InputError(
            f"{name} is {float(X[where])} in row {where[0]}, column {where[1]}", "Repair or drop that row", "LL030"
        )


@final
@dataclass(frozen=True, eq=False)
class DeviceRows:
    """The rows of a tensor as the products see them: ``(Z[rows] - shift) * scale``; the twin of `Rows`.

    Methods take and give tensors on Z's device where the numbers grow with N, arrays otherwise.

    Parameters
    ----------
    Z : torch.Tensor
        (N, D) features of any real type, on the CPU or a CUDA device.
    rows, shift, scale, threads, in_float64
        As in `Rows`; threads are for work on the host.
    """

    Z: Any
    rows: IntArray | None = None
    shift: Float64 | None = None
    scale: Float64 | None = None
    threads: int = 1
    in_float64: bool = False

    def __len__(self) -> int:
        return len(self.Z) if self.rows is None else len(self.rows)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.Z.shape[1])

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of Z."""
        return stored_type(self.Z)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the products."""
        wide = self.stored == np.float64 or (self.stored.kind in "iu" and self.stored.itemsize > 2)
        return np.dtype(np.float64 if wide or self.in_float64 else np.float32)

    @property
    def torch(self) -> Any:
        """The module that made the tensor."""
        return torch_module()

    @cached_property
    def _index(self) -> Any:
        return None if self.rows is None else self.up(self.rows)

    @property
    def _type(self) -> Any:
        return getattr(torch_module(), self.dtype.name)

    def up(self, numbers: Any, dtype: Any = None) -> Any:
        """A copy of an array on the device."""
        return torch_module().tensor(numbers, dtype=dtype, device=self.Z.device)

    def block(self, start: int, stop: int, every: int = 1) -> Any:
        """Rows `start` to `stop` (every `every`-th), ready for a product; never to be written to."""
        span = slice(start, stop, every)
        return self._ready(self.Z[span if self._index is None else self._index[span]])

    def pick(self, numbers: IntArray) -> FloatArray:
        """Some rows in the order given, copied to the host."""
        picked: FloatArray = on_host(self._ready(self.among(numbers).Z))
        return picked

    def among(self, numbers: IntArray) -> DeviceRows:
        """Some rows in the order given, copied on the device, with the same changes to their columns."""
        return replace(self, Z=self.Z[self.up(numbers if self.rows is None else self.rows[numbers])], rows=None)

    def _ready(self, part: Any) -> Any:
        if self.shift is None:
            return part.to(self._type)
        torch = torch_module()
        exact = self.scale is None and self.stored.name in EXACT_IN_FLOAT32 and self.dtype == np.float32
        work = torch.float32 if exact else torch.float64
        moved = part.to(work) - self.up(self.shift, work)
        if self.scale is not None:
            moved *= self.up(self.scale, work)
        return moved.to(self._type)

    def leaves(self, n_rows: int | None = None) -> list[tuple[int, int]]:
        """First and last row of each leaf."""
        most = max(PART_ROWS, LEAF_NUMBERS // self.n_features // PART_ROWS * PART_ROWS)
        step = n_rows or min(LEAF_ROWS[self.Z.device.type], most)
        return [(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def sum_over(self, term: Callable[[int, int], Any], *, size: int = 0) -> Float64:
        """``Σ term(first row, last row)`` over leaves, added in float64 on the device, then copied to the host.

        One term is alive beside the sum, of whatever `size`.
        """
        with exact_products(self.Z):
            (start, stop), *others = self.leaves()
            total = term(start, stop).double()
            for start, stop in others:
                total += term(start, stop)
        return np.asarray(on_host(total), dtype=np.float64)

    def product(self, right: FloatArray, added: FloatArray, out: Any, start: int, stop: int) -> None:
        """``out[:, start:stop] = (Z right + added)ᵀ``."""
        self.product_of(right, added, out[:, start:stop], start, stop)

    def product_of(self, right: FloatArray, added: FloatArray, out: Any, start: int, stop: int) -> None:
        """``out = (Z right + added)ᵀ`` for out (K, stop - start)."""
        W, b = self.up(right, self._type), self.up(added, self._type)
        torch_module().addmm(b[:, None], W.T, self.block(start, stop).T, out=out)

    def back_product(self, P: Any, start: int, stop: int) -> Any:
        """``P Z`` (K, D) in float64 for P (K, leaf rows): products of a part's rows in the products' type."""
        torch = torch_module()
        X = self.block(start, stop)
        n_parts = len(X) // PART_ROWS
        whole = n_parts * PART_ROWS
        total = torch.zeros(len(P), X.shape[1], dtype=torch.float64, device=X.device)
        if n_parts:
            left = P[:, :whole].unflatten(1, (n_parts, PART_ROWS)).transpose(0, 1)
            total += torch.bmm(left, X[:whole].unflatten(0, (n_parts, PART_ROWS))).sum(0, dtype=torch.float64)
        if whole < len(X):
            total += P[:, whole:] @ X[whole:]
        return total

    def empty(self, n_outputs: int) -> Any:
        """Room for scores (K, N)."""
        return torch_module().empty(n_outputs, len(self), dtype=self._type, device=self.Z.device)

    def constant(self, added: FloatArray) -> Any:
        """Scores (K, N) that are the same in every row."""
        return self.up(added, self._type)[:, None].repeat(1, len(self))

    def scores(self, right: FloatArray, added: FloatArray) -> Any:
        """``(Z right + added)ᵀ``, (K, N)."""
        out = self.empty(len(added))
        with exact_products(self.Z):
            for leaf in self.leaves():
                self.product(right, added, out, *leaf)
        return out

    def choose(self, scores: Any, numbers: IntArray) -> Any:
        """Scores (K, n) of some rows."""
        return scores[:, self.up(numbers)]

    def ranges(self) -> tuple[Float64, Float64]:
        """Smallest and largest value of every column, (D,) each; NaN where a column holds one."""
        found = [block.aminmax(dim=0) for block in (self.block(*leaf) for leaf in self.leaves())]
        torch = torch_module()
        low, high = torch.stack([f.min for f in found]).amin(0), torch.stack([f.max for f in found]).amax(0)
        return on_host(low.double()), on_host(high.double())

    def column_sums(self, weights: FloatArray | None = None) -> Float64:
        """``Σᵢ wᵢ zᵢ``, (D,)."""
        w = self._weights(weights)[None]
        total: Float64 = self.sum_over(lambda a, b: self.back_product(w[:, a:b], a, b))[0]
        return total

    def second_moments(self, weights: FloatArray | None = None, every: int = 1) -> tuple[FloatArray, Float64, float]:
        """``Σ w z zᵀ``, ``Σ w z`` and ``Σ w`` over every `every`-th row; the sums are made on the device."""
        torch = torch_module()
        d, w = self.n_features, self._weights(weights)
        total = torch.zeros(d, d, dtype=torch.float64, device=self.Z.device)
        sums = torch.zeros(1, d, dtype=torch.float64, device=self.Z.device)
        with exact_products(self.Z):
            for start, stop in self.leaves(PART_ROWS * every):
                X, some = self.block(start, stop, every), w[start:stop:every]
                total += (X if weights is None else X * some[:, None]).T @ X
                sums += some[None] @ X
        if d > WIDE and self.dtype == np.float32:
            total = total.float()
        return on_host(total), on_host(sums[0]), float(w[::every].sum(dtype=torch.float64))

    def _weights(self, weights: FloatArray | None) -> Any:
        if weights is None:
            return torch_module().ones(len(self), dtype=self._type, device=self.Z.device)
        return self.up(weights, self._type)


def scores(Z: Any, W: FloatArray, b: FloatArray, dtype: np.dtype[Any] | None = None) -> Any:
    """Class scores ``Z W + b`` (N, K) of a tensor, on its device; float64 for float64 features, else float32.

    As in `linear.scores` every row is multiplied in float64, inside a block of the same number of rows.
    """
    torch = torch_module()
    if Z.ndim != 2 or Z.shape[1] != len(W):
        raise InputError(
            f"features have shape {tuple(Z.shape)}, the weights {W.shape}", f"Give features of shape (N, {len(W)})"
        )
    Z = Z.detach()
    kind = dtype or np.dtype(np.float64 if Z.dtype == torch.float64 else np.float32)
    right, added = (torch.tensor(a, dtype=torch.float64, device=Z.device) for a in (W, b))
    out = torch.empty(len(Z), W.shape[1], dtype=getattr(torch, kind.name), device=Z.device)
    full = torch.zeros(PART_ROWS, len(W), dtype=torch.float64, device=Z.device)
    with exact_products(Z):
        for start in range(0, len(Z), PART_ROWS):
            block = Z[start : start + PART_ROWS]
            full[: len(block)] = block
            full[len(block) :] = 0.0
            out[start : start + PART_ROWS] = torch.addmm(added, full, right)[: len(block)]
    return out


class _Exactness:
    """Float32 products in full float32 while anybody is inside; the settings found are restored by the last to leave.

    torch has two ways to set this, and raises an error where they were mixed: the older one is left in step, if it was.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.older: str | None = None
        self.newer: list[str] = []

    def enter(self) -> None:
        torch = torch_module()
        with self.lock:
            if self.inside == 0:
                self.newer = [backend.fp32_precision for backend in _backends()]
                try:
                    self.older = torch.get_float32_matmul_precision()
                    torch.set_float32_matmul_precision("highest")
                except RuntimeError:
                    self.older = None
                for backend in _backends():
                    backend.fp32_precision = "ieee"
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                if self.older is not None:
                    torch_module().set_float32_matmul_precision(self.older)
                for backend, found in zip(_backends(), self.newer):
                    backend.fp32_precision = found


_exactness = _Exactness()


@contextmanager
def exact_products(Z: Any) -> Iterator[None]:
    """No TF32, no bfloat16 and no autocasting for the products with Z; nests, and may be entered by several threads."""
    _exactness.enter()
    try:
        with torch_module().autocast(Z.device.type, enabled=False):
            yield
    finally:
        _exactness.leave()


def _backends() -> list[Any]:
    """Where newer versions of torch keep the precision of float32 products."""
    backends = torch_module().backends
    return [b for b in (backends.cuda.matmul, backends.mkldnn.matmul) if hasattr(b, "fp32_precision")]


def torch_module() -> Any:
    """The module that made the tensors there are."""
    return sys.modules["torch"]
