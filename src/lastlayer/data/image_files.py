"""One image file from the disk: opened without waiting, checked, read once."""

from __future__ import annotations

import errno
import os
import stat

from lastlayer.data.image_errors import ImageReadError

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)


def largest_file(max_pixels: int) -> int:
    """Bytes above which a file is refused unread: 8 a pixel (16-bit RGBA, uncompressed) and 32 MiB."""
    return 8 * max_pixels + (32 << 20)


def read_file(path: str, max_pixels: int) -> bytes:
    """All bytes of a regular file.

    Raises
    ------
    ImageReadError
        ``link``, ``not-a-file``, ``permission``, ``vanished``, ``unreadable`` or ``too-large``.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise ImageReadError(path, *_why_not_opened(path, error)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageReadError(path, "not-a-file")
        if status.st_size > largest_file(max_pixels):
            raise ImageReadError(path, "too-large", f"a file of {status.st_size / 1e6:.0f} MB")
        return _read_all(descriptor, status.st_size)
    except OSError as error:
        raise ImageReadError(path, "unreadable", error.strerror or "") from None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size)
    if len(data) == size:
        return data
    parts = [data]  # a system call may give less than asked for
    while part := os.read(descriptor, size):
        parts.append(part)
    return b"".join(parts)


def _why_not_opened(path: str, error: OSError | ValueError) -> tuple[str, str]:
    if not isinstance(error, OSError):  # a zero byte in the name: no such file can exist
        return "vanished", str(error)
    if error.errno == errno.ELOOP:
        return "link", "a link that leads to itself"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ("link", "a link that leads nowhere") if os.path.islink(path) else ("vanished", "")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ("not-a-file", "") if os.path.isdir(path) else ("permission", "")
    if error.errno in (errno.ENXIO, errno.EISDIR, errno.ENODEV):
        return "not-a-file", ""
    return "unreadable", error.strerror or ""
