"""Mutants of a model file: random damage, and hostile headers whose length and digest are correct again.

`assert_reader_is_strict` is the harness. A reader may answer a mutant with `ModelFileError`, or accept it;
what it accepts must be the one file of its content, to the byte.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lastlayer.artifacts import ModelFileError

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[\]{},:]')
HOSTILE = [
    *(b"0", b"-0", b"-1", b"1", b"2", b"64", b"255", b"4294967295", b"9223372036854775807"),
    *(
        b"9223372036854775808",
        b"18446744073709551615",
        b"9" * 25,
        b"9" * 5000,
        b"0.0",
        b"1.0",
        b"-0.0",
        b"1e5",
    ),
    *(b"1e-5", b"1e308", b"1e309", b"1E400", b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1_0"),
    *(b"null", b"true", b"false", b"[]", b"{}", b"[[]]", b'{"a":1}', b'{"a":1,"a":1}', b"[" * 40 + b"]" * 40),
    *(b"[" * 3000 + b"]" * 3000, b'{"a":' * 40 + b"1" + b"}" * 40, b'""', b'"a"', b'"\\u0000"', b'"\\ud800"'),
    *(b'"\\ud83d\\ude00"', b'"\\uD83D"', b'"\\x"', b'"\n"', b'"../../etc/passwd"', b'"' + b"A" * 2000 + b'"'),
    *(b'"F64"', b'"F32"', b'"F16"', b'"BF16"', b'"I8"', b'"U8"', b'"I32"', b'"I64"', b'"BOOL"', b'"f32"'),
    *(b'"__metadata__"', b'"lastlayer"', b'"sha256"', b'"format_version"', b'"shape"', b'"data_offsets"'),
    *(
        b'"dtype"',
        b'"bias"',
        b'"weights"',
        b'"\\u0062ias"',
        b'"<script>"',
        b'"%s%n"',
        b'"\\u202e"',
        b" ",
        b"\t",
    ),
    *(
        b"",
        b",",
        b":",
        b"//",
        b"/**/",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"'a'",
        b"__import__('os')",
        b"]",
        b"}",
    ),
]


def split(file: bytes) -> tuple[bytes, bytes]:
    """Header text without its padding, and data."""
    count = int.from_bytes(file[:8], "little")
    return file[8 : 8 + count].rstrip(b" "), file[8 + count :]


def seal(text: bytes, data: bytes) -> bytes:
    """Put a header and data together with the right padding, length and digest, whatever they say."""
    text += b" " * (-len(text) % 8)
    prefix = len(text).to_bytes(8, "little")
    start = text.rfind(b'"sha256":"') + 10
    if start < 10 or len(text) < start + 64:
        return prefix + text + data
    blank = text[:start] + b"0" * 64 + text[start + 64 :]
    digest = hashlib.sha256(prefix + blank + data).hexdigest().encode()
    return prefix + blank[:start] + digest + blank[start + 64 :] + data


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes: flips, new values, slices removed, repeated, moved, zeroed, added, cut off."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = len(out)
        at = int(rng.integers(0, size + 1))
        length = int(rng.integers(1, 17))
        kind = int(rng.integers(0, 8))
        if kind == 0 and at < size:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and at < size:
            out[at] = int(rng.integers(0, 256))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[at : at + length]
        elif kind == 4:
            out[at:at] = rng.bytes(length)
        elif kind == 5:
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif kind == 6:
            other = int(rng.integers(0, size + 1))
            out[at : at + length] = out[other : other + length]
        elif kind == 7 and rng.integers(0, 4) == 0:
            del out[at:]
    return bytes(out)


def edit(text: bytes, rng: np.random.Generator) -> bytes:
    """Change some tokens of a JSON text: replaced, removed, repeated, swapped, inserted."""
    tokens = list(TOKEN.finditer(text))
    out = [match.group() for match in tokens]
    for _ in range(int(rng.integers(1, 3))):
        at, other = (int(i) for i in rng.integers(0, len(out), size=2))
        hostile = HOSTILE[int(rng.integers(0, len(HOSTILE)))]
        kind = int(rng.integers(0, 6))
        if kind <= 1:
            out[at] = hostile
        elif kind == 2:
            out[at], out[other] = out[other], out[at]
        elif kind == 3:
            out[at] = out[other]
        elif kind == 4:
            out.insert(at, hostile)
        else:
            low, high = sorted((at, other))
            out[low : low + 1] = out[low : min(high, low + 6)] * 2
    return b"".join(out)


def edit_inner(text: bytes, rng: np.random.Generator) -> bytes:
    """`edit` lastlayer's own header, a JSON string inside the outer header."""
    start = text.index(b'"lastlayer":') + len(b'"lastlayer":')
    match = TOKEN.match(text, start)
    assert match
    inner = json.loads(match.group()).encode("ascii")
    changed = edit(inner, rng).decode("latin-1")
    return text[:start] + json.dumps(changed).encode() + text[match.end() :]


