"""The Open Inference Protocol's messages: an inference request read against a signature, an answer written in its form."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from noria.kernel.errors import BadBodyError, SignatureError, TooLargeError
from noria.kernel.task_definition import Output
from noria.kernel.words import plural
from noria.models.signature import Kind, Signature
from noria.serving import protocol, v2_tensors
from noria.serving.problems import SHOWN, Problems, nearest, render_names
from noria.serving.protocol import PredictionRequest, Record
from noria.serving.router import WHOLE, PartlyAnswered, RouterAnswer
from noria.serving.v2_tensors import Tensor, Values

PREDICT = "predict"
_encode = msgspec.json.Encoder().encode


class OutputTensor(msgspec.Struct, frozen=True):
    """A tensor that answers. ``width`` is 0 for shape [n], else of shape [n, width]: the probabilities of all classes."""

    name: str
    datatype: str
    width: int = 0


class InferRequest(msgspec.Struct, frozen=True):
    """An inference request that the release can read."""

    ask: PredictionRequest
    id: str | None
    wanted: dict[str, bool]  # output -> whether in binary form; in the order asked for


class ColumnRecords(Sequence[Record]):
    """Records over columns, made one by one when somebody asks: hardly anybody does."""

    def __init__(self, count: int, columns: dict[str, Values]) -> None:
        self._count = count
        self._columns = columns

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(self._count))

    def __getitem__(self, index: Any) -> Any:
        return {name: values[index] for name, values in self._columns.items()}


def outputs_of(signature: Signature) -> list[OutputTensor]:
    """What answers a request: the same names as in `/predict`."""
    return [_tensor(signature, name, output) for name, output in signature.task.definition.outputs.items()]


def _tensor(signature: Signature, name: str, output: Output) -> OutputTensor:
    if output is not Output.CLASS:
        return OutputTensor(name, "FP64", len(signature.classes) if output is Output.EACH else 0)
    kinds = set(map(type, protocol.labels_of(signature)))
    return OutputTensor(name, "INT64" if kinds == {int} else "BOOL" if kinds == {bool} else "BYTES")


def aliases_of(signature: Signature) -> list[OutputTensor]:
    """What MLServer calls the outputs of a scikit-learn model: answered to who asks for them by name."""
    prediction = OutputTensor(PREDICT, outputs_of(signature)[0].datatype)
    if not signature.task.definition.has_classes:
        return [prediction]
    return [prediction, OutputTensor("predict_proba", "FP64", len(signature.classes))]


# -- requests


def read(body: bytes, head_bytes: int | None, signature: Signature, also: frozenset[str], max_rows: int) -> InferRequest:
    """``head_bytes``: the length of the JSON part when tensors follow it in binary form. Columns in ``also`` may be there too.

    Raises BadBodyError, SignatureError (which names the tensor), TooLargeError.
    """
    if head_bytes is not None and head_bytes > len(body):
        raise BadBodyError(f"Inference-Header-Content-Length says {head_bytes} bytes; the body has {len(body)}")
    head = protocol.parse(body if head_bytes is None else body[:head_bytes])
    if type(head) is not dict:
        raise BadBodyError("the request must be an object with inputs")
    entries = _objects(head, "inputs")
    if not entries:
        raise SignatureError("the request has no inputs", hint=_takes(signature))
    reader = _TensorReader(signature, also, max_rows, memoryview(b"") if head_bytes is None else memoryview(body)[head_bytes:])
    ask = reader.read(entries)
    return InferRequest(ask, _id(head), _wanted_outputs(head, outputs_of(signature), aliases_of(signature)))


class _TensorReader:
    """Takes tensor by tensor, and says at the end what is wrong with all of them."""

    def __init__(self, signature: Signature, also: frozenset[str], max_rows: int, raw: memoryview) -> None:
        self._signature = signature
        self._specs = {i.name: i for i in signature.inputs}
        self._optional = {n for n in (signature.key, signature.event_time) if n} | also
        self._matrix = all(i.kind in (Kind.NUMBER, Kind.INTEGER) for i in signature.inputs)
        self._max_rows = max_rows
        self._raw = raw
        self._place = 0
        self._rows: int | None = None
        self._found: dict[str, Values] = {}  # as sent
        self._columns: dict[str, Values] = {}  # as the signature wants them
        self._problems = Problems()

    def read(self, entries: list[dict[str, Any]]) -> PredictionRequest:
        for index, entry in enumerate(entries):
            try:
                self._take(entry, index)
            except SignatureError as error:
                self._problems.add(partial(str, error.message))
            if self._problems.is_full:
                raise protocol.refusal(self._problems, self._signature)
        if self._place != len(self._raw):
            left = len(self._raw) - self._place
            raise BadBodyError(f"{left} bytes after the JSON belong to no input; binary_data_size says how many each input has")
        if not self._problems:
            for name in self._specs:
                if name not in self._columns:
                    self._problems.add(partial("input {!r} is missing".format, name[:80]))
        if self._problems:
            raise protocol.refusal(self._problems, self._signature)
        assert self._rows is not None
        columns = {name: self._columns[name] for name in self._specs}
        return PredictionRequest(
            ColumnRecords(self._rows, self._found), columns, self._texts(self._signature.key, protocol.key_text), self._times()
        )

    def _take(self, entry: dict[str, Any], index: int) -> None:
        name, datatype = _text(entry, "name", index), _text(entry, "datatype", index)
        part = self._part(entry, name)
        if datatype not in v2_tensors.DATATYPES:
            raise SignatureError(
                f"input {name[:80]!r} has datatype {datatype[:20]!r}, not one of {', '.join(v2_tensors.DATATYPES)}"
            )
        shape = self._shape(entry, name)
        width = self._width(name, shape)
        if len(shape) == 2 and shape[1] != width:
            raise SignatureError(f"input {name!r} has shape {list(shape)}; it takes [{shape[0]}] or [{shape[0]}, 1]")
        if part is None:
            tensor = v2_tensors.from_json(name, datatype, shape, entry.get("data"))
        else:
            tensor = v2_tensors.from_bytes(name, datatype, shape, part)
        self._keep(tensor)

    def _part(self, entry: dict[str, Any], name: str) -> memoryview | None:
        """The input's bytes behind the JSON; None when its data is in the JSON."""
        parameters = _parameters(entry, f"input {name[:80]!r}")
        if not parameters:
            return None
        if "shared_memory_region" in parameters:
            raise BadBodyError(f"input {name[:80]!r}: shared memory is not offered; send the data")
        if parameters.get("content_type") == "base64":
            raise BadBodyError(f"input {name[:80]!r}: base64 is not offered; send the text, or its bytes in binary form")
        size = parameters.get("binary_data_size")
        if size is None:
            return None
        if type(size) is not int or size < 0 or self._place + size > len(self._raw):
            left = len(self._raw) - self._place
            raise BadBodyError(
                f"input {name[:80]!r}: binary_data_size must be a whole number of bytes that follow the JSON; {left} are left",
                hint="The header Inference-Header-Content-Length gives the length of the JSON.",
            )
        if "data" in entry:
            raise BadBodyError(f"input {name[:80]!r} has both data and binary_data_size")
        self._place += size
        return self._raw[self._place - size : self._place]

    def _shape(self, entry: dict[str, Any], name: str) -> tuple[int, ...]:
        shape = entry.get("shape")
        if type(shape) is not list or not 1 <= len(shape) <= 2 or any(type(n) is not int or n < 0 for n in shape):
            raise SignatureError(f"input {name[:80]!r} needs a shape: [rows] or [rows, columns]")
        if shape[0] > self._max_rows:
            raise TooLargeError(f"{shape[0]} rows are more than {self._max_rows}", hint="Send them in several requests.")
        if shape[0] == 0:
            raise SignatureError(f"input {name[:80]!r} has no rows")
        if self._rows is None:
            self._rows = shape[0]
        elif shape[0] != self._rows:
            raise SignatureError(f"input {name[:80]!r} has {shape[0]} rows; the first input has {self._rows}")
        return tuple(shape)

    def _width(self, name: str, shape: tuple[int, ...]) -> int:
        """How many columns a tensor of this name has: one, or all of them when it is the matrix."""
        if name in self._specs or name in self._optional:
            return 1
        if self._matrix and len(shape) == 2:
            if shape[1] == len(self._specs):
                return shape[1]
            if shape[1] != 1:
                raise SignatureError(
                    f"input {name[:80]!r} has {shape[1]} columns; the model has {plural(len(self._specs), 'input')}"
                )
        told = self._problems.count < SHOWN  # else the advice is not told, and it takes long
        advice = nearest(name, itertools.chain(self._specs, self._optional)) if told else ""
        raise SignatureError(f"{name[:80]!r} is not an input{advice}")

    def _keep(self, tensor: Tensor) -> None:
        if tensor.name in self._specs or tensor.name in self._optional:
            self._put(tensor, tensor.name, tensor.values)
            return
        width = len(self._specs)
        for place, name in enumerate(self._specs):
            self._put(tensor, name, tensor.values[place::width])

    def _put(self, tensor: Tensor, name: str, values: Values) -> None:
        if name in self._found:
            raise SignatureError(f"input {name!r} comes twice")
        self._found[name] = values
        if name in self._specs:
            self._columns[name] = v2_tensors.column(tensor, self._specs[name], values)

    def _texts(self, name: str | None, text: Any) -> list[str | None]:
        values = self._found.get(name) if name is not None else None
        if values is None:
            assert self._rows is not None
            return [None] * self._rows
        return [text(value, f"input {name!r}, row {row},") for row, value in enumerate(values)]

    def _times(self) -> list[str | None]:
        return self._texts(self._signature.event_time, protocol.time_text)


