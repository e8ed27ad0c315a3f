"""Numbers 7, 21: a dataset has one table type; what cannot stand below the accepted files is refused at the door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import force_setattr
from test_arrivals import World

from noria import config
from noria.data import formats, table_types
from noria.data.formats import DatasetFile
from noria.data.snapshot import Delivery
from noria.data.store import DataStore
from noria.data.table import TableType
from noria.data.table_store import TableStore
from noria.kernel.errors import DataError

FIRST = "id,sku,n,price,at,vip\nA1,X-1,5,1.5,2024-01-01T00:00:00,no\nA2,17,6,,2024-01-02T00:00:00,yes\n"
NO_CONTRACT = 'project: shop\ndata:\n  points: {source: "data/*.csv", settle: 1ms}\n'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    made.write("noria.yaml", NO_CONTRACT)
    yield made
    made.context.executor.close()
    made.context.ledger.close()


def kinds(world: World) -> dict[str, str]:
    """The types by which the dataset is read now."""
    found = table_types.of(world.context, config.load(world.home).data["points"])
    assert found is not None
    return {name: str(column.kind) for name, column in found.columns.items()}


def whole(world: World) -> pl.DataFrame:
    """The dataset as a step gets it."""
    source = config.load(world.home).data["points"]
    pins = DataStore(world.context.ledger, "shop").current("points").files
    parts = [DatasetFile(pin.name, world.context.named_blob(pin.digest, pin.name)) for pin in pins]
    return formats.read_tables(parts, table_types.of(world.context, source), source.csv)


def newest(world: World) -> Delivery:
    return DataStore(world.context.ledger, "shop").deliveries(1)[0]


@pytest.mark.parametrize(
    "later",
    [
        "id,sku,n,price,at,vip\n",
        "id,sku,n,price,at,vip\n1,2,3,4,2024-01-03,true\n",
        '"id","sku","n","price","at","vip"\n"7","","","","",""\n',
        "vip,at,price,n,sku,id\n,,,5.0,2024-01-01,007\n",
    ],
    ids=["a head alone", "digits", "empty and quoted", "another order, dates"],
)
def test_no_batch_changes_what_the_table_is(world: World, later: str) -> None:
    """Number 21: columns that are empty, all digits, all dates or true and false in one file stay what they are."""
    world.write("points.yaml", "rows: {min: 0}\n")
    world.write("noria.yaml", NO_CONTRACT.replace("settle", "contract: points.yaml, settle"))
    world.write("data/a.csv", FIRST)
    world.take()
    before = kinds(world)
    assert list(before.values()) == ["string", "string", "int", "float", "datetime", "string"]
    world.write("data/b.csv", later)
    world.take()
    assert (world.refused, world.files("points")) == ([], ["data/a.csv", "data/b.csv"])
    assert kinds(world) == before
    assert whole(world).schema == {
        "id": pl.String,
        "sku": pl.String,
        "n": pl.Int64,
        "price": pl.Float64,
        "at": pl.Datetime("us"),
        "vip": pl.String,
    }


@pytest.mark.parametrize(
    ("later", "column", "said", "value"),
    [
        ("A3,X,five,1,2024-01-03T00:00:00,no", "n", "row 1 is no whole number", "five"),
        ("A3,X,007,1,2024-01-03T00:00:00,no", "n", "row 1 is no whole number", "007"),
        ("A3,X,5,1.5.1,2024-01-03T00:00:00,no", "price", "row 1 is no number", "1.5.1"),
        ("A3,X,5,1.5,2024-01-03T00:00:00Z,no", "at", "row 1 is no time without a zone", "2024-01-03T00:00:00Z"),
        ("A3,X,5,1.5,3 January,no", "at", "row 1 is no time without a zone", "3 January"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_column_and_value(
    world: World, later: str, column: str, said: str, value: str
) -> None:
    """Number 21: at arrival, by the file's own name; the value is in the record of the delivery, and in no event."""
    world.write("data/a.csv", FIRST)
    world.take()
    world.write("data/b.csv", f"{FIRST.splitlines()[0]}\n{later}\n")
    told: list[str] = []
    force_setattr(world.context, "progress", told.append)
    world.take()
    assert len(world.refused) == 1
    assert f"data/b.csv quarantined: {column}: {said}; in this dataset it is" in world.refused[0]
    assert newest(world).example == f"{column} in row 1 is {value!r}"
    assert any(value in text for text in told), "whoever looks is told"
    assert not any(repr(value) in event.text for event in world.context.ledger.events.tail("shop", limit=100))
    assert newest(world).failing_rows == 1
    assert whole(world).height == 2, "what was accepted still stands together"


