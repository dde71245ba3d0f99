"""The one writer of files: faults at every step, and the planted bugs that the same harness must find.

`Disk` stands in for `os` inside `lastlayer._files`. Every call is a step; at one chosen step an error is
raised, or the process "dies" (every later call fails too, so that no clean-up runs). It also keeps what would
be left after a power cut: data that was not fsynced may be lost, and so may a rename whose folder was not.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastlayer import _files

OLD = b"old" * 30_000
NEW = b"NEW!" * 50_000
PARTS = (NEW[:10], NEW[10:70_000], memoryview(NEW)[70_000:])


class Killed(BaseException):
    """The process is gone."""


class _Stream(io.FileIO):
    """A file whose writes and close are steps of a disk; every write is a short one."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        super().__init__(descriptor, "r+")
        self.disk = disk

    def write(self, data: Any, /) -> int:
        self.disk.step("write")
        self.disk.changed(self.fileno())
        return super().write(memoryview(data)[: max(1, len(data) // 2)])

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.disk.step("close")


class Disk:
    """`os`, with a fault at step number `at`: an errno, or death."""

    def __init__(self, target: Path, at: int | None = None, fault: int | type[Killed] = Killed) -> None:
        self.target, self.at, self.fault = target, at, fault
        self.steps: list[str] = []
        self.dead = False
        self.synced: dict[int, bytes] = {}
        self.entries: list[int] = []
        if target.exists():
            inode = target.stat().st_ino
            self.synced[inode] = target.read_bytes()
            self.entries = [inode]

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def step(self, name: str) -> None:
        if self.dead:
            raise Killed
        self.steps.append(name)
        if len(self.steps) - 1 == self.at:
            if self.fault is Killed:
                self.dead = True
                raise Killed
            raise OSError(self.fault, os.strerror(self.fault))

    def changed(self, descriptor: int) -> None:
        self.synced.pop(os.fstat(descriptor).st_ino, None)

    def after_power_cut(self) -> set[bytes]:
        """Everything that the target's name may hold when the power fails now."""
        return {self.synced.get(inode, b"whatever") for inode in self.entries}

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self.step("open")
        descriptor = os.open(path, flags, mode)
        if flags & os.O_TRUNC:
            self.changed(descriptor)
        return descriptor

    def fdopen(self, descriptor: int, mode: str) -> io.BufferedRandom:
        assert mode == "w+b"
        return io.BufferedRandom(_Stream(self, descriptor), 16_384)

    def fsync(self, descriptor: int) -> None:
        self.step("fsync")
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.entries = self.entries[-1:]
        else:
            self.synced[status.st_ino] = os.pread(descriptor, status.st_size, 0)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)
        self.step("close")

    def replace(self, source: Any, target: Any) -> None:
        self.step("replace")
        self.entries.append(os.stat(source).st_ino)
        os.replace(source, target)

    def unlink(self, path: Any) -> None:
        if self.dead:
            raise Killed
        os.unlink(path)


# ------------------------------------------------------------------------------- writers, good and planted


def ours(disk: Disk) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "os", disk)
        _files.write_bytes(disk.target, *PARTS)


def in_place(disk: Disk) -> None:
    """Write over the old file."""
    with disk.fdopen(disk.open(disk.target, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644), "w+b") as stream:
        stream.writelines(PARTS)
        stream.flush()
        disk.fsync(stream.fileno())


def leaves_temporary(disk: Disk) -> None:
    """Leave the temporary file behind when there was an error."""
    temporary = disk.target.parent / ".planted.tmp"
    with disk.fdopen(disk.open(temporary, os.O_CREAT | os.O_RDWR, 0o644), "w+b") as stream:
        stream.writelines(PARTS)
        stream.flush()
        disk.fsync(stream.fileno())
    disk.replace(temporary, disk.target)


def without_fsync(disk: Disk) -> None:
    """Rename data that may still be in memory only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "fsync", lambda descriptor: None, raising=False)
        ours(disk)


def without_folder_fsync(disk: Disk) -> None:
    """Say "saved" before the name is safe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "_sync_folder", lambda folder: None)
        ours(disk)


def swallows_errors(disk: Disk) -> None:
    """Say "saved" when it is not."""
    with contextlib.suppress(OSError):
        ours(disk)


Writer = Callable[[Disk], None]


# --------------------------------------------------------------------------------------------- the harness


@contextlib.contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    parent.mkdir()
    try:
        yield parent
    finally:
        for leftover in parent.iterdir():
            leftover.unlink()
        parent.rmdir()


