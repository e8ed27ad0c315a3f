"""A request of which some rows have no answer: the others keep their places, keys and values, whatever is missing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.serving.partial_answers import UNTOLD, access_log_facts, answered_part, spread, words
from noria.serving.protocol import PredictionRequest
from noria.serving.router import PartlyAnswered, RouterAnswer


@st.composite
def partly(draw: st.DrawFn) -> tuple[int, set[int], set[int]]:
    """So many rows, those that failed, and those that were not told from others."""
    rows = draw(st.integers(1, 30))
    states = draw(st.lists(st.sampled_from("aaafu"), min_size=rows, max_size=rows))
    return rows, {n for n, s in enumerate(states) if s == "f"}, {n for n, s in enumerate(states) if s == "u"}


def request(rows: int) -> PredictionRequest:
    records = [{"a": float(n)} for n in range(rows)]
    return PredictionRequest(records, {"a": [float(n) for n in range(rows)]}, [f"k{n}" for n in range(rows)], [None] * rows)


def answer(rows: int, failed: set[int], untold: set[int]) -> RouterAnswer:
    lacking = PartlyAnswered(tuple(sorted(failed)), tuple(sorted(untold)))
    answers: list[Any] = [{"prediction": n} for n in range(rows)]
    known: dict[str, Any] = dict.fromkeys(RouterAnswer.__struct_fields__)
    known |= {"answers": answers, "version": "v3", "variant": "champion", "lacking": lacking}
    return RouterAnswer(**known)  # type: ignore[arg-type]  # only these are read


@given(partly())
def test_what_was_answered_is_recorded_with_its_own_inputs_and_keys(case: tuple[int, set[int], set[int]]) -> None:
    rows, failed, untold = case
    ask, answered = request(rows), answer(rows, failed, untold)
    part, kept = answered_part(ask, answered)
    there = [n for n in range(rows) if n not in failed | untold]
    assert [record["a"] for record in part.records] == there
    assert list(part.columns["a"]) == there
    assert list(part.keys) == [f"k{n}" for n in there]
    assert [one["prediction"] for one in kept.answers] == there
    assert len(kept.lacking) == 0
    assert len(ask.records) == len(answered.answers) == rows  # what the client is told of is left alone


@given(partly())
def test_values_stand_in_their_rows_places(case: tuple[int, set[int], set[int]]) -> None:
    rows, failed, untold = case
    lacking = answer(rows, failed, untold).lacking
    given_values = [f"value {n}" for n in range(rows) if n not in failed | untold]
    found = spread(given_values, lacking, missing="none")
    assert found == ["none" if n in failed | untold else f"value {n}" for n in range(rows)]
    assert spread(given_values, lacking).count(None) == len(failed | untold)


@given(partly())
def test_each_missing_row_is_named_once_with_its_reason(case: tuple[int, set[int], set[int]]) -> None:
    rows, failed, untold = case
    said = words(answer(rows, failed, untold))
    assert list(said) == sorted(failed | untold)
    assert {n for n, text in said.items() if text == "release v3 could not answer this row"} == failed
    assert {n for n, text in said.items() if text == UNTOLD} == untold
    assert access_log_facts(answer(rows, failed, untold), rows) == (rows, "v3", "champion", len(failed | untold))
    assert replace(answer(rows, failed, untold), version="v4").version == "v4"
