"""Contracts as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from noria import config
from noria.kernel.contract import (
    AnomalyRule,
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

TEXT = """\
columns:
  id: string
  Age (years): {type: int, nulls: never, range: [0, 60]}
  humid: {type: float, nulls: "<= 10%", range: [null, 1.5]}
  site: {nulls: 0.1, values: [NO, SE, 7, true]}
  note: {required: false}
unique: [id]
rows: {min: 10, max: 1000}
freshness: {column: at, within: 60d}
extra_columns: forbid
rules:
  - {name: sober, expr: "humid IS NULL OR humid <= 1", at_most: 1%}
"""


def load(tmp_path: Path, text: str) -> Contract:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return config.load_contract(path, shown="contracts/c.yaml")


def test_a_contract(tmp_path: Path) -> None:
    assert load(tmp_path, TEXT) == Contract(
        columns=(
            ColumnRule("id", "string"),
            ColumnRule("Age (years)", "int", 0.0, 0, 60),
            ColumnRule("humid", "float", 0.1, None, 1.5),
            ColumnRule("site", None, 0.1, values=("NO", "SE", "7", "true")),
            ColumnRule("note", required=False),
        ),
        unique=(("id",),),
        rows_min=10,
        rows_max=1000,
        fresh_column="at",
        fresh_within_s=5_184_000,
        extra_columns="forbid",
        rules=(RowRule("sober", "humid IS NULL OR humid <= 1", 0.01),),
        source="contracts/c.yaml",
        digest=blake3(TEXT.encode()).hexdigest(),
    )


def test_an_empty_contract_promises_a_row(tmp_path: Path) -> None:
    contract = load(tmp_path, "")
    assert (contract.columns, contract.rows_min, contract.extra_columns) == ((), 1, "allow")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("columns: {a: {type: integer}}", "1:21", "expected int, float"),
        ("columns: {a: {nulls: some}}", "1:22", 'never, "<= 10%" or 0.1'),
        ("columns: {a: {nulls: '<= 110%'}}", "1:22", "expected never"),
        ("columns: {a: {range: [5, 1]}}", "1:22", "ends before it begins"),
        ("columns: {a: {range: [5]}}", "1:22", "expected a list of two numbers"),
        ("columns: {a: {type: string, range: [1, 5]}}", "1:36", "only numbers have a range"),
        ("rows: {min: 5, max: 1}", "1:21", "below the minimum"),
        ("freshness: {column: at}", "1:12", "'within' is missing"),
        ("rules: [{name: x}]", "1:9", "'expr' is missing"),
        ("extra_columns: forbidden", "1:16", "expected allow or forbid"),
        ("colums: {}", "1:1", "unknown key 'colums'"),
        ("[]", "1:1", "expected a mapping, found a list"),
        ("columns: {a: {range: [.nan, 1]}}", "1:23", "expected a number"),
        ("columns: {a: {type: int, pattern: a}}", "1:35", "only text has a pattern; a is a int"),
        ("columns: {a: {type: int, length: [1, 2]}}", "1:34", "only text and lists have a length; a is a int"),
        ("columns: {a: {length: [3, 2]}}", "1:23", "the length of a ends before it begins: 3 to 2"),
        ("columns: {a: {length: [-1, 2]}}", "1:24", "expected a whole number from 0"),
        ("columns: {a: {length: 3}}", "1:23", "expected a list of two whole numbers"),
        ("columns: {a: {pattern: '(?=x)y'}}", "1:24", "the pattern '(?=x)y' uses look-around, which patterns here cannot"),
        ("columns: {a: {pattern: 'y(?<!x)'}}", "1:24", "look-around"),
        (r"columns: {a: {pattern: '(x)\1'}}", "1:24", "a back-reference"),
        ("columns: {a: {pattern: 'x++'}}", "1:24", "a possessive quantifier"),
        ("columns: {a: {pattern: 'a('}}", "1:24", "cannot be read: unclosed group"),
        ("columns: {a: {pattern: '[z-a]'}}", "1:24", "cannot be read: invalid character class range"),
        ("columns: {a: {pattern: 'a{9}{9}{9}{9}{9}{9}{9}{9}{9}'}}", "1:24", "cannot be read"),
        ("columns: {a: {severity: error}}", "1:25", "expected quarantine or warn"),
        ("severity: refuse", "1:11", "expected quarantine or warn"),
        ("unique: [[a], []]", "1:15", "the list is empty"),
        ("unique: [[a, b], [a, b]]", "1:18", "a, b is listed twice"),
        ("unique: [a, [b]]", "1:13", "expected text"),
        ("unique: [[a], b]", "1:15", "expected a list of text"),
        ("columns: {a: {type: 'decimal(39,2)'}}", "1:21", "decimal(39,2) is no decimal"),
        ("columns: {a: {type: list(list)}}", "1:21", "expected int, float, string, bool, datetime, date, decimal"),
        ("columns: {a: {type: struct, range: [1, 2]}}", "1:36", "only numbers have a range; a is a struct"),
        ("schema: {added: maybe}", "1:17", "expected allow, warn or refuse"),
        ("schema: {renamed: allow}", "1:10", "unknown key 'renamed'"),
        ("order: [a]", "1:8", "expected text"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, text: str, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.where == f"contracts/c.yaml:{where}"
    assert message in caught.value.message


@pytest.mark.parametrize(
    "pattern",
    [r"[A-Z]{2}\d{4}", r"\p{L}+", r"[(?=]+", r"\\\\1", r"(?i)ab+?", r"(?P<year>\d{4})-\d\d", r"[[:alpha:]&&[^x]]+", "a|b|"],
)
def test_patterns_that_the_engine_reads(tmp_path: Path, pattern: str) -> None:
    contract = load(tmp_path, f"columns: {{a: {{type: string, pattern: '{pattern}'}}}}")
    assert contract.columns[0].pattern == pattern


def test_how_columns_may_change(tmp_path: Path) -> None:
    assert load(tmp_path, "").schema == SchemaPolicy(SchemaChange.REFUSE, SchemaChange.REFUSE, SchemaChange.ALLOW)
    assert load(tmp_path, "schema: {added: warn}").schema == SchemaPolicy(SchemaChange.WARN, SchemaChange.WARN)
    assert load(tmp_path, "schema: {dropped: warn}").schema == SchemaPolicy(dropped=SchemaChange.WARN)
    assert load(tmp_path, "schema: {retyped: warn}").schema == SchemaPolicy(retyped=SchemaChange.WARN)
    text = "schema: {added: allow, dropped: warn, reordered: refuse}"
    assert load(tmp_path, text).schema == SchemaPolicy(SchemaChange.ALLOW, SchemaChange.WARN, SchemaChange.REFUSE)


def test_promises_that_were_added_later(tmp_path: Path) -> None:
    text = """\
