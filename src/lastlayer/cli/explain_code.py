"""``lastlayer explain-code``: the table of problem codes."""

from __future__ import annotations

import click

from lastlayer._codes import CODES


@click.command(name="explain-code")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Say what a problem CODE such as LL007 means and how to mend it; without CODE, list them all."""
    if code is None:
        for name, row in CODES.items():
            click.echo(f"{name}  {'error: ' if row.is_error else ''}{row.meaning}")
        return
    found = CODES.get(code.upper())
    if found is None:
        raise click.UsageError(f"there is no code {code!r}; `lastlayer explain-code` lists them")
    kind = "an error: the command stops" if found.is_error else "a warning: the command goes on"
    click.echo(f"{code.upper()}  {found.meaning}  ({kind})\n  → {found.mend}")
    if not found.is_error:
        click.echo(f"  mute it with --ignore {code.upper()}")
