"""Reads the pickles of CIFAR without Python's unpickler: arrays, lists, dicts, bytes, text and numbers only.

A pickle is a program for a small stack machine, and Python's own machine lets that program import and call
anything. The machine here knows the two dozen opcodes that such data needs. The only globals it accepts are
the three that describe a NumPy array; they are never imported or called, but stand for a fixed construction
that checks the element type and that the bytes given are exactly as many as the shape needs. Memory is
bounded by the size of the file and the number of steps; a pickle that asks for anything else is refused by
name.

The format is described in CPython's ``Lib/pickletools.py``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from lastlayer._arrays import Array, InputError
from lastlayer._files import display_name

MAX_BYTES: Final = 1 << 28  # CIFAR-100, the largest, has 155 MB
MAX_STEPS: Final = 5_000_000  # and needs 0.4 million

_ARRAY: Final = "numpy._reconstruct"
_DTYPE: Final = "numpy.dtype"
_NDARRAY: Final = "numpy.ndarray"
_ENCODE: Final = "_codecs.encode"
_GLOBALS: Final = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,  # how Python 3 writes bytes into protocol 2: text in Latin-1
}
_ELEMENTS: Final = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())


@final
@dataclass(frozen=True)
class _Global:
    """A name that a pickle asked for and that stands for one fixed construction."""

    what: str


@final
@dataclass
class _Element:
    """An array's element type under construction: BUILD adds the byte order."""

    code: str
    order: str = "|"


@final
@dataclass
class _Array:
    """An array under construction: BUILD adds shape, type and bytes."""

    value: Array | None = None


_MARK: Final = object()


class _Malformed(Exception):
    """The bytes are not a pickle that this machine understands."""


