"""Documents as plain values with places: beside the standard library's JSON, which is YAML too, and at each limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import document
from noria.kernel.errors import ConfigError

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn", "Zl", "Zp"), exclude_characters="\ufeff"), max_size=20)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
TREES = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)))


def written(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


@settings(max_examples=80)
@given(value=TREES, indent=st.sampled_from([None, 2]))
def test_json_reads_as_json(value: Any, indent: int | None) -> None:
    found = document.read(written(value, indent).encode(), "x.yaml").plain()
    assert found == value
    assert repr(found) == repr(value), "types too: 1 is not 1.0, and 0.0 not -0.0"


@settings(max_examples=40)
@given(value=TREES)
def test_each_value_stands_where_its_place_says(value: Any) -> None:
    text = written(value, 1)
    lines = text.splitlines()

    def follow(item: document.DocumentItem, expected: Any) -> None:
        name, line, column = item.where.rsplit(":", 2)
        assert name == "dir/x.yaml"
        rest = lines[int(line) - 1][int(column) - 1 :]
        if isinstance(expected, dict):
            assert rest.startswith("{")
            for key, child in item.value.items():
                _, at, col = item.keys[key].rsplit(":", 2)  # type: ignore[index]  # a mapping has places of keys
                assert lines[int(at) - 1][int(col) - 1 :].startswith(written(key))
                follow(child, expected[key])
        elif isinstance(expected, list):
            assert rest.startswith("[")
            for child, wanted in zip(item.value, expected, strict=True):
                follow(child, wanted)
        else:
            assert rest.startswith(written(expected))

    follow(document.read(text.encode(), "dir/x.yaml"), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("n", "n"), ("1:30", "1:30"), ("0x1F", "0x1F"), ("0o17", "0o17"),
        ("017", 17),
        ("1_000", "1_000"), ("2024-01-02", "2024-01-02"), ("~", None), ("", None), ("NULL", None), ("nULL", "nULL"),
        ("TRUE", True),
        ("tRUE", "tRUE"), ("+5", 5), ("-0", 0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1E+3", 1000.0), ("e3", "e3"),
        (".", "."),
        ("1e309", "1e309"), ("-1e309", "-1e309"), (".inf", ".inf"), (".nan", ".nan"), ("1" * 300, int("1" * 300)),
        ("1" * 310, "1" * 310),
        ("٣", "٣"), ("1 2", "1 2"), ("--1", "--1"), ("<<", "<<"), ("=", "="),
    ],
)  # fmt: skip
def test_an_unquoted_word(text: str, value: Any) -> None:
    assert document.scalar(text) == value
    assert type(document.scalar(text)) is type(value)
    assert document.read(f"a: {text}\n".encode(), "x").plain() == {"a": value}
    assert document.read(f"a: '{text}'\n".encode(), "x").plain() == {"a": text}, "in quotes everything is text"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"), ("x${A}y${B}", "xoney two"), ("$${A}", "${A}"), ("$$${A}", "$${A}"), ("${A:-d}", "one"),
        ("${N:-d}", "d"),
        ("${N:-}", ""), ("${EMPTY:-d}", "d"), ("${EMPTY}", ""), ("$A", "$A"), ("a$", "a$"), ("${N:-a b:c}", "a b:c"),
        ("${N:-${A}", "${A"),
        ("${_x1}", "low"),
    ],
)  # fmt: skip
def test_variables_are_replaced(text: str, value: str) -> None:
    environ = {"A": "one", "B": " two", "EMPTY": "", "_x1": "low"}
    assert document.expand(text, environ, "x:1:1") == value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("${N}", "the environment has no variable N", "Set it, or write ${N:-default}."),
        ("${", "`${` is not followed by NAME} or NAME:-default}", "Write $${ for a plain ${."),
        ("${1}", "`${` is not followed by NAME} or NAME:-default}", "Write $${ for a plain ${."),
        ("${A-B}", "`${` is not followed by NAME} or NAME:-default}", "Write $${ for a plain ${."),
        ("${ä}", "`${` is not followed by NAME} or NAME:-default}", "Write $${ for a plain ${."),
    ],
)
def test_a_variable_that_is_not_there_or_no_variable(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        document.expand(text, {}, "noria.yaml:3:9")
    assert (caught.value.message, caught.value.where, caught.value.hint) == (message, "noria.yaml:3:9", hint)


def test_variables_are_replaced_at_the_paths_that_may_have_them() -> None:
    text = b"a:\n  b: $${x} ${V}\n  c: ${V}\nl:\n- ${V}\n- 2\nk: ${V}\n"
    found = document.read(text, "x", {"V": "v"}, {("a", "b"), ("l", document.EACH)}).plain()
    assert found == {"a": {"b": "${x} v", "c": "${V}"}, "l": ["v", 2], "k": "${V}"}


def test_what_came_from_the_environment_is_in_no_message_and_in_no_repr() -> None:
    item = document.read(b"url: pg://u:${PW}@h/${DB}\n", "x", {"PW": "s3cr'et", "DB": "ab"}, {("url",)}).value["url"]
    assert item.value == "pg://u:s3cr'et@h/ab"
    told = str(item.error(f"{item.value} and {item.value!r} cannot be reached", f"Look at {item.value}."))
    assert "s3cr" not in told
    assert told.count("${PW}") == 3
    assert "h/ab" in told, "two letters hide nothing, and would tear other words apart"
    assert "s3cr" not in repr(item).replace(repr(item.value), "")


@pytest.mark.parametrize(
    ("data", "message", "where"),
    [
        (b"a: 1\na: 2\n", "'a' is given twice; the first is at x:1:1", "x:2:1"),
        (b"[1, 2]: 3\n", "a key must be text", "x:1:1"),
        (b"? {a: 1}\n: 2\n", "a key must be text", "x:1:3"),
        (b"a: !!str 1\n", "tags are not allowed: tag:yaml.org,2002:str", "x:1:4"),
        (b"a: !python/object x\n", "tags are not allowed: !python/object", "x:1:4"),
        (b"a: [1\n", "is not YAML: ", "x:2:1"),
        (b"a: 'x\n", "is not YAML: ", None),
        (b"a: 1\n  b: 2\n", "is not YAML: ", "x:2:4"),
        (b"\ta: 1\n", "is not YAML: ", "x:1:1"),
        (b"a: *b\n", "is not YAML: ", "x:1:4"),
        (b"a: 1\n---\nb: 2\n", "is not YAML: ", None),
        (b"a: \xff\n", "is not UTF-8 text (byte 3)", "x"),
        (b"\xff\xfea\x00", "is not UTF-8 text (byte 0)", "x"),
        (b"#" * (document.SIZE_LIMIT + 1), "is larger than 1 MB", "x"),
    ],
)
def test_what_is_no_plain_document(data: bytes, message: str, where: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        document.read(data, "x")
    assert caught.value.message.startswith(message)
    assert caught.value.where == where or (where is None and (caught.value.where or "").startswith("x"))


def test_limits_are_where_they_are_said_to_be() -> None:
    deep = document.DEPTH_LIMIT
    assert document.read(b"[" * deep + b"]" * deep, "x").plain() is not None
    with pytest.raises(ConfigError, match="is nested deeper than 32 levels"):
        document.read(b"[" * (deep + 1) + b"]" * (deep + 1), "x")
    lines = b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for before, name in zip("abcd", "bcde", strict=True):
        lines += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n".encode()
    with pytest.raises(ConfigError, match="holds too many values once its aliases are followed"):
        document.read(lines, "x")
    with pytest.raises(ConfigError, match=r"holds too many values|is not YAML"):
        document.read(b"&a [*a]", "x")


@pytest.mark.parametrize("data", [b"", b"\n", b"# nothing\n", b"\xef\xbb\xbf", b"--- ~\n", b"~"])
def test_nothing_is_nothing(data: bytes) -> None:
    found = document.read(data, "x.yaml")
    assert (found.plain(), found.kind) == (None, "nothing")
    assert found.where.startswith("x.yaml:1:")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("recal", ["recall", "precision"], "Did you mean 'recall'?"),
        ("zzz", ["recall", "precision", "recall"], "Known here: recall, precision."),
        ("zzz", [], None),
        ("zzz", [f"aaaaaaaa{i}" for i in range(25)], None),
    ],
)
def test_the_nearest_word(word: str, known: list[str], hint: str | None) -> None:
    assert document.nearest(word, known) == hint


@pytest.mark.parametrize("length", [0, 59, 60, 61, 5000])
def test_what_is_shown_is_short(length: int) -> None:
    text = "x" * length
    found = document.shorten(text)
    assert len(found) == min(length, 60)
    assert found == text if length <= 60 else found.endswith("...")
