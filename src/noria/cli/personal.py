"""`noria data personal`: reports personal data in a file or a dataset by kind, column and count, never a value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, plain, plural
from noria.config import DataSource
from noria.config.document import nearest
from noria.data import files, formats, personal_columns, served_predictions, sources
from noria.data import judge_personal_data as judge
from noria.data.judge_personal_data import PersonalDataFinding
from noria.kernel.contract import PersonalDataRule
from noria.kernel.dialect import Dialect
from noria.kernel.errors import NotFoundError, UsageError


class FileReport(msgspec.Struct, frozen=True):
    """What was found in one file as it arrived.

    ``forbidden``: what its contract does not accept. ``treated``: what it hashes or drops before the file is stored.
    """

    file: str
    rows: int
    findings: tuple[PersonalDataFinding, ...]
    forbidden: tuple[PersonalDataFinding, ...] = ()
    treated: tuple[PersonalDataFinding, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Returns its JSON keys."""
        found = [
            {
                **msgspec.to_builtins(one),
                "text": one.words(),
                "forbidden": one in self.forbidden,
                "treated": one in self.treated,
            }
            for one in self.findings
        ]
        return {"file": self.file, "rows": self.rows, "findings": found}


@click.command()
@click.argument("target", metavar="FILE|DATASET")
@json_option
@pass_home
def personal(home: Home, target: str, as_json: bool) -> None:
    """Report personal data in FILE, or in every file of DATASET: names, email addresses, phone and card numbers, IBANs, national
    ids, postal and IP addresses, dates of birth.

    Kinds, columns and counts are printed, never a value. Nothing is recorded. Not everything is found: see docs/data.md.

    \b
    Example:  noria data personal customers
              noria data personal new/customers.csv --json

    JSON keys: files [{file, rows, findings [{column, kind, rows (that hold it), of (rows that were looked at), total,
    in_text (among other words), about (rows is extrapolated), countries (of national ids), text, forbidden (by the
    contract), treated (hashed or dropped by it before the file is stored)}]}].
    """
    reports = list(_reports(home, target))
    emit(as_json, {"files": [one.facts() for one in reports]}, lambda: _render(reports))


def _reports(home: Home, target: str) -> Iterator[FileReport]:
    known = home.project().data
    if target in known:
        yield from _of_dataset(home, known[target])
    elif Path(target).is_file():
        path = Path(target)
        yield _report(path, target, formats.as_it_looks(path), None)
    else:
        raise NotFoundError(f"there is no dataset and no file {target!r}", hint=nearest(target, list(known)))


def _of_dataset(home: Home, source: DataSource) -> Iterator[FileReport]:
    if source.opaque or served_predictions.is_log(source.source):
        raise UsageError(
            f"the files of {source.name} are no tables", hint="Personal data are looked for in the columns of tables."
        )
    read = 0
    for each, path in sources.read(source, home.path):
        if path is not None:
            read += 1
            yield _report(path, each.name, source.csv, source)
    if not read:
        raise NotFoundError(f"no file of {source.name} can be read", hint=f"It looks for {source.shown}.")


def _report(path: Path, name: str, dialect: Dialect, source: DataSource | None) -> FileReport:
    """Raises DataError for a file that is no table."""
    table = files.open_table(path, name, dialect).table
    found = judge.find(table)
    rule = personal_columns.rule_of(source) if source is not None else PersonalDataRule()
    treated = tuple(one for one in found if one.column in rule.treated)
    forbidden = judge.forbidden(rule, tuple(one for one in found if one not in treated))
    return FileReport(name, table.height, found, tuple(forbidden), treated)


def _render(reports: list[FileReport]) -> str:
    lines = list[str]()
    for one in reports:
        if not one.findings:
            lines.append(f"{plain(one.file)}: nothing found in {plural(one.rows, 'row')}")
            continue
        lines.append(f"{plain(one.file)}:")
        for found in one.findings:
            lines.append(f"  {plain(found.words())}{_becomes(one, found)}")
    return "\n".join(lines)


def _becomes(file: FileReport, found: PersonalDataFinding) -> str:
    if found in file.treated:
        return " (the contract hashes or drops the column before it is stored)"
    return " (the contract forbids it)" if found in file.forbidden else ""