def unpickle(data: bytes, name: str) -> Any:
    """Return the value that a pickle of plain data and numeric arrays describes.

    Parameters
    ----------
    data : bytes
    name : str
        What messages call the file.

    Raises
    ------
    InputError
        LL012 when the pickle asks for anything but plain data and numeric arrays, naming it; without a
        code when the bytes are damaged.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} has {len(data):,} bytes; pickles above {MAX_BYTES:,} are not read")
    machine = _Machine(data, name)
    try:
        return machine.run()
    except (_Malformed, IndexError, struct.error, UnicodeError, TypeError, KeyError) as error:
        raise InputError(
            f"{name} is damaged or not a pickle of plain data, at byte {machine.position:,} ({error})",
            "Fetch the file again, or use CIFAR's binary version",
        ) from None


@final
@dataclass
class _Machine:
    data: bytes
    name: str
    position: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            opcode = self.take(1)
            if opcode == b".":
                return self.finished(self.stack[-1])
            step = _STEPS.get(opcode)
            if step is None:
                raise self.refusal(f"opcode {opcode!r} does not belong to plain data")
            step(self)
        raise self.refusal(f"it takes more than {MAX_STEPS:,} steps")

    def take(self, count: int) -> bytes:
        piece = self.data[self.position : self.position + count]
        if len(piece) != count:
            raise _Malformed("it ends too early")
        self.position += count
        return piece

    def number(self, format: str) -> Any:
        return struct.unpack(format, self.take(struct.calcsize(format)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise _Malformed("a name has no end")
        return self.take(end - self.position + 1)[:-1].decode("utf-8")

    def pop_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise _Malformed("a mark is missing")

    def finished(self, value: Any) -> Any:
        """Return a complete array as itself; refuse half-built things and names."""
        if isinstance(value, _Array) and value.value is not None:
            return value.value
        if isinstance(value, (_Array, _Element, _Global)) or value is _MARK:
            raise _Malformed("something unfinished is used as data")
        return value

    def find_global(self, module: str, name: str) -> None:
        what = _GLOBALS.get((module, name))
        if what is None:
            raise self.refusal("it asks for " + display_name(f"{module[:100]}.{name[:100]}"))
        self.stack.append(_Global(what))

    def refusal(self, why: str) -> InputError:
        return InputError(
            f"{self.name} holds more than plain data: {why}; nothing of it was run",
            "Save plain arrays, or use CIFAR's binary version",
            "LL012",
        )

    def set_items(self, target: Any, pairs: list[Any]) -> None:
        if not isinstance(target, dict) or len(pairs) % 2:
            raise _Malformed("keys and values do not pair up")
        for key, value in zip(pairs[::2], pairs[1::2]):
            if not isinstance(key, (str, bytes, int)):
                raise _Malformed("a key is neither text nor a number")
            target[key] = self.finished(value)

    def extend(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, list):
            raise _Malformed("items are added to something that is no list")
        target.extend([self.finished(item) for item in items])

    def reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise _Malformed("a call of something that is no function")
        self.stack.append(_CALLS[function.what](self, arguments))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(state, tuple):
            raise _Malformed("a state that is no tuple")
        if isinstance(target, _Element):
            if state[1] not in ("<", ">", "|", b"<", b">", b"|"):
                raise _Malformed("an unknown byte order")
            target.order = state[1] if isinstance(state[1], str) else state[1].decode("ascii")
        elif isinstance(target, _Array) and target.value is None:
            target.value = self.array(*state)
        else:
            raise _Malformed("a state for something that takes none")

    def array(self, _version: Any, shape: Any, element: Any, fortran: Any, raw: Any) -> Array:
        if not isinstance(element, _Element) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
            raise self.refusal("it asks for an array of objects")
        if len(shape) > 4 or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape):
            raise _Malformed("an array's shape is not up to four sizes")
        dtype = np.dtype(element.order.replace("|", "=") + element.code)
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise _Malformed(f"an array of shape {shape} has {len(raw)} bytes")
        flat = np.frombuffer(raw, dtype=dtype) if raw else np.empty(0, dtype=dtype)
        return flat.reshape(shape, order="F" if fortran else "C")

    def call_reconstruct(self, arguments: tuple[Any, ...]) -> _Array:
        if not arguments or not isinstance(arguments[0], _Global) or arguments[0].what != _NDARRAY:
            raise self.refusal("it asks for a subclass of numpy.ndarray")
        return _Array()

    def call_dtype(self, arguments: tuple[Any, ...]) -> _Element:
        code = arguments[0].decode("latin-1") if isinstance(arguments[0], bytes) else arguments[0]
        if not isinstance(code, str) or code not in _ELEMENTS:
            # only text is shown: the text of a nested tuple can be exponentially long
            shown = repr(code[:20]) if isinstance(code, str) else type(code).__name__
            raise self.refusal(f"it asks for array elements of type {shown}")
        return _Element(code)

    def call_encode(self, arguments: tuple[Any, ...]) -> bytes:
        text, encoding = (*arguments, None, None)[:2]
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise self.refusal("it asks for another encoding than latin1")
        return text.encode("latin-1")

    def call_class(self, arguments: tuple[Any, ...]) -> Any:
        raise self.refusal(f"it calls numpy.ndarray with {len(arguments)} arguments")


_CALLS: Final[dict[str, Callable[[_Machine, tuple[Any, ...]], Any]]] = {
    _ARRAY: _Machine.call_reconstruct,
    _DTYPE: _Machine.call_dtype,
    _NDARRAY: _Machine.call_class,
    _ENCODE: _Machine.call_encode,
}


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(make(m))


def _tuple(count: int) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        if len(m.stack) < count or any(item is _MARK for item in m.stack[len(m.stack) - count :]):
            raise _Malformed("too few items for a tuple")
        m.stack[len(m.stack) - count :] = [tuple(m.stack[len(m.stack) - count :])]

    return step


def _sized(format: str, decode: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return _push(lambda m: decode(m.take(m.number(format))))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _integer(raw: bytes) -> int:
    if len(raw) > 16:
        raise _Malformed("a number is too long")
    return int.from_bytes(raw, "little", signed=True)


def _memoise(format: str) -> Callable[[_Machine], None]:
    return lambda m: m.memo.__setitem__(m.number(format), m.stack[-1])


def _stack_global(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise _Malformed("a global without a name")
    m.find_global(module, name)


def _global(m: _Machine) -> None:
    module = m.line()
    m.find_global(module, m.line())


def _one(add: Callable[[_Machine, Any, list[Any]], None], count: int) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        items = [m.stack.pop() for _ in range(count)][::-1]
        add(m, m.stack[-1], items)

    return step


def _many(add: Callable[[_Machine, Any, list[Any]], None]) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        items = m.pop_mark()
        add(m, m.stack[-1], items)

    return step


def _protocol(m: _Machine) -> None:
    if m.number("<B") > 5:
        raise _Malformed("an unknown protocol")


_STEPS: Final[dict[bytes, Callable[[_Machine], None]]] = {
    b"\x80": _protocol,
    b"\x95": lambda m: m.number("<Q"),  # a frame only says how many bytes follow
    b"(": _push(lambda m: _MARK),
    b"}": _push(lambda m: {}),
    b"]": _push(lambda m: []),
    b")": _push(lambda m: ()),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"J": _push(lambda m: m.number("<i")),
    b"K": _push(lambda m: m.number("<B")),
    b"M": _push(lambda m: m.number("<H")),
    b"G": _push(lambda m: m.number(">d")),
    b"\x8a": _sized("<B", _integer),
    b"U": _sized("<B", bytes),  # text of Python 2, kept as bytes
    b"T": _sized("<i", bytes),
    b"C": _sized("<B", bytes),
    b"B": _sized("<I", bytes),
    b"\x8e": _sized("<Q", bytes),
    b"\x8c": _sized("<B", _text),
    b"X": _sized("<I", _text),
    b"\x8d": _sized("<Q", _text),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"t": lambda m: m.stack.append(tuple(m.pop_mark())),
    b"a": _one(_Machine.extend, 1),
    b"e": _many(_Machine.extend),
    b"s": _one(_Machine.set_items, 2),
    b"u": _many(_Machine.set_items),
    b"q": _memoise("<B"),
    b"r": _memoise("<I"),
    b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    b"h": _push(lambda m: m.memo[m.number("<B")]),
    b"j": _push(lambda m: m.memo[m.number("<I")]),
    b"c": _global,
    b"i": _global,  # a call with the name inside: refused by that name, or for want of a function
    b"\x93": _stack_global,
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
}
