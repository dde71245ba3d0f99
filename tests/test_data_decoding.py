"""Decoding of many files: threads and worker processes agree; deaths, hangs and interrupts cost one file each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import image_fixtures as odd
from lastlayer._arrays import InputError
from lastlayer._progress import Progress, Task
from lastlayer.data import decode_pool
from lastlayer.data.decoding import Decoded, decode_files
from lastlayer.data.images import ImageFormat, ImageReadError, read_image

FORMAT = ImageFormat(12, 10, 3)


@pytest.fixture(scope="module")
def odd_paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, odd.Expected]]:
    folder = tmp_path_factory.mktemp("odd")
    expected = odd.make_odd_images(folder)
    return [os.path.join(folder, name) for name in expected], expected


def assert_same(a: Decoded, b: Decoded) -> None:
    for name in ("pixels", "sha256", "sizes", "readable"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.refusals == b.refusals
    assert list(a.alterations) == list(b.alterations)
    for kind, rows in a.alterations.items():
        np.testing.assert_array_equal(rows, b.alterations[kind], err_msg=kind)


def write_plain(folder: Path, names: list[str]) -> list[str]:
    paths = []
    for i, name in enumerate(names):
        (folder / name).write_bytes(odd.encode(np.full((12, 10), i, np.uint8), "PNG"))
        paths.append(str(folder / name))
    return paths


def test_rows_are_what_the_reader_gives(odd_paths: tuple[list[str], dict[str, odd.Expected]]) -> None:
    paths, expected = odd_paths
    decoded = decode_files(paths, FORMAT, workers=2)
    altered: dict[str, list[int]] = {}
    for row, (path, one) in enumerate(zip(paths, expected.values())):
        assert decoded.readable[row] == (one.outcome != odd.REFUSED)
        if one.outcome == odd.REFUSED:
            reason, advice = decoded.refusals[row]
            assert (reason,) == one.kinds
            assert len(advice) > 10
            assert not decoded.pixels[row].any()
            assert not decoded.sha256[row].any()
            continue
        image = read_image(path, FORMAT)
        np.testing.assert_array_equal(decoded.pixels[row], image.pixels)
        assert decoded.sha256[row].tobytes() == image.sha256
        assert tuple(decoded.sizes[row]) == (image.width, image.height)
        for kind in image.alterations:
            altered.setdefault(kind, []).append(row)
    assert {kind: rows.tolist() for kind, rows in decoded.alterations.items()} == altered
    assert len(decoded.refusals) == (~decoded.readable).sum()


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same(
    workers: int, odd_paths: tuple[list[str], dict[str, odd.Expected]]
) -> None:
    paths, _ = odd_paths
    assert_same(decode_files(paths, FORMAT, workers=workers), decode_files(paths, FORMAT, workers=0))


def test_few_files_need_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_plain(tmp_path, [f"{i}.png" for i in range(64)])
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    decoded = decode_files(paths, FORMAT)
    assert decoded.readable.all()
    assert decoded.pixels[:, 5, 5, 0].tolist() == list(range(64))
    assert decode_files([], FORMAT).pixels.shape == (0, 12, 10, 3)


def test_pixels_can_go_to_a_memory_map(tmp_path: Path) -> None:
    paths = write_plain(tmp_path, [f"{i}.png" for i in range(70)])
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.uint8, shape=(70, 12, 10, 3))
    out[:] = 9
    paths[3] = str(tmp_path / "missing.png")
    decoded = decode_files(paths, FORMAT, out=out)
    assert decoded.pixels is out
    assert out[5, 0, 0, 0] == 5
    assert not out[3].any()
    assert decoded.refusals[3][0] == "vanished"


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 12, 10, 1), np.uint8),
        np.zeros((1, 12, 10, 3), np.float32),
        np.zeros((1, 10, 12, 3), np.uint8).swapaxes(1, 2),
    ],
)
def test_an_array_that_does_not_fit_is_refused(out: np.ndarray) -> None:
    with pytest.raises(InputError, match="out is"):
        decode_files(["a.png"], FORMAT, out=out)
    with pytest.raises(InputError, match="workers is -1"):
        decode_files(["a.png"], FORMAT, workers=-1)


# --- workers that die: a stand-in whose reader crashes, hangs or is killed by the file's name ---

_STAND_IN = """
import os, sys, time
from lastlayer.data import _decode_worker as worker
real = worker.read_image
def read_image(path, format):
    name = os.path.basename(path)
    if name.startswith("crash"):
        os.abort()
    if name.startswith("hang"):
        time.sleep(1000)
    if name.startswith("once") and not os.path.exists(path + ".seen"):
        open(path + ".seen", "w").close()
        os.kill(os.getpid(), 9)
    return real(path, format)
