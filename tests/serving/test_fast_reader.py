"""The reader of the common request says exactly what the careful one says, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.errors import NoriaError, SignatureError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.serving import invocations, protocol, v2_messages
from noria.serving.fast_reader import FastReader
from noria.serving.protocol import PredictionRequest

INPUTS = (
    Input("a", Kind.NUMBER),
    Input("n", Kind.INTEGER, nullable=False),
    Input("t:x", Kind.STRING),
    Input("b", Kind.BOOLEAN, nullable=False),
)
SIGNATURE = Signature(INPUTS, Task.BINARY, ("0", "1"), "id", "when")
ALSO = frozenset({"extra"})
READER = FastReader(SIGNATURE, ALSO, 3)
ODD = st.sampled_from([None, True, 1, 1.5, 2**63, -(2**70), "x", "a:b", 'q"\\u003a', [], {}, {"a": 1}, ["a:b"], 1e300])
GOOD = st.fixed_dictionaries(
    {
        "a": st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        "n": st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**70), 2**70).map(float) | st.sampled_from([30.0, -0.0, 30.5]),
        "t:x": st.none() | st.text(max_size=5),
        "b": st.booleans(),
    },
    optional={
        "id": st.none() | st.text(max_size=3) | st.integers() | st.sampled_from([7.0, 7.5, 1e300]),
        "when": st.sampled_from([None, "2026-01-01T00:00:00", "soon", 3]),
        "extra": ODD,
    },
)
BAD = st.dictionaries(st.sampled_from(["a", "n", "t:x", "b", "id", "when", "extra", "other", "records"]), ODD, max_size=6)
RECORD = GOOD | BAD


def careful(body: bytes) -> PredictionRequest | None:
    try:
        return protocol.read(protocol.parse(body), SIGNATURE, ALSO, 3)
    except NoriaError:
        return None


def typed(columns: dict[str, list[Any]]) -> dict[str, list[tuple[type, Any]]]:
    return {name: [(type(value), value) for value in values] for name, values in columns.items()}


def same(found: PredictionRequest, wanted: PredictionRequest | None) -> None:
    assert wanted is not None
    assert list(found.records) == wanted.records
    assert (typed(found.columns), found.keys, found.event_times) == (typed(wanted.columns), wanted.keys, wanted.event_times)


def agree(body: bytes) -> None:
    found = READER.read(body)
    if found is not None:
        same(found, careful(body))


@given(RECORD | st.lists(RECORD, max_size=4) | st.fixed_dictionaries({"records": st.lists(GOOD, max_size=3)}))
def test_it_agrees_on_any_json(value: Any) -> None:
    agree(json.dumps(value).encode())
    agree(json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=60), GOOD)
def test_it_agrees_on_any_bytes(noise: bytes, value: Any) -> None:
    agree(noise)
    body = json.dumps(value).encode()
    agree(body[: len(body) // 2] + noise + body[len(body) // 2 :])


@given(GOOD, st.sampled_from(["a", "n", "b", "t:x", "id", "extra"]), ODD)
def test_a_name_that_comes_twice_is_never_taken(value: dict[str, Any], name: str, other: Any) -> None:
    body = json.dumps(value)
    twice = f"{{{json.dumps(name)}: {json.dumps(other)}, {body[1:]}"
    if name in value:
        assert READER.read(twice.encode()) is None
    agree(twice.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1.5, "n": 3, "t:x": "a:b", "b": true}',
        b'{"a": 1, "n": 3, "t:x": null, "b": true, "id": 7, "when": "2026-01-01T10:00:00", "extra": "?"}',
        b'[{"a": null, "n": 3, "t:x": "x", "b": false}, {"b": true, "n": 0, "a": 2, "t:x": "\xc3\xa9"}]',
    ],
)
def test_what_is_common_is_read(body: bytes) -> None:
    found = READER.read(body)
    assert found is not None
    same(found, careful(body))


def taken(number: float) -> int | None:
    """What `/predict`, `/invocations` and `/v2` make of a number where a whole one is due: the same, or all refuse it."""
    row = {"a": 1.5, "n": number, "t:x": "x", "b": True}
    inputs = [
        {"name": name, "shape": [1], "datatype": datatype, "data": [row[name]]}
        for name, datatype in (("a", "FP64"), ("n", "INT64"), ("t:x", "BYTES"), ("b", "BOOL"))
    ]
    doubled = [entry | {"datatype": "FP64"} if entry["name"] == "n" else entry for entry in inputs]
    asks: list[Callable[[], PredictionRequest]] = [
        lambda: protocol.read(protocol.parse(json.dumps(row).encode()), SIGNATURE, ALSO, 3),
        lambda: invocations.read(protocol.parse(json.dumps({"instances": [row]}).encode()), SIGNATURE, ALSO, 3),
        lambda: v2_messages.read(json.dumps({"inputs": inputs}).encode(), None, SIGNATURE, ALSO, 3).ask,
        lambda: v2_messages.read(json.dumps({"inputs": doubled}).encode(), None, SIGNATURE, ALSO, 3).ask,
    ]
    found: list[int | None] = []
    for ask in asks:
        try:
            (value,) = ask().columns["n"]
            assert type(value) is int
            found.append(value)
        except SignatureError:
            found.append(None)
    assert len(set(found)) == 1, found
    quick = READER.read(json.dumps(row).encode())
    assert quick is None or typed(quick.columns)["n"] == [(int, found[0])]
    return found[0]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**65), 2**65).map(float))
def test_a_whole_number_is_one_however_it_is_written(number: float) -> None:
    """30.0 is taken as 30 where a whole number is due, and 30.5 is refused: on every path, by either reader."""
    whole = number.is_integer() and -(2**63) <= number < 2**63
    assert taken(number) == (int(number) if whole else None)


def test_a_key_and_a_label_may_be_written_so_too() -> None:
    assert protocol.key_text(7.0, "id") == "7"
    with pytest.raises(SignatureError, match=r"7\.5"):
        protocol.key_text(7.5, "id")
    assert protocol.same_class(2.0, ("1", "2"))
    assert not protocol.same_class(2.5, ("1", "2"))
