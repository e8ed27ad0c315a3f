"""`noria data contract`: writes a contract in the Open Data Contract Standard."""

from __future__ import annotations

import math
from pathlib import Path

import click
import yaml

from noria.cli.context import Home
from noria.cli.output import emit, json_option
from noria.config import load_contract, odcs_writing
from noria.config.document import nearest
from noria.kernel.contract import Contract
from noria.kernel.errors import NotFoundError, RefusedError
from noria.storage.disk import write_whole


@click.command()
@click.argument("what", metavar="NAME|FILE")
@click.option("--format", "form", type=click.Choice(["odcs"]), default="odcs", show_default=True, help="The standard to write.")
@click.option("--into", type=click.Path(path_type=Path), help="The file to write, as NAME.odcs.yaml; else it is printed.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@json_option
@click.pass_context
def contract(ctx: click.Context, what: str, form: str, into: Path | None, force: bool, as_json: bool) -> None:
    """Write the contract of the dataset NAME of this project, or of a contract FILE, in the Open Data Contract Standard 3.1.

    What the standard has no place for goes into custom properties whose names begin with `noria`, and rules into quality rules
    of the engine `noria`: read again, as a `contract` in noria.yaml or by `noria data check --contract`, it is the same contract.

    \b
    Example:  noria data contract flights --into flights.odcs.yaml
              noria data contract contracts/flights.yaml --format odcs

    JSON keys: of, format, contract (the YAML), unjudged (what the contract's file says and Noria does not judge: it is left
    out), written (the file, or null).
    """
    start = ctx.find_root().obj or Path(".")
    if into is not None and (start / into).exists() and not force:
        raise RefusedError("this file exists and is not overwritten", where=str(into), hint="--force replaces it.")
    name, found = _read(start, what)
    made = odcs_writing.document(found, name)
    text = yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=math.inf)
    if into is not None:
        (start / into).parent.mkdir(parents=True, exist_ok=True)
        write_whole(start / into, text.encode())
    document = {
        "of": what,
        "format": form,
        "contract": text,
        "unjudged": list(found.unjudged),
        "written": str(into) if into is not None else None,
    }
    left = f"# {found.unjudged_words}; left out\n" if found.unjudged else ""
    emit(
        as_json,
        document,
        lambda: f"{left}{text}" if into is None else f"{left}{into}: {found.source} as ODCS {odcs_writing.VERSION}",
    )


def _read(start: Path, what: str) -> tuple[str, Contract]:
    """The contract, and the name of its table."""
    if (start / what).is_file():
        name = Path(what).name.partition(".")[0]
        return name, load_contract(start / what, shown=what, table=name)
    project = Home.find(start).project()
    source = project.data.get(what)
    if source is None:
        raise NotFoundError(f"there is no dataset {what!r}", hint=nearest(what, project.data))
    if source.contract is None:
        raise NotFoundError(f"{what} has no contract", hint=f"`noria data infer {what}` drafts one.")
    return what, source.contract