worker.read_image = read_image
worker.main()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(_STAND_IN)
    monkeypatch.setattr(decode_pool, "worker_command", lambda: [sys.executable, str(script)])
    monkeypatch.setattr(decode_pool, "SECONDS_PER_FILE", 1.0)


@pytest.mark.usefixtures("stand_in")
def test_a_death_costs_its_own_file_and_no_other(tmp_path: Path) -> None:
    names = [f"{i:03}.png" for i in range(100)]
    for row, name in (
        (0, "crash-first.png"),
        (40, "crash-a.png"),
        (41, "crash-b.png"),
        (60, "hang.png"),
        (99, "once.png"),
    ):
        names[row] = name
    paths = write_plain(tmp_path, names)
    decoded = decode_files(paths, FORMAT, workers=2)
    reasons = {row: reason for row, (reason, _) in decoded.refusals.items()}
    assert reasons == {0: "crashed", 40: "crashed", 41: "crashed", 60: "too-slow"}
    assert decoded.readable.sum() == 96
    for row in np.flatnonzero(decoded.readable):
        assert (decoded.pixels[row] == row).all()
    assert not decoded.pixels[[0, 40, 41, 60]].any()


def test_workers_that_cannot_start_are_an_error_with_a_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_plain(tmp_path, ["a.png"])
    command = [sys.executable, "-c", "raise SystemExit('no such thing today')"]
    monkeypatch.setattr(decode_pool, "worker_command", lambda: command)
    with pytest.raises(InputError, match=r"no such thing today.*workers=0"):
        decode_files(paths * 3, FORMAT, workers=2)


class _Interrupting(Progress):
    """Behaves as a user who presses Ctrl-C when the first files are done."""

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        class Pressing(Task):
            def advance(self, steps: float = 1, note: str = "") -> None:
                raise KeyboardInterrupt

        yield Pressing()


@pytest.mark.usefixtures("stand_in")
def test_an_interrupt_ends_the_workers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def watched(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", watched)
    monkeypatch.setattr(decode_pool, "SECONDS_PER_FILE", 100.0)
    paths = write_plain(tmp_path, [*(f"{i}.png" for i in range(30)), *(f"hang{i}.png" for i in range(30))])
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        decode_files(paths, FORMAT, workers=2, progress=_Interrupting())
    assert time.monotonic() - start < 30
    assert len(started) >= 1
    assert all(process.returncode is not None for process in started)


class _Counting(Progress):
    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []
        self.done = 0.0

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        self.seen.append((name, total))
        outer = self

        class Adding(Task):
            def advance(self, steps: float = 1, note: str = "") -> None:
                outer.done += steps

        yield Adding()


@pytest.mark.parametrize("workers", [0, 2])
def test_progress_counts_every_file(workers: int, odd_paths: tuple[list[str], dict[str, odd.Expected]]) -> None:
    paths, _ = odd_paths
    progress = _Counting()
    decode_files(paths, FORMAT, workers=workers, progress=progress)
    assert progress.seen == [("Decode", len(paths))]
    assert progress.done == len(paths)


# --- the worker itself ---


def _run(code: str) -> str:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_a_worker_imports_numpy_and_pillow_only() -> None:
    code = """
import sys
import lastlayer.data._decode_worker
from lastlayer.data.image_pillow import _pillow
_pillow()
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    loaded = set(_run(code).split())
    assert {"numpy", "PIL"} <= loaded
    assert not loaded & {"scipy", "sklearn", "matplotlib", "jinja2", "click", "rich", "pandas"}


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux")
def test_a_worker_cannot_fill_the_machine() -> None:
    code = """
from lastlayer.data._decode_worker import limit_address_space
limit_address_space(25_000_000)
try:
    bytearray(3 << 30)
except MemoryError:
    print("refused")
"""
    assert _run(code).strip() == "refused"


def test_a_lack_of_memory_is_that_files_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lastlayer.data.images as images

    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "load_picture", greedy)
    (path,) = write_plain(tmp_path, ["a.png"])
    with pytest.raises(ImageReadError, match="memory"):
        read_image(path)
    assert decode_files([path], FORMAT).refusals[0][0] == "too-large"


def test_nothing_a_library_prints_can_reach_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "chatty.py"
    script.write_text(
        "import os\n"
        "from lastlayer.data import _decode_worker as worker\n"
        "real = worker.read_image\n"
        "def read_image(path, format):\n"
        "    print('hello from Python', flush=True)\n"
        "    os.write(1, b'hello from C')\n"
        "    return real(path, format)\n"
        "worker.read_image = read_image\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(decode_pool, "worker_command", lambda: [sys.executable, str(script)])
    paths = write_plain(tmp_path, [f"{i}.png" for i in range(20)])
    assert_same(decode_files(paths, FORMAT, workers=1), decode_files(paths, FORMAT, workers=0))
