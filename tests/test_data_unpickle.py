from __future__ import annotations

import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_fixtures import Pickle2
from lastlayer import InputError
from lastlayer.data import unpickle as module
from lastlayer.data.unpickle import unpickle

PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6)


AUDIT: dict[str, list[str] | None] = {"ran": None}  # an audit hook stays for good: one, switched on and off


def _watch(event: str, _arguments: tuple[object, ...]) -> None:
    ran = AUDIT["ran"]
    if ran is not None and event in ("exec", "import", "os.system", "open", "compile", "subprocess.Popen"):
        ran.append(event)


@contextmanager
def audited() -> Iterator[list[str]]:
    """List what is executed, imported or opened inside the block."""
    if "hook" not in AUDIT:
        AUDIT["hook"] = None
        sys.addaudithook(_watch)
    AUDIT["ran"] = ran = []
    try:
        yield ran
    finally:
        AUDIT["ran"] = None


def assert_refused(data: bytes, text: str, code: str = "LL012") -> None:
    with pytest.raises(InputError) as caught:
        unpickle(data, "batch")
    assert text in str(caught.value)
    assert caught.value.code == code


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_what_python_2_wrote_is_read(core: str) -> None:
    batch = {b"data": PIXELS, b"labels": [3, 250, 70_000, 5], b"batch_label": b"training batch 1 of 5" * 20}
    read = unpickle(Pickle2(core).dumps(batch), "batch")
    np.testing.assert_array_equal(read.pop(b"data"), PIXELS)
    batch.pop(b"data")
    assert read == batch


def test_the_test_writer_is_understood_by_python_itself() -> None:
    batch = {b"data": PIXELS, b"labels": [3]}
    read = pickle.loads(Pickle2("numpy._core").dumps(batch), encoding="bytes")
    np.testing.assert_array_equal(read[b"data"], PIXELS)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i2", "f8", "?", "f2"])
def test_what_python_3_writes_is_read(protocol: int, dtype: str) -> None:
    arrays = [PIXELS.astype(dtype), np.asfortranarray(PIXELS.astype(dtype))]
    if protocol > 2:  # protocol 2 calls bytes() for no bytes
        arrays.append(np.zeros((0, 3), dtype))
    for array in arrays:
        value = {"data": array, "labels": [0, -1, 2**40, -(2**70), True, None, 0.5], "names": ["é", b"\xff"]}
        read = unpickle(pickle.dumps(value, protocol), "batch")
        np.testing.assert_array_equal(read["data"], array)
        assert read["data"].dtype == np.dtype(dtype)
        assert (read["labels"], read["names"]) == (value["labels"], value["names"])


