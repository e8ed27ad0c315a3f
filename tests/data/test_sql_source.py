"""Queries as sources, on SQLite and on a Postgres server of its own: every row once, whatever is interrupted."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import DataSource, Query
from noria.data import sources
from noria.data.formats import DatasetFile, read_table, read_tables
from noria.data.sources import SourceListing
from noria.data.sources.sql import Range, _range
from noria.kernel.errors import DataError

sqlalchemy = pytest.importorskip("sqlalchemy", reason="the extra sql is not installed")


class Ledger:
    """The marks of files that were judged, as the stat index keeps them."""

    def __init__(self, url: str, query: str, cursor: str | None, home: Path) -> None:
        self.dataset = DataSource("orders", "", sql=Query(url, query, cursor), secrets=(("hush-hush", "${SECRET}"),))
        self.home = home
        self.marks: dict[str, str] = {}
        self.tables: dict[str, pl.DataFrame] = {}

    def connect(self) -> SourceListing:
        return sources.connect(self.dataset, self.home, lambda: sorted(self.marks.items()))

    def take(self, *, refuse: bool = False, crash: bool = False) -> list[str]:
        """One look: fetch all there is and judge it; ``crash`` before the judgement."""
        source, names = self.connect(), []
        for found in list(source.list_files()):
            assert source.has_settled(found, 0)
            assert source.problem(found) == ""
            target = self.home / f"fetched-{len(names)}.parquet"
            source.fetch(found, target)
            assert source.is_unchanged(found)
            names.append(found.name)
            if crash:
                continue
            self.marks[found.name] = found.mark + (" refused contract" if refuse else "")
            if not refuse:
                self.tables[found.name] = read_table(target)
        return names

    def column(self, name: str) -> list[Any]:
        return sorted(value for table in self.tables.values() for value in table[name].to_list())


def shop(home: Path, *statements: str) -> str:
    with closing(sqlite3.connect(home / "shop.db")) as database, database:
        for statement in statements:
            database.execute(statement)
    return "sqlite:///shop.db"


MAKE = "CREATE TABLE orders (id INTEGER, item TEXT, price REAL)"


def test_with_a_cursor_each_look_takes_what_came_since(tmp_path: Path) -> None:
    url = shop(tmp_path, MAKE, "INSERT INTO orders VALUES (1, 'a', 1.5), (2, 'b', NULL)")
    books = Ledger(url, "SELECT * FROM orders;", "id", tmp_path)
    assert books.take() == ["orders/start~0000000002.parquet"]
    assert books.take() == []
    shop(tmp_path, "INSERT INTO orders VALUES (7, 'c', 2.5)")
    assert books.take(crash=True) == ["orders/0000000002~0000000007.parquet"]
    shop(tmp_path, "INSERT INTO orders VALUES (9, 'd', 3.5)")
    assert books.take() == ["orders/0000000002~0000000009.parquet"], "what was fetched and never judged is fetched again"
    assert books.take() == []
    assert books.column("id") == [1, 2, 7, 9]
    assert books.tables["orders/start~0000000002.parquet"].rows() == [(1, "a", 1.5), (2, "b", None)]


def test_a_refused_range_is_asked_for_again_and_later_rows_go_on(tmp_path: Path) -> None:
    url = shop(tmp_path, MAKE, "INSERT INTO orders VALUES (1, 'a', -1)")
    books = Ledger(url, "SELECT * FROM orders", "id", tmp_path)
    first = books.take(refuse=True)
    shop(tmp_path, "INSERT INTO orders VALUES (2, 'b', 2)")
    again = {found.name: found.digest for found in books.connect().list_files()}
    assert list(again) == ["orders/0000000001~0000000002.parquet", *first]
    shop(tmp_path, "UPDATE orders SET price = 1 WHERE id = 1")
    assert {found.name: found.digest for found in books.connect().list_files()}[first[0]] != again[first[0]]
    assert len(books.take()) == 2
    assert books.take() == []
    assert books.column("price") == [1, 2]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["insert", "take", "crash", "refuse"]), st.integers(1, 3)), max_size=12))
def test_no_row_is_lost_or_doubled(tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int]]) -> None:
    home = tmp_path_factory.mktemp("orders")
    url = shop(home, MAKE)
    books, made = Ledger(url, "SELECT * FROM orders", "id", home), 0
    for what, count in story:
        if what == "insert":
            for _ in range(count):
                made += 1
                shop(home, f"INSERT INTO orders VALUES ({made}, 'x', 1)")
        else:
            books.take(crash=what == "crash", refuse=what == "refuse")
    books.take()
    assert books.column("id") == list(range(1, made + 1))


def test_without_a_cursor_the_whole_is_one_file_that_changes_with_its_rows_alone(tmp_path: Path) -> None:
    url = shop(tmp_path, MAKE, "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2)")
    books = Ledger(url, "SELECT * FROM orders", None, tmp_path)
    assert books.take() == ["orders.parquet"]
    before = books.marks["orders.parquet"]
    shop(tmp_path, "DELETE FROM orders", "INSERT INTO orders VALUES (2, 'b', 2), (1, 'a', 1)")  # another order of the same
    assert next(iter(books.connect().list_files())).mark == before
    shop(tmp_path, "UPDATE orders SET price = 3 WHERE id = 2")
    assert next(iter(books.connect().list_files())).mark != before


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("TEXT", ["'2024-01-01 10:00'", "'2024-01-02 refused ~ /x'", "'2024-02-01'"]),
        ("REAL", ["0.1", "0.30000000000000004", "12.5"]),
        ("INTEGER", ["-5", "0", "9007199254740993"]),
        ("TEXT", ["'" + "a" * 300 + "'", "'" + "a" * 300 + "b'", "'é数'"]),
    ],
)
def test_cursors_of_every_kind(tmp_path: Path, kind: str, values: list[str]) -> None:
    url = shop(tmp_path, f'CREATE TABLE t ("Order" {kind})')
    books = Ledger(url, 'SELECT "Order" FROM t', "Order", tmp_path)
    for value in values:
        shop(tmp_path, f"INSERT INTO t VALUES ({value})")
        assert len(books.take()) == 1
        assert books.take() == []
    assert len(books.column("Order")) == len(set(books.column("Order"))) == 3


def test_queries_with_marks_that_mean_something_elsewhere(tmp_path: Path) -> None:
    url = shop(tmp_path, MAKE, "INSERT INTO orders VALUES (1, '12:30 :x', 1), (2, '100%', 2)")
    query = (
        "SELECT *, ':y' AS colon, 7 % 4 AS rest FROM orders WHERE item LIKE '%:x' OR item LIKE '100\\%' ESCAPE '\\' -- all; of it"
    )
    books = Ledger(url, query, "id", tmp_path)
    books.take()
    assert books.column("item") == ["100%", "12:30 :x"]
    assert books.column("colon") == [":y", ":y"]
    assert books.column("rest") == [3, 3]


def test_values_of_several_types_become_text_and_nothing_is_dropped(tmp_path: Path) -> None:
    url = shop(
        tmp_path, "CREATE TABLE t (a, b, c)", "INSERT INTO t VALUES (1, x'00ff', NULL), ('two', NULL, NULL), (3.5, NULL, NULL)"
    )
    books = Ledger(url, "SELECT * FROM t", None, tmp_path)
    books.take()
    assert sorted(books.tables["orders.parquet"]["a"].to_list()) == ["1", "3.5", "two"]
    assert sorted(map(str, books.tables["orders.parquet"]["b"].to_list())) == ["None", "None", "b'\\x00\\xff'"]


@pytest.mark.parametrize(
    ("url", "query", "cursor", "said"),
    [
        ("sqlite:///none.db", "SELECT 1", None, "there is no such database file"),
        ("sqlite:///shop.db", "SELEKT 1", None, "syntax error"),
        ("sqlite:///shop.db", "SELECT * FROM gone", None, "no such table: gone"),
        ("sqlite:///shop.db", "DELETE FROM orders", None, "cannot be read"),
        ("sqlite:///shop.db", "SELECT * FROM orders", "nope", "no such column: nope"),
        ("sqlite:///shop.db", "SELECT * FROM orders", "No Such", "the query does not return its cursor, the column No Such"),
        ("sqlite:///shop.db", "SELECT * FROM orders UNION ALL SELECT NULL, 'n', 0", "id", "1 rows have no id"),
        ("sqlite:///shop.db", "SELECT x'00' AS id", "id", "a cursor of type bytes is not supported"),
        ("nosuch://me:hush-hush@h/db", "SELECT 1", None, "nosuch"),
        ("oracle+oracledb://me:hush-hush@h/db", "SELECT 1", None, "needs the driver oracledb"),
        ("postgresql+psycopg://me:hush-hush@127.0.0.1:9/db", "SELECT 1", None, "cannot be read"),
        ("this is hush-hush no address", "SELECT 1", None, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_without_a_secret(
    tmp_path: Path, url: str, query: str, cursor: str | None, said: str
) -> None:
    if "psycopg" in url:
        pytest.importorskip("psycopg", reason="no driver for Postgres is installed")
    shop(tmp_path, MAKE, "INSERT INTO orders VALUES (1, 'a', 1)")
    with pytest.raises(DataError) as caught:
        Ledger(url, query, cursor, tmp_path).take()
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.where is not None
    assert len(list(tmp_path.glob("*.db"))) == 1
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        assert database.execute("SELECT count(*) FROM orders").fetchone() == (1,)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(DataError, match="needs SQLAlchemy") as caught:
        Ledger("sqlite:///x.db", "SELECT 1", None, tmp_path).take()
    assert str(caught.value.hint) == "pip install sqlalchemy"


@given(
    st.one_of(
        st.none(), st.integers(), st.floats(allow_nan=False), st.text(), st.datetimes(), st.dates(), st.decimals(allow_nan=False)
    ),
    st.text(),
)
def test_a_range_comes_back_from_its_mark(after: Any, to: str) -> None:
    made = Range(after, to)
    assert _range(made.text()) == (made, "")
    assert _range(f"{made.text()} refused x") == (made, " refused x")
    assert "/" not in made.name("d").removeprefix("d/")
    assert len(made.name("d").encode()) < 200


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a Postgres server made for this module, which is removed with it."""
    pytest.importorskip("psycopg", reason="no driver for Postgres is installed")
    places = os.pathsep.join([os.environ.get("PATH", ""), *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)])
    initdb, server = shutil.which("initdb", path=places), shutil.which("postgres", path=places)
    if initdb is None or server is None:
        pytest.skip("there are no Postgres programs (initdb, postgres): install Debian's package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="noria-pg-"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # Postgres refuses to run as root
        os.chown(folder, 65534, 65534)
        who = {"user": 65534, "group": 65534}
    try:
        subprocess.run(
            [initdb, "-D", folder / "db", "-U", "me", "-A", "trust", "-N"], check=True, capture_output=True, cwd=folder, **who
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [server, "-D", folder / "db", "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **who)
        try:
            url = f"postgresql+psycopg://me:hush-hush@127.0.0.1:{port}/postgres"
            wait_for(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return execute(url, "SELECT 1")
        except sqlalchemy.exc.OperationalError:
            assert process.poll() is None, "Postgres ended"
            assert time.monotonic() < deadline, "Postgres does not answer"
            time.sleep(0.05)


def execute(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def test_postgres_with_its_own_types_and_times_as_cursor(postgres: str, tmp_path: Path) -> None:
    execute(
        postgres,
        "CREATE TABLE sales (at timestamptz, price numeric(10, 2), id uuid, tags text[], day date, facts jsonb)",
        "INSERT INTO sales SELECT timestamptz '2024-01-01 00:00+00' + n * interval '1 microsecond', n / 4.0, "
        "gen_random_uuid(), ARRAY['a', 'b'], date '2024-01-01' + n, '{\"a\": 1}' FROM generate_series(1, 1000) n",
    )
    books = Ledger(postgres, "SELECT *, at::text AS said FROM sales WHERE 'a:b' <> '%'", "at", tmp_path)
    assert len(books.take()) == 1
    execute(postgres, "INSERT INTO sales VALUES (timestamptz '2024-01-01 00:00:01+02', 1, NULL, NULL, NULL, NULL)")
    assert books.take() == [], "it lies before the cursor: the docs say that a cursor only grows"
    execute(postgres, "INSERT INTO sales VALUES (timestamptz '2024-05-01 00:00+02', 1, NULL, NULL, NULL, NULL)")
    assert len(books.take()) == 1
    first, second = (books.tables[name] for name in sorted(books.tables, reverse=True))
    assert first.height == 1000
    assert second.height == 1
    assert first["at"].dtype == pl.Datetime("us", "UTC")
    assert first["price"].dtype.is_decimal()
    assert first["id"].dtype == pl.String
    assert first["tags"].to_list()[0] == ["a", "b"]


def test_postgres_orders_text_in_its_own_way(postgres: str, tmp_path: Path) -> None:
    execute(postgres, 'CREATE TABLE words (w text COLLATE "en-x-icu")', "INSERT INTO words VALUES ('B')")
    books = Ledger(postgres, "SELECT w FROM words", "w", tmp_path)
    books.take()
    execute(postgres, "INSERT INTO words VALUES ('c')")
    books.take()
    execute(postgres, "INSERT INTO words VALUES ('D'), ('ä')")
    assert len(books.take()) == 1
    assert books.take() == []
    assert books.column("w") == ["B", "D", "c"]


def test_postgres_is_read_only_and_its_errors_show_no_secret(postgres: str, tmp_path: Path) -> None:
    execute(postgres, "CREATE TABLE counted (n int)", "CREATE SEQUENCE used")
    twice = "SELECT 1 AS id, 2 AS id"
    for query, said in [
        (twice, "returns column id twice"),
        ("SELECT nextval('used') AS n", "read-only"),
        ("SELECT * FROM nowhere", '"nowhere" does not exist'),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            Ledger(postgres, query, None, tmp_path).take()
        assert "hush" not in str(caught.value)


def test_files_of_a_query_fit_together(tmp_path: Path) -> None:
    url = shop(tmp_path, MAKE, "INSERT INTO orders VALUES (1, NULL, NULL)")
    books = Ledger(url, "SELECT * FROM orders", "id", tmp_path)
    books.take()
    (tmp_path / "fetched-0.parquet").rename(tmp_path / "one.parquet")
    shop(tmp_path, "INSERT INTO orders VALUES (2, 'b', 2)")
    books.take()
    both = read_tables([DatasetFile(name, tmp_path / name) for name in ("one.parquet", "fetched-0.parquet")])
    assert both.rows() == [(1, None, None), (2, "b", 2.0)]
