"""A drafted contract: it accepts what it was drafted from, reads back as it was, and says in words what was seen."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.cli.contract_text import draft_text
from noria.config.contracts import load_contract
from noria.data import judge_contract
from noria.data.draft_contract import ContractDraft, draft, key_column
from noria.data.judge_column_types import Undecided
from noria.data.table import Column
from noria.kernel.contract import Contract


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns, strict=False)


def reread(drafted: ContractDraft, folder: Path) -> Contract:
    path = folder / "c.yaml"
    path.write_text(draft_text(drafted, "a table"), encoding="utf-8")
    return load_contract(path, shown="c.yaml")


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8).filter(
    lambda name: name != "*" and not (name.startswith("^") and name.endswith("$"))
)
ROWS = 12
cells = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=ROWS, max_size=ROWS),
    st.lists(st.integers(0, 3), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.floats(), min_size=ROWS, max_size=ROWS),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.sampled_from(["a", "b", "\n", "é"]), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.text(max_size=4), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.booleans(), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.datetimes(), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.dates(), min_size=ROWS, max_size=ROWS),
    st.just([None] * ROWS),
    st.just([[1]] * ROWS),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, cells, max_size=4), st.integers(0, ROWS))
def test_a_draft_accepts_what_it_was_drafted_from_and_reads_back(
    tmp_path: Path, columns: dict[str, list[Any]], first: int
) -> None:
    table = pl.DataFrame(columns, strict=False)
    heights = (first, ROWS - first) if columns else (0,)
    drafted = draft(table, heights)
    again = reread(drafted, tmp_path)
    assert replace(again, source="", digest="") == drafted.contract
    begin = 0
    for height in heights:
        part = table.slice(begin, height)
        assert judge_contract.judge(again, part, now=None).verdict.passed, draft_text(drafted, "a table")
        begin += height


def test_a_person_reads_what_was_seen_behind_each_promise(tmp_path: Path) -> None:
    n = 300
    table = frame(
        order_id=[f"A{i}" for i in range(n)],
        amount=[2 + i * 3.65 for i in range(n - 1)] + [None],
        city=["Bonn", "Köln", "Ulm"] * 100,
        rare=["x"] * (n - 1) + ["y"],
        day=[date(2024, 1, 1 + i % 30) for i in range(n)],
        at=[datetime(2024, 1, 1)] * n,
        year=[2024] * n,
        paid=[True, True, False] * 100,
        none=[None] * n,
    )
    text = draft_text(draft(table), "orders.csv (300 rows)")
    lines = dict(line.strip().split(": ", 1) for line in text.splitlines() if ": {" in line)
    said = {name: " ".join(line.split()) for name, line in lines.items()}
    assert (
        said["order_id"] == '{type: string, nulls: never, pattern: "[A-Z][0-9]+"} # 300 different, 2 to 4 characters; names a row'
    )
    assert said["amount"] == '{type: float, nulls: "<= 6%", range: [0, 2180]} # 2 to 1,090; 0.333 % empty'
    assert said["city"] == '{type: string, nulls: never, values: ["Bonn", "Köln", "Ulm"]} # 3 different, 3 to 4 characters'
    assert said["rare"] == "{type: string, nulls: never} # 2 different, 1 characters"
    assert said["day"] == "{type: date, nulls: never} # 2024-01-01 to 2024-01-30"
    assert said["at"] == "{type: datetime, nulls: never} # 2024-01-01"
    assert said["year"] == "{type: int, nulls: never} # always 2024"
    assert said["paid"] == "{type: bool, nulls: never} # 66.7 % true"
    assert said["none"] == "{} # no value"
    assert "unique: [order_id]\nrows: {min: 30}     # 300 seen" in text


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        ([f"A{n}" for n in range(90)], "[A-Z][0-9]+"),
        ([f"{n:04}-{'xy'[n % 2]}.b" for n in range(90)], r"[0-9]{4}-[a-z]\.[a-z]"),
        (["ATL", "BOS", "ORD"] * 20 + [f"{a}{b}X" for a in "QRS" for b in "ABCDEFGH"], "[A-Z]{3}"),
        ([f"name{'x' * (n % 7)}" for n in range(90)], None),  # words of any length
        ([f"{n} €" for n in range(90)], None),
        ([f"A{n}" if n % 2 else f"{n}A" for n in range(90)], None),
        ([f"A{n}" for n in range(9)], None),  # few rows
        ([""] * 60 + ["A1"], None),
    ],
)
def test_texts_of_one_shape_get_a_pattern(texts: list[str], pattern: str | None) -> None:
    (rule,) = draft(frame(x=texts)).contract.columns
    assert rule.pattern == pattern
    assert judge_contract.judge(Contract(columns=(rule,)), frame(x=texts), now=None).verdict.passed


def test_dates_have_their_format_or_a_question() -> None:
    table = frame(a=[date(2024, 5, 13)] * 3, b=["01/02/2024"] * 3)
    doubt = Undecided("b", ("%m/%d/%Y", "%d/%m/%Y"), "01/02/2024", "f.csv")
    text = draft_text(draft(table, types={"a": Column("date", "%d.%m.%Y")}, undecided={"b": doubt}), "f.csv")
    assert 'a: {type: date, format: "%d.%m.%Y", nulls: never}' in text
    assert 'may be day or month first: say format: "%m/%d/%Y" or format: "%d/%m/%Y" in place of the type' in text


def test_each_file_by_itself_meets_the_share_of_empty_cells() -> None:
    table = frame(x=[None] * 5 + [1.5, 2.5] * 50)
    (rule,) = draft(table, (10, 95)).contract.columns
    assert rule.nulls == 1.0  # half of the first file
    (whole,) = draft(table).contract.columns
    assert whole.nulls < 0.2


@pytest.mark.parametrize(
    ("columns", "key"),
    [({"id": [1]}, None), ({"id": [1, 2]}, "id"), ({"x": ["a", "b"], "id": [1, 1]}, "x"), ({"x": [[1], [2]]}, None), ({}, None)],
)
def test_the_column_that_names_rows(columns: dict[str, list[object]], key: str | None) -> None:
    assert key_column(pl.DataFrame(columns)) == key
