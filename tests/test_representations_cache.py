"""The feature cache: hits, damage, eviction, and processes that share a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lastlayer.representations import FeatureCache, default_cache_folder

pytestmark = pytest.mark.filterwarnings("error")


class Counting:
    def __init__(self, array: np.ndarray) -> None:
        self.array, self.calls = array, 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return self.array


def test_second_time_comes_from_the_folder(tmp_path: Path) -> None:
    compute = Counting(np.arange(12, dtype=np.float32).reshape(3, 4))
    for expected_hits in (0, 1, 2):
        cache = FeatureCache(tmp_path / "c")
        got = cache.array("k", compute)
        np.testing.assert_array_equal(got, compute.array)
        assert not got.flags.writeable
        assert cache.hits == (expected_hits > 0)
        assert cache.misses == (expected_hits == 0)
        assert cache.notes == []
    assert compute.calls == 1
    assert isinstance(FeatureCache(tmp_path / "c").array("k", compute), np.memmap)
    assert compute.array.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.array(3.5),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([b"ab", b"c"]),
    ],
)
def test_any_plain_array_survives(tmp_path: Path, array: np.ndarray) -> None:
    FeatureCache(tmp_path).array("k", lambda: array)
    again = FeatureCache(tmp_path).array("k", lambda: pytest.fail("should have been found"))
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype
    assert again.shape == array.shape


def test_entries_are_ordinary_npy_files(tmp_path: Path) -> None:
    array = np.arange(5, dtype=np.int64)
    FeatureCache(tmp_path).array("k", lambda: array)
    np.testing.assert_array_equal(np.load(tmp_path / "k.npy"), array)


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32)
    FeatureCache(tmp_path).array("k", lambda: array)
    path = tmp_path / "k.npy"
    good = path.read_bytes()
    damaged = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    damaged += [good[:i] for i in range(0, len(good), 7)] + [good + b"x"]
    for content in damaged:
        path.write_bytes(content)
        cache = FeatureCache(tmp_path)
        compute = Counting(array)
        np.testing.assert_array_equal(cache.array("k", compute), array)
        assert compute.calls == 1
        assert len(cache.notes) == 1
        assert "computed again" in cache.notes[0]
        assert path.read_bytes() == good


def test_off_means_nothing_is_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = FeatureCache(None)
    compute = Counting(np.ones(3))
    cache.array("k", compute)
    cache.array("k", compute)
    assert (compute.calls, cache.hits, cache.misses) == (2, 0, 2)
    assert list(tmp_path.iterdir()) == []


def put(folder: Path, name: str, size: int, max_bytes: int) -> FeatureCache:
    cache = FeatureCache(folder, max_bytes)
    cache.array(name, lambda: np.zeros(size, np.uint8))
    time.sleep(0.01)  # times of files are told apart
    return cache


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    limit = 3 * 1500
    for name in ("a", "b", "c"):
        put(tmp_path, name, 1000, limit)
    assert put(tmp_path, "a", 1000, limit).hits == 1  # now b is the oldest
    put(tmp_path, "d", 1000, limit)
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["a", "c", "d"]
    put(tmp_path, "e", 2500, limit)
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["d", "e"]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= limit


def test_an_array_beyond_the_limit_is_not_stored_and_evicts_nothing(tmp_path: Path) -> None:
    put(tmp_path, "a", 100, 1000)
    cache = put(tmp_path, "big", 5000, 1000)
    assert [p.stem for p in tmp_path.iterdir()] == ["a"]
    assert "not stored" in cache.notes[0]


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    old, new = tmp_path / ".x.npy.1.aa.tmp", tmp_path / ".y.npy.2.bb.tmp"
    old.write_bytes(b"x")
    new.write_bytes(b"y")
    os.utime(old, (1, 1))
    put(tmp_path, "a", 10, 1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == [new.name, "a.npy"]


def test_a_folder_that_cannot_be_used_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file" / "cache")
    np.testing.assert_array_equal(cache.array("k", lambda: np.ones(2)), 1)
    assert any("could not be stored" in note for note in cache.notes)


def test_keys_depend_on_content_and_not_on_order() -> None:
    cache = FeatureCache(None)
    key = cache.key("features", a=1, b=[1, 2], c={"x": None, "y": "é"})
    assert key == cache.key("features", c={"y": "é", "x": None}, b=[1, 2], a=1)
    assert len({key, cache.key("pixels", a=1), cache.key("features", a=1), cache.key("features", a="1")}) == 4
    with pytest.raises(ValueError, match="compliant"):
        cache.key("features", a=float("nan"))
    with pytest.raises(TypeError):
        cache.key("features", a=b"bytes")
    with pytest.raises(ValueError, match="not a cache key"):
        cache.array("../escape", lambda: np.ones(1))


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="objects"):
        FeatureCache(tmp_path).array("k", lambda: np.array([{}], dtype=object))


CHILD = """
import sys, numpy as np
from lastlayer.representations.cache import FeatureCache
folder, seed = sys.argv[1], int(sys.argv[2])
order = np.random.default_rng(seed).integers(0, 6, 60)
for i in order:
    cache = FeatureCache(folder, 40_000)
    got = cache.array(f"k{i}", lambda: np.full((500, 4), i, np.float32))
    assert got.shape == (500, 4) and (np.asarray(got) == i).all(), i
    assert not cache.notes, cache.notes
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """Four processes read, write and evict the same six entries of 8 kB, of which the limit holds four."""
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", CHILD, str(tmp_path), str(seed)], stderr=subprocess.PIPE)
        for seed in range(4)
    ]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()


def test_default_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("LASTLAYER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "lastlayer"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "lastlayer"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_cache_folder() == tmp_path / "Library" / "Caches" / "lastlayer"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert default_cache_folder() == tmp_path / "Local" / "lastlayer" / "Cache"
