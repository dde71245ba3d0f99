"""Write the small TOML files of a run folder; the standard library reads them."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastlayer._arrays import InputError


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return repr(value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:  # a path that is not UTF-8: TOML cannot hold it as text
            return f'{{ bytes = "{os.fsencode(value).hex()}" }}'
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"no TOML form for {type(value).__name__}")


def dump(sections: Mapping[str, Mapping[str, Any]], comment: str = "") -> str:
    """TOML text of one level of sections.

    >>> print(dump({"train": {"C": (0.5, 1.0), "phi": "hog"}}), end="")
    [train]
    C = [0.5, 1.0]
    phi = "hog"
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    for section, values in sections.items():
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        lines += [f"{key} = {_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def load(path: Path) -> dict[str, dict[str, Any]]:
    """Read a file written by `dump`.

    Raises
    ------
    InputError
        When the file is missing or not TOML; the message names the line.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}", "Give the config.toml of a run folder") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from error
    for values in content.values():
        if not isinstance(values, dict):
            raise InputError(f"{path} has a value outside of a section", "Put settings under [train]")
        for key, value in values.items():
            if isinstance(value, dict) and set(value) == {"bytes"}:
                values[key] = os.fsdecode(bytes.fromhex(value["bytes"]))
    return content
