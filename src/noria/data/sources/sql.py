"""The result of a query, by SQLAlchemy address (the extra ``sql``): whole, or with a cursor what came since the last look."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from noria.config import DataSource
from noria.data.formats.format import demand_once
from noria.data.sources.found import FoundFile, Remembered
from noria.kernel import names
from noria.kernel.errors import DataError

if TYPE_CHECKING:
    import polars as pl

NAME_LENGTH = 60  # of a cursor's value in a file's name
REFUSED_LIMIT = 50  # ranges in quarantine that are asked for again at each look
ROWS = "noria_rows"
COUNTED = re.compile(r":[0-9]+$")  # what SQLite puts behind the name of a column that stands twice
Cursor = int | float | str | datetime | date | Decimal
_READ: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "Decimal": Decimal,
}


def matches(dataset: DataSource) -> bool:
    """Whether a dataset is the result of a query."""
    return dataset.sql is not None


class Range(msgspec.Struct, frozen=True):
    """Rows whose cursor lies beyond ``after`` (None: from the first) and not beyond ``to``."""

    after: Cursor | None
    to: Cursor

    def text(self) -> str:
        """As a mark keeps it."""
        return json.dumps([_encode_cursor(self.after), _encode_cursor(self.to)], separators=(",", ":"))

    def name(self, dataset: str) -> str:
        """The file's: ``orders/0000000099~0000000150.parquet``; numbers of one length stand in their order."""
        return f"{dataset}/{_short(self.after)}~{_short(self.to)}.parquet"


class Sql:
    """One query. With a cursor each look that finds rows gives one file, which is never read again once it is accepted.

    What was fetched so far is told by the marks of its files, which are kept with their delivery in one transaction: a fetch
    that was never judged is fetched again, and no row is lost or doubled. A range that was refused is asked for again at
    each look, so that rows that were corrected in the database are taken as a corrected file would be.
    """

    def __init__(self, dataset: DataSource, home: Path, remembered: Remembered = tuple) -> None:
        assert dataset.sql is not None, "only a query comes here"
        self._dataset, self._home, self._remembered = dataset, home, remembered
        self._query = dataset.sql
        self._held: dict[str, bytes] = {}  # name -> Parquet that a look had to read
        self._ranges: dict[str, Range] = {}
        self._engine: Any = None
        self.limit: int | None = None  # of rows, where a sample is enough

    def list_files(self) -> Iterator[FoundFile]:
        try:
            found = list(self._list_changed() if self._query.cursor is not None else self._list_whole())
        finally:
            self._close()
        yield from sorted(found, key=lambda each: each.name)

    def has_settled(self, found: FoundFile, settle_s: float) -> bool:
        return True

    def problem(self, found: FoundFile) -> str:
        return ""

    def fetch(self, found: FoundFile, target: Path) -> None:
        content = self._held.pop(found.name, None)
        if content is None:
            try:
                content = _parquet(self._read(self._ranges[found.name]))
            finally:
                self._close()
        target.write_bytes(content)

    def is_unchanged(self, found: FoundFile) -> bool:
        return True

    def _list_whole(self) -> Iterator[FoundFile]:
        """Everything, as one file whose mark is its content."""
        name, content = f"{self._dataset.name}.parquet", _parquet(self._read(None))
        digest = names.digest_bytes(content)
        self._held[name] = content
        yield FoundFile(name, len(content), f"content:{digest}", digest=digest)

    def _list_changed(self) -> Iterator[FoundFile]:
        """The rows beyond the cursor, and every range in quarantine as it reads now."""
        ranges, refused = self._fetched_ranges()
        for each in refused[-REFUSED_LIMIT:]:
            table = self._read(each)
            if table.height:
                content = self._held[each.name(self._dataset.name)] = _parquet(table)
                yield FoundFile(each.name(self._dataset.name), len(content), each.text(), digest=names.digest_bytes(content))
        onward = self._next_range(_end(ranges))
        if onward is not None:
            name = onward.name(self._dataset.name)
            self._ranges[name] = onward
            yield FoundFile(name, 0, onward.text())

    def _fetched_ranges(self) -> tuple[list[Range], list[Range]]:
        """Every range that was fetched and judged, and those among them that stand refused."""
        ranges, refused = [], []
        for _, mark in self._remembered():
            if not mark.startswith("["):
                continue  # of a file: the dataset came from elsewhere before
            each, rest = _range(mark)
            ranges.append(each)
            if rest:
                refused.append(each)
        return ranges, refused

    def _next_range(self, last: Cursor | None) -> Range | None:
        """From ``last`` to the greatest value there is now; None without rows in between."""
        sa = self._library()
        cursor: Any = sa.column(str(self._query.cursor))
        asked = sa.select(sa.func.max(cursor), sa.func.count(), sa.func.count(cursor)).select_from(self._subquery())
        with self._connection() as connection:
            to, rows, numbered = connection.execute(asked if last is None else asked.where(cursor > sa.literal(last))).one()
        if rows > numbered:
            raise DataError(
                f"{rows - numbered:,} rows have no {self._query.cursor}, so the cursor would never reach them",
                where=self._dataset.shown,
                hint="Choose a column that is never null, or exclude these rows in the query.",
            )
        return None if to is None else Range(last, _cursor(to, self._dataset))

    def _read(self, part: Range | None) -> pl.DataFrame:
        """The rows, in an order that depends on nothing but what they hold."""
        sa = self._library()
        asked = sa.select(sa.text("*")).select_from(self._subquery())
        if part is not None:
            cursor: Any = sa.column(str(self._query.cursor))
            asked = asked.where(cursor <= sa.literal(part.to))
            asked = asked if part.after is None else asked.where(cursor > sa.literal(part.after))
        with self._connection() as connection:
            result = connection.execute(asked.limit(self.limit))
            columns, rows = list(result.keys()), result.fetchall()
        self._demand_columns(columns)
        return _table(columns, rows)

    def _demand_columns(self, columns: Sequence[str]) -> None:
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise DataError(
                f"the query returns column {', '.join(twice)} twice",
                where=self._dataset.shown,
                hint="Give each a name of its own.",
            )
        if self._query.cursor is not None and self._query.cursor not in columns:
            raise DataError(
                f"the query does not return its cursor, the column {self._query.cursor}",
                where=self._dataset.shown,
                hint=f"It returns {', '.join(columns)}.",
            )

    def _subquery(self) -> Any:
        query = self._query.query.strip().rstrip(";").replace(":", "\\:")  # SQLAlchemy would take `:x` for a variable
        return self._library().text(f"{query}\n").columns().subquery(ROWS)

    def _library(self) -> Any:
        try:
            import sqlalchemy
        except ImportError as error:
            message = "reading a database needs SQLAlchemy, which is not installed"
            raise DataError(message, where=self._dataset.shown, hint="pip install sqlalchemy") from error
        return sqlalchemy

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection that only reads, where the database knows of that. Raises DataError, without secrets."""
        sa = self._library()
        try:
            if self._engine is None:
                self._engine = self._make_engine(sa)
            with self._engine.connect() as connection:
                yield connection
        except ModuleNotFoundError as error:
            message = f"this database needs the driver {error.name}, which is not installed"
            raise DataError(
                message, where=self._dataset.shown, hint=f"pip install {error.name}, or name another driver."
            ) from error
        except sa.exc.SQLAlchemyError as error:
            raise self._make_error(error) from error

    def _make_engine(self, sa: Any) -> Any:
        address = sa.make_url(self._query.url)
        if address.get_backend_name() == "sqlite" and address.database and address.database != ":memory:":
            address = self._file(address)
        engine = sa.create_engine(address)
        return engine.execution_options(postgresql_readonly=True) if address.get_backend_name() == "postgresql" else engine

    def _file(self, address: Any) -> Any:
        """A SQLite file under the home, opened to be read: one that is not there is not made."""
        path = os.path.join(self._home, str(address.database).removeprefix("file:"))
        if not os.path.isfile(path):
            raise DataError("there is no such database file", where=self._dataset.shown)
        return address.set(database=f"file:{quote(path)}", query={**address.query, "mode": "ro", "uri": "true"})

    def _make_error(self, error: Exception) -> DataError:
        text = (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0][:300]
        hint = "Check `sql` in noria.yaml: the address, the query and its cursor; `noria check` tries again."
        return DataError(f"cannot be read: {self._dataset.masked(text)}", where=self._dataset.shown, hint=hint)

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _end(ranges: Sequence[Range]) -> Cursor | None:
    """The value up to which everything was fetched: where the chain of ranges ends, in the database's own order of values."""
    begins = {each.after for each in ranges}
    return next((each.to for each in reversed(ranges) if each.to not in begins), None)


