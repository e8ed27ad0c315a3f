"""A step of the project that is a function. Commands need no interpreter: see ``pipeline.executors.pool``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.kernel.errors import StepError
from noria.models import project_functions, table_arguments
from noria.models.seeds import seed_everything
from noria.models.user_time import user_code

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
        function = project_functions.load(target)
    wanted = project_functions.parameter_types(function)
    values = {name: _argument(name, facts, wanted.get(name, Any)) for name, facts in arguments.items()}
    seed_everything(seed)  # whatever was drawn, or imported, by then
    with user_code():
        result = function(**values)
    return table_arguments.write(result, output)


def _argument(name: str, facts: dict[str, Any], kind: Any) -> Any:
    try:
        return table_arguments.argument(facts, kind)
    except StepError as error:
        raise StepError(f"argument {name} {error.message}", hint=error.hint) from error
