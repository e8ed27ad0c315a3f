"""A table judged a part at a time gets the ruling that it gets as a whole, however it is divided."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.cli import group
from noria.data import contract_in_parts, formats, judge_contract, judge_rules, key_spill
from noria.data.contract_in_parts import WholeTableError
from noria.data.formats import memory
from noria.data.judge_contract import ContractRuling
from noria.kernel.contract import ColumnRule, Contract, PersonalDataKind, PersonalDataRule, RowRule, Severity
from noria.kernel.errors import ConfigError

NOW = 1_800_000_000.0
DAY = dt.datetime(2027, 1, 14, tzinfo=dt.UTC)
SCHEMA = {
    "id": pl.Int64(),
    "part": pl.String(),
    "price": pl.Float64(),
    "word": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "items": pl.List(pl.Int64()),
}
ROWS = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(0, 12),
        "part": st.none() | st.sampled_from(["a", "b"]),
        "price": st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf"), -3.0, 20.0]),
        "word": st.none() | st.sampled_from(["", "red", "green", "blue", "  ", "RED", "äöü"]),
        "at": st.none() | st.integers(0, 5).map(lambda hours: DAY + dt.timedelta(hours=hours)),
        "items": st.none() | st.lists(st.integers(0, 3), max_size=3),
    }
)
COLUMNS = (
    ColumnRule("id", "int", nulls=0.2, low=0, high=9),
    ColumnRule("price", "float", low=0, high=10, severity=Severity.WARN),
    ColumnRule("word", "string", nulls=0, values=("red", "green"), length_min=3),
    ColumnRule("word", pattern="[a-z]+"),
    ColumnRule("items", length_max=1),
    ColumnRule("missing", "int"),
)
RULES = (
    RowRule("cheap", "price < 15 OR id = 1"),
    RowRule("coloured", "word LIKE 'r%' OR price >= 0", at_most=0.3),
    RowRule("always", "1 = 1"),
    RowRule("absent", "nowhere > 1", severity=Severity.WARN),
)
KEYS = (("id",), ("id", "part"), ("price",), ("at", "word"))


def parts_of(table: pl.DataFrame, rows: int) -> Any:
    def parts(columns: Sequence[str] | None) -> Iterator[pl.DataFrame]:
        for first in range(0, max(table.height, 1), rows):
            yield table[first : first + rows].select(columns or table.columns)

    return parts


def told(ruling: ContractRuling) -> Any:
    reasons = [(one.code, one.text, one.outcome, one.numbers) for one in ruling.verdict.reasons]
    return reasons, ruling.failing_rows, ruling.reasons, [one.text for one in ruling.warnings], ruling.verdict.passed


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    rows=st.lists(ROWS, max_size=25),
    rising=st.booleans(),
    size=st.integers(1, 9),
    columns=st.sets(st.sampled_from(COLUMNS)),
    rules=st.sets(st.sampled_from(RULES)),
    keys=st.sets(st.sampled_from(KEYS)),
    order=st.sampled_from([None, "at", "id", "price", "word"]),
    fresh=st.sampled_from([None, "at", "id"]),
    held=st.sampled_from([1, 200, 1 << 26]),
)
def test_the_ruling_is_that_of_the_whole(
    rows: list[dict[str, Any]],
    rising: bool,
    size: int,
    columns: set[ColumnRule],
    rules: set[RowRule],
    keys: set[tuple[str, ...]],
    order: str | None,
    fresh: str | None,
    held: int,
) -> None:
    table = pl.DataFrame(rows, schema=SCHEMA)
    table = table.with_columns(pl.int_range(pl.len()).alias("id")) if rising else table
    ordered = [sorted(chosen, key=repr) for chosen in (columns, rules, keys)]
    contract = Contract(
        columns=tuple({one.name: one for one in ordered[0]}.values()),
        rules=tuple(ordered[1]),
        unique=tuple(ordered[2]),
        order=order,
        fresh_column=fresh,
        fresh_within_s=3600.0,
        rows_min=2,
        rows_max=20,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_spill, "HELD_BYTES", held)
        patch.setattr(key_spill, "PARTITIONS", 3)
        found, height = contract_in_parts.judge(contract, parts_of(table, size), now=NOW)
    assert height == table.height
    assert told(found) == told(judge_contract.judge(contract, table, now=NOW))


def test_keys_that_cease_to_rise_are_read_again() -> None:
    table = pl.DataFrame({"id": [1, 2, 3, 4, 5, 2, 9, 9]})
    asked: list[Any] = []

    def parts(columns: Sequence[str] | None) -> Iterator[pl.DataFrame]:
        asked.append(columns)
        yield from parts_of(table, 2)(columns)

    contract = Contract(unique=(("id",),))
    found, _ = contract_in_parts.judge(contract, parts, now=None)
    assert "2 of 8 rows repeat the (id)" in found.verdict.sentence()
    assert asked == [None, ["id"], None]
    asked.clear()
    assert contract_in_parts.judge(contract, parts_of(table.head(5), 2), now=None)[0].verdict.passed


def test_a_file_that_meets_its_contract_is_read_once() -> None:
    table, count = pl.DataFrame({"id": [3, 1, 2], "x": [1.0, 2.0, 3.0]}), 0

    def parts(columns: Sequence[str] | None) -> Iterator[pl.DataFrame]:
        nonlocal count
        count += 1
        yield from parts_of(table, 2)(columns)

    assert contract_in_parts.judge(Contract(unique=(("id",),)), parts, now=None)[0].verdict.passed
    assert count == 1


@pytest.mark.parametrize("expr", ["x > avg(x)", "x <= max(x)", "count(*) > 1"])
def test_a_rule_about_all_rows_asks_for_the_whole_table(expr: str) -> None:
    with pytest.raises(WholeTableError):
        contract_in_parts.judge(Contract(rules=(RowRule("r", expr),)), parts_of(pl.DataFrame({"x": [1]}), 1), now=None)


def test_dropped_rows_ask_for_the_whole_table() -> None:
    with pytest.raises(WholeTableError):
        contract_in_parts.judge(Contract(drop_rows=0.5), parts_of(pl.DataFrame({"x": [1]}), 1), now=None)


class LaterContract(Contract, frozen=True):
    promises: tuple[str, ...] = ()


def test_a_promise_that_is_not_known_asks_for_the_whole_table() -> None:
    parts = parts_of(pl.DataFrame({"x": [1]}), 1)
    assert contract_in_parts.judge(LaterContract(), parts, now=None)[0].verdict.passed
    with pytest.raises(WholeTableError):
        contract_in_parts.judge(LaterContract(promises=("x",)), parts, now=None)


@pytest.mark.parametrize("expr", ["x +", "word > 1 AND upper(x) = 'a'"])
def test_a_rule_without_sense_is_a_config_error(expr: str) -> None:
    table = pl.DataFrame({"x": [1, 2], "word": ["a", "b"]})
    with pytest.raises(ConfigError, match="rule 'r' cannot be"):
        contract_in_parts.judge(Contract(rules=(RowRule("r", expr),)), parts_of(table, 1), now=None)


def test_a_heavy_rule_is_computed_apart_for_each_part() -> None:
    table = pl.DataFrame({"word": ["red", "green", "x1", "blue", "x2"]})
    heights: list[int] = []

    def apart(sql: str, part: pl.DataFrame) -> pl.Series:
        heights.append(part.height)
        return judge_rules.compute(sql, part)

    contract = Contract(rules=(RowRule("plain", "NOT regexp_like(word, '[0-9]')"),))
    found, _ = contract_in_parts.judge(contract, parts_of(table, 2), now=None, apart=apart)
    assert told(found) == told(judge_contract.judge(contract, table, now=None))
    assert found.failing_rows == 2
    assert heights == [2, 2, 1] * 2  # once to count what fails, and once to count the rows


def test_a_warning_lets_the_file_pass_and_is_told_with_its_counts() -> None:
    table = pl.DataFrame({"x": [1, 2, 30, None, 40]})
    contract = Contract((ColumnRule("x", high=10, nulls=0),), unique=(("x",),), severity=Severity.WARN)
    found, height = contract_in_parts.judge(contract, parts_of(table, 2), now=None)
    assert (found.verdict.passed, found.failing_rows, height) == (True, 0, 5)
    assert told(found) == told(judge_contract.judge(contract, table, now=None))
    assert [one.code for one in found.warnings] == ["contract.nulls", "contract.range"]


def test_personal_data_are_found_and_no_failing_row_is_counted() -> None:
    table = pl.DataFrame({"mail": [f"jane{n}@example.org" for n in range(30)], "n": range(30)})
    rule = PersonalDataRule(forbid=(PersonalDataKind.EMAIL,))
    contract = Contract((ColumnRule("n", high=10),), personal_data=rule)
    found, _ = contract_in_parts.judge(contract, parts_of(table, 7), now=None)
    assert told(found) == told(judge_contract.judge(contract, table, now=None))
    assert not found.failing_rows
    assert any("email" in one.text for one in found.verdict.reasons)


CONTRACT = """
columns:
  id: {type: int, nulls: never, range: [0, 70]}
  price: {type: float, range: [0, 5]}
  day: {type: date}
  word: {type: string, values: [a, b]}
