"""The expressions of contracts: what they mean, beside SQLite; and that whatever is written is read or refused with its place."""

from __future__ import annotations

import contextlib
import sqlite3
import string

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.expression import CASTS, FUNCTIONS, HEAVY, LONGEST, PARTS, TYPES, WORDS, ExpressionError, parse

ROWS = [(a, b, c) for a in (None, -2, 0, 3) for b in (None, -1, 0, 3) for c in (None, 1, 7)]
TABLE = pl.DataFrame(ROWS, schema={"a": pl.Int64, "b": pl.Int64, "c": pl.Int64}, orient="row")


@pytest.fixture(scope="module")
def sqlite() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (a INTEGER, b INTEGER, c INTEGER)")
    database.executemany("INSERT INTO t VALUES (?, ?, ?)", ROWS)
    return database


def joined(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The parts with a space between: no brackets, so that it is the order of operators that decides."""
    return st.tuples(*[st.just(part) if isinstance(part, str) else part for part in parts]).map(" ".join)


ATOMS = st.sampled_from(["a", "b", "c", "0", "1", "2", "7"])


def _values(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        joined(inner, st.sampled_from(["+", "-", "*"]), inner),
        joined("-", inner),
        joined("(", inner, ")"),
        joined("abs (", inner, ")"),
        joined("coalesce (", inner, ",", inner, ")"),
        joined("CASE WHEN", inner, "<", inner, "THEN", inner, "ELSE", inner, "END"),
    )


VALUES = st.recursive(ATOMS, _values, max_leaves=5)
TESTS = st.one_of(
    joined(VALUES, st.sampled_from(["=", "==", "!=", "<>", "<", "<=", ">", ">="]), VALUES),
    joined(VALUES, st.sampled_from(["BETWEEN", "not between"]), VALUES, "AND", VALUES),
    joined(VALUES, st.sampled_from(["in", "NOT IN"]), "( 0 , 3 , -1 )"),
    joined(VALUES, st.sampled_from(["IS NULL", "is not null"])),
    joined(VALUES, st.sampled_from(["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]), VALUES),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(joined(inner, st.sampled_from(["AND", "or"]), inner), joined("NOT", inner), joined("(", inner, ")")),
    max_leaves=4,
)


@settings(max_examples=200)
@given(text=CONDITIONS)
def test_a_condition_means_what_sqlite_says(text: str, sqlite: sqlite3.Connection) -> None:
    """Also where nothing but the order of operators says what belongs together, and where values are missing."""
    expected = [None if found is None else bool(found) for (found,) in sqlite.execute(f"SELECT {text} FROM t ORDER BY rowid")]
    found = TABLE.select(found=pl.sql_expr(parse(text).sql).cast(pl.Boolean))["found"].to_list()
    assert found * (len(ROWS) // len(found)) == expected, parse(text).sql


@settings(max_examples=60)
@given(text=CONDITIONS)
def test_what_is_given_to_the_engine_reads_as_itself(text: str) -> None:
    """Its text is an expression of the language too, of the same columns, and stays the same when it is read once more."""
    with contextlib.suppress(ExpressionError):  # its brackets may be too many
        once = parse(text)
        again = parse(once.sql)
        assert again.columns == once.columns
        assert parse(again.sql).columns == once.columns


@given(st.text(alphabet=string.printable + "äß€🙂\0", max_size=40))
def test_any_text_is_read_or_refused_at_a_place_within(text: str) -> None:
    refusal = None
    try:
        parse(text)
    except ExpressionError as error:
        refusal = error
    if refusal is not None:
        assert 1 <= refusal.position <= len(text) + 1
        assert str(refusal).startswith(f"at character {refusal.position}: ")


@given(st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name))
def test_a_column_may_have_any_name_in_quotes(name: str) -> None:
    """A quote within is doubled, and no name gets out of its quotes."""
    found = parse('"' + name.replace('"', '""') + '" = 1')
    assert found.columns == (name,)
    assert found.sql == '("' + name.replace('"', '""') + '" = 1)'


@pytest.mark.parametrize(("text", "column"), [("`a b`", "a b"), ('`a"b`', 'a"b'), ("ärger", "ärger"), ("_x1", "_x1")])
def test_a_column_in_backquotes_and_in_letters(text: str, column: str) -> None:
    assert parse(f"{text} > 0").columns == (column,)


def test_each_column_is_named_once_in_the_order_of_the_text() -> None:
    assert parse("b > a AND a > c OR b IS NULL").columns == ("b", "a", "c")
    assert parse("count(*) = 3").columns == ()


@pytest.mark.parametrize("word", sorted(WORDS - {"case", "cast", "try_cast", "true", "false", "null", "not"}))
def test_a_word_of_the_language_is_no_column(word: str) -> None:
    with pytest.raises(ExpressionError, match="is not expected here; a column of that name stands in double quotes"):
        parse(f"{word} > 1")
    assert parse(f'"{word}" > 1').columns == (word,)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_type_that_is_offered_is_one_of_the_engine(kind: str) -> None:
    found = parse(f"CAST(NULL AS {kind}) IS NULL AND NULL::{kind.upper()} IS NULL")
    assert TABLE.select(found=pl.sql_expr(found.sql))["found"].to_list()[0] is True


@pytest.mark.parametrize("part", sorted(PARTS))
def test_every_part_of_a_time_that_is_offered_is_one_of_the_engine(part: str) -> None:
    sql = parse(f"EXTRACT({part} FROM t) IS NOT NULL").sql
    times = pl.DataFrame({"t": ["2024-02-29 23:59:58"]}).select(pl.col("t").str.to_datetime())
    assert times.select(found=pl.sql_expr(sql))["found"].to_list() == [True]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("a IS 3", 6, "after IS comes [NOT] NULL, TRUE, FALSE or DISTINCT FROM"),
        ("a IS DISTINCT 3", 15, "expected FROM, found '3'"),
        ("a IN 1", 6, "expected (, found '1'"),
        ("a IN ()", 7, "')' is not expected"),
        ("a NOT = 1", 3, "'NOT' is not expected here"),
        ("CASE a END", 8, "CASE needs a WHEN"),
        ("CASE WHEN a THEN 1", 19, "expected END, the text ends"),
        ("EXTRACT(eon FROM a)", 9, "'eon' is no part of a time; there are century, day"),
        ("CAST(a INT)", 8, "expected AS, found 'INT'"),
        ("cuont(*)", 1, "'cuont' is no function that a rule may use; did you mean count?"),
        ("zzzzzz(a)", 1, "'zzzzzz' is no function that a rule may use"),
        ("sum(*)", 5, "'*' is not expected"),
        ("a b", 3, "'b' is not expected here"),
        ("a > 'it''s", 5, '"\'" is not understood: it is not closed'),
        ('a > "b', 5, "'\"' is not understood: it is not closed"),
        ("a > `b", 5, "'`' is not understood: it is not closed"),
        ('"" = 1', 1, "it is not closed"),
        ("a @ b", 3, "'@' is not understood"),
        ("a --b", 3, "'-' is not understood"),
        ("a\n\n> $", 6, "'$' is not understood"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.position == position
    assert words in str(caught.value)


def test_what_costs_the_engine_is_heavy_from_its_limit_on() -> None:
    assert not parse("+".join(["a"] * 50)).heavy
    assert parse("+".join(["a"] * 50)).parts == 99
    assert parse("+".join(["a"] * 51)).heavy
    assert not parse("a" + "::int" * CASTS).heavy
    assert parse("a" + "::int" * (CASTS + 1)).heavy
    for light in ("a || b", "a LIKE 'x'", "a ~ 'x'", "a !~* 'x'", "a RLIKE 'x'", *(f"{name}(a)" for name in HEAVY)):
        assert parse(light).heavy, light
    for name in FUNCTIONS - HEAVY:
        assert not parse(f"{name}(a)").heavy, name


def test_the_length_is_bounded_to_the_character() -> None:
    assert parse("a" * LONGEST).columns == ("a" * LONGEST,)
    with pytest.raises(ExpressionError, match="an expression has at most 4,000 characters"):
        parse("a" * LONGEST + " ")


@pytest.mark.parametrize(("text", "value"), [(".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("2.5E-1", 0.25), ("0007", 7)])
def test_numbers_as_people_write_them(text: str, value: float) -> None:
    assert TABLE.head(1).select(found=pl.sql_expr(parse(f"{text} = {value!r}").sql))["found"].to_list() == [True]
