"""What --where may say: what it means, against Python's own evaluator, and what is said about what it may not."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel import where
from noria.kernel.errors import UsageError
from noria.pipeline import run_filter

FACTS: dict[str, Any] = {
    "id": "run-1",
    "kind": "trial",
    "outcome": "done",
    "note": "Halved the rate",
    "parent": None,
    "commit": "9f2c41d0" * 5,
    "started": "2026-11-21 14:30:05",
    "seconds": 12.5,
    "tag": ["baseline", "wide net"],
    "metrics": {"auc": 0.84, "val loss": 0.3, "broken": math.nan, "train.loss": 0.1},
    "params": {"train.lr": 0.05, "model": "gbm", "shuffle": True, "depth": None, "size": "10", "layers": [64, 32]},
}


def meets(text: str, facts: dict[str, Any] = FACTS) -> bool:
    return run_filter.matching(where.parse(text), [facts]) == [facts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.auc > 0.8", True),
        ("metrics.auc>0.84", False),
        ("metrics.auc >= 8.4e-1", True),
        ("metrics.auc != 0.84", False),
        ("metrics.train.loss < .2", True),
        ("metrics.`val loss` < 0.5", True),
        ('metrics."val loss" < 0.5', True),
        ("metrics.broken > 0", False),
        ("metrics.broken != 0", False),
        ("not metrics.broken > 0", False),
        ("metrics.broken is null", True),
        ("metrics.none != 0", False),
        ("params.train.lr <= 0.05", True),
        ("params.model = 'gbm'", True),
        ("params.model == 'gbm'", True),
        ("params.model != 'forest'", True),
        ("params.shuffle = true", True),
        ("params.shuffle = True", True),
        ("params.shuffle != false", True),
        ("params.depth is null", True),
        ("params.depth is not null", False),
        ("params.depth > 3", False),
        ("params.size = '10'", True),
        ("try_cast(params.size as double) > 5", True),
        ("params.layers ~ '64, 32'", True),
        ("tag = 'baseline'", True),
        ("tag = 'base'", False),
        ("tag ~* 'BASE'", True),
        ("tag = 'wide net'", True),
        ("tag != 'baseline'", False),
        ("tag != 'other'", True),
        ("tag in ('other', 'wide net')", True),
        ("tag not in ('other', 'wide net')", False),
        ("note ~ 'the rate'", True),
        ("note like 'Halved%'", True),
        ("kind = 'trial' and outcome = 'done'", True),
        ("parent = 'run-0'", False),
        ("parent is null", True),
        ("commit ~ '9f2c41'", True),
        ("started >= '2026-11-21'", True),
        ("started < '2026-11-21T14:30'", False),
        ("'2026-11-21T14:31' > started", True),
        ("started < '2026-11-22'", True),
        ("seconds between 12 and 13", True),
        ("kind = 'turn' or kind = 'trial' and seconds > 100", False),
        ("(kind = 'turn' or kind = 'trial') and seconds > 10", True),
        ("NOT (kind = 'turn') AND tag = 'baseline'", True),
        ("not not kind = 'trial'", True),
        ("METRICS.auc > 0", True),
        ("true", True),
    ],
)
def test_a_condition_means(text: str, expected: bool) -> None:
    assert meets(text) is expected


@pytest.mark.parametrize(
    ("text", "message", "column", "hint"),
    [
        ("", "a column or a value is missing", 1, "Write for example"),
        ("auc > 0.8", "no field 'auc'", 1, "metrics.auc"),
        ("metric.auc > 0.8", "no field 'metric.auc'", 1, "Did you mean metrics.auc?"),
        ("metrics.auc > 0.8 and tags = 'x'", "no field 'tags'", 23, "Did you mean tag?"),
        ("metrics. > 0.8", "'.' is not understood", 8, ""),
        ("metrics.auc > high", "no field 'high'", 15, "single quotes: 'high'"),
        ("metrics.auc > '0.8'", "metrics.auc is a number", 13, ""),
        ("seconds > 'long'", "seconds is a number", 9, ""),
        ("metrics.auc > ", "a column or a value is missing", 15, ""),
        ("metrics.auc > 0.8 tag = 'x'", "'tag' is not expected", 19, ""),
        ("(tag = 'x'", "expected ), the text ends", 11, ""),
        ("tag = 'x')", "')' is not expected", 10, ""),
        ("tag = 'x", "it is not closed", 7, ""),
        ("tag = x", "no field 'x'", 7, "single quotes: 'x'"),
        ('tag = "wide net"', "no field 'wide net'", 7, "single quotes: 'wide net'"),
        ("parent = run-01a1", "no field 'run'", 10, "single quotes: 'run-01a1'"),
        ("note ~ it's", "it is not closed", 10, ""),
        ("started >= 2026-11-21", "2026-11-21 is no number", 12, "single quotes: '2026-11-21'"),
        ("started >= 2026-11-21T10:30", "is no number", 12, "single quotes: '2026-11-21T10:30'"),
        ("params.depth = null", "nothing is equal to null", 14, "Write `is null`."),
        ("params.depth != null", "nothing is equal to null", 14, "Write `is not null`."),
        ("params.depth = none", "no field 'none'", 16, "`is null`"),
        ("metrics.val-loss > 1", "no field 'loss'", 13, 'metrics."val-loss"'),
        ("tag = 'x'; drop table runs", "';' is not understood", 10, ""),
        ("tag = 'x' -- all", "'-' is not understood", 11, ""),
        ("kind = (select 1)", "'select' is not expected", 9, ""),
        ("read_csv('/etc/passwd')", "is no function that a query may use", 1, ""),
        ("replace(note, 'a', 'bb') = ''", "is no function that a query may use", 1, ""),
        ("(" * 60 + "tag = 'x'" + ")" * 60, "more than 20 deep", 21, ""),
        ("tag in (" + "1," * 500 + "1)", "more than 400", 1, ""),
        ("::int" * 9, "is not expected", 1, ""),
        ("kind" + "::int" * 9 + " = 1", "9 conversions", 1, ""),
        ("x" * 10_000_000, "at most 4,000 characters", 4001, ""),
        ("metrics.a\x00b > 1", "is not understood", 10, ""),
    ],
)
def test_what_cannot_be_read_is_told_with_its_column(text: str, message: str, column: int, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        where.parse(text)
    assert message in caught.value.message
    assert caught.value.where == f"--where, column {column}"
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("kind = 'trial' and params.model > 3", "text is compared with a number", 33),
        ("metrics.auc > kind", "a number is compared with text", 13),
        ("metrics.auc", "neither true nor false", 1),
        ("note ~ '('", "cannot be computed", 6),
        ("exp(kind) > 1", "cannot be computed", 1),
        ("case when kind then 1 end", "cannot be computed", 1),
        ("metrics.auc in ('a')", "cannot be computed", 1),
    ],
)
def test_what_cannot_be_computed_is_told_with_its_column(text: str, message: str, column: int) -> None:
    with pytest.raises(UsageError) as caught:
        meets(text)
    assert message in caught.value.message
    assert (caught.value.where, "?" in caught.value.message) == (f"--where, column {column}", False)


SIGNS = list("()'\"`.,;-+*/=<>~|: ")
WORDS = ["and", "or", "not", "null", "metrics.auc", "params.size", "tag", "note", "kind", "'x'", "1", "2026-11-21", "in", "is"]
PHRASES = ["between", "like", "cast(", "::int", "case when", "then", "end", "count(*)", "~*", "as", "is not"]
SCRAPS = st.sampled_from([*SIGNS, *WORDS, *PHRASES])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(SCRAPS, max_size=12).map(" ".join)))
def test_any_text_is_a_condition_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert meets(text) in (True, False)


def trees() -> st.SearchStrategy[Any]:
    """Nested lists: [name, op, number], ["not", tree], ["and" | "or", trees]."""
    leaf = st.tuples(st.sampled_from("abc"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-2, 2))
    return st.recursive(
        leaf.map(list),
        lambda inner: st.one_of(
            inner.map(lambda t: ["not", t]),
            st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)).map(list),
        ),
        max_leaves=8,
    )


def as_query(tree: list[Any]) -> str:
    if tree[0] == "not":
        return f"not ({as_query(tree[1])})"
    if tree[0] in ("and", "or"):
        return f" {tree[0]} ".join(f"({as_query(t)})" for t in tree[1])
    return f"metrics.{tree[0]} {tree[1]} {tree[2]}"


def as_python(tree: list[Any]) -> str:
    if tree[0] == "not":
        return f"(not {as_python(tree[1])})"
    if tree[0] in ("and", "or"):
        return "(" + f" {tree[0]} ".join(as_python(t) for t in tree[1]) + ")"
    return f"({tree[0]} {'==' if tree[1] == '=' else tree[1]} {tree[2]})"


@settings(deadline=None)
@given(tree=trees(), values=st.tuples(*[st.integers(-2, 2)] * 3))
def test_a_condition_says_what_python_would(tree: list[Any], values: tuple[int, int, int]) -> None:
    names = dict(zip("abc", values, strict=True))
    found = meets(as_query(tree), {"metrics": {k: float(v) for k, v in names.items()}})
    assert found is bool(eval(as_python(tree), {}, names))


def test_the_order_of_runs() -> None:
    up, down = where.parse_order("metrics.auc"), where.parse_order("-metrics.auc")
    assert (up.field, up.descending, down.descending) == (where.QueryField("metrics", "auc", 1), False, True)
    assert where.rank(up, FACTS) == (0, 0.84, "")
    assert where.rank(where.parse_order("metrics.broken"), FACTS) is None
    assert where.rank(where.parse_order("params.model"), FACTS) == (1, 0.0, "gbm")
    for text in ("metrics.`val loss`", 'metrics."val loss"'):
        assert where.rank(where.parse_order(text), FACTS) == (0, 0.3, "")
    assert str(where.parse_order("-metrics.val-loss").field) == "metrics.val-loss"
    for wrong in ("metrics.auc desc", "auc", "metrics.", "", "-", "x" * 1_000_000):
        with pytest.raises(UsageError, match="no field") as caught:
            where.parse_order(wrong)
        assert (caught.value.where, len(caught.value.message) < 200) == ("--sort, column 1", True)
