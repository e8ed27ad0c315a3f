"""The tensors of the Open Inference Protocol, against NumPy and ml_dtypes, and against noise."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from dataclasses import dataclass
from typing import Any, cast

import ml_dtypes
import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from noria.kernel.errors import RequestError, SignatureError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.serving import protocol, v2_messages, v2_tensors
from noria.serving.router import RouterAnswer
from noria.serving.runtime import LoadedRelease

TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"{s}INT{n}": np.dtype(f"{s}INT{n}".lower()) for s in ("", "U") for n in (8, 16, 32, 64)},
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
}
SIGNATURE = Signature(
    (
        Input("x", Kind.NUMBER),
        Input("n", Kind.INTEGER, nullable=False),
        Input("s", Kind.STRING),
        Input("b", Kind.BOOLEAN),
    ),
    Task.MULTICLASS,
    ("ash", "beech", "7"),
    "id",
    "when",
)
NUMBERS = Signature((Input("x", Kind.NUMBER), Input("y", Kind.NUMBER), Input("n", Kind.INTEGER)), Task.REGRESSION)


def values_of(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text()
    if "INT" in datatype:
        limits = np.iinfo(TYPES[datatype])
        return st.integers(int(limits.min), int(limits.max))
    width = {"FP64": 64, "FP16": 16}.get(datatype, 32)
    finite = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return finite.map(lambda v: float(ml_dtypes.bfloat16(v))).filter(math.isfinite) if datatype == "BF16" else finite


def reference_bytes(datatype: str, values: list[Any]) -> bytes:
    """As a client's own NumPy writes them."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values)
    return np.array(values, dtype=TYPES[datatype]).tobytes()


@pytest.mark.parametrize("datatype", v2_tensors.DATATYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_every_datatype_comes_and_goes_unchanged(datatype: str, data: Any) -> None:
    values = data.draw(st.lists(values_of(datatype), min_size=1, max_size=9))
    shape = (len(values),)
    raw = reference_bytes(datatype, values)
    assert v2_tensors.to_bytes(datatype, values) == raw
    binary = v2_tensors.from_bytes("t", datatype, shape, memoryview(raw))
    text = v2_tensors.from_json("t", datatype, shape, msgspec.json.decode(msgspec.json.encode(values)))
    nested = v2_tensors.from_json("t", datatype, (len(values), 1), [[v] for v in values])
    for found in (binary, text, nested):
        assert found.values == values
        assert [type(v) for v in found.values] == [type(v) for v in values]
        assert not found.nulls
    assert len(raw) == len(v2_tensors.to_bytes(datatype, found.values))


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6), st.sampled_from(["FP16", "BF16", "FP32"])
)
def test_a_short_float_in_json_is_rounded_as_its_binary_form_is(values: list[float], datatype: str) -> None:
    with np.errstate(over="ignore"):
        expected = np.array(values).astype(TYPES[datatype]).astype(np.float64)
    if np.isfinite(expected).all():
        assert v2_tensors.from_json("t", datatype, (len(values),), values).values == expected.tolist()
    else:
        with pytest.raises(SignatureError, match=f"input 't', row .* beyond {datatype}"):
            v2_tensors.from_json("t", datatype, (len(values),), values)


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_nan_is_null_and_infinity_is_refused(datatype: str) -> None:
    raw = np.array([1.5, math.nan], dtype=TYPES[datatype]).tobytes()
    found = v2_tensors.from_bytes("t", datatype, (2,), memoryview(raw))
    assert (found.values, found.nulls) == ([1.5, None], True)
    assert v2_tensors.from_json("t", datatype, (2,), [1.5, None]) == found
    raw = np.array([1.5, -math.inf], dtype=TYPES[datatype]).tobytes()
    with pytest.raises(SignatureError, match="input 't', row 1 is not finite"):
        v2_tensors.from_bytes("t", datatype, (2,), memoryview(raw))


@given(st.sampled_from(v2_tensors.DATATYPES), st.integers(1, 5), st.integers(0, 3), st.binary(max_size=60))
def test_any_bytes_are_a_tensor_or_refused(datatype: str, rows: int, width: int, raw: bytes) -> None:
    shape = (rows, width) if width else (rows,)
    try:
        found = v2_tensors.from_bytes("t", datatype, shape, memoryview(raw))
    except RequestError as error:
        assert "'t'" in error.message  # noqa: PT017 - or it is read
    else:
        assert len(found.values) == rows * (width or 1)
        again = v2_tensors.from_bytes("t", datatype, shape, memoryview(v2_tensors.to_bytes(datatype, found.values)))
        assert again == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@given(st.sampled_from(v2_tensors.DATATYPES), st.integers(1, 3), st.integers(0, 2), JSON | st.lists(JSON, max_size=4))