ITEM = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "U8": 1, "C64": 8, "BF16": 2, "BOOL": 1}
LENGTHS = [0, 1, 2, 3, 4, 5, 6, 12, 255, 2**16, 2**20, 2**31, 2**32, 2**33, 2**61, 2**62, 2**63 - 1]


def lay_out_anew(text: bytes, data: bytes, rng: np.random.Generator) -> bytes:
    """Give a tensor another type or shape, with all offsets as the rule has them; sizes wrap at 64 bits."""
    outer = json.loads(text)
    entries = {name: entry for name, entry in outer.items() if name != "__metadata__"}
    name = sorted(entries)[int(rng.integers(0, len(entries)))]
    entry = entries[name]
    if rng.integers(0, 3) == 0:
        entry["dtype"] = sorted(ITEM)[int(rng.integers(0, len(ITEM)))]
    else:
        rank = int(rng.integers(0, 6))
        entry["shape"] = [LENGTHS[int(i)] for i in rng.integers(0, len(LENGTHS), size=rank)]
    if rng.integers(0, 8) == 0:
        del outer[name], entries[name]
    start = 0
    for name in sorted(entries, key=lambda name: (-ITEM[entries[name]["dtype"]], name)):
        size = ITEM[entries[name]["dtype"]]
        for length in entries[name]["shape"]:
            size = size * length % 2**64
        entries[name]["data_offsets"] = [start, start + size]
        start += size
    if start < 4096 and rng.integers(0, 2):
        data = (data + bytes(start))[:start]
    return seal(json.dumps(outer, sort_keys=True, separators=(",", ":")).encode(), data)


def with_odd_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Put NaN, an infinite or an extreme number somewhere."""
    dtype = np.dtype(["<f8", "<f4", "<i4"][int(rng.integers(0, 3))])
    value = [np.nan, np.inf, -np.inf, 3e38, 1e-45, -1.0][int(rng.integers(0, 6))]
    if dtype.kind == "i":
        value = [-1, 2**31 - 1, -(2**31), 0, 10**6, 77][int(rng.integers(0, 6))]
    at = int(rng.integers(0, max(1, len(data) // dtype.itemsize))) * dtype.itemsize
    return data[:at] + np.array(value, dtype).tobytes() + data[at + dtype.itemsize :]


def mutants(file: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` mutants of the file: a quarter raw damage, the rest sealed again."""
    rng = np.random.default_rng(seed)
    text, data = split(file)
    for number in range(count):
        kind = number % 8
        if kind <= 1:
            yield damage(file, rng)
        elif kind == 2:
            yield seal(text, damage(data, rng))
        elif kind == 3:
            yield seal(damage(text, rng), data)
        elif kind == 4:
            yield seal(edit(text, rng), data)
        elif kind == 5:
            yield seal(edit_inner(text, rng), data)
        elif kind == 6:
            yield lay_out_anew(text, data, rng)
        else:
            yield seal(text, with_odd_number(data, rng))


def assert_reader_is_strict(
    read: Callable[[bytes], Any], write: Callable[[Any], bytes], candidates: Iterator[bytes]
) -> dict[str, int]:
    """Count the outcomes; any other exception, or an accepted file that is not canonical, is a failure."""
    outcomes = {"refused": 0, "accepted": 0}
    for candidate in candidates:
        refusal: ModelFileError | None = None
        try:
            content = read(candidate)
        except ModelFileError as error:
            refusal = error
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} left the reader: {error}") from error
        outcomes["accepted" if refusal is None else "refused"] += 1
        if refusal is not None:
            assert str(refusal).isprintable(), f"no line of text: {refusal!s:.400}"
            assert len(str(refusal)) < 400, f"no clear sentence: {refusal!s:.400}"
            continue
        try:
            again = write(content)
        except Exception as error:
            raise AssertionError(f"accepted, but cannot be used: {error}") from error
        assert again == candidate, "an accepted file is not the file of its content"
    return outcomes
