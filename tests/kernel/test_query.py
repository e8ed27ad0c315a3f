"""Queries over runs: what they mean, against an evaluator that is written another way, and what is said about wrong ones."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel import query
from noria.kernel.errors import UsageError

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.auc > 0.8", True),
        ("metrics.auc>0.84", False),
        ("metrics.auc >= 8.4e-1", True),
        ("metrics.auc != 0.84", False),
        ("metrics.train.loss < .2", True),
        ("metrics.`val loss` < 0.5", True),
        ("metrics.broken > 0", False),
        ("metrics.broken < 0", False),
        ("metrics.broken != 0", False),
        ("not metrics.broken > 0", True),
        ("metrics.none != 0", False),
        ("not metrics.none = 0", True),
        ("params.train.lr <= 0.05", True),
        ("params.model = gbm", True),
        ("params.model == 'gbm'", True),
        ("params.model != forest", True),
        ("params.model > 3", False),
        ("params.shuffle = true", True),
        ("params.shuffle = True", True),
        ("params.shuffle != false", True),
        ("params.shuffle > 0", False),
        ("params.depth = null", True),
        ("params.depth != null", False),
        ("params.depth > 3", False),
        ("params.size = 10", True),
        ("params.size > 5", False),
        ("params.layers ~ '64, 32'", True),
        ("params.train.lr = 'x'", False),
        ("params.train.lr != 'x'", True),
        ("tag = baseline", True),
        ("tag = base", False),
        ("tag ~ BASE", True),
        ('tag = "wide net"', True),
        ("tag != baseline", False),
        ("tag != other", True),
        ("note ~ 'the rate'", True),
        ("kind = trial and outcome = done", True),
        ("parent = run-0", False),
        ("commit ~ 9f2c41", True),
        ("started >= 2026-11-21", True),
        ("started < '2026-11-21T14:30'", False),
        ("started < 2026-11-22", True),
        ("seconds < 13", True),
        ("kind = turn or kind = trial and seconds > 100", False),
        ("(kind = turn or kind = trial) and seconds > 10", True),
        ("NOT (kind = turn) AND tag = baseline", True),
        ("not not kind = trial", True),
    ],
)
def test_a_query_means(text: str, expected: bool) -> None:
    assert query.matches(query.parse(text), FACTS) is expected


@pytest.mark.parametrize(
    ("text", "message", "column", "hint"),
    [
        ("", "a field is expected", 1, "Write for example"),
        ("auc > 0.8", "no field 'auc'", 1, "metrics.auc"),
        ("metric.auc > 0.8", "no field 'metric.auc'", 1, "Did you mean metrics.auc?"),
        ("metrics.auc > 0.8 and tags = x", "no field 'tags'", 23, "Did you mean tag?"),
        ("metrics. > 0.8", "no field 'metrics.'", 1, ""),
        ("metrics.auc", "one of = != < <= > >= ~, not the end", 12, ""),
        ("metrics.auc > high", "metrics.auc is a number", 15, ""),
        ("metrics.auc > '0.8'", "metrics.auc is a number", 15, ""),
        ("metrics.auc > nan", "metrics.auc is a number", 15, ""),
        ("seconds > long", "seconds is a number", 11, ""),
        ("metrics.auc > ", "comes a value, not the end", 15, ""),
        ("metrics.auc > 0.8 tag = x", "'tag' was not expected here", 19, "and"),
        ("(tag = x", "a closing bracket is missing before the end", 9, ""),
        ("tag = x)", "')' was not expected", 8, ""),
        ("tag = 'x", "comes a value", 7, ""),
        ("tag = x; drop table runs", "'; drop table runs' was not expected", 8, ""),
        ("tag = x and", "a field is expected", 12, ""),
        ("tag in x", "one of = !=", 5, ""),
        ("(" * 60 + "tag = x" + ")" * 60, "more than 50 brackets", 52, ""),
        ("not " * 60 + "tag = x", "more than 50 brackets", 205, ""),
    ],
)
def test_a_wrong_query_is_told_with_its_column(text: str, message: str, column: int, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        query.parse(text)
    assert message in caught.value.message
    assert caught.value.where == f"--where, column {column}"
    assert hint in (caught.value.hint or "")


def test_a_query_has_a_length() -> None:
    with pytest.raises(UsageError, match="at most 4,000"):
        query.parse("tag = x and " * 1000)


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert query.matches(query.parse(text), FACTS) in (True, False)


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


@given(tree=trees(), values=st.tuples(*[st.integers(-2, 2)] * 3))
def test_a_query_says_what_python_would(tree: list[Any], values: tuple[int, int, int]) -> None:
    names = dict(zip("abc", values, strict=True))
    found = query.matches(query.parse(as_query(tree)), {"metrics": {k: float(v) for k, v in names.items()}})
    assert found is bool(eval(as_python(tree), {}, names))


@given(st.tuples(*[st.booleans()] * 3))
def test_and_binds_closer_than_or(values: tuple[bool, bool, bool]) -> None:
    facts = {"metrics": {n: float(v) for n, v in zip("abc", values, strict=True)}}
    a, b, c = values
    assert query.matches(query.parse("metrics.a = 1 or metrics.b = 1 and metrics.c = 1"), facts) is (a or (b and c))
    assert query.matches(query.parse("metrics.a = 1 and metrics.b = 1 or metrics.c = 1"), facts) is ((a and b) or c)


def test_the_order_of_runs() -> None:
    up, down = query.parse_order("metrics.auc"), query.parse_order("-metrics.auc")
    assert (up.field, up.descending, down.descending) == (query.Field("metrics", "auc", 1), False, True)
    assert query.rank(up, FACTS) == (0, 0.84, "")
    assert query.rank(query.parse_order("metrics.broken"), FACTS) is None
    assert query.rank(query.parse_order("params.model"), FACTS) == (1, 0.0, "gbm")
    with pytest.raises(UsageError, match="not expected here"):
        query.parse_order("metrics.auc desc")
