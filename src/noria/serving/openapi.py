"""The OpenAPI 3.1 description of the model server, with the present signature filled in."""

from __future__ import annotations

from typing import Any

import msgspec

from noria import __version__
from noria.kernel.task_definition import Output
from noria.models.signature import Input, Kind, Signature
from noria.serving import openapi_v2, protocol

_OUTPUTS: dict[Output, dict[str, Any]] = {
    Output.VALUE: {},
    Output.CLASS: {},
    Output.SECOND: {"type": "number", "minimum": 0, "maximum": 1},
    Output.EACH: {"type": "object", "additionalProperties": {"type": "number"}},
}
_TYPES = {Kind.STRING: "string", Kind.NUMBER: "number", Kind.INTEGER: "integer", Kind.BOOLEAN: "boolean"}

# JSON Schema has no words for lists of one length
COLUMNS = 'Records may also be sent by column, in lists of equal length: {"columns": {"a": [1, 2], "b": [3, 4]}}.'


class ApiPlace(msgspec.Struct, frozen=True):
    """Where the description is read: its paths are those of ``project``, and begin with ``prefix`` (``/NAME``, or nothing)."""

    project: str = ""
    prefix: str = ""
    keyed: bool = False  # an API key is asked for
    limited: bool = False  # requests are counted


NOWHERE = ApiPlace()


def document(signature: Signature | None, single: bool = False, here: ApiPlace = NOWHERE) -> dict[str, Any]:
    """``signature`` is the champion's; without one, records are plain objects. ``single``: it computes with float32."""
    record = _record(signature, single) if signature else {"type": "object"}
    schemas = {"Record": record, "Predictions": _predictions(signature), "Feedback": _feedback(signature), "Error": _error()}
    own = {
        "/predict": _post("Predict records", _body("Record", "records", COLUMNS), "200", "Predictions"),
        "/feedback": _post("Record labels for earlier predictions", _body("Feedback", "feedback"), "202", "Recorded"),
        "/invocations": _post("Predict rows, as MLflow's scoring server does", _invocations(), "200", "Invoked"),
        "/openapi.json": _get("This description"),
        "/": _get("What is served"),
    }
    paths = {here.prefix + path if here.prefix and path != "/" else here.prefix or path: facts for path, facts in own.items()}
    paths |= {
        "/": _get("What is served"),
        "/health/live": _get("The process answers"),
        "/health/ready": _get("A release is loaded", "503"),
        "/ping": _get("A release is loaded", "503"),
        "/metrics": _get("Prometheus metrics", kind="text/plain"),
    }
    schemas["Recorded"] = {"type": "object", "properties": {"recorded": {"type": "integer"}}, "required": ["recorded"]}
    info = {"title": "Noria model server", "version": __version__}
    schemas["Invoked"] = _invocation_schema()
    components = {"schemas": schemas | openapi_v2.schemas(signature)}
    made = {"openapi": "3.1.0", "info": info, "paths": paths | openapi_v2.paths(here.project), "components": components}
    return _add_access_rules(made, here)


