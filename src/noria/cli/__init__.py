"""The command line: one file per command, each loaded only when it is called.

Promises that a command starts as fast as what it needs, and that every error ends as one sentence and an exit code.
Exports ``main`` (the console script), ``execute``, ``group`` and ``commands`` (each with its line of help).
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

import click

from noria import __version__
from noria.cli import streams
from noria.cli.interrupts import heard_interrupts, say_interrupted
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import ExitCode, emit_error
from noria.kernel.error_table import row_of
from noria.kernel.errors import NoriaError, StoreError, UsageError

YOUNG = 50_000  # new objects before the first collection: loading a command makes as many, and all of them stay

COMMANDS: dict[str, tuple[str, str]] = {  # name -> where it lives, one line of help; those of the table of actions are beside it
    "init": ("noria.cli.init:command", "Write a small working project here, or one for your own data."),
    "demo": ("noria.cli.demo:command", "Play a year of releases on real flight data, in minutes."),
    "check": ("noria.cli.check:command", "Check configuration, code and data, in seconds."),
    "run": ("noria.cli.run:command", "Run one turn: train, evaluate, gate, release, roll out."),
    "up": ("noria.cli.up:command", "Start the daemon, the model server and the console."),
    "status": ("noria.cli.status:command", "Show what serves where, and what happened recently."),
    "runs": ("noria.cli.runs:command", "List the latest turns; search, tag and annotate runs."),
    "show": ("noria.cli.show:command", "Show everything recorded of a release, run, turn or delivery."),
    "diff": ("noria.cli.diff:command", "Compare two runs: code, data, parameters, metrics, plots."),
    "report": ("noria.cli.report:command", "Show the report of an evaluated candidate, passed or failed."),
    "releases": ("noria.cli.releases:command", "List, export and verify releases."),
    "release": ("noria.cli.release:command", "Import a model as a release; withdraw a release, lift its bar."),
    "policy": ("noria.cli.policy:command", "Show what changes of the policy in force; approve it."),
    "rollout": ("noria.cli.rollout:command", "Show the rollout under way; hold, resume, abort, simulate one."),
    "reproduce": ("noria.cli.reproduce:command", "Rebuild a release from its record, and compare."),
    "serve": ("noria.cli.serve:command", "Serve releases without daemon or project, as in a container."),
    "predict": ("noria.cli.predict:command", "Ask the model server for predictions, or score whole files."),
    "feedback": ("noria.cli.feedback:command", "Record what really happened: the label of a prediction."),
    "predictions": ("noria.cli.predictions:command", "List logged predictions, with their labels."),
    "data": ("noria.cli.data:command", "List, compare, check out, pin and verify versions of your data."),
    "gc": ("noria.cli.gc:command", "List what is no longer needed; with --yes, delete it."),
    "audit": ("noria.cli.audit:command", "Read and verify the audit log."),
    "doctor": ("noria.cli.doctor:command", "Check this installation and this project's state."),
}


def commands() -> dict[str, str]:
    """Returns every command with its line of help, in the order in which people need them."""
    from noria.engine.action_table import at_the_top  # most commands need no table

    found: dict[str, str] = {}
    for name, (_, line) in COMMANDS.items():
        found[name] = line
        if name == "rollout":
            found |= {name: action.line for name, action in at_the_top().items()}
    return found


class CommandGroup(LazyGroup):
    """All commands: those of the table above and those of the action table."""

    def lines(self) -> dict[str, str]:
        return commands()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _acting(cmd_name)


def _acting(name: str) -> click.Command | None:
    """Returns the command of an action."""
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

    Exit codes: 0 success, 1 the verdict is no, 2 wrong usage, 3 not enough data, 4 infrastructure failure.
    """
    ctx.obj = start


def main() -> NoReturn:
    """The console script ``noria``."""
    streams.speak_utf8()
    streams.open_streams()
    gc.set_threshold(YOUNG)
    code = execute(sys.argv[1:])
    failure = streams.output_failure()
    if failure is not None:  # the command did its work: a program that reads the exit code alone must not think it has all
        emit_error(StoreError(f"standard output could not be written, and lacks a part: {failure.strerror}"), as_json=False)
        code = ExitCode.INFRASTRUCTURE
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends this process as the interpreter would, but without tearing the interpreter down.

    Libraries have threads of their own, such as Arrow's read-ahead. A thread that releases or calls a Python object while the
    interpreter shuts down aborts the process: the command would have done its work and exit with 134.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the command has ended: a late Ctrl-C ends the process, and prints no trace
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter calls first: threads that are no daemons end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        streams.flush(stream)
    os._exit(code)


def execute(arguments: list[str]) -> int:
    """Runs one command line and returns the exit code. Every error ends as one clear message, never a traceback."""
    as_json = "--json" in arguments
    try:
        with heard_interrupts():
            result = group.main(args=arguments, prog_name="noria", standalone_mode=False)
    except NoriaError as error:
        emit_error(error, as_json)
        return row_of(type(error)).exit_code
    except click.ClickException as error:
        return _usage(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        say_interrupted()
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