unique: [[id]]
"""


def check(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, *, in_parts: bool) -> dict[str, Any]:
    monkeypatch.setattr(memory, "PARTED_FROM_BYTES", 0 if in_parts else 1 << 40)
    monkeypatch.setattr(memory, "PART_BYTES", 300)
    result = CliRunner().invoke(group, ["data", "check", str(folder / name), "--contract", str(folder / "c.yaml"), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def tables(rows: int = 100) -> dict[str, pl.DataFrame]:
    good = pl.DataFrame(
        {
            "id": range(rows),
            "price": [n % 7 for n in range(rows)],
            "day": [dt.date(2026, 1, 1 + n % 28) for n in range(rows)],
            "word": ["abc"[n % 3] for n in range(rows)],
        }
    )
    last = pl.int_range(pl.len()) == rows - 2
    return {
        "odd": good,
        "meets": good.filter((pl.col("id") <= 70) & (pl.col("price") <= 5) & (pl.col("word") != "c")),
        "repeats": pl.concat([good, good.head(3)]),
        "misfit": good.with_columns(pl.when(last).then(pl.lit("dear")).otherwise(pl.col("price").cast(pl.String)).alias("price")),
        "another type": good.with_columns(pl.col("id").cast(pl.String) + "x"),
        "lacks": good.drop("word"),
        "lossy": good.with_columns(pl.when(last).then(0.5).otherwise(pl.col("id")).alias("id")),
        "no rows": good.clear(),
    }


@pytest.mark.parametrize("name", tables())
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".tsv"])
def test_a_large_file_gets_the_answer_of_a_small_one(
    tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(CONTRACT)
    table, path = tables()[name], tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        table.write_parquet(path, row_group_size=30)
    else:
        formats.write_table(path, table)
    whole, parted = (check(tmp_path, path.name, monkeypatch, in_parts=each) for each in (False, True))
    assert parted == whole
    assert parted["ok"] is (name == "meets")


@pytest.mark.parametrize(
    "content", ["", "id,price\n1,2,3\n", "id;price\n1;2\n", "id,id\n1,2\n", "id,price,day,word\n1,2,2026-01-01\n"]
)
def test_a_file_that_cannot_be_read_is_told_alike(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(CONTRACT)
    (tmp_path / "a.csv").write_text(content)
    whole, parted = (check(tmp_path, "a.csv", monkeypatch, in_parts=each) for each in (False, True))
    assert parted == whole
    assert not parted["ok"]


def test_a_file_cut_off_in_its_middle_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(CONTRACT)
    tables()["odd"].write_parquet(tmp_path / "a.parquet", row_group_size=10)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[200:900] = bytes(700)
    (tmp_path / "a.parquet").write_bytes(content)
    found = check(tmp_path, "a.parquet", monkeypatch, in_parts=True)
    assert [each["code"] for each in found["findings"]] == ["unreadable"]
