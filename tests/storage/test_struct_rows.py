"""Frozen records to rows of a real SQLite file and back: every kind of field, every damage a StoreError that says where."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.kernel.errors import StoreError
from noria.storage import rows
from noria.storage.connection import Database
from noria.storage.rows import StructTable


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(Enum):
    LOW = 1


class Inner(msgspec.Struct, frozen=True):
    name: str
    share: float = 0.0


class Everything(msgspec.Struct, frozen=True):
    id: str
    count: int
    share: float
    flag: bool
    colour: Colour
    note: str | None = None
    maybe: float | None = None
    words: tuple[str, ...] = ()
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    facts: dict[str, float] = {}


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
FLOATS = st.floats(allow_nan=False)
RECORDS = st.builds(
    Everything,
    id=TEXT,
    count=st.integers(-(2**63), 2**63 - 1),
    share=FLOATS,
    flag=st.booleans(),
    colour=st.sampled_from(Colour),
    note=st.none() | TEXT,
    maybe=st.none() | FLOATS,
    words=st.lists(TEXT, max_size=3).map(tuple),
    inner=st.none() | st.builds(Inner, TEXT, FLOATS),
    many=st.lists(st.builds(Inner, TEXT, FLOATS), max_size=2).map(tuple),
    facts=st.dictionaries(TEXT, FLOATS, max_size=3),
)
GOOD = Everything("a", 1, 0.5, True, Colour.RED, "n", 1.5, ("x",), Inner("i", 2.0), (Inner("j"),), {"k": 1.0})


class Plain(Database):
    """A file with one table."""

    def migrate(self) -> None:
        columns = ", ".join(f'"{name}"' for name in (*Everything.__struct_fields__, "more"))
        self.execute(f"CREATE TABLE IF NOT EXISTS things ({columns}, PRIMARY KEY (id))")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[StructTable[Everything]]:
    database = Plain(tmp_path / "x.db")
    yield StructTable(database, "things", Everything)
    database.close()


KEEP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@KEEP
@given(record=RECORDS)
def test_a_record_comes_back_as_it_was(table: StructTable[Everything], record: Everything) -> None:
    table.insert(record, replace=True)
    found = table.one("id = ?", record.id)
    assert found == record
    assert msgspec.json.encode(found, order="sorted") == msgspec.json.encode(record, order="sorted"), (
        "types too, and negative zero"
    )


@settings(KEEP, max_examples=8)
@given(records=st.lists(RECORDS, max_size=6, unique_by=lambda record: record.id))
def test_many_are_written_as_one_by_one(tmp_path_factory: pytest.TempPathFactory, records: list[Everything]) -> None:
    made = [StructTable(Plain(tmp_path_factory.mktemp("s") / "x.db"), "things", Everything) for _ in range(2)]
    made[0].insert_many(records, more=7)
    for record in records:
        made[1].insert(record, more=7)
    dumps = [[tuple(row) for row in each.database.rows("SELECT * FROM things ORDER BY id")] for each in made]
    assert dumps[0] == dumps[1]
    for each in made:
        each.database.close()


@pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308])
def test_odd_numbers_come_back(table: StructTable[Everything], share: float) -> None:
    record = msgspec.structs.replace(GOOD, share=share, inner=Inner("i", share), facts={"x": share})
    table.insert(record)
    found = table.one("TRUE")
    assert found is not None
    assert found.inner is not None
    for value in (found.share, found.inner.share, found.facts["x"]):
        assert value == share or (math.isnan(value) and math.isnan(share))
        assert math.copysign(1, value) == math.copysign(1, share) or math.isnan(share)


def test_what_a_table_keeps_is_readable_with_sqlite_alone(table: StructTable[Everything], tmp_path: Path) -> None:
    table.insert(GOOD)
    plain = sqlite3.connect(tmp_path / "x.db")
    row = plain.execute("SELECT id, count, share, flag, colour, words, inner, facts, more FROM things").fetchone()
    assert row[:5] == ("a", 1, 0.5, 1, "red")
    assert [json.loads(cell) for cell in row[5:8]] == [["x"], {"name": "i", "share": 2.0}, {"k": 1.0}]
    assert row[8] is None
    plain.close()


def test_a_key_stands_once_unless_it_is_replaced(table: StructTable[Everything]) -> None:
    table.insert(GOOD, more="kept")
    with pytest.raises(StoreError, match=r"the ledger refused a row: UNIQUE constraint failed: things\.id"):
        table.insert(GOOD)
    table.insert(msgspec.structs.replace(GOOD, count=2), replace=True)
    assert [(row["count"], row["more"]) for row in table.database.rows("SELECT * FROM things")] == [(2, "kept")]


def test_one_bad_row_of_many_leaves_none(table: StructTable[Everything]) -> None:
    with pytest.raises(StoreError):
        table.insert_many([GOOD, msgspec.structs.replace(GOOD, id="b"), GOOD])
    assert table.many("TRUE") == []


def test_an_update_changes_what_it_names_in_rows_that_match(table: StructTable[Everything]) -> None:
    table.insert_many([GOOD, msgspec.structs.replace(GOOD, id="b")])
    assert table.update("id", "a", {"words": ("y", "z"), "inner": None, "colour": Colour.BLUE}) == 1
    assert table.update("id", "nobody", {"count": 5}) == 0
    assert table.one("id = ?", "a") == msgspec.structs.replace(GOOD, words=("y", "z"), inner=None, colour=Colour.BLUE)
    assert table.one("id = ?", "b") == msgspec.structs.replace(GOOD, id="b")
    assert table.one("id = ?", "nobody") is None


DAMAGE: dict[str, tuple[Any, ...]] = {
    "count": ("many", 1.5, None, b"\xff"),
    "share": ("much", b"\xff"),
    "flag": (7, "perhaps", None),
    "colour": ("green", 3, None, b"red"),
    "note": (b"\xff\xfe",),
    "words": ("[", "[1]", "{}", "null", None, "[[]]", b"\x00"),
    "inner": ("{", '{"share": 1}', '{"name": 3}', "[]", '"x"'),
    "many": ("[{}]", "[null]", "7"),
    "facts": ("[]", '{"k": "x"}', "{", None),
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in DAMAGE.items() for value in values])
def test_a_damaged_cell_is_told_and_no_other_row_suffers(table: StructTable[Everything], column: str, value: Any) -> None:
    table.insert_many([GOOD, msgspec.structs.replace(GOOD, id="b")])
    table.database.execute(f'UPDATE things SET "{column}" = ? WHERE id = ?', (value, "a"))
    with pytest.raises(StoreError) as caught:
        table.one("id = ?", "a")
    assert caught.value.message.startswith("the ledger is damaged: a row of things cannot be read: ")
    assert caught.value.hint == "Put a backup of ledger.db in its place; `noria doctor` looks deeper."
    assert table.one("id = ?", "b") is not None


@pytest.mark.parametrize("column", Everything.__struct_fields__)
def test_a_column_that_is_gone_is_told(table: StructTable[Everything], column: str) -> None:
    """Names of columns lie in the file as well."""
    table.insert(GOOD)
    names = ", ".join(f'"{name}"' for name in Everything.__struct_fields__ if name != column)
    row = table.database.row(f"SELECT {names} FROM things")
    assert row is not None
    with pytest.raises(StoreError, match=f"the ledger is damaged: a table has no column {column} any more"):
        table.read(row)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    )
)
def test_json_is_canonical_and_that_of_the_standard_library(value: Any) -> None:
    text = rows.to_json(value)
    plain = json.dumps(value)
    if "Infinity" not in plain:
        assert json.loads(text) == value
    if isinstance(value, dict):
        assert rows.to_json(dict(reversed(value.items()))) == text, "the order of keys does not matter"


@pytest.mark.parametrize("text", ["", "{", "nul", '"\\ud800"', "[1,]", "NaN", b"\xff"])
def test_what_is_no_json_is_a_damaged_ledger(text: str | bytes) -> None:
    with pytest.raises(StoreError, match="the ledger is damaged: a row of JSON cannot be read"):
        rows.parse_json(text)


def test_an_enum_is_kept_as_its_value() -> None:
    assert rows.encode(Level.LOW) == "1"
    assert rows.encode(Colour.RED) == "red"
    assert type(rows.encode(Colour.RED)) is str
    assert (rows.encode(True), type(rows.encode(True))) == (1, int)
