"""Convolution: one small window of weights, shared by all places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, final

from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks import initialisation
from lastlayer.networks.base import Layer, Mode, Parameter, Shape

Table = tuple[tuple[int, ...], ...]


@final
@dataclass(frozen=True)
class Convolution(Layer):
    """``y[o] = b[o] + Σ_c w[o, c] * x[c]``, where * is the sliding product with a window (correlation).

    Parameters
    ----------
    maps : int
        Feature maps that come out.
    kernel, stride, padding : int
        Of square windows; the padding is zeros.
    groups : int
        Input and output maps fall into so many parts that do not see each other (Krizhevsky et al. 2012).
    table : tuple of tuples, optional
        The input maps that each output map sees, as in C3 of LeNet-5 (LeCun et al. 1998, table I).
    init : str
    bias : bool
    initial_bias : float

    Shapes
    ------
    weight : (maps, C / groups, kernel, kernel); with a table (connections, kernel, kernel), in the table's order.
    """

    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    table: Table = ()
    init: str = "he"
    bias: bool = True
    initial_bias: float = 0.0

    kind: ClassVar[str] = "convolution"

    def __post_init__(self) -> None:
        for name in ("maps", "kernel", "stride", "groups"):
            check.whole(self.kind, name, getattr(self, name), 1, check.LARGEST if name == "maps" else 4096)
        check.whole(self.kind, "padding", self.padding, 0, 4096)
        check.flag(self.kind, "bias", self.bias)
        check.number(self.kind, "initial_bias", self.initial_bias, -100.0, 100.0)
        initialisation.check_rule(self.kind, self.init)
        if self.maps % self.groups:
            raise InputError(f"convolution: {self.maps} maps do not fall into {self.groups} equal groups")
        if self.padding >= self.kernel:
            raise InputError(f"convolution: padding {self.padding} is not smaller than the window {self.kernel}")
        if self.table:
            self._check_table()

    def _check_table(self) -> None:
        if self.groups > 1 or len(self.table) != self.maps or self.init == "dirac":
            raise InputError(
                f"convolution: a table of {len(self.table)} rows, {self.maps} maps, {self.groups} groups, {self.init}",
                "Give a row for every map, no groups, and another init than dirac",
            )
        for row in self.table:
            for seen in row:
                check.whole(self.kind, "table", seen, 0, 4095)
            if not row or len(set(row)) != len(row):
                raise InputError(f"convolution: the table has the row {list(row)!r:.60}", "Each map is listed once")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        rows, columns = check.windows(self.kind, shape, self.kernel, self.stride, self.padding)
        if shape[2] % self.groups:
            raise InputError(f"convolution: {shape[2]} input maps do not fall into {self.groups} equal groups")
        highest = max((max(row) for row in self.table), default=0)
        if highest >= shape[2]:
            raise InputError(f"convolution: the table names map {highest} and the input {check.size(shape)}")
        return rows, columns, self.maps

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        area = self.kernel**2
        sides = (self.kernel, self.kernel)
        connections = sum(map(len, self.table))
        inputs = connections // self.maps if self.table else shape[2] // self.groups
        full = (connections, *sides) if self.table else (self.maps, inputs, *sides)
        fan_in = max(1, inputs) * area
        rule = initialisation.weights(self.init, fan_in, self.maps // self.groups * area)
        found = {"weight": Parameter(full, rule)}
        if self.bias:
            found["bias"] = Parameter((self.maps,), initialisation.biases(self.init, fan_in, self.initial_bias))
        return found

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        weight = parameters["weight"]
        if self.table:
            places = _places(self.table, x.shape[1], weight.device)
            filters = weight.new_zeros((self.maps * x.shape[1], self.kernel, self.kernel))
            weight = filters.index_copy(0, places, weight).view(self.maps, x.shape[1], self.kernel, self.kernel)
        return check.functional().conv2d(
            x, weight, parameters.get("bias"), self.stride, self.padding, groups=self.groups
        )

    def multiply_adds(self, shape: Shape) -> int:
        """Of one example."""
        rows, columns, _ = self.output_shape(shape)
        pairs = sum(map(len, self.table)) if self.table else self.maps * (shape[2] // self.groups)
        return rows * columns * pairs * self.kernel**2

    def describe(self) -> str:
        """Kind and settings."""
        extra = f", stride {self.stride}" if self.stride > 1 else ""
        extra += f", padding {self.padding}" if self.padding else ""
        extra += f", {self.groups} groups" if self.groups > 1 else ""
        extra += ", connection table" if self.table else ""
        return f"convolution {self.maps} @ {self.kernel}x{self.kernel}{extra}"


@lru_cache(maxsize=32)
def _places(table: Table, inputs: int, device: Any) -> Any:
    """Where each connection lies among all pairs (output map, input map)."""
    places = [o * inputs + seen for o, row in enumerate(table) for seen in row]
    return check.need_torch().tensor(places, device=device)
