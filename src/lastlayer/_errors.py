"""The one error type for what a user gave; no imports, so that the command line starts fast."""

from __future__ import annotations

from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used.

    Parameters
    ----------
    what : str
        The short fact: which object, which shape, which value.
    mend : str, optional
        What the user can do about it.
    code : str, optional
        The stable code ``LLnnn`` of the problem, where it has one.
    """

    def __init__(self, what: str, mend: str = "", code: str = "") -> None:
        self.what = what
        self.mend = mend
        self.code = code
        text = f"{code} {what}" if code else what
        super().__init__(f"{text}. {mend}" if mend else text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.what, self.mend, self.code))
