"""What a contestant leaves behind: its parameters at moments of its own clock, in one file of fixed-size records.

A record is the seconds since the fit began (float64) and the parameters (D + 1, K), the bias last. Records are
written while the clock stands still, and nothing is evaluated during the run. The reader evaluates afterwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Parameters = tuple[Array, Array]
SHARE, LEAST = 0.01, 0.002
"""A snapshot is kept when 1% of the time, and 2 ms, have passed since the one before: for every contestant alike."""
LOOK = 0.05
"""Whether the fit may stop is looked at after every 5% more time, with the clock stopped."""


class CutError(Exception):
    """The contestant's time is used up."""


class ReachedError(Exception):
    """The tightest gap asked for is reached; going on would tell nothing."""


class Trace:
    """Writes snapshots of one contestant, with a clock that can be stopped."""

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: str, limit: float) -> None:
        self.shape, self.dtype, self.limit = shape, np.dtype(dtype), limit
        self._file = open(folder / "snapshots.bin", "wb", buffering=0)
        header = {"shape": shape, "dtype": self.dtype.str}
        (folder / "snapshots.json").write_text(json.dumps(header))
        self._started = self._paused = 0.0
        self._last = self._looked = -1.0
        self._best = float("inf")
        self._target = -float("inf")
        self._value: Callable[[Array], float] | None = None
        self.begun = False

    def stop_at(self, target: float, value: Callable[[Array], float]) -> None:
        """Raise `ReachedError` from a snapshot whose value is at most `target`."""
        self._target, self._value = target, value

    def begin(self) -> None:
        """The fit begins now."""
        self.begun = True
        self._last = self._looked = -1.0
        self._best = float("inf")
        self._started, self._paused = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds since `begin`, pauses excluded."""
        return time.perf_counter() - self._started - self._paused

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock for what is not the contestant's work."""
        now = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - now

    def snapshot(self, parameters: Callable[[], Parameters], value: float | None = None, last: bool = False) -> None:
        """Write W (D, K) and b (K,), unless the last snapshot is recent; raise `CutError` past the limit.

        Trial points of line searches come with the contestant's own `value`: only those below all before are kept.
        Before `begin` (the warm-up) nothing happens.
        """
        if not self.begun:
            return
        seconds = self.seconds
        with self.pause():
            improved = value is None or value < self._best
            due = last or seconds > self.limit or seconds - self._last >= max(LEAST, SHARE * seconds)
            if improved and due:
                self._last = seconds
                self._best = self._best if value is None else value
                self.write(seconds, *parameters())
        if seconds > self.limit:
            raise CutError

    def write(self, seconds: float, W: Array, b: Array) -> None:
        """Append a record as of `seconds`; raise `ReachedError` when its value is low enough."""
        block = np.empty(self.shape, self.dtype)
        block[:-1], block[-1] = W, b
        self._file.write(np.float64(seconds).tobytes() + block.tobytes())
        if self._value is not None and seconds >= (1 + LOOK) * self._looked:
            self._looked = seconds
            if self._value(block) <= self._target:
                raise ReachedError


@dataclass(frozen=True)
class Snapshots:
    """The records of one contestant, read one at a time."""

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[np.floating]

    @classmethod
    def of(cls, folder: Path) -> Snapshots | None:
        """Of a contestant's folder; None when it left nothing."""
        header = folder / "snapshots.json"
        if not header.is_file():
            return None
        found = json.loads(header.read_text())
        rows, columns = found["shape"]
        return cls(folder / "snapshots.bin", (rows, columns), np.dtype(found["dtype"]))

    @property
    def _size(self) -> int:
        return 8 + self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return self.path.stat().st_size // self._size

    def seconds(self, index: int) -> float:
        """Of a record."""
        return float(np.fromfile(self.path, np.float64, 1, offset=index * self._size)[0])

    def params(self, index: int) -> Array:
        """(D + 1, K) of a record."""
        count = self.shape[0] * self.shape[1]
        return np.fromfile(self.path, self.dtype, count, offset=index * self._size + 8).reshape(self.shape)