def test_any_json_is_a_tensor_or_refused(datatype: str, rows: int, width: int, data: Any) -> None:
    shape = (rows, width) if width else (rows,)
    try:
        found = v2_tensors.from_json("t", datatype, shape, data)
    except RequestError as error:
        assert "'t'" in error.message  # noqa: PT017 - or it is read
    else:
        assert len(found.values) == rows * (width or 1)
        assert all(v is None or type(v) is not float or math.isfinite(v) for v in found.values)


# -- whole numbers into floats and back


@given(st.sampled_from(["INT64", "UINT64", "INT32", "UINT8"]), st.data())
def test_whole_numbers_become_floats_exactly_or_not_at_all(datatype: str, data: Any) -> None:
    values = data.draw(st.lists(values_of(datatype), min_size=1, max_size=4))
    tensor = v2_tensors.from_json("x", datatype, (len(values),), values)
    if all(int(float(v)) == v for v in values):
        found = v2_tensors.column(tensor, SIGNATURE.inputs[0], tensor.values)
        assert found == values
        assert {type(v) for v in found} == {float}
    else:
        with pytest.raises(SignatureError, match=r"input 'x', row .* without loss"):
            v2_tensors.column(tensor, SIGNATURE.inputs[0], tensor.values)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70).map(float), min_size=1, max_size=4)
)
def test_floats_become_whole_numbers_exactly_or_not_at_all(values: list[float]) -> None:
    tensor = v2_tensors.from_json("n", "FP64", (len(values),), values)
    if all(v.is_integer() and -(2**63) <= v < 2**63 for v in values):
        found = v2_tensors.column(tensor, SIGNATURE.inputs[1], tensor.values)
        assert found == values
        assert {type(v) for v in found} == {int}
    else:
        with pytest.raises(SignatureError, match=r"input 'n', row .* whole number of 64 bits"):
            v2_tensors.column(tensor, SIGNATURE.inputs[1], tensor.values)


# -- requests


def request(
    inputs: list[dict[str, Any]], raw: bytes = b"", signature: Signature = SIGNATURE, **more: Any
) -> v2_messages.InferRequest:
    head = json.dumps({"inputs": inputs} | more).encode()
    return v2_messages.read(head + raw, len(head) if raw else None, signature, frozenset(), 100)


def good(rows: int) -> list[dict[str, Any]]:
    return [
        {"name": "x", "shape": [rows], "datatype": "FP64", "data": [0.5] * rows},
        {"name": "n", "shape": [rows, 1], "datatype": "INT32", "data": [3] * rows},
        {"name": "s", "shape": [rows], "datatype": "BYTES", "data": ["a:b"] * rows},
        {"name": "b", "shape": [rows], "datatype": "BOOL", "data": [True] * rows},
    ]


def test_columns_keys_and_times_are_read() -> None:
    extra = [
        {"name": "id", "shape": [2], "datatype": "INT64", "data": [5, 6]},
        {"name": "when", "shape": [2], "datatype": "BYTES", "data": ["2026-01-01T10:00:00", None]},
    ]
    found = request(good(2) + extra, id="q").ask
    assert found.columns == {"x": [0.5] * 2, "n": [3] * 2, "s": ["a:b"] * 2, "b": [True] * 2}
    assert (found.keys, found.event_times) == (["5", "6"], ["2026-01-01T10:00:00", None])
    assert list(found.records)[1] == {"x": 0.5, "n": 3, "s": "a:b", "b": True, "id": 6, "when": None}


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_one_matrix_is_all_inputs_in_their_order(data: Any) -> None:
    found = request([{"name": "input-0", "shape": [2, 3], "datatype": "FP32", "data": data}], signature=NUMBERS).ask
    assert found.columns == {"x": [1.0, 4.0], "y": [2.0, 5.0], "n": [3, 6]}
    assert type(found.columns["n"][0]) is int


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


