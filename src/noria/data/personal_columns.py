"""Columns of personal data are hashed or dropped on the way in: a file is rewritten before anything of it is stored.

A value becomes the first 128 bits of its HMAC-SHA-256 (RFC 2104), in hexadecimal: equal values of all files and columns have
equal hashes. Nothing that is said of a file that cannot be treated holds a value of it, since it is recorded.
"""

from __future__ import annotations

import hmac
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from noria.config import DataSource
from noria.data import files, formats, personal_key, sources
from noria.data.sources import FoundFile
from noria.kernel import names
from noria.kernel.contract import PersonalDataRule
from noria.kernel.errors import DataError

if TYPE_CHECKING:
    import polars as pl

HEX = 32  # letters of a hash
NONE = PersonalDataRule()
Look = Callable[[], Iterator[tuple[FoundFile, Path | None]]]


def rule_of(source: DataSource) -> PersonalDataRule:
    """What the contract of a dataset says of personal data."""
    return (source.contract.personal_data if source.contract is not None else None) or NONE


def digest(source: DataSource, state: Path) -> str:
    """Which columns are hashed by which key, and which are dropped; nothing where none are."""
    rule = rule_of(source)
    if not rule.treated:
        return ""
    said = names.digest_bytes(msgspec.json.encode([sorted(rule.hash), sorted(rule.drop)]))[:16]
    return f"{said}:{personal_key.HASHED}{personal_key.fingerprint(state)}" if rule.hash else said


def places(folder: Path, found: FoundFile) -> tuple[Path, Path]:
    """Where a file's bytes are, or are to be fetched to; and where the treated file goes. Suffixes tell the format."""
    suffixes = "".join(Path(found.name).suffixes[-2:])
    return Path(found.path) if found.path is not None else folder / f"raw{suffixes}", folder / f"treated{suffixes}"


def try_treat(source: DataSource, raw: Path, name: str, key: bytes, target: Path) -> DataError | None:
    """Write the file with its columns hashed and dropped; or why that cannot be. The error's message holds no value of the file,
    its hint may: it is for a person's eyes."""
    try:
        opened = files.open_table(raw, name, source.csv)
    except DataError as error:
        words = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
        return _untreated_error(source, name, "it cannot be read as a table; `noria check` says why", words)
    reason = _find_obstacle(source, opened.table)
    if reason:
        return _untreated_error(source, name, reason)
    table = _treat(opened.table, rule_of(source), key)
    try:
        formats.write_table(target, table, source.csv)
        same = files.open_table(target, name, source.csv).table.equals(table)
    except (DataError, UnicodeError) as error:
        return _untreated_error(source, name, "it cannot be written in its format again; `noria check` says why", str(error))
    return None if same else _untreated_error(source, name, "it would not read the same when written in its format")


def _untreated_error(source: DataSource, name: str, reason: str, hint: str | None = None) -> DataError:
    text = f"{reason}. {source.contract_file} hashes or drops columns, so nothing of the file is stored"
    return DataError(text, where=name, hint=hint)


def _find_obstacle(source: DataSource, table: pl.DataFrame) -> str:
    """Why its columns cannot be treated; nothing when they can."""
    rule = rule_of(source)
    optional = {column.name for column in source.contract.columns if not column.required} if source.contract else set[str]()
    lacking = [name for name in rule.treated if name not in table.columns and name not in optional]
    if lacking:
        words = f"{'columns' if lacking[1:] else 'column'} {', '.join(lacking)}"
        return f"it has no {words}, whose values may stand under another name"
    nested = [name for name in rule.hash if name in table.columns and table.schema[name].is_nested()]
    if nested:
        return f"{nested[0]} holds lists or objects, which can be dropped but not hashed"
    if not set(table.columns) - set(rule.drop):
        return "no column is left of it"
    return ""


def _treat(table: pl.DataFrame, rule: PersonalDataRule, key: bytes) -> pl.DataFrame:
    kept = table.drop(rule.drop, strict=False)
    return kept.with_columns(_hash_values(kept[name], key) for name in rule.hash if name in kept.columns)


def _hash_values(column: pl.Series, key: bytes) -> pl.Series:
    """Equal values have equal hashes, whole numbers those of their text; missing values stay missing."""
    import polars as pl  # only where files are treated

    if column.dtype == pl.Binary:
        column = column.bin.encode("hex")
    texts = column.cast(pl.String)
    unique = texts.unique().drop_nulls()
    hashed = pl.Series([hmac.digest(key, text.encode(), "sha256").hex()[:HEX] for text in unique], dtype=pl.String)
    return texts.replace_strict(unique, hashed, default=None, return_dtype=pl.String)


@contextmanager
def treated(source: DataSource, path: Path, name: str, key: bytes) -> Iterator[Path]:
    """A file as it is stored, for as long as it is looked at. Raises DataError when it cannot be treated."""
    if not rule_of(source).treated:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="noria-") as folder:
        target = Path(folder) / f"treated{''.join(Path(name).suffixes[-2:])}"
        problem = try_treat(source, path, name, key, target)
        if problem is not None:
            raise problem
        yield target


@contextmanager
def looks(source: DataSource, home: Path, state: Path) -> Iterator[Look]:
    """All that a source holds, to be looked at several times: as it would be stored.

    What cannot be treated has a problem. Without a key yet, hashes are made with one that nobody keeps.
    """
    rule = rule_of(source)
    if not rule.treated:
        yield lambda: sources.read(source, home)
        return
    key = personal_key.of_a_look(state)
    with tempfile.TemporaryDirectory(prefix="noria-") as folder:
        known: dict[str, tuple[FoundFile, Path | None]] = {}

        def look() -> Iterator[tuple[FoundFile, Path | None]]:
            if known:
                yield from known.values()
                return
            seen: dict[str, tuple[FoundFile, Path | None]] = {}
            for number, (found, path) in enumerate(sources.read(source, home)):
                seen[found.name] = _look_at(source, found, path, key, Path(folder) / str(number))
                yield seen[found.name]
            known.update(seen)

        yield look


def _look_at(source: DataSource, found: FoundFile, path: Path | None, key: bytes, folder: Path) -> tuple[FoundFile, Path | None]:
    if path is None:
        return found, None
    folder.mkdir(exist_ok=True)
    _, target = places(folder, found)
    problem = try_treat(source, path, found.name, key, target)
    if problem is not None:
        return found._replace(problem=f"{problem.message}{f' ({problem.hint})' if problem.hint else ''}"), None
    return found._replace(size_bytes=target.stat().st_size), target
