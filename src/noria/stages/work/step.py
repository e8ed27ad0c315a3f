"""A step of the project that is a function. Commands need no interpreter: see ``adapters.executors.pool``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.adapters.executors.timing import user_code
from noria.errors import StepError
from noria.stages.work import functions, tables
from noria.stages.work.seeds import seed_everything

OUTPUT = "output"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the step and leave its result in ``folder/output``.

    The job: ``call`` ("module:function"), ``arguments`` (see ``tables.argument``), ``seed``, ``folder``.
    Returns the result's facts: ``format`` (arrow, json, model or file), and for a table ``rows`` and ``columns``.
    """
    return call(job["call"], job.get("arguments", {}), Path(job["folder"]) / OUTPUT, job.get("seed", 0))


def call(target: str, arguments: dict[str, dict[str, Any]], output: Path, seed: int = 0) -> dict[str, Any]:
    """Call a function with its arguments converted to what it is annotated with."""
    seed_everything(seed)  # a module may draw while it is imported
    with user_code():
        function = functions.load(target)
    wanted = functions.parameter_types(function)
    values = {name: _argument(name, facts, wanted.get(name, Any)) for name, facts in arguments.items()}
    seed_everything(seed)  # whatever was drawn, or imported, by then
    with user_code():
        result = function(**values)
    return tables.write(result, output)


def _argument(name: str, facts: dict[str, Any], kind: Any) -> Any:
    try:
        return tables.argument(facts, kind)
    except StepError as error:
        raise StepError(f"argument {name} {error.message}", hint=error.hint) from error