class Reduce:
    """Pickles as a call of anything."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return (self.call[0], tuple(self.call[1:]))


HOSTILE = {
    "os.system": (Reduce(os.system, "touch /tmp/hacked"), "system"),
    "eval": (Reduce(eval, "1/0"), "eval"),
    "exec": (Reduce(exec, "raise SystemExit"), "exec"),
    "getattr": (Reduce(getattr, "", "join"), "getattr"),
    "import": (Reduce(__import__, "antigravity"), "__import__"),
    "nested": ([{"a": ([Reduce(eval, "1/0")],)}], "eval"),
    "in an argument": (Reduce(np.dtype, Reduce(eval, "'u1'")), "eval"),
    "bytearray": (bytearray(b"ab"), "bytearray"),
    "set": (Reduce(set, [1]), "set"),
    "ordered": (OrderedDict(a=1), "OrderedDict"),
    "exception": (ValueError("x"), "ValueError"),
    "object array": (np.array([None, "a"], dtype=object), "type 'O8'"),
    "text array": (np.array(["a"]), "type 'U1'"),
    "dates": (np.array(["2020"], dtype="M8[Y]"), "type 'M8'"),
    "structured": (np.zeros(2, dtype=[("a", "u1")]), "type 'V1'"),
    "complex": (np.zeros(2, dtype=complex), "type 'c16'"),
    "subclass": (np.ma.masked_array([1]), "_mareconstruct"),
    "scalar": (np.float64(1.0), "scalar"),
    "record class": (np.rec.array([(1,)], dtype=[("a", "u1")]), "recarray"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_anything_else_is_refused_by_name_and_nothing_runs(name: str, protocol: int) -> None:
    value, text = HOSTILE[name]
    data = pickle.dumps(value, protocol)
    with audited() as ran:
        assert_refused(data, text)
    assert not ran


def test_the_audit_notices_what_pythons_own_machine_does() -> None:
    data = pickle.dumps(HOSTILE["eval"][0])
    with audited() as ran, pytest.raises(ZeroDivisionError):
        pickle.loads(data)
    assert "exec" in ran


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"cos\nsystem\n(S'echo'\ntR.", "os.system"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"\x80\x02cnumpy\nndarray\n(K\x64tR.", "ndarray"),
        (b"\x80\x02cbuiltins\neval\n.", "builtins.eval"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode"),
        (b"\x80\x02\x82\x01.", "opcode"),
        (b"\x80\x02U\x01aQ.", "opcode"),
        (b"\x80\x02c_codecs\nencode\nX\x02\x00\x00\x00hiX\x05\x00\x00\x00rot13\x86R.", "another encoding"),
    ],
)
def test_hand_made_attacks(data: bytes, text: str) -> None:
    assert_refused(data, text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x09N.",
        b".",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02K\x01\x85R.",
        b"\x80\x02N}b.",
        b"\x80\x02}}K\x01s.",
        b"\x80\x02h\x07.",
        b"\x80\x02cnumpy\nndarray\n.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
        b"\x80\x02(.",
        b"\x80\x02((\x86.",
        b"\x80\x02cnumpy",
        b"\x80\x02T\xff\xff\xff\xff.",
    ],
)
def test_damage_is_one_clear_error(data: bytes) -> None:
    assert_refused(data, "damaged", code="")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",  # promises 4 EiB of bytes
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"B" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"h\x00.",  # a memo of 32 GiB in Python's own machine
        Pickle2().dumps(PIXELS).replace(b"K\x04K\x06\x86", b"J\xff\xff\xff\x0fJ\xff\xff\xff\x0f\x86"),
    ],
)
def test_promises_cost_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            unpickle(data, "batch")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_shared_tuples_stay_cheap() -> None:
    # each line doubles the text and the hash of the value, not the value
    deep = b"\x80\x02)" + b"q\x00h\x00\x86" * 60
    assert_refused(deep + b"q\x00}h\x00Ns.", "key", code="")
    assert_refused(b"\x80\x02cnumpy\ndtype\n" + deep[2:] + b"\x85R.", "type tuple")
    assert isinstance(unpickle(deep + b".", "batch"), tuple)


def test_many_steps_and_large_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STEPS", 100)
    assert_refused(b"\x80\x02" + b"]" * 200 + b".", "more than 100 steps")
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    assert_refused(b"\x80\x02" + b"N" * 200 + b".", "are not read", code="")


def test_building_on_a_function_changes_nothing() -> None:
    before = dict(vars(module))
    attack = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x0c\x00\x00\x00__defaults__)sb."
    assert_refused(attack, "damaged", code="")
    assert dict(vars(module)) == before


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_never_escape(data: bytes) -> None:
    try:
        unpickle(b"\x80\x02" + data, "batch")
    except InputError:
        pass


def test_mutants_of_a_real_batch_never_escape() -> None:
    original = Pickle2().dumps({b"data": PIXELS, b"labels": [1, 2, 3, 4]})
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        mutant = bytearray(original)
        for _ in range(rng.randint(1, 4)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        try:
            unpickle(bytes(mutant), "batch")
        except InputError:
            refused += 1
    assert refused > 1000


def test_agrees_with_python_on_plain_data() -> None:
    rng = random.Random(1)

    def value(depth: int) -> object:
        kind = rng.randrange(8 if depth else 6)
        plain = [None, True, rng.randint(-(2**60), 2**60), rng.random(), "é" * rng.randint(0, 300), b"\xff" * 9]
        if kind < 6:
            return plain[kind]
        many = [value(depth - 1) for _ in range(rng.randint(0, 5))]
        return many if kind == 6 else {str(i): item for i, item in enumerate(many)}

    for _ in range(200):
        made = value(3)
        for protocol in (2, 3, 4, 5):
            data = pickle.dumps(made, protocol)
            assert unpickle(data, "x") == made == pickle.load(io.BytesIO(data))