def change(index: int, **fields: Any) -> list[dict[str, Any]]:
    entries = good(2)
    entries[index] = {k: v for k, v in (entries[index] | fields).items() if v != "gone"}
    return entries


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "no inputs"),
        ({"x": 1}, "'inputs' must be a list of objects"),
        ([1], "'inputs' must be a list of objects"),
        (good(2)[:3], "input 'b' is missing"),
        (good(2) + good(2)[:1], "input 'x' comes twice"),
        (change(0, name="whem"), "'whem' is not an input; did you mean 'when'?"),
        (change(0, name=3), "inputs[0] needs a name"),
        (change(0, datatype="FLOAT"), "input 'x' has datatype 'FLOAT'"),
        (change(0, datatype="BYTES", data=["a", "b"]), "input 'x' takes FP64"),
        (change(0, datatype="BOOL", data=[True, False]), "input 'x' takes FP64"),
        (change(3, datatype="INT8", data=[0, 1]), "input 'b' takes BOOL, not INT8"),
        (change(0, shape="gone"), "input 'x' needs a shape"),
        (change(0, shape=[]), "input 'x' needs a shape"),
        (change(0, shape=[-1]), "input 'x' needs a shape"),
        (change(0, shape=[True]), "input 'x' needs a shape"),
        (change(0, shape=[2, 1, 1]), "input 'x' needs a shape"),
        (change(0, shape=[0], data=[]), "input 'x' has no rows"),
        (change(0, shape=[101]), "101 rows are more than 100"),
        (change(0, shape=[10**30]), "rows are more than 100"),
        (change(0, shape=[1, 2]), "input 'x' has shape [1, 2]; it takes [1] or [1, 1]"),
        (change(1, shape=[1], data=[3]), "input 'n' has 1 rows; the first input has 2"),
        (change(0, data="gone"), "input 'x' needs data"),
        (change(0, data=[1.0]), "input 'x' has 1 values; shape [2] has 2"),
        (change(0, data=[[1.0], [2.0]]), "input 'x', row 0 must be a number, not a list"),
        (change(0, shape=[2, 1], data=[[1.0], [2.0, 3.0]]), "input 'x', row 1, is no list of 1 values"),
        (change(0, data=[1.0, "2"]), "input 'x', row 1 must be a number, not '2'"),
        (change(0, data=[1.0, True]), "input 'x', row 1 must be a number, not True"),
        (change(0, data=[1.0, 10**400]), "input 'x', row 1 is beyond FP64"),
        (change(1, data=[1, 2**31]), "input 'n', row 1: 2147483648 is no INT32"),
        (change(1, data=[1, 2.5]), "input 'n', row 1 must be a whole number, not 2.5"),
        (change(1, data=[None, 2]), "input 'n', row 0, must not be null"),
        (change(2, data=["a", 7]), "input 's', row 1 must be a string, not 7"),
        (change(0, parameters=[]), "input 'x': parameters must be an object"),
        (change(0, parameters={"binary_data_size": 16}), "binary_data_size must be"),
        (change(0, parameters={"binary_data_size": -1}), "binary_data_size must be"),
        (change(0, parameters={"binary_data_size": True}), "binary_data_size must be"),
        (change(0, parameters={"shared_memory_region": "r"}), "shared memory is not offered"),
        (change(2, parameters={"content_type": "base64"}), "base64 is not offered"),
        ([*good(2), tensor("id", "FP64", [1.5, 2])], "input 'id', row 0, must be a string"),
        ([*good(2), tensor("when", "BYTES", ["noon", "x"])], "input 'when', row 0, must be a time"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(inputs: Any, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(inputs)
    assert words in caught.value.message


def test_a_matrix_of_another_width_is_named() -> None:
    with pytest.raises(SignatureError, match="input 'm' has 2 columns; the model has 3 inputs"):
        request([{"name": "m", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}], signature=NUMBERS)
    with pytest.raises(SignatureError, match="'m' is not an input"):  # text cannot stand in a matrix
        request([{"name": "m", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}])


def test_bytes_that_belong_to_nobody_are_refused() -> None:
    inputs = change(0, data="gone", parameters={"binary_data_size": 16})
    assert request(inputs, struct.pack("<2d", 1.5, math.nan)).ask.columns["x"] == [1.5, None]
    with pytest.raises(RequestError, match="1 bytes after the JSON belong to no input"):
        request(inputs, b"x" * 17)
    with pytest.raises(RequestError, match=r"binary_data_size must be .* 15 are left"):
        request(inputs, b"x" * 15)
    with pytest.raises(RequestError, match="both data and binary_data_size"):
        request(change(0, parameters={"binary_data_size": 16}), b"x" * 16)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"id": 3}, "'id' must be a string"),
        ({"outputs": [{"name": "odds"}]}, "output 'odds' is not one of prediction, probabilities"),
        ({"outputs": [{"name": "prediction"}] * 2}, "output 'prediction' comes twice"),
        ({"outputs": [{}]}, "output 'None' is not one of"),
        ({"outputs": ["prediction"]}, "'outputs' must be a list of objects"),
        ({"outputs": [{"name": "prediction", "parameters": {"classification": 3}}]}, "classification"),
        ({"outputs": [{"name": "prediction", "parameters": 1}]}, "parameters must be an object"),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": 1}}]}, "binary_data must be true or false"),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output must be true or false"),
        ({"parameters": "yes"}, "parameters must be an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_rest_is_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(good(1), **more)
    assert words in caught.value.message


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "n", "s", "b", "id", "when", "m"]) | JSON,
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "datatype": st.sampled_from(v2_tensors.DATATYPES) | JSON,
        "data": st.lists(JSON, max_size=3) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | JSON}) | JSON,
    },
)


