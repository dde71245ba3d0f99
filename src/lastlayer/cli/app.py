"""The group of verbs, each loaded only when it is called, and what becomes of errors."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from typing import Any

import click

from lastlayer import __version__
from lastlayer._errors import InputError
from lastlayer.cli import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE

# verb -> (module, line of help); the modules are imported when their verb is called
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("lastlayer.cli.demo", "Offline tour on real digits that ship with scikit-learn."),
    "check": ("lastlayer.cli.check", "Inspect labelled images; train nothing."),
    "train": ("lastlayer.cli.train", "Labelled images in, an honest and inspectable classifier out."),
    "probe": ("lastlayer.cli.probe", "Linear probe on embedding arrays, by a stated protocol."),
    "sweep": ("lastlayer.cli.sweep", "Compare representations by cross-validation; the test split is not touched."),
    "evaluate": ("lastlayer.cli.evaluate", "Score a trained model on its test split or on new data."),
    "compare": ("lastlayer.cli.compare", "Compare runs on the same images; say what is within noise."),
    "report": ("lastlayer.cli.report", "Render the report of a run again: HTML, Markdown, or figures as files."),
    "predict": ("lastlayer.cli.predict", "Label images."),
    "explain": ("lastlayer.cli.explain", "Why an image gets its label; without images, what the classes look for."),
    "suggest": ("lastlayer.cli.suggest", "Unlabelled images worth labelling next."),
    "info": ("lastlayer.cli.info", "What a run or model file holds."),
    "explain-code": ("lastlayer.cli.explain_code", "What a problem code such as LL007 means, and its mend."),
}
ALIASES = {"fit": "train", "val": "evaluate", "eval": "evaluate", "test": "evaluate"}
OPTION_ALIASES = {"--imgsz": "--size", "--weight-decay": "--l2", "--regularization": "--l2"}

_ASSIGNMENT = re.compile(r"^([a-z][a-z0-9_-]*)=(.*)$", re.DOTALL)

WELCOME = """\
lastlayer turns labelled images into an honest, inspectable classifier: z = W φ(x) + b.

  lastlayer demo                     offline tour on real digits, half a minute
  lastlayer check FOLDER             what is in a folder of class folders, and what is wrong with it
  lastlayer train FOLDER             a model, its score with an interval, and a report

  lastlayer --help                   all verbs
  lastlayer VERB --help              the options of one

Offline, no account, no telemetry. Nothing is written outside ./runs and the cache folder.
"""


class Verbs(click.Group):
    """Loads a verb's module when the verb is called, so that help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb and return its command."""
        entry = VERBS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry[0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        name = args[0]
        if ALIASES.get(name, name) not in VERBS:
            near = difflib.get_close_matches(name, [*VERBS, *ALIASES], n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Known are {', '.join(VERBS)}."
            if os.path.exists(name):
                hint = f" Did you mean `lastlayer train {name}`?"
            raise click.UsageError(f"there is no verb {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any of them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, help_) for name, (_, help_) in VERBS.items()])


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__,
    "-V",
    "--version",
    prog_name="lastlayer",
    message="%(prog)s %(version)s · offline · no telemetry",
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """Turn labelled images into an honest, inspectable classifier: z = W φ(x) + b.

    Offline; no account, no telemetry. Results go to stdout, progress and warnings to stderr.
    """
    if ctx.invoked_subcommand is None:
        click.echo(WELCOME, nl=False)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; no error ends in a stack trace unless asked for.

    ``LASTLAYER_TRACEBACK=1`` shows the trace of user errors as well.
    """
    _never_fail_to_print()
    arguments = [OPTION_ALIASES.get(argument, argument) for argument in arguments]
    translated = _translate_assignments(arguments)
    if translated:
        click.echo(f"error: options are written --name value. Use:\n  {translated}", err=True)
        return EXIT_USAGE
    try:
        code: Any = app.main(args=arguments, prog_name="lastlayer", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_OK
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        error.show(sys.stderr)
        return EXIT_USAGE
    except click.ClickException as error:
        error.show(sys.stderr)
        return EXIT_ERROR
    except InputError as error:
        if os.environ.get("LASTLAYER_TRACEBACK"):
            raise
        _print_input_error(error)
        return EXIT_ERROR
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was saved", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `lastlayer predict … | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        if os.environ.get("LASTLAYER_TRACEBACK"):
            raise
        where = f" {error.filename}" if error.filename else ""
        click.echo(f"error: {error.strerror or error}{where}", err=True)
        return EXIT_ERROR


def _never_fail_to_print() -> None:
    """A file name that the terminal's encoding lacks is printed escaped instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a stand-in for stdout need not have it
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _print_input_error(error: InputError) -> None:
    code = f"{error.code} " if error.code else ""
    click.echo(f"error: {code}{error.what}", err=True)
    if error.mend:
        click.echo(f"  → {error.mend}", err=True)


def _translate_assignments(arguments: list[str]) -> str:
    """The command in this program's spelling, when it was written ``train data=./photos epochs=10``."""
    if not arguments or ALIASES.get(arguments[0], arguments[0]) not in VERBS:
        return ""
    found = [_ASSIGNMENT.match(argument) for argument in arguments[1:]]
    if not any(found) or any(match and os.path.exists(match.string) for match in found):
        return ""
    words = ["lastlayer", arguments[0]]
    subjects, options = [], []
    for argument, match in zip(arguments[1:], found):
        if match is None:
            options.append(argument)
        elif match[1] in ("data", "source", "model"):
            subjects.append(match[2])
        else:
            name = f"--{match[1].replace('_', '-')}"
            options += [OPTION_ALIASES.get(name, name), match[2]]
    return " ".join(words + subjects + options)
