"""The part of the OpenAPI description that tells of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from noria.models.signature import Signature
from noria.serving import v2_messages, v2_tensors

_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"
_TEXT = {"type": "string"}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2}
_REFUSALS = {
    "400": "The body or a tensor is not what the model takes",
    "403": "The Host or Origin check failed",
    "404": "No such model, or the version is not resident",
    "413": "Too many rows or bytes",
    "415": "A Content-Encoding that is not offered",
    "503": "No release can answer",
    "507": "No disk space for the prediction log; nothing was answered",
}


def paths(model: str) -> dict[str, Any]:
    """``model``: the project that is described; empty before there is one."""
    found: dict[str, Any] = {
        "/v2": _get("The server's name, version and extensions", "InferenceServer"),
        "/v2/health/live": _get("The process answers", None),
        "/v2/health/ready": _get("A release is loaded", None, "503"),
    }
    for path in (_MODEL, _VERSION):
        found[path] = _get("What the model takes and gives", "InferenceModel", "404", "503")
        found[f"{path}/ready"] = _get("The model answers", None, "404", "503")
        found[f"{path}/infer"] = _infer()
    for path, facts in found.items():
        names = [name for name in ("model", "version") if f"{{{name}}}" in path]
        if names:
            kinds = {"model": {"enum": [model]} if model else _TEXT, "version": _TEXT}
            facts["parameters"] = [{"name": name, "in": "path", "required": True, "schema": kinds[name]} for name in names]
    return found


def schemas(signature: Signature | None) -> dict[str, Any]:
    names = [i.name for i in signature.inputs] if signature else []
    outputs = [o.name for o in (*v2_messages.outputs_of(signature), *v2_messages.aliases_of(signature))] if signature else []
    return {
        "InferenceServer": _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
        "InferenceModel": _object(
            {
                "name": _TEXT,
                "versions": {"type": "array", "items": _TEXT},
                "platform": _TEXT,
                "inputs": {"type": "array", "items": {"type": "object"}},
                "outputs": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "InferenceRequest": _request(names, outputs),
        "InferenceAnswer": _answer(),
        "InferenceError": _object({"error": _TEXT}),
    }


def _request(names: list[str], outputs: list[str]) -> dict[str, Any]:
    """``names`` stand in the description only: optional inputs, and one matrix of all inputs, have others."""
    told = "One tensor for each of " + ", ".join(names) if names else "One tensor for each input of the model"
    entry = _object({"name": _TEXT, "shape": _SHAPE, "datatype": {"enum": list(v2_tensors.DATATYPES)}})
    entry["properties"] |= {"data": {"type": "array"}, "parameters": _PARAMETERS}
    wanted = _object({"name": {"enum": outputs} if outputs else _TEXT})
    wanted["properties"] |= {"parameters": _PARAMETERS}
    request = _object({"inputs": {"type": "array", "items": entry, "minItems": 1, "description": told}})
    request["properties"] |= {"id": _TEXT, "parameters": _PARAMETERS, "outputs": {"type": "array", "items": wanted}}
    return request


def _answer() -> dict[str, Any]:
    entry = _object({"name": _TEXT, "shape": _SHAPE, "datatype": {"enum": list(v2_tensors.DATATYPES)}})
    entry["properties"] |= {"data": {"type": "array"}, "parameters": _PARAMETERS}
    outputs = {"type": "array", "items": entry}
    told = (
        "failed: the rows without an answer, as 1,4; untold: rows that could not be told apart from failing ones. "
        "Their data are null or NaN"
    )
    parameters = _PARAMETERS | {"description": told}
    answer = _object({"model_name": _TEXT, "model_version": _TEXT, "parameters": parameters, "outputs": outputs})
    answer["properties"] |= {"id": _TEXT}
    return answer


def _infer() -> dict[str, Any]:
    content = {
        "application/json": {"schema": _ref("InferenceRequest")},
        "application/octet-stream": {"schema": {"description": "JSON, then the tensors' bytes"}},
    }
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
    }
    good = {"application/json": {"schema": _ref("InferenceAnswer")}, "application/octet-stream": {"schema": {}}}
    responses = {"200": {"description": "The outputs", "content": good}} | {code: _refusal(code) for code in _REFUSALS}
    body = {"required": True, "content": content}
    return {"post": {"summary": "Predict tensors", "parameters": [header], "requestBody": body, "responses": responses}}


def _get(summary: str, schema: str | None, *refusals: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(schema) if schema else {"type": "object"}}}
    responses = {"200": {"description": summary, "content": content}, "403": _refusal("403")}
    for code in refusals:
        responses[code] = _refusal(code) if schema else {"description": "Not so", "content": {"application/json": {"schema": {}}}}
    return {"get": {"summary": summary, "responses": responses}}


def _refusal(code: str) -> dict[str, Any]:
    return {"description": _REFUSALS[code], "content": {"application/json": {"schema": _ref("InferenceError")}}}


def _object(required: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(required), "required": list(required)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
