"""What is said of a table without a contract: of each kind of odd column, and of tables that hold next to nothing."""

from __future__ import annotations

import polars as pl
import pytest

from noria.data.judge_defects import judge_defects

NAN, INF = float("nan"), float("inf")
CASES: list[tuple[dict[str, list[object]], dict[str, str]]] = [
    ({"a": [1, 2, 3], "b": ["x", "y", "z"]}, {}),
    ({"a": []}, {"empty": "the file has no rows"}),
    ({"a": [None, None], "b": [1, 2]}, {"all_null": "no row has a value in a"}),
    ({"a": [NAN, NAN], "b": [1, 2]}, {"all_null": "no row has a value in a"}),
    ({"a": [7, 7, None], "b": [1, 2, 3]}, {"constant": "every value is the same in a"}),
    ({"a": [7]}, {}),
    ({"a": [1.0, INF, -INF]}, {"infinite": "a: 2 values of 3 infinite"}),
    ({"a": ["1", "2.5", "-3e4", "n.a."]}, {"mixed": "a mixes types: 75 % of 4 values are numbers, the others are text"}),
    (
        {"a": ["2024-01-02", "2024-01-03 10:00", "?"]},
        {"mixed": "a mixes types: 66.7 % of 3 values are dates, the others are text"},
    ),
    ({"a": ["1", "x", "y"]}, {}),
    ({"a": ["1", "2", " ", None]}, {}),
    ({"a": [1, 2, 3], "b": [1, 2, 3]}, {"equal_columns": "b holds the same as a"}),
    ({"a": [1, 2, 3], "b": [1.0, 2.0, 3.0]}, {}),
    ({"a": [None, None, 1], "b": [None, None, 2]}, {"equal_rows": "1 of 3 rows repeat a row before them in full"}),
    ({"a": [[1], [1]], "b": [{"c": 1}, {"c": 1}]}, {}),
    ({"größe": [1, 1], "列": [2, 3]}, {"constant": "every value is the same in größe"}),
]


@pytest.mark.parametrize(("columns", "said"), CASES)
def test_defects(columns: dict[str, list[object]], said: dict[str, str]) -> None:
    found, facts = judge_defects(pl.DataFrame(columns))
    assert {each.code: each.text for each in found} == said
    assert [each.name for each in facts] == list(columns)


def test_what_a_column_holds() -> None:
    table = pl.DataFrame({"a": [1.0, NAN, None, 1.0], "b": [[1], [2], None, []]})
    _, facts = judge_defects(table)
    assert [(each.nulls, each.distinct) for each in facts] == [(2, 1), (1, None)]


def test_many_columns_are_named_in_part() -> None:
    found, _ = judge_defects(pl.DataFrame({f"c{i}": [None, 1] if i == 0 else [None, None] for i in range(9)}))
    assert found[0].text == "no row has a value in c1, c2, c3, c4, c5 and 3 more"
    assert len(found[0].columns) == 8
