"""Contracts in the Open Data Contract Standard: what is written is read as the same contract, and meets the published schema."""

from __future__ import annotations

import contextlib
import functools
import json
import random
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_schema import Validator

from noria.cli import execute
from noria.config import load_contract, odcs_writing
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

STANDARD = Path(__file__).parent.parent / "data" / "odcs"
HEAD = "apiVersion: v3.1.0\nkind: DataContract\nid: x\nversion: '1'\nstatus: active\n"
NAMES = st.text("abc xyzÄ,.\"'-_", min_size=1, max_size=6).filter(str.strip)  # no key of a contract is blank
SHARES = st.floats(0, 1)
BY_COLUMN = attrgetter("column")
REFERENCES = st.builds(ColumnReference, NAMES, st.sampled_from(["shops", "a-b_1"]), NAMES)
NUMBERS = st.none() | st.floats(-1e9, 1e9) | st.integers(-(1 << 40), 1 << 40).map(float)
SEVERITIES = st.sampled_from(Severity)
MAYBE = st.none() | SEVERITIES
CHANGES = st.sampled_from(SchemaChange)


@functools.cache
def published() -> Validator:
    return Validator(json.loads((STANDARD / "odcs-json-schema-v3.1.0.json").read_text()))


@st.composite
def columns(draw: st.DrawFn) -> ColumnRule:
    kinds = ("int", "float", "string", "bool", "datetime", "date", "decimal", "decimal(12,2)", "list", "list(int)", "struct")
    kind = draw(st.none() | st.sampled_from(kinds))
    made: dict[str, Any] = {"nulls": draw(st.sampled_from([0.0, 1.0]) | SHARES), "required": draw(st.booleans())}
    made["severity"] = draw(MAYBE)
    made["values"] = draw(st.none() | st.lists(st.text(max_size=5) | st.just("1"), max_size=3, unique=True).map(tuple))
    if kind is None or kind.startswith(("int", "float", "decimal")):
        low, high = draw(NUMBERS), draw(NUMBERS)
        made |= {"low": low, "high": high} if low is None or high is None or low <= high else {"low": high, "high": low}
    if kind in (None, "string"):
        made["pattern"] = draw(st.sampled_from([None, "[A-Z]{3}", "a|b"]))
    if kind in (None, "string", "list", "list(int)"):
        shortest, more = draw(st.none() | st.integers(0, 5)), draw(st.none() | st.integers(5, 9))
        made |= {"length_min": shortest, "length_max": more}
    if kind in (None, "date", "datetime"):
        made["format"] = draw(st.sampled_from([None, "%d/%m/%Y", "%Y-%m-%d %H:%M:%S%z"]))
    if kind is None or kind.startswith(("int", "float", "decimal", "string", "bool")):
        made["shift_most"] = draw(st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True))
    return ColumnRule(draw(NAMES), kind, **made)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    least = draw(st.integers(0, 100))
    kinds = draw(st.lists(st.sampled_from(PersonalDataKind), unique=True).map(tuple))
    allow = {kinds[0]: ("a", "b")} if kinds and draw(st.booleans()) else {}
    fresh = draw(st.booleans())
    rule = st.builds(RowRule, NAMES, st.sampled_from(["a > 1", "\"b c\" = 'x'"]), SHARES, MAYBE)
    return Contract(
        columns=tuple(draw(st.lists(columns(), max_size=4, unique_by=lambda one: one.name))),
        unique=tuple(draw(st.lists(st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple), max_size=3, unique=True))),
        rows_min=least,
        rows_max=draw(st.none() | st.integers(least, 1000)),
        fresh_column=draw(NAMES) if fresh else None,
        fresh_within_s=draw(st.sampled_from([1.5, 60.0, 86400.0, 1234567.25])) if fresh else None,
        extra_columns=draw(st.sampled_from(["allow", "forbid"])),
        rules=tuple(draw(st.lists(rule, max_size=2))),
        drop_rows=draw(st.none() | SHARES),
        personal_data=draw(st.none() | st.just(PersonalDataRule(kinds, allow, ("hashed",), ("dropped",)))),
        anomalies=draw(st.none() | st.builds(AnomalyRule, st.sampled_from([0.01, 0.5]), SEVERITIES)),
        order=draw(st.none() | NAMES),
        references=tuple(sorted(draw(st.lists(REFERENCES, max_size=2, unique_by=BY_COLUMN)), key=BY_COLUMN)),
        severity=draw(SEVERITIES),
        schema=draw(st.builds(SchemaPolicy, CHANGES, CHANGES, CHANGES, CHANGES)),
    )


