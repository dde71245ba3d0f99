"""Worker processes that decode, and the threads that drive them.

Each worker (`_decode_worker.py`) has one thread here that hands it batches of consecutive files and reads its
answers straight into the result arrays. Batches are handed out as workers become free, and shrink towards the
end. The calling thread keeps the clock: a worker that has not answered for `SECONDS_PER_FILE` is killed.

When a worker dies or is killed by the clock, the rest of its batch goes to a fresh one *carefully*, every answer
on its own, so that the next death has a certain culprit: the first file unanswered. It is refused as ``crashed`` or
``too-slow``, and the batch goes on behind it. A worker that dies once because somebody killed it, or because the
machine was short of memory, costs no file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from lastlayer._arrays import InputError
from lastlayer.data._decode_worker import ANSWER, BATCH, LENGTH, READY

if TYPE_CHECKING:
    from lastlayer.data.decoding import Results
    from lastlayer.data.images import ImageFormat

SECONDS_PER_FILE = 10.0
SECONDS_TO_START = 60.0
_TICK = 0.1
_LARGEST_BATCH = 256
_PIPE_BYTES = 1 << 20


class DecodePool:
    """One run over a list of files."""

    def __init__(self, paths: Sequence[str], format: ImageFormat, results: Results, workers: int) -> None:
        self.paths, self.format, self.results = paths, format, results
        self.lock = threading.Lock()
        self.next = 0
        self.stopped = False
        self.failure: BaseException | None = None
        self.drivers = [_Driver(self) for _ in range(workers)]

    def run(self) -> Generator[int, None, None]:
        """Decode all; yields the number of files finished since the last step, several times a second."""
        threads = [threading.Thread(target=driver.run, daemon=True) for driver in self.drivers]
        done = 0
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TICK)
                    self.watch()
                    before, done = done, sum(driver.done for driver in self.drivers)
                    yield done - before
        finally:
            self.stopped = True
            for driver in self.drivers:
                driver.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self.failure is not None:
            raise self.failure
        yield sum(driver.done for driver in self.drivers) - done

    def watch(self) -> None:
        """Kill the workers whose time is over; all of them after a failure."""
        now = time.monotonic()
        for driver in self.drivers:
            if self.failure is not None:
                driver.kill()
            elif driver.deadline is not None and now > driver.deadline:
                driver.timed_out = True
                driver.kill()

    def take(self) -> range:
        """The next batch of rows; empty when there are none left."""
        with self.lock:
            left = len(self.paths) - self.next
            if self.stopped or self.failure is not None:
                left = 0
            size = min(_LARGEST_BATCH, max(1, left // (4 * len(self.drivers)))) if left else 0
            start = self.next
            self.next += size
            return range(start, start + size)


class _Driver:
    """The thread of one worker."""

    def __init__(self, pool: DecodePool) -> None:
        self.pool = pool
        self.done = 0
        self.deadline: float | None = None
        self.timed_out = False
        self.worker: _Worker | None = None
        self.guard = threading.Lock()

    def run(self) -> None:
        try:
            while rows := self.pool.take():
                self.decode(rows)
        except BaseException as error:  # carried to the calling thread, which raises it
            with self.pool.lock:  # the first failure counts: the others are workers killed because of it
                if not self.pool.stopped and self.pool.failure is None:
                    self.pool.failure = error
        finally:
            self.deadline = None
            self.retire()

    def kill(self) -> None:
        with self.guard:
            if self.worker is not None:
                self.worker.process.kill()

    def retire(self) -> None:
        """End the worker and forget it."""
        with self.guard:
            if self.worker is not None:
                self.worker.close()
                self.worker = None

    def decode(self, rows: range) -> None:
        """Decode a batch, going on behind the culprits."""
        careful = False
        while rows and not self.pool.stopped:
            answered = self.send_and_read(rows, careful)
            rows = rows[answered:]
            if rows and careful and (self.timed_out or answered == 0):
                slow = f"no picture after {SECONDS_PER_FILE:g} s"
                self.refuse(rows[0], *(("too-slow", slow) if self.timed_out else ("crashed", "")))
                rows = rows[1:]
            careful = True

    def refuse(self, row: int, reason: str, detail: str) -> None:
        from lastlayer.data.images import ImageReadError

        if self.pool.stopped:
            return
        error = ImageReadError(self.pool.paths[row], reason, detail)
        self.pool.results.refuse(row, error.reason, error.advice)
        self.done += 1

    def send_and_read(self, rows: range, careful: bool) -> int:
        """Let the worker decode rows; how many it answered before it died, or all."""
        worker = self.ready_worker()
        answered = 0
        self.timed_out = False
        try:
            worker.send([self.pool.paths[row] for row in rows], careful)
            for row in rows:
                self.deadline = time.monotonic() + SECONDS_PER_FILE
                worker.answer(row, self.pool.results)
                answered += 1
                self.done += 1
        except (EOFError, OSError):
            self.retire()
        finally:
            self.deadline = None
        return answered

    def ready_worker(self) -> _Worker:
        """The worker, started anew if there is none."""
        if self.worker is not None:
            return self.worker
        with self.guard:
            if self.pool.stopped:
                raise EOFError
            self.worker = worker = _Worker()
        self.deadline = time.monotonic() + SECONDS_TO_START
        try:
            worker.start(self.pool.format)
        except (EOFError, OSError):
            raise InputError(
                f"a process that decodes images could not be started: {worker.last_words()}",
                "Give workers=0 to decode in this process",
            ) from None
        finally:
            self.deadline = None
        return worker


class _Worker:
    """One process and its two pipes."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=worker_environment(),
            bufsize=_PIPE_BYTES,
        )
        self.input = cast("IO[bytes]", self.process.stdin)
        self.output = cast("IO[bytes]", self.process.stdout)
        _widen(self.output)

    def start(self, format: ImageFormat) -> None:
        text = json.dumps(format.to_dict()).encode()
        self.input.write(LENGTH.pack(len(text)) + text)
        self.input.flush()
        if self.output.read(1) != READY:
            raise EOFError

    def send(self, paths: list[str], careful: bool) -> None:
        parts = [BATCH.pack(len(paths), careful)]
        for path in paths:
            name = os.fsencode(path)
            parts += [LENGTH.pack(len(name)), name]
        self.input.write(b"".join(parts))
        self.input.flush()

    def answer(self, row: int, results: Results) -> None:
        """Read one answer; raises EOFError when the worker died before it was complete."""
        head = self.output.read(ANSWER.size)
        if len(head) < ANSWER.size:
            raise EOFError
        readable, flags, width, height, length, sha256 = ANSWER.unpack(head)
        if readable:
            if self.output.readinto(results.row(row)) != length:  # type: ignore[attr-defined]
                raise EOFError
            results.accept(row, flags, width, height, sha256)
            return
        body = self.output.read(length)
        if len(body) < length:
            raise EOFError
        reason, _, advice = body.decode("utf-8").partition("\n")
        results.refuse(row, reason, advice)

    def last_words(self) -> str:
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()
        self.output.close()
        try:
            self.input.close()
        except OSError:  # what was still to be sent has nobody to read it
            return


def worker_command() -> list[str]:
    """How a worker is started; ``-P`` keeps modules of the current folder from shadowing real ones."""
    return [sys.executable, "-P", "-m", "lastlayer.data._decode_worker"]


def worker_environment() -> dict[str, str]:
    """The environment with one thread a worker, and this very package findable."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def _widen(pipe: IO[bytes]) -> None:
    """Ask for a pipe that holds several pictures (Linux); a narrow one works too, with more switching."""
    try:
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return
