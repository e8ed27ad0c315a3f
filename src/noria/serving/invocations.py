"""What clients of MLflow's scoring server send to `/invocations`, as records: `dataframe_split`, `dataframe_records`,
`instances` and `inputs`. The answer is ``{"predictions": [...]}``, one prediction for each row.
"""

from __future__ import annotations

from typing import Any

from noria.kernel.errors import BadBodyError, SignatureError, TooLargeError
from noria.kernel.words import plural
from noria.models.signature import Signature
from noria.serving import protocol
from noria.serving.problems import NAME_LENGTH
from noria.serving.protocol import PredictionRequest, Record

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
SHAPE = 'Send {"dataframe_split": {"columns": [...], "data": [[...]]}}, or the same as dataframe_records, instances or inputs.'


def read(value: Any, signature: Signature, also: frozenset[str], max_rows: int) -> PredictionRequest:
    """A parsed body, checked against the champion's signature. Raises BadBodyError, SignatureError, TooLargeError."""
    if type(value) is not dict or len(forms := [form for form in FORMS if form in value]) != 1:
        raise BadBodyError(f"the body must be an object with one of {', '.join(FORMS)}", hint=SHAPE)
    (form,) = forms
    if value.get("params"):
        raise BadBodyError("params are not offered", hint="The release's parameters were fixed when it was trained.")
    unknown = next((name for name in value if name not in (form, "params", "signature_name")), None)
    if unknown is not None:
        raise BadBodyError(f"{unknown[:NAME_LENGTH]!r} is not allowed beside {form}", hint=SHAPE)
    names = [entry.name for entry in signature.inputs]
    records = _split(value[form], names) if form == "dataframe_split" else _rows(value[form], form, names, max_rows)
    if not records:
        raise SignatureError(f"{form} has no rows")
    if len(records) > max_rows:
        raise TooLargeError(f"{len(records)} records are more than {max_rows}", hint="Send them in several requests.")
    return protocol.ask_of(records, signature, also)


def _split(value: Any, names: list[str]) -> list[Record]:
    """``{"columns": ["a", "b"], "data": [[1, 2]]}``, as pandas writes it; without columns, in the order of the inputs."""
    data = value.get("data") if type(value) is dict else None
    if type(data) is not list:
        raise BadBodyError("dataframe_split must be an object with columns and data", hint=SHAPE)
    columns = value.get("columns", names)
    if type(columns) is not list or not all(type(name) is str for name in columns):
        raise BadBodyError("dataframe_split.columns must be a list of names")
    if len(set(columns)) < len(columns):
        twice = next(name for place, name in enumerate(columns) if name in columns[:place])
        raise SignatureError(f"dataframe_split.columns names {twice[:NAME_LENGTH]!r} twice")
    return _records_from_rows(data, columns, "dataframe_split.data")


def _rows(value: Any, form: str, names: list[str], max_rows: int) -> list[Record]:
    """A list of records, of rows in the order of the inputs, or of the one input's values; or columns."""
    if type(value) is dict and form != "dataframe_records":
        return _from_columns(value, form, max_rows)
    if type(value) is not list:
        raise BadBodyError(f"{form} must be a list of rows", hint=SHAPE)
    kinds = set(map(type, value))
    if kinds <= {dict}:
        return value
    if form != "dataframe_records" and kinds == {list}:
        return _records_from_rows(value, names, form)
    if form != "dataframe_records" and len(names) == 1 and not kinds & {list, dict}:
        return [{names[0]: one} for one in value]
    raise BadBodyError(f"{form} must be a list of objects" + ("" if form == "dataframe_records" else ", or of lists of values"))


def _records_from_rows(rows: list[Any], names: list[str], where: str) -> list[Record]:
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != len(names):
            raise SignatureError(f"{where}[{index}] must be a list of {plural(len(names), 'value')}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _from_columns(value: Record, form: str, max_rows: int) -> list[Record]:
    """``{"a": [1, 2], "b": [3, 4]}``, or one row as ``{"a": 1, "b": 3}``."""
    kinds = {type(column) is list for column in value.values()}
    if len(kinds) != 1:
        raise SignatureError(f"{form} must hold columns of one length, or one value for each input")
    return protocol.records_from_columns(value, max_rows, form) if kinds == {True} else [value]