def read(folder: Path, text: str, table: str | None = None) -> Contract:
    path = folder / "c.odcs.yaml"
    path.write_text(text, encoding="utf-8")
    return load_contract(path, shown="c.odcs.yaml", table=table)


def bare(contract: Contract) -> Contract:
    return msgspec.structs.replace(contract, source="", digest="")


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contract=contracts())
def test_what_is_written_is_read_as_the_same_contract(tmp_path: Path, contract: Contract) -> None:
    made = odcs_writing.document(contract, "orders")
    assert published().problems(made) == []
    assert bare(read(tmp_path, yaml.safe_dump(made, allow_unicode=True))) == contract


def test_the_validator_finds_what_the_schema_forbids() -> None:
    whole = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "version": "1", "status": "active"}
    column = {"name": "a", "logicalType": "integer", "logicalTypeOptions": {"pattern": "x"}}
    rule = {"metric": "rowCount", "mustBe": 1, "mustBeLessThan": 2}
    for bad in (
        {**whole, "schema": [{"name": "t", "properties": [column]}]},
        {**whole, "schema": [{"name": "t", "quality": [rule]}]},
        {**whole, "schema": [{"name": "t", "quality": [{"metric": "rows", "mustBe": 1}]}]},
        {**whole, "schema": [{"name": "t", "colour": "red"}]},
        {**whole, "schema": [{}]},
        {"apiVersion": "v3.1.0"},
    ):
        assert published().problems(bad), bad
    assert published().problems(yaml.safe_load((STANDARD / "full-example.odcs.yaml").read_text())) == []


def test_the_examples_of_the_standard(tmp_path: Path) -> None:
    full = read(tmp_path, (STANDARD / "full-example.odcs.yaml").read_text(), "tbl")
    assert [(one.name, one.type, one.nulls) for one in full.columns] == [
        ("txn_ref_dt", "date", 1.0), ("rcvr_id", "string", 1.0), ("rcvr_cntry_code", "string", 0.0),
    ]  # fmt: skip
    assert (full.rows_min, full.unique) == (1_000_001, (("rcvr_id",),))
    assert "slaProperties latency" in full.unjudged  # it is of a table `tab1`, which the example does not have
    assert "rcvr_id: relationship to receivers.id" in full.unjudged
    assert "slaProperties endOfLife" in full.unjudged
    receivers = read(tmp_path, (STANDARD / "full-example.odcs.yaml").read_text(), "receivers")
    assert receivers.unique == (("id",), ("id", "country_code"))
    with pytest.raises(ConfigError, match="promises 2 tables, and none is called orders"):
        read(tmp_path, (STANDARD / "full-example.odcs.yaml").read_text(), "orders")


def test_how_fresh(tmp_path: Path) -> None:
    latency = [f"{{property: latency, value: {days}, unit: d, element: {table}.at}}" for days, table in ((4, "t"), (1, "u"))]
    agreed = f"slaProperties: [{', '.join(latency)}]"
    found = read(tmp_path, f"{HEAD}schema: [{{name: t}}, {{name: u}}]\n{agreed}\n", "t")
    assert (found.fresh_column, found.fresh_within_s, found.unjudged) == ("at", 4 * 86400, ())


def test_every_type_of_the_standard(tmp_path: Path) -> None:
    found = read(tmp_path, (STANDARD / "all-data-types.odcs.yaml").read_text())
    rules = {one.name: one for one in found.columns}
    assert rules["account_id"] == ColumnRule("account_id", "string", pattern="ACC[0-9]{8}", length_min=11, length_max=11)
    assert (rules["txn_timestamp_tz"].type, rules["txn_timestamp_tz"].format) == ("datetime", "%Y-%m-%d %H:%M:%S%z")
    assert (rules["age"].low, [rule.expr for rule in found.rules]) == (18.0, ['"age" < 100'])
    assert {"txn_time: logicalType time", "txn_ref_date: maximum", "latest_txns: uniqueItems"} <= set(found.unjudged)


