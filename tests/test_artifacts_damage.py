"""Damaged and hostile model files: every one is refused, with a sentence that says what is wrong."""

from __future__ import annotations

import io
import json
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from artifact_mutants import seal, split
from lastlayer.artifacts import ModelFileError, decode_artifact
from lastlayer.artifacts import reading as reading_module
from lastlayer.artifacts.canonical import canonical, parse
from lastlayer.artifacts.errors import Refusal
from small_artifacts import DATA, FILE, HEADER, TENSORS, TEXT, assert_same, from_bytes, to_bytes

# -------------------------------------------------------------------------------------------------- damage


def assert_every_damage_is_refused(file: bytes) -> None:
    """Every byte changed in three ways, every truncation, some bytes more: all refused, with one error."""
    for at in range(len(file)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(file)
            damaged[at] ^= change
            with pytest.raises(ModelFileError):
                from_bytes(bytes(damaged))
    for length in range(len(file)):
        with pytest.raises(ModelFileError):
            from_bytes(file[:length])
    for tail in (b"\0", b" ", b"\0" * 8, file):
        with pytest.raises(ModelFileError):
            from_bytes(file + tail)


def test_every_damage_is_refused() -> None:
    assert_every_damage_is_refused(FILE)


@pytest.mark.parametrize("check", ["_check_digest", "_check_length"])
def test_a_reader_without_this_check_is_caught(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, check, lambda *given: None)
    if check == "_check_length":  # the end of the stream is looked at as well
        monkeypatch.setattr(io, "BytesIO", _Endless)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        assert_every_damage_is_refused(FILE)


class _Endless(io.BytesIO):
    """A stream whose end cannot be felt by one more read, as a growing file's."""

    def read(self, size: int | None = -1, /) -> bytes:
        return b""


def test_a_file_that_grows_while_it_is_read_is_refused() -> None:
    with pytest.raises(ModelFileError, match="grew"):
        decode_artifact(io.BytesIO(FILE + b"\0"), len(FILE), "m")


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    with pytest.raises(ModelFileError, match="ends early"):
        decode_artifact(io.BytesIO(FILE[:-1]), len(FILE), "m")


def test_short_reads_are_continued() -> None:
    class Slow(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            return super().readinto(memoryview(buffer)[:7])

    header, tensors = decode_artifact(Slow(FILE), len(FILE), "m")
    assert header == HEADER
    assert_same(tensors, TENSORS)


def test_an_error_of_the_disk_is_one_clear_error() -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(ModelFileError, match="m cannot be read: Input/output error"):
        decode_artifact(Broken(FILE), len(FILE), "m")


def test_too_little_memory_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            raise MemoryError

    with pytest.raises(ModelFileError, match="more than the memory"):
        decode_artifact(Full(FILE), len(FILE), "m")


# --------------------------------------------------- structured damage, with the length and digest correct


def edited(old: str, new: str, data: bytes = DATA) -> bytes:
    assert TEXT.count(old.encode()) == 1, "the planted change must hit one place"
    return seal(TEXT.replace(old.encode(), new.encode()), data)


def with_header(text: str) -> bytes:
    outer = json.loads(TEXT)
    outer["__metadata__"]["lastlayer"] = text
    return seal(canonical(outer).encode(), DATA)


BIAS = '"bias":{"data_offsets":[24,36],"dtype":"F32","shape":[3]}'


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(100), "it is no model file"),
        (pickle.dumps([1.0] * 100), "it is no model file"),
        (b"<!DOCTYPE html><html>", "it is no model file"),
        (bytes(1000), "it is no model file"),
        ((2**20 + 8).to_bytes(8, "little") + bytes(2**20 + 8), "it is no model file"),
        ((2**63).to_bytes(8, "little") + b"{}", "it is no model file"),
        (b"\x08" + bytes(7) + b"[1,2,3] ", "it is no model file"),
        (FILE[:200], "it ends early"),
        (FILE + b"\0", "bytes where its header describes"),
        (safetensors.numpy.save({"a": np.ones(3)}), "not in canonical form"),
        (edited(',"sha256"', ',"note":"x","sha256"'), "carries no SHA-256"),
        (seal(b'{"a":{},"b":{"sha256":"' + b"0" * 64 + b'"}}', b""), "no model of lastlayer"),
        (edited(BIAS, BIAS + "," + BIAS), "names a key twice"),
        (edited(BIAS, BIAS.replace('"F32"', "NaN")), "holds NaN"),
        (edited(BIAS, BIAS.replace('"F32"', "-Infinity")), "holds -Infinity"),
        (edited(BIAS, BIAS.replace('"F32"', "1e999")), "no valid JSON"),
        (edited(BIAS, BIAS.replace("[24,36]", "[24, 36]")), "not in canonical form"),
        (edited(BIAS, BIAS.replace("[24,36]", "[024,36]")), "no valid JSON"),
        (edited(BIAS, BIAS.replace('"F32"', '"\\u004632"')), "not in canonical form"),
        (edited(BIAS, BIAS.replace("36]", "9" * 19 + "]")), "beyond 64 bits"),
        (edited(BIAS, BIAS.replace("36]", "9" * 500_000 + "]")), "beyond 64 bits"),
        (edited(BIAS, BIAS.replace("[3]", "[" * 40 + "]" * 40)), "nests deeper than 32"),
        (edited(BIAS, BIAS.replace("[3]", "[" * 100_000 + "]" * 100_000)), "nests deeper than 32"),
        (edited(BIAS, BIAS.replace("F32", "C64")), "of the type 'C64'"),
        (edited(BIAS, BIAS.replace("F32", "BF16")), "of the type 'BF16'"),
        (edited(BIAS, BIAS.replace('"F32"', '["F32"]')), "of the type"),
        (edited(BIAS, BIAS.replace("F32", "F64")), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("[3]", "[3,1,1,1,1]")), "5 axes, more than 4"),
        (edited(BIAS, BIAS.replace("[3]", "[-3]")), "no shape of whole lengths"),
        (edited(BIAS, BIAS.replace("[3]", "[0]")), "no shape of whole lengths"),
        (edited(BIAS, BIAS.replace("[3]", "[3.0]")), "no shape of whole lengths"),
        (edited(BIAS, BIAS.replace("[3]", "[true]")), "no shape of whole lengths"),
        (edited(BIAS, BIAS.replace("[3]", "3")), "no shape of whole lengths"),
        (edited(BIAS, BIAS.replace("[3]", "[4294967296,4294967296]")), "larger than a model file"),
        (edited(BIAS, BIAS.replace("[3]", "[9223372036854775807,4,2]")), "larger than a model file"),
        (edited(BIAS, BIAS.replace("[3]", "[4]")), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("[24,36]", "[36,24]")), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("[24,36]", "[24,35]")), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("[24,36]", "[24,36,36]")), "does not lie where it must"),
        (edited('"data_offsets":[0,8]', '"data_offsets":[false,8]'), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("[24,36]", "[24.0,36]")), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("[24,36]", "[36,48]")), "does not lie where it must"),
        (edited(BIAS, BIAS.replace("bias", "Bias")), "not in canonical form"),
        (edited(BIAS, BIAS.replace('"bias"', '"bias\\n"')), "a tensor named"),
        (edited(BIAS, BIAS.replace('"bias"', '"b/../x"')), "a tensor named"),
        (edited(BIAS, BIAS.replace('"shape":[3]', '"shape":[3],"z":1')), "not as it must be"),
        (edited(BIAS, BIAS.replace(',"shape":[3]', "")), "not as it must be"),
        (edited(BIAS, '"bias":7'), "not as it must be"),
        (edited(BIAS + ",", ""), "does not lie where it must"),
        (seal(TEXT, DATA[:-1]), "bytes where its header describes"),
        (seal(TEXT, DATA + b"\0"), "bytes where its header describes"),
        (with_header("{}"), "states no format version"),
        (with_header("[]"), "states no format version"),
        (with_header("7"), "states no format version"),
        (with_header(""), "no valid JSON"),
        (with_header('{"format_version":true}'), "states no format version"),
        (with_header('{"format_version":0}'), "states no format version"),
        (with_header('{"format_version":1,"format_version":1}'), "names a key twice"),
        (with_header('{"format_version": 1}'), "not in canonical form"),
        (with_header('{"b":1,"format_version":1,"a":1}'), "not in canonical form"),
        (with_header('{"a":' + "[" * 50_000 + "]" * 50_000 + ',"format_version":1}'), "nests deeper"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_refused_and_how(file: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        from_bytes(file)
    assert str(caught.value).startswith("m ")
    assert "\n" not in str(caught.value)
    assert caught.value.mend
    assert len(str(caught.value)) < 250


def test_padding_is_part_of_the_form() -> None:
    for spaces in (1, 7, 8, 16):
        text = TEXT + b" " * (-len(TEXT) % 8) + b" " * spaces
        prefix = len(text).to_bytes(8, "little")
        with pytest.raises(ModelFileError, match="padded"):
            from_bytes(prefix + text + DATA)
    with pytest.raises(ModelFileError, match="bytes where its header describes"):
        from_bytes(len(TEXT).to_bytes(8, "little") + TEXT + DATA + bytes(8))


def test_numbers_that_are_not_finite_are_refused() -> None:
    text, data = split(to_bytes({"format_version": 1}, {"a": np.array([1.0, 2.0])}))
    for value, shown in ((np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")):
        with pytest.raises(ModelFileError, match=f"tensor a holds {shown}"):
            from_bytes(seal(text, data[:8] + np.float64(value).tobytes()))


def test_a_newer_format_has_a_sentence_of_its_own() -> None:
    with pytest.raises(ModelFileError) as caught:
        from_bytes(with_header('{"format_version":3,"new":[1]}'))
    assert str(caught.value) == (
        "m cannot be used: it was written by a newer lastlayer (format 3; this one reads up to 1). "
        "Upgrade lastlayer; if it is the newest, the file is damaged"
    )


def test_brackets_inside_strings_do_not_nest() -> None:
    names = ["[" * 100, '"[{' * 40, "\\" * 3 + '"' + "{" * 99]
    header = {"format_version": 1, "names": names}
    assert from_bytes(to_bytes(header, {}))[0] == header


def test_the_limits_of_depth_and_integers_are_exact() -> None:
    assert parse("[" * 32 + "]" * 32)
    assert parse("[" + "[]," * 100 + "{}]")
    with pytest.raises(Refusal, match="deeper than 32"):
        parse("[" * 33 + "]" * 33)
    with pytest.raises(Refusal, match="deeper than 32"):
        parse("[[],[]," + "[" * 32 + "]" * 33)
    assert parse(f"[{2**63 - 1},{-(2**63)}]") == [2**63 - 1, -(2**63)]
    for number in (2**63, -(2**63) - 1, 2**64):
        with pytest.raises(Refusal, match="beyond 64 bits"):
            parse(str(number))


def test_a_reader_takes_64_tensors_and_no_more() -> None:
    tensors = {f"t{i:02d}": np.array([i], np.uint8) for i in range(64)}
    file = to_bytes({"format_version": 1}, tensors)
    assert len(from_bytes(file)[1]) == 64
    text, data = split(file)
    more = text.replace(b'"t63":', b'"t63":{"data_offsets":[63,64],"dtype":"U8","shape":[1]},"t64":')
    more = more.replace(b'"t64":{"data_offsets":[63,64]', b'"t64":{"data_offsets":[64,65]')
    with pytest.raises(ModelFileError, match="65 tensors, more than 64"):
        from_bytes(seal(more, data + b"\0"))


def test_a_lifted_recursion_limit_does_no_harm() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(Refusal, match="nests deeper"):
            parse("[" * 500_000 + "]" * 500_000)
    finally:
        sys.setrecursionlimit(limit)