def test_other_columns_are_refused_unless_the_contract_lists_them(world: World) -> None:
    """Number 21: one column more, or one less, made every later turn fail."""
    world.write("data/a.csv", "id,n\na,1\n")
    world.take()
    world.write("data/b.csv", "id,n,extra\nb,2,x\n")
    world.write("data/c.csv", "id\nc\n")
    world.take()
    assert ["has the column extra, which" in world.refused[0], "has no column n, which" in world.refused[1]] == [True, True]
    assert world.files("points") == ["data/a.csv"]
    world.write("points.yaml", "columns: {extra: {required: false}, n: {required: false}}\n")
    world.write("noria.yaml", NO_CONTRACT.replace("settle", "contract: points.yaml, settle"))
    world.take()
    assert world.refused == []
    assert whole(world).sort("id").rows() == [("a", 1, None), ("b", 2, "x"), ("c", None, None)]


def test_a_file_that_is_the_whole_dataset_may_have_other_columns(world: World) -> None:
    """Number 21: it is compared with the others alone; the types of the columns that stay are kept."""
    world.write("data/a.csv", "sku,n\nX-1,1\n")
    world.take()
    world.write("data/a.csv", "sku,n,at\n17,2,2024-01-01\n")
    world.take()
    assert world.refused == []
    assert kinds(world) == {"sku": "string", "n": "int", "at": "date"}


def test_a_contract_that_no_longer_fits_what_was_accepted_is_said_by_name(world: World) -> None:
    """Number 21: nothing that was accepted makes a step fail: the turn ends before, in words."""
    world.write("data/a.csv", "sku,n\nX-1,1\n")
    world.take()
    world.write("points.yaml", "columns: {n: string}\n")
    world.write("noria.yaml", NO_CONTRACT.replace("settle", "contract: points.yaml, settle"))
    assert kinds(world) == {"sku": "string", "n": "string"}
    assert whole(world)["n"].to_list() == ["1"], "the contract is followed to the letter"
    world.write("points.yaml", "columns: {sku: int}\n")
    with pytest.raises(DataError, match="sku: row 1 is no whole number; the contract says int") as caught:
        kinds(world)
    assert caught.value.where == "data/a.csv"
    world.write("points.yaml", "columns: {n: int}\n")
    assert kinds(world) == {"sku": "string", "n": "int"}


def test_contract_and_file_may_change_together(world: World) -> None:
    """Number 21: the version that is replaced need not fit the new contract."""
    world.write("data/a.csv", "n\nx\n")
    world.take()
    world.write("points.yaml", "columns: {n: int}\n")
    world.write("noria.yaml", NO_CONTRACT.replace("settle", "contract: points.yaml, settle"))
    world.write("data/a.csv", "n\n1\n")
    world.take()
    assert world.refused == []
    assert whole(world)["n"].to_list() == [1]


def test_how_text_is_written_may_be_said_later(world: World) -> None:
    """Number 24: with `decimal: ","` the accepted files are looked at again, and what was text is a number."""
    world.write("data/a.csv", "id;x\na;1,5\n")
    world.take()
    assert "separated by a semicolon" in world.refused[0]
    world.write("noria.yaml", NO_CONTRACT.replace("settle", 'csv: {separator: ";"}, settle'))
    world.take()
    assert kinds(world) == {"id": "string", "x": "string"}
    world.write("noria.yaml", NO_CONTRACT.replace("settle", 'csv: {separator: ";", decimal: ","}, settle'))
    assert kinds(world) == {"id": "string", "x": "float"}


