"""`noria data infer`: drafts a contract from a dataset of the project, or from any data file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli import contract_text
from noria.cli.context import Home
from noria.cli.output import emit, json_option, plural
from noria.config.document import nearest
from noria.data import contents, draft_contract, served_predictions, sources
from noria.data.formats import DatasetFile
from noria.data.store import DataStore
from noria.kernel.errors import DataError, NotFoundError, RefusedError, UsageError
from noria.kernel.words import size
from noria.storage.blobs import BlobStore
from noria.storage.disk import write_whole

if TYPE_CHECKING:
    from noria.config import DataSource
    from noria.data.contents import Contents
    from noria.data.draft_contract import ContractDraft

READ_MOST_BYTES = 2_000_000_000  # of all files: a draft needs no more


@click.command()
@click.argument("what", metavar="NAME|FILE")
@click.option("--into", type=click.Path(path_type=Path), help="The file to write, as contracts/NAME.yaml; else it is printed.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@json_option
@click.pass_context
def infer(ctx: click.Context, what: str, into: Path | None, force: bool, as_json: bool) -> None:
    """Draft a contract from the dataset NAME of this project, or from any data FILE.

    A dataset is read from its accepted files; before the first run from those of its source. The draft holds types, formats of
    dates, shares of empty cells, ranges, lists of few values, and the column that names rows; behind each stands what was seen.
    It accepts what it was drafted from, with room for more (docs/data.md). It is yours to edit.

    \b
    Example:  noria data infer flights --into contracts/flights.yaml
              noria data infer orders.csv

    JSON keys: of, files, rows, columns [{name, type, nulls, low, high, values, format, seen}], unique, contract (the YAML),
    written (the file, or null).
    """
    start = ctx.find_root().obj or Path(".")
    target = start / into if into is not None else None
    if target is not None and target.exists() and not force:
        raise RefusedError("this file exists and is not overwritten", where=str(into), hint="--force replaces it.")
    found, heights = _read(start, what)
    drafted = draft_contract.draft(found.comparable, heights, types=found.type.columns, undecided=found.undecided)
    text = contract_text.draft_text(drafted, f"{what} ({_counts(heights)})")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, text.encode())
    emit(
        as_json, lambda: _document(what, drafted, heights, text, into), lambda: _render(what, drafted, heights, text, into, start)
    )


def _read(start: Path, what: str) -> tuple[Contents, tuple[int, ...]]:
    if contents.is_file(what, start):
        found = contents.read_file(start / what)
        return found, (found.table.height,)
    home = Home.find(start)
    project = home.project()
    source = project.data.get(what)
    if source is None:
        raise NotFoundError(f"there is no dataset {what!r}", hint=nearest(what, project.data))
    if source.opaque:
        raise UsageError(f"the files of {what} are not tables", hint="Only tables have contracts.")
    return _accepted(home, source) or _at_its_source(home, source)


def _accepted(home: Home, source: DataSource) -> tuple[Contents, tuple[int, ...]] | None:
    if not home.ledger_file.is_file():
        return None
    with home.ledger_to_read() as ledger:
        pins = tuple(DataStore(ledger, home.project_name()).accepted_files(source.name).values())
    if not pins:
        return None
    _demand_size(source, sum(pin.size_bytes for pin in pins))
    with contents.version_files(BlobStore(home.state / "blobs"), pins) as files:
        return contents.read_files(source, files)


def _at_its_source(home: Home, source: DataSource) -> tuple[Contents, tuple[int, ...]]:
    """The files that the source holds now; one of another machine is there only until the next one is asked for."""
    if served_predictions.is_log(source.source):
        raise NotFoundError(f"nothing was taken of {source.shown} yet", hint="`noria run` takes it.")
    if not sources.nearby(source):
        raise NotFoundError(f"no file of {source.name} was accepted yet", hint=f"`noria run` fetches what {source.shown} holds.")
    files = [DatasetFile(each.name, path) for each, path in sources.read(source, home.path) if path is not None]
    if not files:
        raise DataError("no file matches", where=source.shown)
    _demand_size(source, sum(one.path.stat().st_size for one in files))
    return contents.read_files(source, files)


def _demand_size(source: DataSource, size_bytes: int) -> None:
    if size_bytes > READ_MOST_BYTES:
        hint = f"Draft from some of its files: up to {size(READ_MOST_BYTES)} are read."
        raise UsageError(f"{source.name} has {size(size_bytes)}", hint=hint)


def _counts(heights: tuple[int, ...]) -> str:
    rows = plural(sum(heights), "row")
    return rows if len(heights) == 1 else f"{rows} in {plural(len(heights), 'file')}"


def _document(what: str, drafted: ContractDraft, heights: tuple[int, ...], text: str, into: Path | None) -> dict[str, Any]:
    keys = ("name", "type", "nulls", "low", "high", "values", "format")
    columns = [{**{key: getattr(one.rule, key) for key in keys}, "seen": one.seen} for one in drafted.columns]
    return {
        "of": what,
        "files": len(heights),
        "rows": sum(heights),
        "columns": msgspec.to_builtins(columns),
        "unique": msgspec.to_builtins(drafted.contract.unique),
        "contract": text,
        "written": str(into) if into is not None else None,
    }


def _render(what: str, drafted: ContractDraft, heights: tuple[int, ...], text: str, into: Path | None, start: Path) -> str:
    if into is None:
        return text
    lines = [f"{into}: {plural(len(drafted.columns), 'column')} from {_counts(heights)}; read it, and make it yours"]
    if not contents.is_file(what, start):
        lines.append(f"noria.yaml takes it with `contract: {into}` below data.{what}; then: noria check")
    return "\n".join(lines)
