"""Options that several verbs share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _chain(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def common(function: F) -> F:
    """``--json -q --workers --ignore``."""
    return _chain(
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else there."),
        click.option("-q", "--quiet", is_flag=True, help="No progress; warnings stay."),
        click.option("--workers", type=click.IntRange(1, 256), help="Decoding processes [all cores]."),
        click.option("--ignore", multiple=True, metavar="LLnnn", help="Mute a problem code; may be repeated."),
    )(function)


def run_folder(function: F) -> F:
    """``--name --runs --overwrite --cache-dir --no-cache``."""
    return _chain(
        click.option("--name", default="", help="Name of the run folder [VERB-NNN]."),
        click.option(
            "--runs",
            type=click.Path(path_type=Path),
            default=Path("runs"),
            show_default=True,
            help="Where run folders go.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace the run folder of that --name."),
        cache,
    )(function)


def cache(function: F) -> F:
    """``--cache-dir --no-cache``."""
    return _chain(
        click.option("--cache-dir", type=click.Path(path_type=Path), help="Cache of decoded images and features."),
        click.option("--no-cache", is_flag=True, help="Neither read nor write the cache."),
    )(function)


def command_line() -> str:
    """The command as it was typed, quoted for a shell."""
    return shlex.join(["lastlayer", *sys.argv[1:]])


def execution(values: dict[str, Any]) -> Any:
    """Take the shared options out of a verb's `values` and make an `Execution` of them."""
    from lastlayer._codes import CODES
    from lastlayer._progress import stderr_progress
    from lastlayer.pipeline.settings import Execution

    ignore = tuple(code.upper() for code in values.pop("ignore", ()))
    for code in ignore:
        if code not in CODES:
            raise click.UsageError(f"--ignore {code}: there is no such code; `lastlayer explain-code` lists them")
    return Execution(
        runs=values.pop("runs", Path("runs")),
        name=values.pop("name", ""),
        overwrite=values.pop("overwrite", False),
        workers=values.pop("workers", None),
        cache=values.pop("cache_dir", None),
        use_cache=not values.pop("no_cache", False),
        progress=stderr_progress(values.pop("quiet", False)),
        command=command_line(),
        ignore=ignore,
    )
