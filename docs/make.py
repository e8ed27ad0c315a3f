"""`make docs`: write the pages that are made from the code: project-file.md, commands.md, errors.md, and the
table of actions in control-api.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from noria import cli
from noria.config import schema
from noria.engine.action import Action, ActionField, FieldKind, Who
from noria.engine.action_table import ACTIONS, at_the_top
from noria.kernel import errors
from noria.kernel.error_table import row_of

HERE = Path(__file__).parent
WIDTH = 110
ACTIONS_BEGIN, ACTIONS_END = "<!-- made by docs/make.py -->", "<!-- end -->"
CODES_OF = {  # beside 2 (called wrongly) and 4 (infrastructure), which every command may end with
    "init": "0 written",
    "demo": "0 nothing failed, nothing lost, v1 reproduced; 1 otherwise",
    "check": "0 all holds; 1 something does not",
    "run": "0 done, or nothing had changed; 1 refused, quarantined, failed or rolled back; 3 not enough data, or held",
    "up": "0 told to stop",
    "status": "0",
    "runs": "0",
    "show": "0; 2 there is no such thing",
    "diff": "0, whether or not anything differs; 2 there is no such run",
    "report": "0; 2 nothing is named so, or no candidate was evaluated",
    "releases": "0; 1 the file exists already, data was erased, or `verify` found it changed; 2 no such release",
    "release": "0 done; 1 FILE is damaged, does not fit, or nobody vouches for it, the release is in use or has no bar; "
    "2 something has to be said that was not",
    "policy": "0; 1 nothing differs, or the change is approved already",
    "rollout": "0; 1 refused; 2 no such environment, or nothing is under way there",
    "reproduce": "0 bytes or metrics agree; 1 they do not, or the folder is not empty, or the file was changed or lacks data",
    "serve": "0 told to stop; 1 FILE is damaged, not signed or signed by another key, or RELEASE is barred",
    "predict": "0 answered; 1 rows of a file have no answer, --strict met one, or the output exists; 2 refused; 4 no server",
    "feedback": "0 recorded; 2 the request was refused; 4 no server answers",
    "predictions": "0; 2 no such environment",
    "data": "0; 1 refused, FILE is damaged, or `verify` found what is lost; 2 no such snapshot",
    "gc": "0; 1 refused: something runs",
    "audit": "0; 1 `verify` found the chain broken",
    "doctor": "0 nothing failed; 1 something did",
}
TO_DO = {  # error -> what a person does next
    "NoriaError": "Read the hint; without one it is a defect of Noria: report it with the traceback that the message names.",
    "UsageError": "Look at the command's `--help`.",
    "ConfigError": "Open the place that is named, and correct it; `noria check` reads the file again in seconds.",
    "DataError": "Correct the file and let it arrive again, or change its contract.",
    "StepError": "Open the place that the message names: the error is in the project's code, or in its limits.",
    "RefusedError": "Do what the policy asks for (commit, approve, choose another release).",
    "NotFoundError": "List what there is: `noria releases`, `noria runs`, `noria status`.",
    "AmbiguousError": "Give more of its characters.",
    "StoppedError": "Nothing: the next start reruns the turn.",
    "StoreError": "`noria doctor` looks deeper; a damaged ledger is replaced by a backup.",
    "CorruptBlobError": "Restore the blob, or let the same data arrive again; look at the disk.",
    "LeaseLostError": "Nothing: the other engine finishes the work.",
    "DiskFullError": "Make room, and do it again.",
    "ServingError": "`noria status` tells what is missing, `noria doctor` why; the server's words are in `server.log`.",
    "PortInUseError": "Choose another port, or stop the program that has this one.",
    "NoAnswerError": "Send it again; `noria status` and `server.log` tell what became of the release.",
    "RequestError": "Correct the request; the same one will be refused again.",
    "BadBodyError": "Send a JSON object with the inputs; `/openapi.json` shows one.",
    "SignatureError": "Send the columns that the message names, in their types.",
    "UnknownTargetError": "`/openapi.json` lists the paths; a prediction's id is in its answer.",
    "ForbiddenError": "Send the token; call the server by the address that `noria status` shows.",
    "NoKeyError": "Send a key of the server's list as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
    "TooOftenError": "Wait for as long as `Retry-After` says, or raise `serving.rate`.",
    "SlowBodyError": "Send the body at once, or in smaller parts.",
    "EncodingError": "Pack the body with gzip or deflate, or not at all.",
    "TooLargeError": "Send the records in several requests, or raise `serving.max_body` or `serving.max_rows`.",
}

COMMANDS_HEAD = """\
Each has `--json` (one document, stable keys), `--help` with an example, and exit codes for CI: 0 passed, 1 the verdict is no,
2 usage, 3 not enough data, 4 infrastructure; 130 after Ctrl-C. Every command may end with 2 (called wrongly) or 4. With `--json`
an error is one document too: `error` with `kind`, `message`, `where`, `hint`, `exit_code` ([errors](errors.md)).
A reader that ends early (`| head`) fails nothing; where the disk behind standard output is full, the command does its work and
ends with 4."""
ERRORS_HEAD = """\
Every message says what is wrong, where, and what to do next. `--json` gives it as one document: kind, message, where, hint,
exit_code. The fourth column is what the model server and the control API answer; by the Open Inference Protocol a SignatureError
is 400. Both also say 405 for a method that a path does not take, and 500 for a defect of ours; the model server names the number
under which its log has the trace."""


def commands() -> str:
    """Every command with its help and its exit codes."""
    parts = [
        "# Commands",
        COMMANDS_HEAD,
    ]
    top = click.Context(cli.group, info_name="noria")
    codes = CODES_OF | {name: action.codes for name, action in at_the_top().items()}
    for name, line in cli.commands().items():
        command = cli.group.get_command(top, name)
        assert command is not None
        parts += [f"## noria {name}", line, *helps(command, name, top), f"Exit codes: {codes[name]}."]
    return "\n\n".join(parts) + "\n"


def helps(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """The help of a command and of what is below it, as code blocks."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, help_option_names=["-h", "--help"])
    yield f"```\n{context.get_help().rstrip()}\n```"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from helps(found, below, context)


