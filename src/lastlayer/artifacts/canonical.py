"""JSON with exactly one text per value, so that a header that was touched anywhere is never equal to itself.

The text is ASCII with sorted keys, no spaces, no NaN, integers of at most 64 bits and the shortest decimal
numbers. Reading parses, writes the value again and compares: everything else is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lastlayer.artifacts.errors import Refusal

MAX_DEPTH = 32


def canonical(value: Any) -> str:
    r"""Return the one JSON text of a value.

    >>> canonical({"b": [1, 0.1], "a": "é"})
    '{"a":"\\u00e9","b":[1,0.1]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse(text: str) -> Any:
    """Return the value of a text in canonical form.

    Raises
    ------
    Refusal
        When the text is no JSON, not the canonical one, nests deeper than 32 levels, names a key twice or
        holds NaN, an infinite number or an integer beyond 64 bits.
    """
    if _nests_deeper_than(MAX_DEPTH, text):
        raise Refusal(f"its header nests deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_int=_int64, parse_constant=_no_constant)
        same = canonical(value) == text
    except ValueError:
        raise Refusal("its header is no valid JSON") from None
    if not same:
        raise Refusal("its header is not in canonical form")
    return value


def _nests_deeper_than(limit: int, text: str) -> bool:
    """Count brackets outside strings: the parser recurses, and a user may have lifted its limit."""
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    depth = 0
    for bracket in re.sub(r"[^\[\]{}]+", "", outside):
        depth += 1 if bracket in "[{" else -1
        if depth > limit:
            return True
    return False


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refusal("its header names a key twice")
    return found


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:  # the length first: int() is quadratic in it
        raise Refusal("its header holds an integer beyond 64 bits")
    return int(digits)


def _no_constant(constant: str) -> Any:
    raise Refusal(f"its header holds {constant}")
