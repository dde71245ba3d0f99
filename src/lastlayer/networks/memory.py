"""Memory that the C library keeps for the next step, instead of giving it back and asking again."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of the settings in glibc's malloc.h."""


@cache
def keep_pages() -> bool:
    """Let glibc keep large blocks that are freed; True where that could be set.

    Every layer's output is a large block. glibc maps fresh pages for each and returns them at once, and the kernel
    clears them anew in every step: a third of the time of a training step was measured. The setting holds for the
    process and cannot be undone; memory that was freed stays with the process until it ends.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(TRIM_THRESHOLD, (1 << 31) - 1))