@pytest.mark.parametrize(
    ("part", "kept", "left"),
    [
        ("{metric: nullValues, mustBe: 0}", {"nulls": 0.0}, ()),
        ("{metric: nullValues, mustBeLessThan: 1}", {"nulls": 0.0}, ()),
        ("{metric: nullValues, mustBeLessOrEqualTo: 5, unit: percent}", {"nulls": 0.05}, ()),
        ("{metric: nullValues, mustBeLessThan: 100}", {}, ("a: nullValues rule",)),
        ("{metric: nullValues, mustBe: 0, severity: warning}", {}, ("a: nullValues rule",)),
        ("{metric: invalidValues, mustBe: 0, arguments: {validValues: [x, 1, null]}}", {"values": ("x", "1")}, ()),
        ("{metric: invalidValues, mustBe: 0, arguments: {pattern: '[a-z]+'}}", {"pattern": "[a-z]+"}, ()),
        ("{metric: invalidValues, mustBeLessThan: 5, arguments: {pattern: x}}", {}, ("a: invalidValues rule",)),
        ("{metric: missingValues, mustBe: 0, name: no blanks}", {}, ("a: missingValues rule 'no blanks'",)),
        ("{type: sql, query: select 1, mustBe: 1}", {}, ("a: sql rule",)),
        ("{type: text, description: it is true}", {}, ("a: text rule 'it is true'",)),
    ],
)
def test_what_is_not_judged_is_named(tmp_path: Path, part: str, kept: dict[str, Any], left: tuple[str, ...]) -> None:
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, properties: [{{name: a, quality: [{part}]}}]}}]\n")
    assert found.columns == (ColumnRule("a", **kept),)
    assert found.unjudged == left


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apiVersion: v2.2.2\nkind: DataContract\n", "apiVersion v2.2.2: Noria reads version 3"),
        ("kind: DataContract\n", "no apiVersion"),
        (HEAD, "has no table in `schema`"),
        (f"{HEAD}schema: {{name: t}}\n", "expected a list of schema"),
        (f"{HEAD}schema: [{{name: t, properties: [{{}}]}}]\n", "a property without a name"),
        (f"{HEAD}schema: [{{name: t, properties: [{{name: a}}, {{name: a}}]}}]\n", "the column a is listed twice"),
        (f"{HEAD}schema: [{{name: t, quality: [{{type: custom, engine: noria}}]}}]\n", "'name' is missing"),
        (
            f"{HEAD}schema: [{{name: t, properties: [{{name: a, required: yes}}]}}]\n",
            "expected true or false, found the text 'yes'",
        ),
        (f"{HEAD}schema: [{{name: t, properties: [{{name: a, logicalTypeOptions: 3}}]}}]\n", "expected a mapping of options"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dataset's contract is written, named in noria.yaml instead, and says the same of a file."""
    (tmp_path / "c.yaml").write_text("columns: {n: {type: int, nulls: never}}\n")
    (tmp_path / "noria.yaml").write_text('project: demo\ndata: {shop: {source: "*.csv", contract: c.yaml}}\n')
    (tmp_path / "a.csv").write_text("n,m\n1,2\n,3\n")
    write = ["-C", str(tmp_path), "data", "contract", "shop", "--into", "shop.odcs.yaml"]
    assert execute(write) == 0
    assert execute(write) != 0
    assert "exists" in capsys.readouterr().err
    said = []
    for name in ("c.yaml", "shop.odcs.yaml"):
        assert execute(["-C", str(tmp_path), "data", "check", "a.csv", "--contract", name, "--json"]) == 1
        said.append(json.loads(capsys.readouterr().out)["findings"])
    assert said[0] == said[1]
    text = (tmp_path / "shop.odcs.yaml").read_text()
    (tmp_path / "shop.odcs.yaml").write_text(text.replace("quality:\n", "quality:\n  - {type: text, description: as agreed}\n"))
    (tmp_path / "noria.yaml").write_text('project: demo\ndata: {shop: {source: "*.csv", contract: shop.odcs.yaml}}\n')
    assert execute(["-C", str(tmp_path), "check"]) == 1
    assert "not judged of shop.odcs.yaml: text rule 'as agreed'" in capsys.readouterr().out
    assert execute(["-C", str(tmp_path), "data", "contract", "nothing"]) != 0


def places(value: Any, beginning: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in parts for place in ((*beginning, key), *places(part, (*beginning, key)))]


@pytest.mark.parametrize("example", ["full-example.odcs.yaml", "all-data-types.odcs.yaml"])
@pytest.mark.parametrize("other", [None, [], {}, [[]], [None], "x", -1, 1e400, float("nan"), True], ids=str)
def test_anything_anywhere_is_read_or_told(tmp_path: Path, example: str, other: Any) -> None:
    """A file whose values are of other kinds than the standard's gives a contract or an error of configuration, never a trace."""
    text = (STANDARD / example).read_text()
    whole = yaml.safe_load(text)
    chosen = [place for place in places(whole) if place[0] in ("schema", "slaProperties", "apiVersion")]
    for place in random.Random(7).sample(chosen, 12):
        document = yaml.safe_load(text)
        inner = functools.reduce(lambda part, key: part[key], place[:-1], document)
        inner[place[-1]] = other
        with contextlib.suppress(ConfigError):
            read(tmp_path, yaml.safe_dump(document), "tbl")


@pytest.mark.parametrize(
    ("operators", "rows"),
    [
        ("mustBe: 10", (10, 10)),
        ("mustBeGreaterThan: 10", (11, None)),
        ("mustBeGreaterOrEqualTo: 10", (10, None)),
        ("mustBeLessThan: 10", (1, 9)),
        ("mustBeLessOrEqualTo: 10", (1, 10)),
        ("mustBeBetween: [5, 10]", (5, 10)),
        ("mustNotBe: 10", None),
        ("mustNotBeBetween: [5, 10]", None),
        ("mustBe: 10, unit: percent", None),
        ("mustBeGreaterThan: 0.5", None),
        ("mustBeLessThan: 10, severity: info", None),
    ],
)
def test_how_many_rows(tmp_path: Path, operators: str, rows: tuple[int, int | None] | None) -> None:
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, quality: [{{metric: rowCount, {operators}}}]}}]\n")
    assert (found.rows_min, found.rows_max) == (rows or (1, None))
    assert found.unjudged == (() if rows else ("rowCount rule",))


