"""A rule of a contract is text of whoever may commit: it computes over the columns of one file, and reads nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest

from noria.config.contracts import load_contract
from noria.data import judge_contract as judge
from noria.data import judge_rules, rule_process
from noria.kernel.contract import Contract, RowRule
from noria.kernel.errors import ConfigError
from noria.kernel.expression import DEEPEST, LIGHT, LONGEST, ExpressionError, parse
from noria.kernel.verdict import Verdict

TABLE = pl.DataFrame(
    {"x": [1.5, -2.0, None], "n": [1, 2, 3], "s": ["ab", "c'd", None], 'odd "name': [True, False, None]}
).with_columns(d=pl.Series(["2024-01-02", "2025-03-04", None]).str.to_date())
REFUSED = {
    "x > (SELECT max(f) FROM read_csv('/etc/passwd'))": (6, "'SELECT' is not expected here"),
    "EXISTS (SELECT 1 FROM read_csv('http://10.0.0.1/x'))": (1, "'EXISTS' is no function that a rule may use"),
    "n IN (SELECT n FROM read_parquet('a'))": (7, "'SELECT' is not expected here"),
    "read_csv('/etc/passwd')": (1, "'read_csv' is no function that a rule may use"),
    "scan_ipc('a') IS NULL": (1, "'scan_ipc' is no function"),
    "count(x) OVER (PARTITION BY n) > 1": (10, "'OVER' is not expected here"),
    "self.x > 1": (5, "'.' is not understood"),
    "x > 1; DROP TABLE self": (6, "';' is not understood"),
    "x > 1 -- and more": (7, "'-' is not understood"),
    "x > /* more */ 1": (5, "'/' is not understood"),
    "x > 'open": (5, "it is not closed"),
    "CAST(x AS BLOB) IS NULL": (11, "'BLOB' is no type"),
    "lenght(s) > 1": (1, "did you mean length?"),
    "n = 1 XOR n = 2": (7, "'XOR' is not expected here"),
    "x >": (4, "a column or a value is missing"),
    "(x > 1": (7, "expected ), the text ends"),
    "x BETWEEN 1 OR 2": (13, "expected AND, found 'OR'"),
    "": (1, "a column or a value is missing"),
    "(" * (DEEPEST + 1) + "x" + ")" * (DEEPEST + 1): (DEEPEST + 1, "parts lie within parts"),
    "x" * (LONGEST + 1): (LONGEST + 1, "at most 4,000 characters"),
}
ALLOWED = {
    "x > 1 AND n = 1 OR NOT x < 0": [True, False, None],
    "-x * 2 + n / 2 <= 7 % 4": [True, False, None],
    "x IS NULL OR x BETWEEN -3 AND 2": [True, True, True],
    "n NOT IN (1, 3) OR n = 3": [False, True, True],
    "s LIKE 'a%' OR s ILIKE 'C%' OR s ~ '^z'": [True, True, None],
    "s = 'c''d'": [False, True, None],
    '"odd ""name" IS TRUE': [True, False, None],
    "CASE WHEN n = 1 THEN x > 0 ELSE length(s) = 3 END": [True, True, None],
    "coalesce(x, 0) >= -2::int AND CAST(n AS double) < 3.5e0": [True, True, True],
    "EXTRACT(year FROM d) = 2024 OR d > DATE '2025-01-01'": [True, True, None],
    "sum(n) = 6 AND count(*) = 3": [True],
    "NOT NOT n IS DISTINCT FROM 2": [True, False, True],
    "position('b' IN s) > 0": [True, False, False],
    "abs(round(x, 0)) >= least(n, 2)": [True, True, None],
    " OR ".join(f"n = {i}" for i in range(200)): [True, True, True],
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_allowed_is_refused_by_its_place(text: str) -> None:
    """Number 47: before anything runs; the error says where and why."""
    position, why = REFUSED[text]
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.position == position
    assert why in str(caught.value)


@pytest.mark.parametrize("text", ALLOWED)
def test_what_is_allowed_computes_as_its_text_says(text: str) -> None:
    """Number 47: as the engine computes the text itself."""
    for sql in (text, parse(text).sql):
        assert TABLE.select(found=pl.sql_expr(sql))["found"].to_list() == ALLOWED[text]


def test_a_contract_that_would_read_a_file_is_no_contract(tmp_path: Path) -> None:
    """Number 47: `noria check` printed the signing key."""
    path = tmp_path / "points.yaml"
    path.write_text("rules:\n  - {name: leak, expr: \"s = (SELECT k FROM read_csv('.noria/signing.key'))\"}\n")
    with pytest.raises(ConfigError, match="rule 'leak' cannot be read: at character 6: 'SELECT' is not expected") as caught:
        load_contract(path, shown="contracts/points.yaml")
    assert caught.value.where == "contracts/points.yaml:2:24"


def test_no_file_is_opened_for_a_rule(tmp_path: Path) -> None:
    """Number 47: also where a contract did not come from a file."""
    secret = tmp_path / "secret.csv"
    secret.write_text("k\nprivate\n")
    rule = RowRule("leak", f"s = (SELECT k FROM read_csv('{secret}'))")
    with pytest.raises(ConfigError) as caught:
        judge.judge(Contract(rules=(rule,)), TABLE, now=None)
    assert "private" not in str(caught.value)


def test_a_rule_that_may_grow_is_computed_apart_and_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 47: a text that builds itself up, or a pattern without end, costs the daemon nothing."""
    asked: list[str] = []

    def apart(sql: str, table: pl.DataFrame) -> pl.Series:
        asked.append(sql)
        return rule_process.apart(sql, table)

    def ruled(text: str) -> Verdict:
        return judge.judge(Contract(rules=(RowRule("sane", text),)), TABLE, now=None, apart=apart).verdict

    assert not ruled("x > 0 AND length(s) = 2").passed
    assert asked == []
    assert ruled("s ~ '^(ab|c.d)$' AND concat(s, '!') LIKE '%!'").passed
    assert not ruled("replace(s, 'a', 'b') = 'bb'").passed
    assert len(asked) == 2
    with pytest.raises(ConfigError, match="rule 'sane' cannot be computed"):
        ruled("concat(s, '!') > 3")
    bomb = "s"
    for _ in range(9):
        bomb = f"replace({bomb}, '', '{'a' * 40}')"
    monkeypatch.setattr(rule_process, "MEMORY_BYTES", 256 * 1024**2)
    with pytest.raises(ConfigError, match=r"used more than .* of memory"):
        ruled(f"length({bomb}) > 0")
    monkeypatch.setattr(rule_process, "TIMEOUT_S", 0.0)
    with pytest.raises(ConfigError, match="takes longer than 0 s"):
        ruled("s ~ '^a'")