def _range(mark: str) -> tuple[Range, str]:
    """What a mark says: the range, and behind it who refused it, if anybody did."""
    (after, to), end = json.JSONDecoder().raw_decode(mark)
    return Range(None if after is None else _READ[after[0]](after[1]), _READ[to[0]](to[1])), mark[end:]


def _encode_cursor(value: Cursor | None) -> list[str] | None:
    if value is None:
        return None
    return [type(value).__name__, value.isoformat() if isinstance(value, date) else str(value)]


def _cursor(value: object, dataset: DataSource) -> Cursor:
    if type(value).__name__ not in _READ or not isinstance(value, Cursor):
        raise DataError(
            f"a cursor of type {type(value).__name__} is not supported",
            where=dataset.shown,
            hint="Choose numbers, times or text.",
        )
    return value


def _short(value: Cursor | None) -> str:
    if value is None:
        return "start"
    text = value.isoformat() if isinstance(value, date) else f"{value:010d}" if isinstance(value, int) else str(value)
    kept = quote(text, safe=":+ ,=")
    return kept if len(kept) <= NAME_LENGTH else f"{kept[:24]}..{names.digest_bytes(text.encode())[:16]}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    import polars as pl

    known = set(columns)
    first = [name.rpartition(":")[0] if COUNTED.search(name) and name.rpartition(":")[0] in known else name for name in columns]
    demand_once(first, Path("the query"))
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    table = pl.DataFrame([_series(name, list(values)) for name, values in zip(columns, by_column, strict=True)])
    sortable = [name for name, kind in table.schema.items() if not kind.is_nested()]
    return table.sort(sortable, maintain_order=True) if sortable else table


def _series(name: str, values: list[Any]) -> pl.Series:
    """A column; values that Polars has no type for, or that are of several types, become text."""
    import polars as pl

    try:
        series = pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        series = None
    if series is None or series.dtype == pl.Object:
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
    if isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is not None:
        return series.dt.convert_time_zone("UTC")  # not the zone of the session that read it
    return series


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()
