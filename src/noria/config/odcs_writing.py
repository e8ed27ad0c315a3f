"""Writes a contract in the Open Data Contract Standard 3.1; what the standard has no place for goes into custom properties."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from noria.config.odcs_reading import ENGINE, KINDS, custom_name
from noria.kernel.contract import ColumnRule, Contract, Severity

Json = dict[str, Any]
VERSION = "v3.1.0"
LOGICAL = {noria: odcs for odcs, noria in KINDS.items()}


def document(contract: Contract, name: str) -> Json:
    """The file as plain values; ``odcs_reading.read`` makes the same contract of it."""
    table: Json = {"name": name, "physicalType": "table"}
    alone = {key[0] for key in contract.unique if len(key) == 1}
    if contract.columns:
        table["properties"] = [_property(rule, rule.name in alone) for rule in contract.columns]
    table["quality"] = [*_keys(contract), *_rows(contract), *_rules(contract)]
    customs = _customs(_of_table(contract))
    if customs:
        table["customProperties"] = customs
    made: Json = {
        "apiVersion": VERSION,
        "kind": "DataContract",
        "id": name,
        "name": name,
        "version": contract.digest[:12] or "1",
        "status": "active",
        "schema": [table],
    }
    return made | _agreements(contract, name)


def _property(rule: ColumnRule, unique: bool) -> Json:
    made: Json = {"name": rule.name}
    own: Json = {}  # Noria's keys
    kind = rule.type or ""
    if kind:
        base, _, inner = kind.partition("(")
        made["logicalType"] = LOGICAL.get(base, "number")
        if base == "list" and inner:
            made["items"] = {"logicalType": LOGICAL[inner.removesuffix(")")]}
        own |= {"type": kind} if base == "decimal" else {}
    made |= {"required": True} if rule.nulls == 0 else {}
    made |= {"unique": True} if unique else {}
    options = _options(rule, made.get("logicalType"), own)
    made |= {"logicalTypeOptions": options} if options else {}
    quality = _nulls(rule, own)
    if rule.values is not None:
        quality.append({"metric": "invalidValues", "arguments": {"validValues": list(rule.values)}, "mustBe": 0})
    made |= {"quality": quality} if quality else {}
    own |= {} if rule.required else {"required": False}
    own |= {"format": rule.format} if rule.format is not None else {}
    own |= {"severity": str(rule.severity)} if rule.severity is not None else {}
    own |= {"distribution": {"shift": rule.shift_most}} if rule.shift_most is not None else {}
    return made | ({"customProperties": _customs(own)} if own else {})


def _options(rule: ColumnRule, logical: str | None, own: Json) -> Json:
    """The standard's options of a type; promises about a column without a type go to ``own``."""
    made: Json = {}
    if rule.low is not None or rule.high is not None:
        if logical in ("integer", "number"):
            made |= {"minimum": _number(rule.low), "maximum": _number(rule.high)}
        else:
            own["range"] = [rule.low, rule.high]
    if rule.pattern is not None:
        (made if logical == "string" else own)["pattern"] = rule.pattern
    if rule.length_min is not None or rule.length_max is not None:
        if logical in ("string", "array"):
            noun = "Length" if logical == "string" else "Items"
            made |= {f"min{noun}": rule.length_min, f"max{noun}": rule.length_max}
        else:
            own["length"] = [rule.length_min, rule.length_max]
    return {key: value for key, value in made.items() if value is not None}


def _number(value: float | None) -> float | None:
    return int(value) if value is not None and abs(value) < 1 << 53 and value == int(value) else value


def _nulls(rule: ColumnRule, own: Json) -> list[Json]:
    if not 0 < rule.nulls < 1:
        return []
    most = next((one for one in (round(rule.nulls * 100, 10), rule.nulls * 100) if one / 100 == rule.nulls), None)
    if most is None:  # no percentage is read as this share
        own["nulls"] = rule.nulls
        most = rule.nulls * 100
    return [{"metric": "nullValues", "mustBeLessOrEqualTo": most, "unit": "percent"}]


def _keys(contract: Contract) -> list[Json]:
    return [{"metric": "duplicateValues", "arguments": {"properties": list(key)}, "mustBe": 0} for key in contract.unique]


def _rows(contract: Contract) -> list[Json]:
    least = [{"metric": "rowCount", "mustBeGreaterOrEqualTo": contract.rows_min}]
    return least if contract.rows_max is None else [*least, {"metric": "rowCount", "mustBeLessOrEqualTo": contract.rows_max}]


def _rules(contract: Contract) -> list[Json]:
    found = []
    for rule in contract.rules:
        own: Json = {"name": rule.name, "expr": rule.expr, "at_most": rule.at_most}
        own |= {"severity": str(rule.severity)} if rule.severity is not None else {}
        found.append({"name": rule.name, "type": "custom", "engine": ENGINE, "implementation": own})
    return found


def _agreements(contract: Contract, name: str) -> Json:
    column, within_s = contract.fresh_column, contract.fresh_within_s
    if column is None or within_s is None or "," in column:
        return {}
    value, unit = (within_s / 86400, "d") if within_s % 86400 == 0 else (within_s, "s")
    return {"slaProperties": [{"property": "latency", "value": _number(value), "unit": unit, "element": f"{name}.{column}"}]}


def _of_table(contract: Contract) -> Json:
    """Noria's keys of the whole contract that the standard does not have."""
    schema = {name: str(getattr(contract.schema, name)) for name in contract.schema.__struct_fields__}
    made: Json = {"schema": schema} if contract.schema != Contract().schema else {}
    made |= {"references": {one.column: one.target for one in contract.references}} if contract.references else {}
    made |= {"order": contract.order} if contract.order is not None else {}
    made |= {"extra_columns": contract.extra_columns} if contract.extra_columns != "allow" else {}
    made |= {"drop_rows": {"at_most": contract.drop_rows}} if contract.drop_rows is not None else {}
    made |= {"severity": str(contract.severity)} if contract.severity is not Severity.QUARANTINE else {}
    if contract.fresh_column is not None and "," in contract.fresh_column:  # the standard's elements are parted by commas
        made["freshness"] = {"column": contract.fresh_column, "within": f"{contract.fresh_within_s:.17g}s"}
    for name, rule in (("personal_data", contract.personal_data), ("anomalies", contract.anomalies)):
        if rule is not None:
            made[name] = json.loads(msgspec.json.encode(rule))
    return made


def _customs(own: Json) -> list[Json]:
    return [{"property": custom_name(key), "value": value} for key, value in own.items()]