@pytest.mark.parametrize(
    "text",
    [
        "x" + "+x" * 1500 + " > 0",  # 12 s and 700 MB of planning
        "x" + "::double::text" * 20 + " = 'a'",  # 40 conversions within each other do not end
        " OR ".join(f"n = {i}" for i in range(200)),
    ],
    ids=("long", "converted", "many"),
)
def test_a_rule_whose_length_costs_the_engine_is_computed_apart(text: str) -> None:
    """Number 47: numbers and comparisons alone may take the engine for ever as well, on three rows."""
    asked: list[str] = []

    def apart(sql: str, table: pl.DataFrame) -> pl.Series:
        asked.append(sql)
        return pl.repeat(True, table.height, eager=True)

    assert parse(text).heavy
    assert judge.judge(Contract(rules=(RowRule("long", text),)), TABLE, now=None, apart=apart).verdict.passed
    assert len(asked) == 1


def test_a_rule_over_a_large_table_is_computed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 47: what is computed here and now passes over so many bytes at most."""
    asked: list[str] = []
    monkeypatch.setattr(judge_rules, "LIGHT_BYTES", 200)

    def apart(sql: str, table: pl.DataFrame) -> pl.Series:
        asked.append(sql)
        return pl.repeat(True, table.height, eager=True)

    for text in ("x > 0", "x > 0 AND x < 9 AND x != 4"):  # 3 and 11 parts of 48 bytes and a mask
        judge.judge(Contract(rules=(RowRule("sane", text),)), TABLE, now=None, apart=apart)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("part", "between", "end"),
    [
        ("pow(x, {i}.5)", " + ", " > 0"),
        ("median(x + {i})", " + ", " > 0"),
        ("initcap(reverse(s)) = '{i}'", " OR ", ""),
        ("strpos(s, '{i}')", " + ", " > 0"),
    ],
)
def test_the_worst_that_is_computed_here_and_now_has_its_bound(part: str, between: str, end: str) -> None:
    """Number 47: as long as a rule may be, over as much as it may read, it takes seconds and not minutes."""
    parts: list[str] = []
    while parse(between.join([*parts, part.format(i=len(parts))]) + end).parts <= LIGHT:
        parts.append(part.format(i=len(parts)))
    rule = parse(between.join(parts) + end)
    assert not rule.heavy
    rows = judge_rules.LIGHT_BYTES // rule.parts // 24
    numbers = pl.int_range(rows, eager=True)
    table = pl.DataFrame({"x": numbers.cast(pl.Float64), "s": (numbers % 1_000_000).cast(pl.String)}).select(rule.columns)
    begun = time.monotonic()
    assert len(judge_rules.compute(rule.sql, table)) in (1, rows)
    assert time.monotonic() - begun < 40  # 0.2 to 2 s