severity: warn
order: at
unique: [[a], [b, c]]
columns:
  a: {length: [null, 3], severity: quarantine}
  b: {type: string, length: [1, 8], pattern: "[a-z]+"}
rules:
  - {name: sober, expr: "b = 'x'", severity: quarantine}
"""
    contract = load(tmp_path, text)
    assert (contract.severity, contract.order, contract.unique) == (Severity.WARN, "at", (("a",), ("b", "c")))
    assert contract.columns == (
        ColumnRule("a", length_max=3, severity=Severity.QUARANTINE),
        ColumnRule("b", "string", pattern="[a-z]+", length_min=1, length_max=8),
    )
    assert contract.rules == (RowRule("sober", "b = 'x'", severity=Severity.QUARANTINE),)


def test_personal_data_may_be_forbidden(tmp_path: Path) -> None:
    assert load(tmp_path, "").personal_data is None
    every = load(tmp_path, "personal_data: {forbid: all, allow: {email: [contact]}}").personal_data
    assert every == PersonalDataRule(tuple(PersonalDataKind), {PersonalDataKind.EMAIL: ("contact",)})
    some = load(tmp_path, "personal_data: {forbid: [phone, iban]}").personal_data
    assert some == PersonalDataRule((PersonalDataKind.PHONE, PersonalDataKind.IBAN))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("personal_data: {forbid: [fax]}", "expected name, email, phone"),
        ("personal_data: {forbid: some}", "expected `all` or a list of kinds of personal data"),
        ("personal_data: {forbid: [email, email]}", "listed twice"),
        ("personal_data: {forbid: [email], allow: {phone: [x]}}", "phone is allowed in some columns, and forbidden in none"),
        ("personal_data: {forbid: all, allow: {fax: [x]}}", "unknown key 'fax'"),
        ("personal_data: forbid", "expected a mapping"),
    ],
)
def test_what_is_said_of_personal_data_is_checked(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, text)


def test_what_is_unusual_may_be_refused(tmp_path: Path) -> None:
    assert load(tmp_path, "").anomalies is None
    assert load(tmp_path, "anomalies: {false_alarm: 0.1%}").anomalies == AnomalyRule(0.001)
    assert load(tmp_path, "anomalies: {severity: quarantine}").anomalies == AnomalyRule(severity=Severity.QUARANTINE)
    with pytest.raises(ConfigError, match="expected a share between 0% and 100%"):
        load(tmp_path, "anomalies: {false_alarm: 0}")
