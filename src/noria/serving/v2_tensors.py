"""Tensors of the Open Inference Protocol: from JSON or bytes to lists of Python values, to the columns of a signature, and back.

Values are finite floats, whole numbers, booleans and strings; None where JSON says null or a float is NaN. Whoever calls has
checked the shape against the limit of rows: nothing here is made larger than what came.
"""

from __future__ import annotations

import struct
from types import NoneType
from typing import Any

import msgspec
import numpy as np

from noria.kernel.errors import SignatureError
from noria.models.signature import Input, Kind
from noria.serving.protocol import whole

Values = list[Any]

FLOATS: dict[str, Any] = {"FP16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
WHOLES: dict[str, Any] = {
    f"{sign}INT{8 * size}": np.dtype(f"<{code}{size}") for sign, code in (("", "i"), ("U", "u")) for size in (1, 2, 4, 8)
}
_DTYPES = WHOLES | FLOATS | {"BOOL": np.dtype(np.uint8)}
DATATYPES = (*_DTYPES, "BYTES")
NATURAL = {Kind.NUMBER: "FP64", Kind.INTEGER: "INT64", Kind.BOOLEAN: "BOOL", Kind.STRING: "BYTES"}  # what metadata announce
_TAKES = {
    Kind.NUMBER: "FP64, or another datatype of numbers",
    Kind.INTEGER: "INT64, or another datatype of numbers",
    Kind.BOOLEAN: "BOOL",
    Kind.STRING: "BYTES",
}
_SCALARS: dict[str, frozenset[type]] = (
    {"BOOL": frozenset({bool}), "BYTES": frozenset({str})}
    | dict.fromkeys(WHOLES, frozenset({int}))
    | dict.fromkeys(FLOATS, frozenset({int, float}))
)
_BOUNDS = {name: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for name, dtype in WHOLES.items()}
_EXACT = 2**53  # whole numbers up to here are float64 numbers
_LENGTH = struct.Struct("<I")


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of a request. ``values`` are in row-major order; ``nulls``: whether one of them is None."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values
    nulls: bool


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Tensor:
    """``data`` is flat, or nested as the shape is. Raises SignatureError, which names the tensor and the place."""
    values = _flat(name, shape, data)
    types = set(map(type, values))
    nulls = NoneType in types
    types.discard(NoneType)
    if float in types and datatype in WHOLES:
        values = list(map(whole, values))
        types = set(map(type, values)) - {NoneType}
    if not types <= _SCALARS[datatype]:
        index = next(i for i, v in enumerate(values) if v is not None and type(v) not in _SCALARS[datatype])
        raise SignatureError(f"{at(name, shape, index)} must be {_word(datatype)}, not {_value_text(values[index])}")
    if datatype in WHOLES:
        _in_range(name, datatype, shape, values, nulls)
    elif datatype != "FP64" and datatype in FLOATS:
        values = _round_floats(name, datatype, shape, values, nulls)
    elif int in types:
        values = [_float(v, at(name, shape, i)) if type(v) is int else v for i, v in enumerate(values)]
    return Tensor(name, datatype, shape, values, nulls)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Tensor:
    """The binary extension: little-endian numbers, or strings with their lengths. Raises SignatureError."""
    count = _count(shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, shape, _strings(name, shape, count, raw), False)
    size = _DTYPES[datatype].itemsize
    if len(raw) != count * size:
        raise SignatureError(f"{_input(name)} has {len(raw)} bytes of data; {datatype} of shape {list(shape)} has {count * size}")
    if datatype in WHOLES:
        return Tensor(name, datatype, shape, np.frombuffer(raw, WHOLES[datatype]).tolist(), False)
    if datatype == "BOOL":
        flags = np.frombuffer(raw, np.uint8)
        if (flags > 1).any():
            index = int((flags > 1).argmax())
            raise SignatureError(f"{at(name, shape, index)} must be 0 or 1, not {flags[index]}")
        return Tensor(name, datatype, shape, flags.astype(np.bool_).tolist(), False)
    return _floats(name, datatype, shape, _widen_bf16(np.frombuffer(raw, FLOATS[datatype]), datatype))


def to_bytes(datatype: str, values: Values) -> bytes:
    """The binary form of ``values``, which fit the datatype; None is NaN."""
    if datatype == "BYTES":
        texts = [text.encode() for text in values]
        return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    if datatype == "BF16":
        return bytes(_bf16(np.array(values, dtype=np.float64)).tobytes())
    return bytes(np.array(values, dtype=_DTYPES[datatype]).tobytes())


def column(tensor: Tensor, spec: Input, values: Values) -> Values:
    """``values`` (all of the tensor's, or every k-th of a matrix) as a column of the signature.

    Numbers are converted exactly or refused. Raises SignatureError.
    """
    name, datatype = spec.name, tensor.datatype
    numeric = spec.kind in (Kind.NUMBER, Kind.INTEGER)
    if not (datatype in FLOATS or datatype in WHOLES if numeric else datatype == NATURAL[spec.kind]):
        raise SignatureError(f"{_input(name)} takes {_TAKES[spec.kind]}, not {datatype}")
    if tensor.nulls and not spec.nullable and None in values:
        raise SignatureError(f"{_input(name)}, row {values.index(None)}, must not be null (nor NaN, which means the same)")
    if spec.kind is Kind.NUMBER and datatype in WHOLES:
        return _as_floats(name, values, tensor.nulls)
    if spec.kind is Kind.INTEGER and (datatype in FLOATS or datatype == "UINT64"):
        return [v if v is None else _whole(v, name, row) for row, v in enumerate(values)]
    return values


def at(name: str, shape: tuple[int, ...], index: int) -> str:
    """``input 'x', row 3`` or ``input 'x', row 3, column 1`` for the ``index``-th value."""
    width = shape[1] if len(shape) > 1 else 1
    row, place = divmod(index, width)
    return f"{_input(name)}, row {row}" + (f", column {place}" if width > 1 else "")


def _input(name: str) -> str:
    return f"input {name[:80]!r}"


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] if len(shape) > 1 else shape[0]


