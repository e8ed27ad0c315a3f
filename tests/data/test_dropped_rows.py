"""`drop_rows`: the good rows of a file are accepted at once, the others go to quarantine; whatever files the rows stand in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria import config
from noria.data import arrivals, files, formats, judge_contract, judge_dropped_rows, quarantine, quarantine_decisions, table_types
from noria.data.formats import DatasetFile
from noria.data.quarantine_store import QuarantineState, QuarantineStore
from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.engine import assembly
from noria.kernel.contract import ColumnRule, Contract
from noria.kernel.dialect import Dialect
from noria.kernel.errors import RefusedError
from noria.kernel.trigger import TriggerKind
from noria.pipeline import check
from noria.pipeline.context import StartedRun
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore
from noria.trust import audit, erasure, references
from noria.trust.judge_retention import BlobKind

CONTRACT = """\
columns:
  id: {type: int, nulls: never}
  x: {type: float, range: [0, 100]}
  note: {type: string}
unique: [id]
drop_rows: {at_most: AT_MOST}
"""
Row = tuple[int, float, str]


class World:
    """A project whose dataset has a contract that drops rows."""

    def __init__(self, home: Path, at_most: str = "50%", suffix: str = "csv") -> None:
        self.home, self.suffix = home, suffix
        dataset = f"{{source: 'data/*.{suffix}', contract: points.yaml, settle: 1ms}}"
        self.write("noria.yaml", f"project: shop\ndata:\n  points: {dataset}\n")
        self.write("points.yaml", CONTRACT.replace("AT_MOST", at_most))
        self.context = assembly.assemble(home, state=home / ".noria")

    def write(self, name: str, text: str) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def put(self, name: str, rows: Sequence[Row]) -> None:
        """A file of these rows, in the format of the suffix."""
        path = self.home / "data" / f"{name}.{self.suffix}"
        path.parent.mkdir(exist_ok=True)
        table = pl.DataFrame(rows, schema={"id": pl.Int64, "x": pl.Float64, "note": pl.String}, orient="row")
        text = table.with_columns(pl.col("x").cast(pl.String)) if self.suffix.startswith(("csv", "tsv")) else table
        formats.write_table(path, text)

    def take(self) -> None:
        project = config.load(self.home)
        found = arrivals.take_in(self.context, project, patient=True)
        TriggerStore.of(self.context).add(TriggerKind.MANUAL, "now")
        turn = TurnStore.of(self.context).start()
        assert turn is not None
        check.data(self.context, StartedRun(turn, "run", project, self.home, None, None, {}, arrivals=tuple(found)))

    def pins(self) -> dict[str, FilePin]:
        return {pin.name: pin for pin in DataStore.of(self.context).current("points").files}

    def rows(self) -> list[Row]:
        """The rows of the dataset, as a step would read them."""
        pins = self.pins().values()
        if not pins:
            return []
        parts = [DatasetFile(pin.name, self.context.named_blob(pin.digest, pin.name)) for pin in pins]
        source = config.load(self.home).data["points"]
        table = files.read_tables(parts, table_types.of(self.context, source), source.csv)
        assert [pin.rows for pin in pins] == [files.read_tables([one]).height for one in parts]
        return table.select("id", "x", "note").rows()

    def deliveries(self) -> list[Delivery]:
        return DataStore.of(self.context).deliveries()[::-1]

    def close(self) -> None:
        self.context.executor.close()
        self.context.ledger.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


GOOD: list[Row] = [(n, float(n), 'a, "b"\nc') for n in range(6)]
BAD: list[Row] = [(50, 500.0, "far"), (3, 7.0, "again")]


def test_good_rows_are_accepted_and_bad_ones_wait_with_their_reasons(world: World) -> None:
    world.put("a", [*GOOD, *BAD])
    world.take()
    (one,) = world.deliveries()
    assert (one.accepted, one.rows_in, one.rows_passed, one.rows_quarantined, one.failing_rows) == (True, 8, 6, 2, 2)
    assert one.reason.startswith("6 rows meet the contract; 2 of 8 rows (25 %) were dropped: x: 1 of 8 rows lie outside")
    assert [(reason.code, reason.rows) for reason in one.reasons] == [("contract.range", 1), ("contract.unique", 1)]
    pin = world.pins()["data/a.csv"]
    assert (pin.rows, pin.made_from, pin.digest) == (6, one.digest, one.kept_digest)
    assert world.rows() == GOOD
    (found,) = QuarantineStore.of(world.context).newest(None, 9)
    assert found.state is QuarantineState.ROWS_DROPPED
    rows = quarantine.first_rows(world.context, one, 9)
    assert [(row["id"], row["note"]) for row in rows] == [(50, "far"), (3, "again")]
    assert "outside 0 to 100" in str(rows[0]["noria_reason"])
    assert "repeats a row of this file" in str(rows[1]["noria_reason"])
    world.take()
    assert len(world.deliveries()) == 1, "the same file is not judged again"
    assert audit.verify(world.context.ledger, world.context.state).state == ()


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
def test_the_same_file_makes_the_same_bytes_elsewhere(tmp_path_factory: pytest.TempPathFactory, suffix: str) -> None:
    found = []
    for _ in range(2):
        world = World(tmp_path_factory.mktemp("world"), suffix=suffix)
        world.put("a", [*GOOD, *BAD])
        world.take()
        found.append(world.pins())
        world.close()
    assert found[0] == found[1]
    assert found[0][f"data/a.{suffix}"].made_from


def test_a_refused_file_is_judged_again_when_its_contract_drops_more(world: World) -> None:
    world.write("points.yaml", CONTRACT.replace("AT_MOST", "1%"))
    world.put("a", [*GOOD, *BAD])
    world.take()
    assert world.pins() == {}
    world.write("points.yaml", CONTRACT.replace("AT_MOST", "50%"))
    world.take()
    assert world.rows() == GOOD
    states = [one.state for one in QuarantineStore.of(world.context).newest("points", 9)]
    assert states == [QuarantineState.ROWS_DROPPED, QuarantineState.CORRECTED]


@pytest.mark.parametrize("reference", ["data/a.csv", "points"])
def test_an_erasure_takes_the_file_as_it_arrived_its_good_rows_and_its_failing_ones(world: World, reference: str) -> None:
    world.put("a", [*GOOD, *BAD])
    world.put("b", [(90, 1.0, "c")])
    world.take()
    (one,) = [delivery for delivery in world.deliveries() if delivery.name == "data/a.csv"]
    found = erasure.plan(world.context, reference)
    assert {one.digest, one.kept_digest} <= found.roots
    assert found.samples == {one.sample_digest}
    assert len(found.roots) == (2 if reference == "data/a.csv" else 3)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (BAD[:1] * 9 + GOOD, "9 of 15 rows (60 %) fail; drop_rows allows at most 50 %"),
        ([], "0 rows; the contract asks for at least 1"),
    ],
)
def test_a_file_with_too_many_failing_rows_is_refused_whole(world: World, rows: list[Row], text: str) -> None:
    world.put("a", rows)
    world.take()
    (one,) = world.deliveries()
    assert (one.accepted, one.rows_passed, one.rows_quarantined) == (False, 0, len(rows))
    assert text in one.reason
    assert world.pins() == {}


def test_what_is_not_about_rows_refuses_the_file(world: World) -> None:
    world.write("data/a.csv", "id,note\n1,a\n")
    world.write("data/b.csv", "id,x,note\n1,much,a\n2,3.0,b\n")
    world.take()
    assert [(one.name, one.accepted) for one in world.deliveries()] == [("data/a.csv", False), ("data/b.csv", False)]


def test_a_released_file_takes_the_place_of_its_good_rows(world: World) -> None:
    world.put("a", [*GOOD, *BAD])
    world.take()
    (one,) = world.deliveries()
    project = config.load(world.home)
    quarantine_decisions.release(world.context, project, one.id, "they are right")
    assert world.rows() == [*GOOD, *BAD], "each once"
    assert world.pins()["data/a.csv"].made_from is None
    with pytest.raises(RefusedError, match="already released"):
        quarantine_decisions.discard(world.context, one.id, "no")
    world.take()
    assert len(world.deliveries()) == 2
    assert audit.verify(world.context.ledger, world.context.state).state == ()


def test_discarded_rows_are_no_longer_held_and_good_ones_stay(world: World) -> None:
    world.put("a", [*GOOD, *BAD])
    world.take()
    (one,) = world.deliveries()

    def held() -> list[frozenset[str]]:
        return [h.blobs for h in references.gather(world.context).kept.holders if h.kind is BlobKind.QUARANTINE]

    assert held() == [frozenset({one.digest, one.sample_digest})]
    quarantine_decisions.discard(world.context, one.id, "noise")
    assert held() == []
    assert one.kept_digest in references.gather(world.context).blobs
    assert world.rows() == GOOD
    assert DataStore.of(world.context).quarantined_rows() == 0


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "csv.zst", "ndjson", "json", "jsonl.gz", "parquet", "arrow"])
def test_every_format_keeps_its_good_rows(tmp_path: Path, suffix: str) -> None:
    world = World(tmp_path, suffix=suffix)
    world.put("a", [*GOOD, *BAD])
    world.take()
    assert [(one.accepted, one.rows_quarantined) for one in world.deliveries()] == [(True, 2)]
    assert world.rows() == GOOD
    world.close()


@pytest.mark.parametrize(
    "dialect",
    [
        Dialect(separator=";", decimal=","),
        Dialect(encoding="cp1252"),
        Dialect(encoding="utf-16"),
        Dialect(quote="'"),
        Dialect(quote=""),
    ],
)
def test_text_is_written_in_its_own_way(tmp_path: Path, dialect: Dialect) -> None:
    plain = dialect.quote == ""
    table = pl.DataFrame({"a": ["ä", None, "1,5"[: 1 if plain else 3]], "b": ["x" if plain else 'it\'s; "so"\n', " y ", None]})
    formats.write_table(tmp_path / "a.csv", table, dialect)
    assert formats.open_table(tmp_path / "a.csv", "a", dialect).table.equals(table)


# --- however the rows are spread over files

rows_of = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-1.0, 0.0, 5.5, 100.0, 101.0])), max_size=12)
cuts = st.lists(st.integers(0, 12), max_size=3)


def expected(rows: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The rows that stay, worked out one by one."""
    kept: dict[int, tuple[int, float]] = {}
    for row in rows:
        if 0.0 <= row[1] <= 100.0:
            kept.setdefault(row[0], row)
    return list(kept.values())