def test_rules_about_rows_add_up(tmp_path: Path) -> None:
    rules = "[{metric: rowCount, mustBeGreaterThan: 2}, {metric: rowCount, mustBeLessThan: 9}]"
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, quality: {rules}}}]\n")
    assert (found.rows_min, found.rows_max) == (3, 8)


@pytest.mark.parametrize(
    ("logical", "java", "told"),
    [
        ("date", "yyyy-MM-dd", "%Y-%m-%d"),
        ("date", "dd/MM/yy", "%d/%m/%y"),
        ("date", "dd MMM yyyy", "%d %b %Y"),
        ("timestamp", "yyyy-MM-dd'T'HH:mm:ss", "%Y-%m-%dT%H:%M:%S"),
        ("timestamp", "yyyy-MM-dd HH:mm:ssZ", "%Y-%m-%d %H:%M:%S%z"),
        ("date", "QQQ yyyy", None),
        ("timestamp", "hh:mm a", None),
    ],
)
def test_formats_of_java(tmp_path: Path, logical: str, java: str, told: str | None) -> None:
    options = f'logicalType: {logical}, logicalTypeOptions: {{format: "{java}"}}'
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, properties: [{{name: a, {options}}}]}}]\n")
    assert found.columns[0].format == told
    assert found.unjudged == (() if told else (f"a: format {java}",))