def _add_access_rules(made: dict[str, Any], here: ApiPlace) -> dict[str, Any]:
    """Adds the access rules to the description: API key and rate limit."""
    refusals = ({"401": "The API key is missing or not known"} if here.keyed else {}) | (
        {"429": "More requests than the rate allows"} if here.limited else {}
    )
    for path in made["paths"].values():
        for operation in (path[method] for method in ("get", "post") if method in path):
            for code, text in refusals.items():
                operation["responses"][code] = {"description": text, "content": {"application/json": {"schema": {}}}}
    if here.keyed:
        header = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        made["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}, "header": header}
        made["security"] = [{"bearer": []}, {"header": []}]
    return made


def _record(signature: Signature, single: bool) -> dict[str, Any]:
    properties = {i.name: _column(i, single) for i in signature.inputs}
    time = {"type": "string", "format": "date-time", "description": "ISO 8601"}
    optional = {
        name: {"anyOf": [schema, {"type": "null"}]}
        for name, schema in ((signature.key, _name()), (signature.event_time, time))
        if name
    }
    return {
        "type": "object",
        "properties": optional | properties,
        "required": [i.name for i in signature.inputs],
        "additionalProperties": False,
    }


def _column(spec: Input, single: bool) -> dict[str, Any]:
    kind = _TYPES[spec.kind]
    bounds = {"exclusiveMinimum": -protocol.SINGLE_END, "exclusiveMaximum": protocol.SINGLE_END}
    return {"type": [kind, "null"] if spec.nullable else kind} | (bounds if single and spec.kind is Kind.NUMBER else {})


def _predictions(signature: Signature | None) -> dict[str, Any]:
    row: dict[str, Any] = {"id": {"type": "string"}, "prediction": {}}
    if signature is not None:
        row |= {name: _OUTPUTS[output] for name, output in signature.task.definition.outputs.items()}
    names = {"type": "array", "items": {"type": "string"}}
    row["outside"] = names | {"description": "Inputs with values outside the training range; absent when there are none"}
    answered = {"type": "object", "properties": row, "required": ["id", "prediction"]}
    lacking = _ref("Error") | {"description": "In place of a row that has no answer, when other rows of the request have one"}
    properties = {
        "predictions": {"type": "array", "items": {"anyOf": [answered, lacking]}},
        "release": {"type": "string"},
        "variant": {"enum": ["champion", "candidate", "fallback"]},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _feedback(signature: Signature | None) -> dict[str, Any]:
    """Either id or key; the other one may be null."""
    null = {"type": "null"}
    ways = [{"required": [one], "properties": {one: _name(), other: null}} for one, other in (("id", "key"), ("key", "id"))]
    name = {"anyOf": [_name(), null]}
    properties = {"id": name, "key": name, "label": _label(signature)}
    return {"type": "object", "properties": properties, "required": ["label"], "additionalProperties": False, "oneOf": ways}


def _name() -> dict[str, Any]:
    return {"type": ["string", "integer"], "minLength": 1, "maxLength": protocol.ID_LIMIT}


def _label(signature: Signature | None) -> dict[str, Any]:
    definition = signature.task.definition if signature is not None else None
    if definition is not None and not definition.has_classes:
        return {"type": "number"}
    if signature is None or definition is None or definition.takes_new_classes:
        return {"type": ["string", "number", "boolean"]}
    forms: list[protocol.Label] = [*signature.classes, *protocol.labels_of(signature), 0, 1, False, True]
    named = {(type(form), form): form for form in forms if protocol.same_class(form, signature.classes)}
    return {"enum": list(named.values())}


def _error() -> dict[str, Any]:
    text = {"type": "string"}
    error = {"type": "object", "properties": {"code": text, "message": text, "hint": text}, "required": ["code", "message"]}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _body(schema: str, field: str, told: str = "") -> dict[str, Any]:
    many = {"type": "array", "items": _ref(schema), "minItems": 1}
    wrapped = {"type": "object", "properties": {field: many}, "required": [field], "additionalProperties": False}
    return {"required": True, "content": _json({"anyOf": [_ref(schema), many, wrapped]})} | (
        {"description": told} if told else {}
    )


def _invocations() -> dict[str, Any]:
    told = "Also {dataframe_split: {columns, data}}, {instances: [...]} and {inputs: ...}."
    rows = {"type": "array", "items": _ref("Record"), "minItems": 1}
    form = {"type": "object", "properties": {"dataframe_records": rows}, "required": ["dataframe_records"]}
    return {"required": True, "description": told, "content": _json(form | {"additionalProperties": False})}


def _invocation_schema() -> dict[str, Any]:
    errors = {"type": "object", "additionalProperties": {"type": "string"}}
    properties = {
        "predictions": {"type": "array", "description": "One for each row, null where there is no answer"},
        "errors": errors | {"description": "Row -> why it has no answer; absent where all have one"},
    }
    return {"type": "object", "properties": properties, "required": ["predictions"]}


def _post(summary: str, body: dict[str, Any], status: str, schema: str) -> dict[str, Any]:
    errors = {
        code: {"description": text, "content": _json(_ref("Error"))}
        for code, text in {
            "400": "The body is not what this path takes",
            "403": "The Host or Origin check failed",
            "413": "Too many records or bytes",
            "415": "A Content-Encoding that is not offered",
            "422": "Columns or labels are wrong",
            "503": "No release can answer",
            "507": "No disk space for the prediction log; nothing was answered",
        }.items()
    }
    good = {status: {"description": summary, "content": _json(_ref(schema))}}
    return {"post": {"summary": summary, "requestBody": body, "responses": good | errors}}


def _get(summary: str, other: str | None = None, kind: str = "application/json") -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": {kind: {"schema": {}}}}}
    if other:
        responses[other] = {"description": "Not so", "content": _json({})}
    return {"get": {"summary": summary, "responses": responses}}
