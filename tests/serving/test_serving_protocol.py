"""The protocol without a server: properties that must hold for every body."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.errors import BadBodyError, RequestError, SignatureError, TooLargeError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.serving import protocol

SIGNATURE = Signature(
    inputs=(
        Input("s", Kind.STRING),
        Input("x", Kind.NUMBER),
        Input("n", Kind.INTEGER, nullable=False),
        Input("b", Kind.BOOLEAN),
    ),
    task=Task.MULTICLASS,
    classes=("ash", "beech", "7"),
    key="id",
)
FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
GOOD = st.fixed_dictionaries(
    {
        "s": st.none() | st.text(),
        "x": st.none() | FINITE,
        "n": st.integers(-(2**63), 2**63 - 1),
        "b": st.none() | st.booleans(),
    },
    optional={"id": st.none() | st.integers() | st.text(min_size=1, max_size=40)},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("sxnbidq") | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=12,
)


def _read(body: bytes) -> protocol.PredictionRequest:
    return protocol.read(protocol.parse(body), SIGNATURE, frozenset(), 100)


@given(st.lists(GOOD, min_size=1, max_size=4))
def test_good_records_come_through_unchanged(records: list[dict[str, Any]]) -> None:
    for wrapped in (records, {"records": records}):
        ask = _read(json.dumps(wrapped).encode())
        assert ask.columns == {name: [r[name] for r in records] for name in ("s", "x", "n", "b")}
        assert ask.keys == [None if r.get("id") is None else str(r["id"]) for r in records]


@given(st.lists(GOOD.map(lambda r: {"id": None} | r), min_size=1, max_size=4))
def test_columns_are_the_same_as_records(records: list[dict[str, Any]]) -> None:
    columns = {name: [r[name] for r in records] for name in records[0]}
    assert _read(json.dumps({"columns": columns}).encode()) == _read(json.dumps(records).encode())


@pytest.mark.parametrize(
    ("columns", "kind", "words"),
    [
        ([], BadBodyError, "'columns' must be an object of lists, not a list"),
        ({"s": "x"}, BadBodyError, "columns.s must be a list, not a string"),
        ({}, SignatureError, "no records"),
        ({"s": [], "x": [], "n": [], "b": []}, SignatureError, "no records"),
        ({"s": ["x"], "x": [1], "n": [1, 2], "b": [None]}, SignatureError, "columns.n has 2 values, columns.s has 1"),
        ({"s": ["x"], "x": [1], "n": [1]}, SignatureError, "records[0].b is missing"),
        ({"s": ["x"] * 2, "x": [1, "2"], "n": [1, 2], "b": [None] * 2}, SignatureError, "records[1].x must be a number"),
        ({"s": ["x"] * 101, "x": [1], "n": [1], "b": [None]}, TooLargeError, "101 records are more than 100"),
    ],
)
def test_wrong_columns_are_named(columns: Any, kind: type[RequestError], words: str) -> None:
    with pytest.raises(kind) as caught:
        _read(json.dumps({"columns": columns}).encode())
    assert words in caught.value.message


def test_an_input_may_be_called_columns() -> None:
    signature = Signature((Input("columns", Kind.NUMBER),), Task.REGRESSION)
    assert protocol.read({"columns": 3.5}, signature, frozenset(), 10).columns == {"columns": [3.5]}


@settings(max_examples=300)
@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_body_is_read_or_refused_by_a_request_error(body: bytes) -> None:
    try:
        ask = _read(body)
    except RequestError:
        pass
    else:
        assert all(len(values) == len(ask.records) for values in ask.columns.values())
        assert all(v is None or math.isfinite(v) for v in ask.columns["x"])
        assert all(type(v) is int for v in ask.columns["n"])


@given(st.text(alphabet=':"{},\\ab', max_size=12))
def test_colons_in_text_are_no_duplicates(text: str) -> None:
    body = json.dumps({"s": text, "x": 1, "n": 1, "b": None}).encode()
    assert _read(body).columns["s"] == [text]


@given(GOOD, st.sampled_from("sxnb"), st.text(alphabet=":,", max_size=3))
def test_a_name_given_twice_is_refused_wherever_colons_stand(record: dict[str, Any], name: str, text: str) -> None:
    body = json.dumps(record | {"s": text}).encode()
    again = b"," + json.dumps({name: record[name]}).encode()[1:]
    with pytest.raises(BadBodyError, match=f"names '{name}' twice"):
        protocol.parse(body[:-1] + again)


def test_every_problem_is_named_with_its_record() -> None:
    with pytest.raises(SignatureError) as caught:
        protocol.columns([{"s": "a", "x": 1, "n": 1, "b": True}, {"s": 1, "x": "b", "n": 1.5, "q": 0}], SIGNATURE)
    for words in (
        "records[1].s must be",
        "records[1].x must be",
        "records[1].n must be",
        "records[1].b is missing",
        "records[1].q",
    ):
        assert words in caught.value.message


def test_multiclass_answers_the_largest_probability() -> None:
    (one, two) = protocol.outputs(SIGNATURE, [[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    assert one == {"prediction": "beech", "probabilities": {"ash": 0.2, "beech": 0.5, "7": 0.3}}
    assert two["prediction"] == 7


@pytest.mark.parametrize(
    ("label", "classes", "same"),
    [
        (1, ("0", "1"), True),
        (True, ("0", "1"), True),
        (1.0, ("0", "1"), True),
        (0, ("False", "True"), True),
        (2, ("0", "1"), False),
        ("yes", ("no", "yes"), True),
        ("Yes", ("no", "yes"), False),
    ],
)
def test_labels_name_classes_however_they_are_written(label: Any, classes: tuple[str, ...], same: bool) -> None:
    assert protocol.same_class(label, classes) is same
