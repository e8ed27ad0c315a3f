"""`noria data check`: judges one data file, with or without a contract; no project is needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.output import ExitCode, emit, json_option, plain, table
from noria.config import DataSource, load_contract
from noria.data import files, formats, large_files, personal_columns, personal_key, table_types
from noria.data.contract_in_parts import WholeTableError
from noria.data.formats import DatasetFile
from noria.data.judge_defects import Defect, judge_defects
from noria.kernel.contract import Contract
from noria.kernel.errors import DataError, NotFoundError
from noria.kernel.verdict import Outcome
from noria.pipeline import check

if TYPE_CHECKING:
    from noria.data.formats import OpenedFile
    from noria.data.judge_contract import ContractRuling
    from noria.data.table_types import TypeDecision

SHOWN = 100  # columns that are listed; --json has all


class FileFinding(msgspec.Struct, frozen=True):
    """One thing to say of the file. ``level``: ok, warn or fail."""

    level: str
    code: str
    text: str
    columns: tuple[str, ...] = ()


class FileFacts(msgspec.Struct, frozen=True):
    """What a file holds, and what is said of it; without rows when it cannot be read."""

    rows: int | None
    columns: list[dict[str, Any]]
    findings: list[FileFinding]
    failing_rows: int = 0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--contract", "contract_file", type=click.Path(dir_okay=False, path_type=Path), help="The contract to hold the file against."
)
@json_option
@click.pass_context
def check_file(ctx: click.Context, file: Path, contract_file: Path | None, as_json: bool) -> int:
    """Check a data FILE (CSV, Parquet, JSON Lines, Arrow) against a contract. No project is needed, and nothing is recorded.

    Without --contract, it lists the columns with their types, and what any reader would want to know: a file that cannot be read
    fails; mixed types, equal, constant and all-null columns, infinities and repeated rows are warnings. With one, only what the
    contract promises is judged; a contract may be in the Open Data Contract Standard, and what Noria does not judge of it is a
    warning. Freshness is judged by this machine's clock; keys are judged within the file; references are not judged.

    A large Parquet, CSV or TSV file is held against a contract a part at a time; its keys wait in the folder for temporary
    files (TMPDIR), which should lie on a disk. Read whole, however large, are other formats, and files whose contract has
    drop_rows or a rule about all rows (avg, max ...).

    \b
    Example:
      noria data check flights.csv
      noria data check flights.parquet --contract contracts/flights.yaml --json

    JSON: ok, file, contract, rows, failing_rows, columns[name, type, nulls, distinct] (empty with --contract), findings[level
    (ok, warn, fail), code, text, columns].
    """
    start = ctx.find_root().obj or Path(".")
    if not (start / file).is_file():
        raise NotFoundError(f"there is no file {file}", hint="Name a file of CSV, Parquet, JSON Lines or Arrow.")
    contract = None
    if contract_file is not None:
        contract = load_contract(start / contract_file, shown=str(contract_file), table=file.name.partition(".")[0])
    try:
        facts = _judge(start / file, contract, contract_file)
    except DataError as error:
        text = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
        facts = FileFacts(None, [], [FileFinding("fail", "unreadable", text)])
    if contract is not None and contract.unjudged:
        left = FileFinding("warn", "contract.unjudged", contract.unjudged_words)
        facts = msgspec.structs.replace(facts, findings=[*facts.findings, left])
    if contract is not None and contract.references and facts.rows is not None:
        named = ", ".join(f"{one.column} to {one.target}" for one in contract.references)
        text = f"references are not judged, since they are to rows of a project ({named}); `noria check` judges them there"
        facts = msgspec.structs.replace(facts, findings=[*facts.findings, FileFinding("warn", "contract.references", text)])
    moved = [rule.name for rule in contract.columns if rule.shift_most is not None] if contract is not None else []
    if moved and facts.rows is not None:
        text = f"distributions are not judged, since that is beside accepted rows of a project ({', '.join(moved)})"
        facts = msgspec.structs.replace(facts, findings=[*facts.findings, FileFinding("warn", "contract.distribution", text)])
    good = all(each.level != "fail" for each in facts.findings)
    document = {
        "ok": good,
        "file": str(file),
        "contract": str(contract_file) if contract_file is not None else None,
        "rows": facts.rows,
        "failing_rows": facts.failing_rows,
        "columns": facts.columns,
        "findings": [msgspec.to_builtins(each) for each in facts.findings],
    }
    emit(as_json, document, lambda: _render(file, facts))
    return ExitCode.PASSED if good else ExitCode.NO


def _judge(file: Path, contract: Contract | None, contract_file: Path | None) -> FileFacts:
    shown = str(contract_file) if contract_file is not None else None
    source = DataSource(file.name, str(file), contract, shown, csv=formats.as_it_looks(file))
    with personal_columns.treated(source, file, file.name, personal_key.of_a_look(None)) as path:
        return _judge_as_stored(source, path)


def _judge_as_stored(source: DataSource, file: Path) -> FileFacts:
    contract = source.contract
    if contract is not None and (facts := _judge_in_parts(source, file)) is not None:
        return facts
    opened = files.open_table(file, file.name, source.csv)
    decided = table_types.of_files(source, None, (), [DatasetFile(file.name, file)])
    if contract is None:
        return _describe(source, opened, decided)
    ruling, divided, example = check.ruling(source, decided, opened, (), time.time())
    rows = opened.table.height
    if divided.good is not None:  # the contract drops the rows that fail
        return FileFacts(rows, [], [FileFinding("warn", "contract.drop_rows", divided.text)], divided.failing.height)
    found = _of_ruling(ruling, example)
    found += [FileFinding("fail", "contract.drop_rows", divided.text)] if divided.text else []
    return FileFacts(rows, [], found, ruling.failing_rows)


def _judge_in_parts(source: DataSource, file: Path) -> FileFacts | None:
    """What a contract says of a large file; None of one that is judged whole."""
    parts = formats.open_parts(file, file.name, source.csv)
    if parts is None:
        return None
    decided = table_types.of_files(source, None, (), [DatasetFile(file.name, file)])
    try:
        judged = large_files.ruling(source, decided, parts, (), time.time())
    except WholeTableError:
        return None
    return FileFacts(judged.rows, [], _of_ruling(judged.ruling, judged.example), judged.ruling.failing_rows)


def _of_ruling(ruling: ContractRuling, example: str) -> list[FileFinding]:
    warnings = {id(each) for each in ruling.warnings}
    found = []
    for each in ruling.verdict.reasons:
        level = "fail" if each.outcome is Outcome.FAIL else "warn" if id(each) in warnings else "ok"
        text = each.text.removeprefix("warning: ") if level == "warn" else each.text
        found.append(FileFinding(level, each.code, text))
    return [*found, FileFinding("fail", "contract.example", example)] if example else found


def _describe(source: DataSource, opened: OpenedFile, decided: TypeDecision) -> FileFacts:
    typed, misfits = formats.fit_columns(opened, decided.type, source.csv)
    defects, facts = judge_defects(typed)
    types = {name: table_types.column_words(column) for name, column in decided.type.columns.items()}
    columns = [msgspec.to_builtins(each) | {"type": types.get(each.name, "empty")} for each in facts]
    found = [
        FileFinding("warn", "undecided", f"{each.text}; a contract can say which", (each.column,)) for each in decided.undecided
    ]
    found += [FileFinding("fail", "misfit", each.text, (each.column,)) for each in misfits]
    found += [_of_defect(each) for each in defects]
    rows = FileFinding("ok", "readable", f"{opened.table.height:,} rows, {opened.table.width:,} columns")
    return FileFacts(opened.table.height, columns, [rows, *found])


def _of_defect(defect: Defect) -> FileFinding:
    return FileFinding("warn", defect.code, defect.text, defect.columns)


def _render(file: Path, facts: FileFacts) -> str:
    marks = {
        "ok": click.style("ok  ", fg="green"),
        "warn": click.style("warn", fg="yellow"),
        "fail": click.style("FAIL", fg="red", bold=True),
    }
    lines = [f"{marks[each.level]}  {plain(file.name)}: {plain(each.text, lines=True)}" for each in facts.findings]
    if facts.columns:
        rows = [_row(each) for each in facts.columns[:SHOWN]]
        more = [f"... and {len(facts.columns) - SHOWN:,} more columns (--json)"] if len(facts.columns) > SHOWN else []
        lines = [table(("column", "type", "missing", "distinct"), rows), *more, *lines]
    return "\n".join(lines)


def _row(column: dict[str, Any]) -> tuple[str, str, str, str]:
    distinct = column["distinct"]
    return column["name"], column["type"], f"{column['nulls']:,}", "–" if distinct is None else f"{distinct:,}"