MORE = st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), JSON)


@settings(max_examples=300)
@given(st.lists(ENTRY, max_size=3), MORE, st.binary(max_size=40), st.booleans())
def test_any_request_is_read_or_refused(entries: list[Any], more: dict[str, Any], raw: bytes, numbers: bool) -> None:
    head = json.dumps({"inputs": entries} | more).encode()
    for split in (None, len(head), 3, 10_000):
        with contextlib.suppress(RequestError):
            v2_messages.read(head + raw, split, NUMBERS if numbers else SIGNATURE, frozenset(["also"]), 100)


@given(st.binary(max_size=80), st.integers(0, 100))
def test_noise_is_refused(body: bytes, split: int) -> None:
    assume(not body.startswith(b"{"))
    with pytest.raises(RequestError):
        v2_messages.read(body, split, SIGNATURE, frozenset(), 100)


# -- answers


@dataclass(frozen=True)
class Release:
    signature: Signature


def test_an_answer_of_several_classes_in_either_form() -> None:
    scores = [[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]
    answered = RouterAnswer(scores, cast(LoadedRelease, Release(SIGNATURE)), "v2", "champion", 0.001)
    rows = protocol.outputs(SIGNATURE, scores)
    body, head = v2_messages.write(request(good(2)), "trees", answered, rows, ["p-1", "p-2"], {})
    assert head is None
    assert json.loads(body) == {
        "model_name": "trees",
        "model_version": "v2",
        "parameters": {"release": "v2", "variant": "champion", "prediction_ids": "p-1,p-2"},
        "outputs": [
            {"name": "prediction", "datatype": "BYTES", "shape": [2], "data": ["beech", "ash"]},
            {"name": "probabilities", "datatype": "FP64", "shape": [2, 3], "data": [0.2, 0.7, 0.1, 0.5, 0.1, 0.4]},
        ],
    }
    wanted = [{"name": "probabilities"}, {"name": "prediction", "parameters": {"binary_data": True}}]
    body, head = v2_messages.write(request(good(2), outputs=wanted), "trees", answered, rows, ["p-1", "p-2"], {})
    assert body[head:] == b"\x05\0\0\0beech\x03\0\0\0ash"
    assert [o.get("parameters") for o in json.loads(body[:head])["outputs"]] == [{"binary_data_size": 16}, None]
    announced = v2_messages.metadata("trees", ["v2"], SIGNATURE, "onnx_onnxv1")["outputs"]
    assert [(o["name"], o["datatype"], o["shape"]) for o in announced] == [
        ("prediction", "BYTES", [-1]),
        ("probabilities", "FP64", [-1, 3]),
    ]


@given(st.lists(st.text(max_size=6), min_size=1, max_size=5), st.integers(-4, 4))
def test_strings_end_where_the_data_ends(texts: list[str], shift: int) -> None:
    raw = reference_bytes("BYTES", texts)
    cut = raw[:shift] if shift < 0 else raw + b"\0" * shift
    if shift == 0:
        assert v2_tensors.from_bytes("t", "BYTES", (len(texts),), memoryview(cut)).values == texts
    else:
        with pytest.raises(SignatureError, match="input 't'"):
            v2_tensors.from_bytes("t", "BYTES", (len(texts),), memoryview(cut))