def every_error() -> list[type[errors.NoriaError]]:
    """The error classes, in the order of the tree."""
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.NoriaError)]


def sentence(kind: type[errors.NoriaError]) -> str:
    """The first line of an error's docstring."""
    return (kind.__doc__ or "").strip().splitlines()[0]


def error_table() -> str:
    """Every error class with what to do about it."""
    rows = []
    for e in every_error():
        row = row_of(e)
        rows.append(f"| `{e.__name__}` | {sentence(e)} | {row.exit_code} | {row.status} | {TO_DO[e.__name__]} |")
    return (
        "\n".join(
            [
                f"# Errors\n\n{ERRORS_HEAD}\n",
                "| error | what it means | exit code | HTTP | what to do |",
                "|---|---|---|---|---|",
                *rows,
            ]
        )
        + "\n"
    )


def action_table() -> str:
    """Every action with its path, the keys of its body, its command and its audit event."""
    rows = [
        f"| `/api/{verb}` | {', '.join(map(_key, action.fields))} | `{' '.join(('noria', *action.command))}` | "
        f"{', '.join(f'`{key}`' for key in action.answers)} | `{action.event}` | {_allowed(action)} | {action.about} |"
        for verb, action in ACTIONS.items()
    ]
    head = "| POST | body | command | answers with | audit event | who, when | does what |\n|---|---|---|---|---|---|---|"
    return "\n".join([head, *rows])


def _key(field: ActionField) -> str:
    notes = [*([field.kind] if field.kind is not FieldKind.TEXT else []), *(["required"] if field.required else [])]
    return f"`{field.name}`" + (f" ({', '.join(notes)})" if notes else "")


def _allowed(action: Action) -> str:
    who = "no step" if action.who is Who.PERSON else "anybody"
    return who + (", a changed audit log does not keep it back" if action.while_broken else "")


def control_api() -> str:
    """The control API's page, its table of actions made anew."""
    before, start, rest = (HERE / "control-api.md").read_text().partition(ACTIONS_BEGIN)
    _, end, after = rest.partition(ACTIONS_END)
    return f"{before}{start}\n{action_table()}\n{end}{after}"


def pages() -> dict[str, str]:
    """Every generated page by its file's name."""
    return {
        "project-file.md": schema.reference(),
        "commands.md": commands(),
        "errors.md": error_table(),
        "control-api.md": control_api(),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        (HERE / page).write_text(text)