def _objects(head: dict[str, Any], field: str) -> list[dict[str, Any]]:
    found = head.get(field)
    if found is None:
        return []
    if type(found) is not list or any(type(entry) is not dict for entry in found):
        raise BadBodyError(f"{field!r} must be a list of objects")
    return found


def _text(entry: dict[str, Any], field: str, index: int) -> str:
    found = entry.get(field)
    if type(found) is not str:
        raise BadBodyError(f"inputs[{index}] needs a {field}")
    return found


def _id(head: dict[str, Any]) -> str | None:
    found = head.get("id")
    if found is not None and type(found) is not str:
        raise BadBodyError("'id' must be a string")
    return found


def _wanted_outputs(head: dict[str, Any], offered: list[OutputTensor], aliases: list[OutputTensor]) -> dict[str, bool]:
    """Each output with whether it goes out in binary form."""
    binary = _flag(head, "binary_data_output", False, "the request")
    entries = _objects(head, "outputs")
    if not entries:
        return {output.name: binary for output in offered}
    names = [output.name for output in (*offered, *aliases)]
    wanted: dict[str, bool] = {}
    for entry in entries:
        name = entry.get("name")
        if type(name) is not str or name not in names or name in wanted:
            twice = type(name) is str and name in wanted
            what = "comes twice" if twice else f"is not one of {', '.join(names)}"
            raise SignatureError(f"output {str(name)[:80]!r} {what}")
        if "classification" in _parameters(entry, f"output {name!r}"):
            raise BadBodyError(f"output {name!r}: the classification extension is not offered")
        wanted[name] = _flag(entry, "binary_data", binary, f"output {name!r}")
    return wanted