def split(rows: Sequence[Any], at: Sequence[int]) -> list[Sequence[Any]]:
    ends = [0, *sorted(min(cut, len(rows)) for cut in at), len(rows)]
    return [rows[a:b] for a, b in pairwise(ends)]


@given(rows_of, cuts)
def test_rows_are_dropped_alike_in_one_file_or_many(rows: list[tuple[int, float]], at: list[int]) -> None:
    contract = Contract((ColumnRule("id"), ColumnRule("x", low=0, high=100)), unique=(("id",),), rows_min=0, drop_rows=1.0)
    kept, dropped = pl.DataFrame(schema={"id": pl.Int64, "x": pl.Float64}), 0
    for part in split(rows, at):
        table = pl.DataFrame(part, schema=kept.schema, orient="row")
        known = kept.select("id")
        ruling = judge_contract.judge(contract, table, now=None, known_keys=known)
        if not ruling.verdict.passed:
            found = judge_dropped_rows.judge(
                contract, table, ruling, lambda c, t, known=known: judge_contract.judge(c, t, now=None, known_keys=known)
            )
            assert isinstance(found, judge_dropped_rows.DroppedRows)
            assert found.failing.height == int((~found.good).sum())
            assert found.failing.drop("noria_reason").equals(table.filter(~found.good))
            assert all(found.failing["noria_reason"])
            table, dropped = table.filter(found.good), dropped + found.failing.height
        kept = pl.concat([kept, table])
    assert kept.rows() == expected(rows)
    assert kept.height + dropped == len(rows)


@settings(max_examples=12, deadline=None)
@given(rows_of.filter(bool), cuts, st.sampled_from(["csv", "parquet"]))
def test_the_dataset_holds_the_same_rows_whatever_its_files(rows: list[tuple[int, float]], at: list[int], suffix: str) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), at_most="100%", suffix=suffix)
        for number, part in enumerate(split(rows, at)):
            world.put(f"{number:02}", [(*row, "n") for row in part])
        world.take()
        assert [(row[0], row[1]) for row in world.rows()] == expected(rows)
        counts = [(one.rows_in, one.rows_passed, one.rows_quarantined) for one in world.deliveries()]
        assert sum(count[0] for count in counts) == len(rows)
        assert all(count[0] == count[1] + count[2] for count in counts)
        assert sum(count[1] for count in counts) == len(expected(rows))
        world.close()
