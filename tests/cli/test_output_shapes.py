"""How commands print: text that drives no terminal, tables whose columns stand, sizes at their borders, YAML that reads back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from noria.cli.output import cells_of, emit, emit_error, fill, plain, table
from noria.cli.scalar import scalar
from noria.kernel.errors import NotFoundError

texts = st.text(max_size=30)


@given(texts)
def test_plain_text_is_one_printable_line(text: str) -> None:
    found = plain(text)
    assert all(c.isprintable() for c in found)
    assert plain(found) == found
    kept = plain(text, lines=True)
    assert all(c.isprintable() or c == "\n" for c in kept)
    assert kept.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\x1b[31mred", "a\ufffd[31mred"), ("two\nlines\tand  tabs", "two lines and tabs"), ("\u202eright", "\ufffdright")],
)
def test_what_would_drive_a_terminal_is_taken_out(text: str, said: str) -> None:
    assert plain(text) == said


@given(st.lists(st.tuples(texts, st.integers(-10, 10**9), texts), max_size=6))
def test_columns_begin_where_their_heads_do(rows: list[tuple[str, int, str]]) -> None:
    head, *lines = table(("name", "count", "why"), rows).splitlines()
    assert len(lines) == len(rows)  # in a pipe every row is one line
    head = head.replace("\x1b[2m", "").replace("\x1b[0m", "")
    second, third = head.index("count"), head.index("why")
    for (name, count, why), line in zip(rows, lines, strict=True):
        told = fill(plain(name), second - 2) + "  " + fill(str(count), third - second - 2) + "  "
        assert line == (told + plain(why)).rstrip()
        assert cells_of(told) == third


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20))
def test_a_scalar_reads_back_as_its_text(text: str) -> None:
    made = scalar(text)
    assert "\n" not in made
    assert yaml.safe_load(made) == text
    assert yaml.safe_load(f"[{made}, other]") == [text, "other"]


@pytest.mark.parametrize(
    "text", ["yes", "1", "1e3", "null", "~", "a: b", "# no", "- x", "2026-11-30", "'", '"', "{a}", "*x", "", " "]
)
def test_text_that_yaml_would_read_as_something_else(text: str) -> None:
    assert yaml.safe_load(scalar(text)) == text


def test_programs_get_one_document_and_people_their_text(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> Any:
        raise AssertionError("it is not asked for")

    emit(True, {"a": 1, "b": "ä"}, never)
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": "ä"}
    emit(False, never, lambda: "text\n\n")
    assert capsys.readouterr().out == "text\n"


def test_an_error_goes_to_its_reader(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFoundError("there is no \x1b[1m row", where="noria.yaml:3", hint="Write one.")
    emit_error(error, False)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: noria.yaml:3: there is no \ufffd[1m row\n  Write one.\n")
    emit_error(error, True)
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["error"] == {
        "kind": "NotFoundError",
        "message": "there is no \x1b[1m row",
        "where": "noria.yaml:3",
        "hint": "Write one.",
        "exit_code": 2,
    }