def _parameters(entry: dict[str, Any], where: str) -> dict[str, Any]:
    found = entry.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise BadBodyError(f"{where}: parameters must be an object")
    return found


def _flag(entry: dict[str, Any], field: str, default: bool, where: str) -> bool:
    found = _parameters(entry, where).get(field, default)
    if type(found) is not bool:
        raise BadBodyError(f"{where}: {field} must be true or false")
    return found


def _takes(signature: Signature) -> str:
    return "The inputs are: " + render_names([f"{i.name} ({v2_tensors.NATURAL[i.kind]})" for i in signature.inputs])


# -- answers


def write(
    request: InferRequest,
    model: str,
    answered: RouterAnswer,
    rows: list[Record | None],
    ids: list[str],
    outside: dict[int, list[str]],
) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON part when binary data follows. ``rows`` are `protocol.outputs`, None where
    there is no answer; ``outside`` is what `protocol.outside` found. No answer is NaN in binary form, and an output that has
    none comes in JSON then, with null."""
    binary: list[bytes] = []
    outputs = []
    names = next(row for row in rows if row is not None)
    found = {name: [None if row is None else row[name] for row in rows] for name in names}
    signature = answered.release.signature
    answers = answered.answers
    if answered.lacking:
        answers = [[None] * len(signature.classes) if answer is None else answer for answer in answers]
    for output in (*outputs_of(signature), *aliases_of(signature)):
        as_bytes = request.wanted.get(output.name)
        if as_bytes is None:
            continue
        entry = tensor(output, found, answers)
        if as_bytes and (not answered.lacking or output.datatype in v2_tensors.FLOATS):
            binary.append(v2_tensors.to_bytes(output.datatype, entry.pop("data")))
            entry["parameters"] = {"binary_data_size": len(binary[-1])}
        outputs.append(entry)
    text = message(model, answered.version, answered.variant, request.id, ids, outputs, outside, answered.lacking)
    return (b"".join((text, *binary)), len(text)) if binary else (text, None)


def tensor(output: OutputTensor, found: dict[str, list[Any]], answers: list[Any]) -> dict[str, Any]:
    """An output's tensor with its data in JSON; ``found`` is what `protocol.answerer` made of ``answers``."""
    if output.width:
        values = [value for row in answers for value in row[: output.width]]
        return {"name": output.name, "datatype": output.datatype, "shape": [len(answers), output.width], "data": values}
    values = found["prediction" if output.name == PREDICT else output.name]
    if output.datatype == "BYTES":
        values = list(map(str, values)) if None not in values else [None if v is None else str(v) for v in values]
    return {"name": output.name, "datatype": output.datatype, "shape": [len(answers)], "data": values}


