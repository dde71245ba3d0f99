"""Compiled loops: numba's `njit` with the project's settings, typed, and cached on disk where there is a place.

Only modules of kernels import this one, and they are imported only for problems large enough to pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

REORDER = frozenset({"reassoc", "contract", "nsz"})
"""What the compiler may do to sums so that they run in vectors. NaN and infinity keep their meaning."""


def compiled(function: F) -> F:
    """Compile for the types it is first called with; runs without the interpreter's lock.

    A given machine always gives the same bits: the order of each sum is fixed when the function is compiled.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "boundscheck": False,
        "error_model": "numpy",
        "fastmath": set(REORDER),
    }
    try:
        made: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written: compile every time
        made = numba.njit(**options)(function)
    return made


@intrinsic  # type: ignore[untyped-decorator]
def float_of_bits(_context: Any, _bits: Any) -> Any:
    """The float32 whose bits are those of an int32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate
