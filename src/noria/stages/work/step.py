"""A step of the project: a function, or a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from noria.adapters import files
from noria.adapters.executors.timing import user_code
from noria.errors import StepError
from noria.stages.work import functions, tables

OUTPUT = "output"
TABLES = frozenset({".parquet", ".pq", ".csv", ".tsv", ".ndjson", ".jsonl", ".arrow", ".ipc", ".feather"})


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the step and leave its result in ``folder/output``.

    The job: ``call`` ("module:function") or ``cmd``, ``arguments`` (see ``tables.argument``), ``outs``, ``folder``.
    Returns the result's facts: ``format`` (arrow, json, file or none), and for a table ``rows`` and ``columns``.
    """
    output = Path(job["folder"]) / OUTPUT
    if job.get("call"):
        return call(job["call"], job.get("arguments", {}), output)
    return command(job["cmd"], job.get("arguments", {}), job.get("outs", []), output)


def call(target: str, arguments: dict[str, dict[str, Any]], output: Path) -> dict[str, Any]:
    """Call a function with its arguments converted to what it is annotated with."""
    with user_code():
        function = functions.load(target)
    wanted = functions.parameter_types(function)
    values = {name: _argument(name, facts, wanted.get(name, Any)) for name, facts in arguments.items()}
    with user_code():
        result = function(**values)
    return tables.write(result, output)


def command(line: str, arguments: dict[str, dict[str, Any]], outs: list[str], output: Path) -> dict[str, Any]:
    """Run a shell command in the working directory. It finds its inputs in NORIA_INPUT_<NAME> (several files are joined
    by ':') and its parameters, as JSON, in NORIA_PARAM_<NAME>; the one out it declares must exist afterwards."""
    if len(outs) > 1:
        raise StepError(f"declares {len(outs)} outs; a command leaves one file", hint="Write one table, or make it two steps.")
    for out in outs:
        Path(out).unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    with user_code():
        done = subprocess.run(line, shell=True, stdin=subprocess.DEVNULL, env=os.environ | _variables(arguments), check=False)  # noqa: S602 - the project's own command
    if done.returncode:
        raise StepError(_ending(done.returncode))
    return _collect(Path(outs[0]), output) if outs else {"format": "none"}


def _argument(name: str, facts: dict[str, Any], kind: Any) -> Any:
    try:
        return tables.argument(facts, kind)
    except StepError as error:
        raise StepError(f"argument {name} {error.message}", hint=error.hint) from error


def _variables(arguments: dict[str, dict[str, Any]]) -> dict[str, str]:
    found = {}
    for name, facts in arguments.items():
        key = name.upper().replace("-", "_")
        if facts["kind"] == "value":
            found[f"NORIA_PARAM_{key}"] = json.dumps(facts["value"])
        else:
            found[f"NORIA_INPUT_{key}"] = os.pathsep.join(facts.get("files", [facts.get("path")]))
    return found


def _ending(code: int) -> str:
    """A shell reports a signal as 128 + its number."""
    if code < 0 or code > 128:
        return f"was killed by signal {-code if code < 0 else code - 128}"
    return f"ended with exit code {code}"


def _collect(out: Path, output: Path) -> dict[str, Any]:
    if not out.is_file():
        raise StepError(f"ended well and left no {out}", hint="Correct the command, or the step's `outs`.")
    if out.suffix.lower() in TABLES:
        return tables.write(files.read_table(out), output)
    shutil.copyfile(out, output)
    return {"format": "json" if out.suffix.lower() == ".json" else "file"}