def message(
    model: str,
    version: str,
    variant: str,
    request_id: str | None,
    ids: list[str],
    outputs: list[dict[str, Any]],
    outside: dict[int, list[str]] | None = None,
    lacking: PartlyAnswered = WHOLE,
) -> bytes:
    """The JSON part of an answer."""
    head = {"model_name": model, "model_version": version}
    if request_id is not None:
        head["id"] = request_id
    parameters = {"release": version, "variant": variant, "prediction_ids": ",".join(ids)}
    if outside:
        parameters["outside"] = ",".join(f"{row}:{name}" for row, names in outside.items() for name in names)
    if lacking:
        parameters |= {name: ",".join(map(str, rows)) for name, rows in msgspec.structs.asdict(lacking).items() if rows}
    return _encode(head | {"parameters": parameters, "outputs": outputs})


def metadata(model: str, versions: list[str], signature: Signature, platform: str) -> dict[str, Any]:
    """What a model takes and gives; [-1] is any number of rows. Optional inputs stand under parameters."""
    inputs = [{"name": i.name, "datatype": v2_tensors.NATURAL[i.kind], "shape": [-1]} for i in signature.inputs]
    outputs = [
        {"name": o.name, "datatype": o.datatype, "shape": [-1, o.width] if o.width else [-1]} for o in outputs_of(signature)
    ]
    parameters: dict[str, str] = {"task": str(signature.task), "classes": ",".join(signature.classes)}
    parameters["nullable"] = ",".join(i.name for i in signature.inputs if i.nullable)
    parameters["optional"] = ",".join(n for n in (signature.key, signature.event_time) if n)
    if signature.decision is not None and signature.decision.threshold is not None:
        parameters["threshold"] = f"{signature.decision.threshold:g}"
    facts = {"name": model, "versions": versions, "platform": platform, "inputs": inputs, "outputs": outputs}
    return facts | {"parameters": {name: text for name, text in parameters.items() if text}}
