"""Made-up rows come from the signature alone; a model answers them as it did, or it is another one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.models.golden import ROWS, Golden, made_up_records, make_golden, one_answer
from noria.models.judge_golden import compare
from noria.models.signature import Input, Kind, Signature

BOUNDS = st.one_of(st.none(), st.floats(-1e12, 1e12))


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    ends = sorted([draw(st.floats(-1e12, 1e12)), draw(st.floats(-1e12, 1e12))])
    low, high = draw(st.sampled_from([(ends[0], ends[1]), (None, None), (math.floor(ends[0]), math.ceil(ends[1]))]))
    return Input(draw(st.text("abc", min_size=1, max_size=3)), draw(st.sampled_from(Kind)), draw(st.booleans()), low, high)


@given(st.lists(inputs(), min_size=1, max_size=6, unique_by=lambda i: i.name))
def test_made_up_rows_pass_the_check_of_their_signature(entries: list[Input]) -> None:
    signature = Signature(tuple(entries), Task.REGRESSION)
    rows = made_up_records(signature)
    assert rows == made_up_records(signature)
    assert len(rows) == ROWS
    types = {Kind.STRING: str, Kind.BOOLEAN: bool, Kind.INTEGER: int, Kind.NUMBER: float}
    for entry in entries:
        values = [row[entry.name] for row in rows]
        assert (None in values) is entry.nullable
        for value in values:
            assert value is None or type(value) is types[entry.kind]
            if isinstance(value, float) and entry.low is not None and entry.high is not None:
                slack = 1e-5 * max(abs(entry.low), abs(entry.high), 1e-300)
                assert entry.low - slack <= value <= entry.high + slack


def test_rows_reach_the_ends_of_the_range_and_what_lies_between() -> None:
    rows = made_up_records(
        Signature((Input("n", Kind.NUMBER, False, -2.0, 6.0), Input("s", Kind.STRING, False)), Task.REGRESSION)
    )
    values = [row["n"] for row in rows]
    assert values[:3] == [2.0, -2.0, 6.0]
    assert len(set(values)) == ROWS
    assert rows[0]["s"] == ""


def test_a_row_without_one_firm_answer_is_left_out_and_counted() -> None:
    signature = Signature((Input("n", Kind.INTEGER, False, 0, 11),), Task.REGRESSION)
    dice = iter(range(1000))

    def answer(record: dict[str, Any]) -> float | None:
        if record["n"] == 0:
            return None  # the model raised
        return float(next(dice)) if record["n"] == 11 else record["n"] * 2.0

    found = make_golden(signature, answer)
    strange = [row for row in made_up_records(signature) if row["n"] in (0, 11)]
    assert found.left_out == len(strange) >= 2
    assert len(found.answers) == ROWS - len(strange)
    assert [row["n"] for row in found.rows()] == [[a / 2] for a in found.answers]
    assert one_answer([math.nan]) is None
    assert one_answer([0.5, 0.5]) == [0.5, 0.5]
    assert one_answer([2]) == 2.0


GOLDEN = Golden({"n": [1.0, 2.0], "s": ["", None]}, [0.25, 0.75])
CLASSES = Golden({"n": [1.0]}, [[0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("golden", "found", "said"),
    [
        (GOLDEN, [0.25, 0.75], None),
        (GOLDEN, [0.25 + 3e-5, 0.75 - 8e-5], None),
        (GOLDEN, [0.25, 0.7502], "golden row 1 was answered 0.7502, where 0.75 was due; the row: n=2.0, s=None"),
        (GOLDEN, [math.nan, 0.75], "golden row 0 was answered nan, where 0.25 was due"),
        (GOLDEN, [[0.25], 0.75], None),
        (GOLDEN, [[0.25, 0.75], 0.75], "golden row 0 was answered [0.25, 0.75]"),
        (GOLDEN, [0.25, "KeyError: 'x'"], "golden row 1 failed: KeyError: 'x', where 0.75 was due"),
        (CLASSES, [[0.0, 0.0, 1.0]], None),
        (CLASSES, [[0.0, 1.0, 0.0]], "was answered [0, 1, 0], where [0, 0, 1] was due"),
        (Golden({"n": []}, []), [], None),
        (Golden({"n": [1]}, [1e6]), [1e6 + 99], None),
        (Golden({"n": [1]}, [1e6]), [1e6 + 101], "was answered 1000101, where 1000000 was due"),
    ],
)
def test_other_answers_are_told_by_row(golden: Golden, found: list[Any], said: str | None) -> None:
    reason = compare(golden, found)
    assert (reason.outcome is Outcome.PASS) is (said is None)
    assert said is None or said in reason.text
