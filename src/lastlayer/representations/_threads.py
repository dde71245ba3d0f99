"""Blocks of rows side by side on threads; what becomes of a block never depends on their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from lastlayer.representations._batches import thread_count


def spread(function: Callable[[int], Any], items: Sequence[int], threads: int | None = None) -> None:
    """Call the function for every item, on as many threads as there are cores when not given.

    An error or Ctrl-C cancels what has not begun, and is raised here.
    """
    workers = min(threads or thread_count(), len(items))
    if workers <= 1:
        for item in items:
            function(item)
        return
    caller = copy_context()  # NumPy's error state belongs to the context: workers warn as the caller asked
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(lambda item: caller.copy().run(function, item), item) for item in items]
        try:
            for task in waiting:
                task.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