@pytest.mark.parametrize(
    ("logical", "options", "kept", "left"),
    [
        ("integer", "minimum: 1, maximum: 9", {"low": 1.0, "high": 9.0}, ()),
        ("number", "minimum: 0.5, format: f32", {"low": 0.5}, ()),
        ("integer", "multipleOf: 5", {}, ("a: multipleOf",)),
        ("string", "maxLength: 3", {"length_max": 3}, ()),
        ("string", "format: email", {}, ("a: format",)),
        ("string", "pattern: '(?=x)y'", {}, ("a: its pattern: the pattern '(?=x)y' uses look-around",)),
        ("array", "minItems: 1, uniqueItems: false", {"length_min": 1}, ()),
        ("object", "maxProperties: 3", {}, ("a: maxProperties",)),
        ("date", "minimum: '2020-01-01'", {}, ("a: minimum",)),
    ],
)
def test_options_of_a_type(tmp_path: Path, logical: str, options: str, kept: dict[str, Any], left: tuple[str, ...]) -> None:
    given = f"{{name: a, logicalType: {logical}, logicalTypeOptions: {{{options}}}}}"
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, properties: [{given}]}}]\n")
    assert {name: getattr(found.columns[0], name) for name in kept} == kept
    assert len(found.unjudged) == len(left)
    assert all(said.startswith(start) for said, start in zip(found.unjudged, left, strict=True))


def test_columns_are_called_as_in_the_file(tmp_path: Path) -> None:
    """A physical name is the column; keys and agreements may speak of the other name."""
    first = "{name: number, physicalName: no, primaryKey: true, primaryKeyPosition: 2}"
    second = "{name: day, primaryKey: true, primaryKeyPosition: 1}"
    rule = "{metric: duplicateValues, mustBe: 0, arguments: {properties: [number]}}"
    agreed = "slaProperties: [{property: latency, value: 2, unit: hours, element: t.day}]"
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, properties: [{first}, {second}], quality: [{rule}]}}]\n{agreed}\n")
    assert [one.name for one in found.columns] == ["no", "day"]
    assert found.unique == (("no",), ("day", "no"))
    assert (found.fresh_column, found.fresh_within_s) == ("day", 7200)


def test_the_table_is_the_one_called_like_the_dataset(tmp_path: Path) -> None:
    text = f"{HEAD}schema: [{{name: a, properties: [{{name: x}}]}}, {{name: b, physicalName: c, properties: [{{name: y}}]}}]\n"
    for table, column in (("a", "x"), ("b", "y"), ("c", "y")):
        assert [one.name for one in read(tmp_path, text, table).columns] == [column]


def test_a_file_of_another_tool_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What Noria does not judge is left out, and the answer says what that is."""
    column = "{name: a, required: true, quality: [{type: text, description: x}]}"
    text = f"{HEAD}schema: [{{name: orders, properties: [{column}]}}]\n"
    (tmp_path / "orders.odcs.yaml").write_text(text)
    assert execute(["-C", str(tmp_path), "data", "contract", "orders.odcs.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["unjudged"], told["written"]) == (["a: text rule 'x'"], None)
    assert yaml.safe_load(told["contract"])["schema"][0]["properties"] == [{"name": "a", "required": True}]
    assert execute(["-C", str(tmp_path), "data", "contract", "orders.odcs.yaml"]) == 0
    assert capsys.readouterr().out.startswith("# not judged of orders.odcs.yaml: a: text rule 'x'; left out\n")


def test_a_custom_property_without_a_value_says_nothing(tmp_path: Path) -> None:
    custom = "customProperties: [{property: noriaOrder, value: null}, {property: noriaSeverity, value: warn}]"
    found = read(tmp_path, f"{HEAD}schema: [{{name: t, {custom}}}]\n")
    assert (found.order, found.severity) == (None, Severity.WARN)


def test_a_custom_property_with_a_mistake_names_it(tmp_path: Path) -> None:
    custom = "customProperties: [{property: noriaSeverity, value: loud}]"
    with pytest.raises(ConfigError, match=r"c\.odcs\.yaml:6:.*expected quarantine or warn"):
        read(tmp_path, f"{HEAD}schema: [{{name: t, {custom}}}]\n")
