"""The command line: parsing and printing only; the work is in `lastlayer.pipeline`."""

from __future__ import annotations

import sys

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_REQUIRE, EXIT_STRICT, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``lastlayer`` command; ends the process with the exit code of the verb."""
    from lastlayer.cli.app import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
