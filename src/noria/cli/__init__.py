"""The command line: one file per command, each loaded only when it is called.

Promises that a command starts as fast as what it needs, and that every error ends as one sentence and an exit code.
Exports ``main`` (the console script), ``execute``, ``group`` and ``commands`` (each with its line of help).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

import click

from noria import __version__
from noria.cli import streams
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import ExitCode, emit_error
from noria.kernel.error_table import row_of
from noria.kernel.errors import NoriaError, UsageError

COMMANDS: dict[str, tuple[str, str]] = {  # name -> where it lives, one line of help; those of the table of actions are beside it
    "init": ("noria.cli.init:command", "Write a small working project here, or one for your own data."),
    "demo": ("noria.cli.demo:command", "Show a year of deliveries on real flights, in minutes."),
    "check": ("noria.cli.check:command", "Check configuration, code and data, in seconds."),
    "run": ("noria.cli.run:command", "Turn the wheel once, here and now."),
    "up": ("noria.cli.up:command", "Start the daemon, the model server and the console."),
    "status": ("noria.cli.status:command", "Who serves what, and what happened lately."),
    "runs": ("noria.cli.runs:command", "List the latest turns; search, tag and annotate runs."),
    "show": ("noria.cli.show:command", "Tell the whole story of a release, run, turn or delivery."),
    "diff": ("noria.cli.diff:command", "Compare two runs: code, data, parameters, metrics, plots."),
    "releases": ("noria.cli.releases:command", "List the releases."),
    "release": ("noria.cli.release:command", "Import a model from elsewhere; withdraw a release, lift a bar."),
    "rollout": ("noria.cli.rollout:command", "Where a delivery stands; hold, resume, abort, simulate it."),
    "reproduce": ("noria.cli.reproduce:command", "Build a release again from its record, and compare."),
    "serve": ("noria.cli.serve:command", "Serve one release alone: no daemon, no project; for containers."),
    "predict": ("noria.cli.predict:command", "Ask the model server for a prediction; or score whole files."),
    "feedback": ("noria.cli.feedback:command", "Tell what really happened: a label for a prediction."),
    "predictions": ("noria.cli.predictions:command", "List what was answered, from the prediction log."),
    "data": ("noria.cli.data:command", "Versions of your data: list, compare, copy out, keep, verify."),
    "gc": ("noria.cli.gc:command", "Say what nothing needs any more; with --yes, delete it."),
    "audit": ("noria.cli.audit:command", "Read and verify the audit log."),
    "doctor": ("noria.cli.doctor:command", "Check this installation and this project's state."),
}


def commands() -> dict[str, str]:
    """Every command with its one line of help, in the order people meet them."""
    from noria.engine.action_table import at_the_top  # most commands need no table

    found: dict[str, str] = {}
    for name, (_, line) in COMMANDS.items():
        found[name] = line
        if name == "rollout":
            found |= {name: action.line for name, action in at_the_top().items()}
    return found


class CommandGroup(LazyGroup):
    """All commands: those of the table above, and those of the table of actions."""

    def lines(self) -> dict[str, str]:
        return commands()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _acting(cmd_name)


def _acting(name: str) -> click.Command | None:
    """The command of an action."""
    from noria.engine.action_table import at_the_top  # most commands need no table

    action = at_the_top().get(name)
    if action is None:
        return None
    from noria.cli.action import command_of  # what an action needs

    return command_of(action)


@click.group(cls=CommandGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-C",
    "start",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("."),
    help="Work in this directory instead of the current one.",
)
@click.version_option(__version__, prog_name="noria", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context, start: Path) -> None:
    """Continuous delivery for machine learning: from new data to a served model and back.

    \b
    Start with an example:   noria init hello && cd hello && noria run
    Or with your own table:  noria init --data customers.csv --label churned

    Exit codes: 0 passed, 1 the verdict is no, 2 usage, 3 not enough data, 4 infrastructure.
    """
    ctx.obj = start


def main() -> NoReturn:
    """The console script ``noria``."""
    streams.speak_utf8()
    streams.open_streams()
    leave(execute(sys.argv[1:]))


def leave(code: int) -> NoReturn:
    """End this process as the interpreter would, but for taking itself down.

    Libraries have threads of their own, such as those by which Arrow reads ahead. One that lets go of a Python object, or calls
    one, while the interpreter is taken down aborts the process: the command is done, and its exit code would be 134.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter calls first: threads that are no daemons end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it was closed, or nobody reads it
            stream.flush()
    os._exit(code)


def execute(arguments: list[str]) -> int:
    """Run one command line; returns the exit code. Every error ends as one clear message, never a trace."""
    as_json = "--json" in arguments
    try:
        result = group.main(args=arguments, prog_name="noria", standalone_mode=False)
    except NoriaError as error:
        emit_error(error, as_json)
        return row_of(type(error)).exit_code
    except click.ClickException as error:
        return _usage(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  the last resort: a person gets a sentence, the traceback goes to a file
        from noria.cli import crash  # only what failed needs it

        emit_error(crash.unexpected(error, arguments), as_json)
        return ExitCode.INFRASTRUCTURE
    return int(result) if isinstance(result, int) else ExitCode.PASSED


def _usage(error: click.ClickException, as_json: bool) -> int:
    if as_json:
        emit_error(UsageError(error.format_message()), as_json)
    else:
        error.show()
    return ExitCode.USAGE