def test_ambiguous_dates_are_refused_until_the_contract_says_which(world: World) -> None:
    """Number 22: and the contract's format reads them."""
    world.write("data/a.csv", "id,at\na,03/07/2024\n")
    world.take()
    assert "at: a date like 03/07/2024 may be %d/%m/%Y or %m/%d/%Y; Say which in a contract of points" in world.refused[0]
    world.write("points.yaml", 'columns: {at: {format: "%m/%d/%Y"}}\n')
    world.write("noria.yaml", NO_CONTRACT.replace("settle", "contract: points.yaml, settle"))
    world.take()
    assert world.refused == []
    assert str(whole(world)["at"][0]) == "2024-03-07"
    world.write("data/b.csv", "id,at\nb,13/07/2024\n")
    world.take()
    assert "at: row 1 is no date; the contract says date as %m/%d/%Y" in world.refused[0]


def test_a_state_of_before_decides_from_all_that_was_accepted(world: World) -> None:
    """Number 21: a ledger that knows no types yet looks at the accepted files together, once."""
    world.write("data/a.csv", "sku\n17\n")
    world.write("data/b.csv", "sku\nX-1\n")
    world.take()
    world.context.ledger.database.execute("DELETE FROM tables")
    assert kinds(world) == {"sku": "string"}
    assert whole(world)["sku"].to_list() == ["17", "X-1"]
    settled = TableStore(world.context.ledger, "shop").get("points")
    assert settled is not None
    assert settled.type != TableType()


@pytest.mark.parametrize(
    "said",
    [
        "points: {source: 'data/*.csv', settle: 1ms, format: files}",
        "points: {source: 'data/*.csv', settle: 1ms, csv: {separator: ';'}}",
        "points: {source: data, settle: 1ms}",
    ],
    ids=["format", "csv", "source"],
)
def test_what_noria_yaml_says_anew_is_asked_anew(world: World, said: str) -> None:
    """Number 7: a file leaves quarantine when the format, the way in which it is written, or the source change."""
    world.write("data/a.csv", "a;b\n1;2\n")
    world.take()
    assert len(world.refused) == 1
    assert world.take() == []
    world.write("noria.yaml", f"project: shop\ndata:\n  {said}\n")
    assert [each.name for each in world.take()] == ["data/a.csv"]
    assert (world.refused == []) == ("source: data," not in said)


def test_files_of_a_former_source_leave_the_dataset(world: World) -> None:
    """Number 7: a changed source kept the old one's rows; and its types."""
    world.write("old/a.csv", "sku\nX-1\n")
    world.write("old/b.csv", "sku\nX-2\n")
    world.write("new/a.csv", "sku,n\n17,1\n")
    world.write("noria.yaml", NO_CONTRACT.replace("data/*", "old/*"))
    world.take()
    assert world.files("points") == ["old/a.csv", "old/b.csv"]
    world.write("noria.yaml", NO_CONTRACT.replace("data/*", "new/*"))
    world.take()
    assert world.files("points") == ["new/a.csv"]
    assert kinds(world) == {"sku": "int", "n": "int"}
    assert world.events("data.source_changed") == ["points: 2 files of the former source left the dataset"]
    world.write("noria.yaml", NO_CONTRACT.replace("data/*", "*/a"))
    world.take()
    assert "other columns" not in str(world.refused)
    assert world.files("points") == ["new/a.csv"]
    world.write("noria.yaml", NO_CONTRACT.replace("data/*", "old/*"))
    world.take()
    assert world.files("points") == ["old/a.csv", "old/b.csv"], "they arrive again"


def test_a_value_goes_with_the_bytes_that_are_erased(world: World) -> None:
    """Number 21: the value that a refusal tells is erased with its file."""
    world.write("data/a.csv", "n\n1\n")
    world.take()
    world.write("data/b.csv", "n\nsecret\n")
    world.take()
    assert "secret" in newest(world).example
    from noria.trust import erasure

    erasure.erase(world.context, "data/b.csv")
    assert newest(world).example == ""
