"""Contracts: contracts/NAME.yaml -> a Contract. A file in the Open Data Contract Standard is read as one, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from noria.config import document, keys, odcs_reading
from noria.config.reading import touch
from noria.config.shapes import Section
from noria.kernel import expression, names
from noria.kernel.contract import (
    AnomalyRule,
    ColumnReference,
    ColumnRule,
    Contract,
    PersonalDataKind,
    PersonalDataRule,
    RowRule,
    SchemaChange,
    SchemaPolicy,
    Severity,
)
from noria.kernel.errors import ConfigError
from noria.kernel.expression import ExpressionError


def load_contract(path: Path, *, shown: str, table: str | None = None) -> Contract:
    """The contract in a file that errors call ``shown``. Raises ConfigError, also when the file is missing.

    ``table``: of which of several tables, where the file is in the Open Data Contract Standard.
    """
    data = read_bytes(path, shown)
    item, unjudged = document.read(data, shown), tuple[str, ...]()
    if odcs_reading.is_odcs(item):
        item, unjudged = odcs_reading.read(item, table)
    root = keys.CONTRACT.read(item)
    fresh, dropped = root.get("freshness"), root.get("drop_rows")
    contract = Contract(
        columns=tuple(_column(name, section) for name, section in root.get("columns", {}).items()),
        source=shown,
        unjudged=unjudged,
        digest=names.digest_bytes(data),
        rules=tuple(_rule(section) for section in root.get("rules", ())),
        references=tuple(ColumnReference(name, *target) for name, target in root.get("references", {}).items()),
        personal_data=_personal_data(root),
        anomalies=_anomalies(root.get("anomalies")),
        **root.given(unique="unique", extra_columns="extra_columns", order="order"),
        **_severity(root),
        schema=_schema(root),
        **_rows(root),
        **(dropped.given(drop_rows="at_most") if dropped else {}),
        **(fresh.given(fresh_column="column", fresh_within_s="within") if fresh else {}),
    )
    _demand_askable(root, contract)
    return contract


def read_bytes(path: Path, shown: str, hint: str | None = None) -> bytes:
    """A project file's bytes; raises ConfigError when there is none to read."""
    try:
        with touch(path).open("rb") as file:
            return file.read(document.SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=shown, hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=shown, hint=hint) from error


def _column(name: str, section: Section) -> ColumnRule:
    low, high = section.get("range", (None, None))
    if low is not None and high is not None and low > high:
        raise section.at("range").error(f"the range of {name} ends before it begins: {low:g} to {high:g}")
    shortest, longest = section.get("length", (None, None))
    if shortest is not None and longest is not None and shortest > longest:
        raise section.at("length").error(f"the length of {name} ends before it begins: {shortest:,} to {longest:,}")
    kind = section.get("type")
    for key, fitting, words in _FITTING:
        if key in section and kind is not None and not kind.startswith(fitting):
            raise section.at(key).error(f"only {words}; {name} is a {kind}")
    shift = {"shift_most": section.get("distribution").get("shift")} if "distribution" in section else {}
    given = section.given(type="type", nulls="nulls", values="values", required="required", format="format", pattern="pattern")
    length = {"length_min": shortest, "length_max": longest}
    return ColumnRule(name, low=low, high=high, **length, **shift, **given, **_severity(section))


def _schema(root: Section) -> SchemaPolicy:
    section = root.get("schema")
    keys_of = {name: name for name in SchemaPolicy.__struct_fields__}
    given: dict[str, str] = {} if section is None else section.given(**keys_of)
    given.setdefault("dropped", given.get("added", SchemaChange.REFUSE))  # a column that may come is not in every file
    return SchemaPolicy(**{name: SchemaChange(word) for name, word in given.items()})


def _severity(section: Section) -> dict[str, Any]:
    return {"severity": Severity(section.get("severity"))} if "severity" in section else {}


_FITTING = (  # which types a key is for
    ("range", ("int", "float", "decimal"), "numbers have a range"),
    ("format", ("date", "datetime"), "dates and times have a format"),
    ("pattern", ("string",), "text has a pattern"),
    ("length", ("string", "list"), "text and lists have a length"),
    ("distribution", ("int", "float", "decimal", "string", "bool"), "numbers, text and truth values have a distribution"),
)


def _rule(section: Section) -> RowRule:
    rule = RowRule(**section.given(name="name", expr="expr", at_most="at_most"), **_severity(section))
    try:
        expression.parse(rule.expr)
    except ExpressionError as error:
        raise section.at("expr").error(f"rule '{rule.name}' cannot be read: {error}", hint=f"expr: {rule.expr}") from None
    return rule


def _rows(root: Section) -> dict[str, Any]:
    rows = root.get("rows")
    if rows is None:
        return {}
    limits: dict[str, Any] = rows.given(rows_min="min", rows_max="max")
    if limits.get("rows_max", 1 << 60) < limits.get("rows_min", 1):
        raise rows.at("max").error("the maximum of rows is below the minimum")
    return limits


def _personal_data(root: Section) -> PersonalDataRule | None:
    section = root.get("personal_data")
    if section is None:
        return None
    forbid = section.get("forbid", ())
    kinds = tuple(PersonalDataKind) if forbid == "all" else tuple(PersonalDataKind(kind) for kind in forbid)
    allowed = section.get("allow")
    allow = {kind: allowed.get(kind) for kind in PersonalDataKind if allowed is not None and kind in allowed}
    for kind in allow:
        if kind not in kinds:
            raise section.at("allow").error(f"{kind} is allowed in some columns, and forbidden in none", hint=f"forbid: [{kind}]")
    made = PersonalDataRule(kinds, allow, **section.given(hash="hash", drop="drop"))
    both = [name for name in made.hash if name in made.drop]
    if both:
        raise section.at("drop").error(f"{both[0]} is both hashed and dropped", "Name it once.")
    return made


def _demand_askable(root: Section, contract: Contract) -> None:
    """Raise ConfigError where something is asked of a column that is no longer there, or is a hash, when a file is judged."""
    rule = contract.personal_data or PersonalDataRule()
    for column in contract.columns:
        bare = replace(ColumnRule(column.name, type=column.type, nulls=column.nulls), severity=column.severity)
        if column.name in rule.hash and (replace(column, required=True) != bare or column.type not in (None, "string")):
            hint = "Of a hashed column, a contract can ask `type: string`, `nulls`, `required`, `unique` and `references`."
            raise root.at("columns").error(f"{column.name} is hashed before the file is judged", hint)
        if column.name in rule.drop and column != ColumnRule(column.name, required=False):
            hint = f"Leave {column.name} out, or say `required: false` alone where some files do not have it."
            raise root.at("columns").error(f"{column.name} is dropped before the file is judged", hint)
    for key, asked, gone in (
        ("unique", contract.key_columns, rule.drop),
        ("references", [one.column for one in contract.references], rule.drop),
        ("order", (contract.order,), rule.treated),
        ("freshness", (contract.fresh_column,), rule.treated),
    ):
        for name in asked:
            if name in gone:
                raise root.at(key).error(f"{name} is {'dropped' if name in rule.drop else 'hashed'} before the file is judged")


def _anomalies(section: Section | None) -> AnomalyRule | None:
    return None if section is None else AnomalyRule(**section.given(false_alarm="false_alarm"), **_severity(section))
