"""What every experiment does with its results: a table on the screen, a figure in a folder."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastlayer._files import write_bytes


def options(doc: str | None, argv: Sequence[str] | None) -> Path:
    """The folder for figures, from ``--out DIR``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder for figures")
    out: Path = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    return out


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of text in columns; numbers to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *texts]) for i in range(len(head))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right)).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *(line(row) for row in texts)])


def save(figure: Any, out: Path, name: str) -> None:
    """Write the figure as a PNG and say where."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(out / f"{name}.png", buffer.getvalue())
    print(f"\nfigure: {out / f'{name}.png'}")


def _text(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
