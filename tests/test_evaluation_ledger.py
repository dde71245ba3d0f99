"""The ledger counts (model, split) pairs, whatever happened to its file."""

from __future__ import annotations

import json
import multiprocessing
import warnings

import pytest

from lastlayer.evaluation import read_looks, record_look
from lastlayer.evaluation.ledger import LedgerWarning


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "runs" / "looks.jsonl"


def test_a_look_is_a_pair_and_counts_once(ledger):
    assert record_look(ledger, "model-a", "split-1") == 1
    assert record_look(ledger, "model-b", "split-1") == 2
    assert record_look(ledger, "model-a", "split-2") == 1
    assert record_look(ledger, "model-a", "split-1") == 1
    assert record_look(ledger, "model-c", "split-1") == 3
    looks, notes = read_looks(ledger)
    assert (len(looks), notes) == (4, ())
    assert all(json.loads(line)["time"].endswith("+00:00") for line in ledger.read_text().splitlines())


def test_missing_ledger_is_an_empty_one(ledger):
    assert read_looks(ledger) == ((), ())


DAMAGED = [
    b"{",
    b"\xff\xfe\x00",
    b"[]",
    b"null",
    b'{"split": 3, "model": "m"}',
    b'{"model": "m"}',
    b"[" * 100_000,
    b'{"split": "s", "model": "m", "time": 7}',
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_skipped_with_a_note(ledger, line):
    record_look(ledger, "a", "s")
    with ledger.open("ab") as stream:
        stream.write(line + b"\n")
    notes: list[str] = []
    assert record_look(ledger, "b", "s", notes=notes) == 2
    assert len(notes) == 1
    assert "looks.jsonl line 2" in notes[0]


def test_without_a_list_the_note_is_a_warning(ledger):
    ledger.parent.mkdir()
    ledger.write_bytes(b"nonsense\n")
    with pytest.warns(LedgerWarning, match="line 1"):
        assert record_look(ledger, "a", "s") == 1


def test_a_line_cut_by_a_crash_does_not_swallow_the_next(ledger):
    record_look(ledger, "a", "s")
    record_look(ledger, "b", "s")
    ledger.write_bytes(ledger.read_bytes()[:-20])
    notes: list[str] = []
    assert record_look(ledger, "c", "s", notes=notes) == 2
    assert len(notes) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LedgerWarning)
        assert record_look(ledger, "d", "s") == 3


def test_odd_names_survive(ledger):
    name = 'a"\n\udcff\u202e'
    assert record_look(ledger, name, "s") == 1
    assert record_look(ledger, name, "s") == 1
    assert read_looks(ledger)[0][0].model == name


def _look(arguments):
    path, number = arguments
    return record_look(path, f"model-{number}", "split")


def test_two_processes_never_get_the_same_number(ledger):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        numbers = pool.map(_look, [(ledger, i) for i in range(30)], chunksize=1)
    looks, notes = read_looks(ledger)
    assert (sorted(numbers), len(looks), notes) == (list(range(1, 31)), 30, ())