def assert_survives_errors(write: Writer, scratch: Path) -> None:
    """ENOSPC and EIO at every step: an OSError, no temporary file, the old content or the whole new one."""
    for fault in (errno.ENOSPC, errno.EIO):
        for at in range(1_000):
            with _folder(scratch / "x") as folder:
                target = folder / "model"
                target.write_bytes(OLD)
                disk = Disk(target, at, fault)
                failed = False
                try:
                    write(disk)
                except OSError as error:
                    failed = error.errno == fault
                assert failed == (at < len(disk.steps)), f"error at step {at} not reported"
                assert [p.name for p in folder.iterdir()] == ["model"], f"left behind after step {at}"
                assert target.read_bytes() in ((OLD, NEW) if failed else (NEW,)), f"mixed after step {at}"
                if not failed:
                    break


def assert_survives_kills(write: Writer, scratch: Path) -> None:
    """Death at every step: the old content or the whole new one, also when the power fails at that moment."""
    for at in range(1_000):
        with _folder(scratch / "x") as folder:
            target = folder / "model"
            target.write_bytes(OLD)
            disk = Disk(target, at)
            try:
                write(disk)
            except Killed:
                assert target.read_bytes() in (OLD, NEW), f"mixed after death at step {at}"
                assert disk.after_power_cut() <= {OLD, NEW}, f"mixed after a power cut at step {at}"
            else:
                assert target.read_bytes() == NEW
                assert disk.after_power_cut() == {NEW}, "said 'saved' before it was durable"
                break


pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shim needs pread and folders that can be synced")


def test_the_steps_are_those_of_the_protocol(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "model")
    ours(disk)
    kinds = [name for i, name in enumerate(disk.steps) if i == 0 or disk.steps[i - 1] != name]
    assert kinds == ["open", "write", "fsync", "close", "replace", "open", "fsync", "close"]
    assert disk.steps.count("write") > 5


def test_an_error_at_any_step_leaves_old_or_new_and_nothing_else(tmp_path: Path) -> None:
    assert_survives_errors(ours, tmp_path)


def test_death_or_power_cut_at_any_step_leaves_old_or_new(tmp_path: Path) -> None:
    assert_survives_kills(ours, tmp_path)


@pytest.mark.parametrize("planted", [in_place, leaves_temporary, swallows_errors])
def test_the_error_harness_finds(planted: Writer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        assert_survives_errors(planted, tmp_path)


@pytest.mark.parametrize("planted", [in_place, without_fsync, without_folder_fsync])
def test_the_kill_harness_finds(planted: Writer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        assert_survives_kills(planted, tmp_path)


# ------------------------------------------------------------------------------------ the functions on top


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "model", 2, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        ours(disk)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_caller_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "t.csv"
    target.write_bytes(OLD)

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError, match="no more rows"):
        _files.write_csv(target, ["n"], rows())
    assert target.read_bytes() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _files.write_bytes(tmp_path / "no" / "such", b"x")


def test_csv_keeps_every_name(tmp_path: Path) -> None:
    names = ["plain", 'with "quotes", commas', "line\nbreak", "ünïcode 猫", os.fsdecode(b"latin-\xe9"), ""]
    _files.write_csv(tmp_path / "t.csv", ["name", "n"], [(name, i) for i, name in enumerate(names)])
    with open(tmp_path / "t.csv", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [["name", "n"], *([name, str(i)] for i, name in enumerate(names))]


def test_text_keeps_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    _files.write_text(tmp_path / "t", "é" + os.fsdecode(b"\xff"))
    assert (tmp_path / "t").read_bytes() == "é".encode() + b"\xff"


def test_json_is_strict(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "é"}
    _files.write_json(tmp_path / "t.json", value)
    assert json.loads((tmp_path / "t.json").read_bytes()) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        _files.write_json(tmp_path / "nan.json", float("nan"))
    assert not (tmp_path / "nan.json").exists()


def test_lines_of_many_threads_never_mix(tmp_path: Path) -> None:
    def append(n: int) -> None:
        for _ in range(50):
            _files.append_line(tmp_path / "log", str(n) * 200)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == sorted(str(n) * 200 for n in range(4) for _ in range(50))


def test_new_folder_takes_the_first_free_name(tmp_path: Path) -> None:
    made = [_files.new_folder(tmp_path / "runs", "train-{:03d}".format) for _ in range(3)]
    assert [folder.name for folder in made] == ["train-001", "train-002", "train-003"]
    made[1].rmdir()
    assert _files.new_folder(tmp_path / "runs", "train-{:03d}".format).name == "train-002"


def test_two_threads_never_share_a_new_folder(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(_files.new_folder(tmp_path, "r{}".format))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16


@settings(derandomize=True, max_examples=300)
@given(st.text(st.characters(), max_size=20))
def test_a_displayed_name_is_one_harmless_line(name: str) -> None:
    shown = _files.display_name(name)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2028" for c in shown)
    if name.isascii() and name.isprintable() and "\\" not in name:
        assert shown == name
