"""One BLAS thread a task, tasks side by side on a pool: the same bits on any number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar, final

T = TypeVar("T")


class _Guard:
    """One BLAS thread while anybody is inside; the setting found is restored by the last to leave."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.limits: Any = None

    def enter(self) -> None:
        from threadpoolctl import ThreadpoolController

        with self.lock:
            if self.inside == 0:
                _open_control()
                self.limits = ThreadpoolController().limit(limits=1, user_api="blas")
                _open_control()
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                _open_control()
                self.limits.restore_original_limits()
                _open_control()
                self.limits = None


def _open_control() -> None:
    """Let this thread set the limits of OpenBLAS.

    threadpoolctl 3.8 obeys only the first thread that sets limits, and ignores others in silence: a fit in a worker
    thread would run on several BLAS threads, and the last of two fits to end could not restore the setting.
    """
    from threadpoolctl import OpenBLASController

    clear = getattr(OpenBLASController, "clear_controlling_thread", None)  # older versions obey every thread
    if clear is not None:
        clear(force=True)


def _limit_openmp() -> None:
    """One thread for an OpenMP BLAS called from this worker; such limits belong to the thread that sets them."""
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().limit(limits=1, user_api="openmp")


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


@final
class _Queue:
    """Items that threads take in order, and what became of each."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.function, self.items = function, items
        self.results: list[Any] = [None] * len(items)
        self.errors: dict[int, BaseException] = {}
        self.taken = 0
        self.lock = threading.Lock()

    def empty(self) -> None:
        """Work until nothing is left, or an item fails."""
        while True:
            with self.lock:
                number = self.taken
                if number >= len(self.items):
                    return
                self.taken += 1
            try:
                self.results[number] = self.function(self.items[number])
            except BaseException as error:  # raised again, in the thread that asked
                self.errors[number] = error
                self.stop()

    def stop(self) -> None:
        """Let nobody take another item."""
        with self.lock:
            self.taken = len(self.items)


def parallel(function: Callable[..., T], items: Sequence[Any], threads: int) -> list[T]:
    """``[function(i) for i in items]`` on that many threads; results in the order of the items.

    Threads take items one after the other until none is left: a task for each item would cost 50 µs of it. Where items
    fail, the error of the first of them is raised.

    Not to be called from inside `function`.
    """
    threads = min(threads, len(items))
    if threads <= 1:
        return [function(item) for item in items]
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, "lastlayer", _limit_openmp)
        pool = _pools[threads]
    queue = _Queue(function, items)
    # NumPy's error state belongs to the context: workers warn as the caller asked.
    caller = copy_context()
    workers = [pool.submit(caller.copy().run, queue.empty) for _ in range(threads)]
    try:
        for worker in workers:
            worker.result()
    except BaseException:  # Ctrl-C while waiting
        queue.stop()
        raise
    if queue.errors:
        raise queue.errors[min(queue.errors)]
    return queue.results
