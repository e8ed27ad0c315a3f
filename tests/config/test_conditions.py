"""The conditions of steps: what they mean, beside Python itself, and that nothing of Python gets in with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import condition
from noria.kernel.errors import ConfigError

PARAMS: dict[str, Any] = {
    "quick": False,
    "model": "hgb",
    "size": 3,
    "rate": 0.1,
    "none": None,
    "layers": [64, 32],
    "train": {"deep": True, "net": {"width": 128}},
}
VALUES = SimpleNamespace(**{**PARAMS, "train": SimpleNamespace(deep=True, net=SimpleNamespace(width=128))})
NUMBERS = st.sampled_from(["size", "rate", "train.net.width", "0", "3", "-1", "0.1", "128", "quick", "train.deep"])
ANY = st.one_of(NUMBERS, st.sampled_from(["model", "'hgb'", '"gbm"', "none", "null", "[64, 32]", "(1, 2)", "layers", "''"]))
TESTS = st.one_of(
    ANY,
    st.tuples(ANY, st.sampled_from(["==", "!="]), ANY).map(" ".join),
    st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">="]), NUMBERS).map(" ".join),
    st.tuples(NUMBERS, st.sampled_from(["<", "<="]), NUMBERS, st.sampled_from(["<", "=="]), NUMBERS).map(" ".join),
    st.tuples(ANY, st.sampled_from(["in", "not in"]), st.sampled_from(["[1, 3]", "(0.1,)", "['hgb', null]", "layers", "[]"])).map(
        " ".join
    ),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda text: f"not {text}"),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(CONDITIONS)
def test_a_condition_says_what_python_would(text: str) -> None:
    names = {**vars(VALUES), "true": True, "false": False, "null": None}
    # The parameters are plain lists, and a list in a condition stands for a tuple too.
    assert condition.holds(text, PARAMS) is bool(eval(text.replace("(1, 2)", "[1, 2]"), {"__builtins__": {}}, names))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("true", True), ("false", False), ("null", False), ("train.deep", True), ("not quick", True), ("0", False),
        ("''", False),
        ("none == null", True), ("model == 'hgb' and not quick", True), ("size in [1, 2]", False), ("1 < size < 4", True),
        ("64 in layers", True), ("'g' in model", True), ("train.net.width >= 128", True), ("-size < -2", True),
        ("layers == [64, 32]", True),
    ],
)  # fmt: skip
def test_conditions_of_the_docs(text: str, holds: bool) -> None:
    assert condition.holds(text, PARAMS) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "model.upper()", "size + 1", "10 ** 10 ** 10", "layers[0]", "lambda: 1",
        "[x for x in layers]",
        "{1: 2}", "{1}", "f'{model}'", "a if size else b", "size is None", "~size", "b'x'", "1j", "...", "size == [*layers]",
        "(size := 1)",
        "await size", "model.upper",
    ],
)  # fmt: skip
def test_nothing_is_computed_but_comparisons(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        condition.holds(text, PARAMS)
    assert any(
        words in caught.value.message
        for words in ("is not allowed in a condition", "is not a condition", "there is no parameter")
    )
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("size >", "'size >' is not a condition", condition.HINT),
        ("", "'' is not a condition", condition.HINT),
        ("size == \0", "'size == \\x00' is not a condition", condition.HINT),
        ("size < model", "'size < model' compares what cannot be compared: '<' not supported", condition.HINT),
        ("size in 3", "'size in 3' compares what cannot be compared: argument of type 'int'", condition.HINT),
        ("-model", "'-model' compares what cannot be compared: bad operand type for unary -", condition.HINT),
        ("modle == 'hgb'", "there is no parameter 'modle'", "Did you mean 'model'?"),
        ("train.depe", "there is no parameter 'train.depe'", "Did you mean 'train.deep'?"),
        ("model.x", "there is no parameter 'model.x'", "Did you mean 'model'?"),
        ("size + 1 > 2", "'size + 1' is not allowed in a condition", condition.HINT),
    ],
)
def test_what_is_wrong_is_told(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        condition.holds(text, PARAMS)
    assert caught.value.message.startswith(message)
    assert caught.value.hint == hint


@pytest.mark.parametrize("deep", [50, 500, 1200, 3000, 20_000])
@pytest.mark.parametrize(
    ("repeated", "end"), [("not ", "size"), ("-", "1"), ("(", "1"), ("[", "1"), ("size.", "x"), ("size<", "1")]
)
def test_depth_gives_an_answer_or_an_error_for_people(repeated: str, end: str, deep: int) -> None:
    text = repeated * deep + end + {"(": ")", "[": "]"}.get(repeated, "") * deep
    message = ""
    try:
        condition.holds(text, PARAMS)
    except ConfigError as error:
        message = error.message
    assert len(message) < 200, "the whole text is no message"


@settings(max_examples=40)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.dictionaries(st.sampled_from("xyz"), st.integers())))
def test_every_known_name_is_found(params: dict[str, dict[str, int]]) -> None:
    known = condition.dotted_names(params)
    assert len(known) == len(set(known)) == len(params) + sum(map(len, params.values()))
    for name in known:
        head, _, tail = name.partition(".")
        assert condition.find(params, name) == (params[head][tail] if tail else params[head])
    with pytest.raises(KeyError):
        condition.find(params, "a.b.c.d")