def _word(datatype: str) -> str:
    words = {"BOOL": "true or false", "BYTES": "a string"}
    return words.get(datatype) or ("a whole number" if datatype in WHOLES else "a number")


def _value_text(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if type(value) is int and value.bit_length() > 64:
        return "a number beyond 64 bits"
    return repr(value)[:60]


def _flat(name: str, shape: tuple[int, ...], data: Any) -> Values:
    if type(data) is not list:
        raise SignatureError(f"{_input(name)} needs data: a list of values, or its bytes behind the JSON")
    if data and len(shape) == 2 and type(data[0]) is list:
        for row, values in enumerate(data):
            if type(values) is not list or len(values) != shape[1]:
                raise SignatureError(f"{_input(name)}, row {row}, is no list of {shape[1]} values, as shape {list(shape)} says")
        if len(data) != shape[0]:
            raise SignatureError(f"{_input(name)} has {len(data)} rows of data; shape {list(shape)} has {shape[0]}")
        return [value for values in data for value in values]
    if len(data) != _count(shape):
        raise SignatureError(f"{_input(name)} has {len(data)} values; shape {list(shape)} has {_count(shape)}")
    return data


def _in_range(name: str, datatype: str, shape: tuple[int, ...], values: Values, nulls: bool) -> None:
    low, high = _BOUNDS[datatype]
    there = [v for v in values if v is not None] if nulls else values
    if there and (min(there) < low or max(there) > high):
        index = next(i for i, v in enumerate(values) if v is not None and not low <= v <= high)
        raise SignatureError(f"{at(name, shape, index)}: {_value_text(values[index])} is no {datatype}")


def _round_floats(name: str, datatype: str, shape: tuple[int, ...], values: Values, nulls: bool) -> Values:
    """JSON has more digits than a short float keeps: the value is the one that the binary form would have had."""
    try:
        wide = np.array(values, dtype=np.float64)
    except OverflowError as error:
        index = next(i for i, v in enumerate(values) if type(v) is int and v.bit_length() > 1023)
        raise SignatureError(f"{at(name, shape, index)} is beyond {datatype}") from error
    with np.errstate(over="ignore"):
        short = _widen_bf16(_bf16(wide), datatype) if datatype == "BF16" else wide.astype(FLOATS[datatype])
    if np.isinf(short).any():
        raise SignatureError(f"{at(name, shape, int(np.isinf(short).argmax()))} is beyond {datatype}")
    found: Values = short.astype(np.float64).tolist()
    return [None if given is None else v for given, v in zip(values, found, strict=True)] if nulls else found


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise SignatureError(f"{where} is beyond FP64") from error


def _bf16(values: Any) -> Any:
    """float64 -> the upper half of float32, rounded to nearest, ties to even. NaN stays NaN."""
    with np.errstate(over="ignore"):
        bits = values.astype("<f4").view("<u4")
    upper = (bits + (0x7FFF + ((bits >> 16) & 1)).astype("<u4")) >> 16
    return np.where(np.isnan(values), 0x7FC0, upper).astype("<u2")


def _widen_bf16(values: Any, datatype: str) -> Any:
    return (values.astype("<u4") << 16).view("<f4") if datatype == "BF16" else values


def _floats(name: str, datatype: str, shape: tuple[int, ...], values: Any) -> Tensor:
    found: Values = values.tolist()
    if np.isfinite(values).all():
        return Tensor(name, datatype, shape, found, False)
    infinite = np.isinf(values)
    if infinite.any():
        raise SignatureError(f"{at(name, shape, int(infinite.argmax()))} is not finite")
    return Tensor(name, datatype, shape, [None if v != v else v for v in found], True)


def _strings(name: str, shape: tuple[int, ...], count: int, raw: memoryview) -> Values:
    if len(raw) < count * 4:
        raise SignatureError(f"{_input(name)} has {len(raw)} bytes of data; {count} strings with their lengths have more")
    whole, size = bytes(raw), len(raw)
    found: Values = []
    place = 0
    for index in range(count):
        start = place + 4
        place = start + int.from_bytes(whole[place:start], "little")
        if start > size or place > size:
            raise SignatureError(f"{at(name, shape, index)} ends beyond the data")
        try:
            found.append(whole[start:place].decode())
        except UnicodeDecodeError as error:
            raise SignatureError(f"{at(name, shape, index)} is not UTF-8") from error
    if place != size:
        raise SignatureError(f"{_input(name)} has {size - place} bytes of data after its last string")
    return found


def _as_floats(name: str, values: Values, nulls: bool) -> Values:
    there = [v for v in values if v is not None] if nulls else values
    if there and (max(there) > _EXACT or min(there) < -_EXACT):
        for row, v in enumerate(values):
            if v is not None and int(float(v)) != v:
                raise SignatureError(f"{_input(name)}, row {row}: {v} cannot be a 64-bit float without loss")
    return [v if v is None else float(v) for v in values] if nulls else list(map(float, values))


def _whole(value: float, name: str, row: int) -> int:
    if int(value) != value or not -(2**63) <= value < 2**63:
        raise SignatureError(f"{_input(name)}, row {row}, must be a whole number of 64 bits, not {value!r}")
    return int(value)
