"""One BLAS thread a task, tasks side by side on a pool: the same bits on any number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class _Guard:
    """One BLAS thread while anybody is inside; the setting found is restored by the last to leave."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.limits: Any = None

    def enter(self) -> None:
        from threadpoolctl import threadpool_limits

        with self.lock:
            if self.inside == 0:
                self.limits = threadpool_limits(limits=1, user_api="blas")
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.limits.restore_original_limits()
                self.limits = None


_guard = _Guard()


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """One BLAS thread inside the block; nests, and may be entered by several threads at once."""
    _guard.enter()
    try:
        yield
    finally:
        _guard.leave()


def available_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a forked child has the executor objects but none of their threads
    os.register_at_fork(after_in_child=_pools.clear)


def parallel(function: Callable[..., T], items: Sequence[Any], threads: int) -> list[T]:
    """``[function(i) for i in items]`` on that many threads; results in the order of the items.

    Not to be called from inside `function`.
    """
    threads = min(threads, len(items))
    if threads <= 1:
        return [function(item) for item in items]
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="lastlayer")
        pool = _pools[threads]
    return list(pool.map(function, items))
