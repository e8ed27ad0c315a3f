"""A step's log: its beginning and its end are kept, whatever it prints and in whatever pieces; the last lines for people."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.pipeline.executors import log as module
from noria.pipeline.executors.log import SHOWN_LINES, Log


def written(pieces: list[bytes]) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "below" / "step.log"
        with Log(path) as made:
            for piece in pieces:
                made.write(piece)
        return path.read_bytes(), made.tail()


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_what_fits_is_kept_whole_in_any_pieces(pieces: list[bytes]) -> None:
    content, tail = written(pieces)
    whole = b"".join(pieces)
    assert content == whole
    assert tail == written([whole])[1] == written([whole[n : n + 1] for n in range(len(whole))])[1]


@settings(max_examples=40)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=30))
def test_of_much_the_beginning_and_the_end_are_kept_and_the_gap_is_told(pieces: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HEAD_BYTES", 64)
        patch.setattr(module, "TAIL_BYTES", 32)
        content, _ = written(pieces)
    whole = b"".join(pieces)
    head, mark, rest = content.partition(b"\n... ")
    if not mark or b" bytes left out ...\n" not in rest:
        assert content == whole
        return
    count, _, tail = rest.partition(b" bytes left out ...\n")
    assert head == whole[:64]
    assert whole.endswith(tail)
    assert len(tail) <= 32
    assert len(head) + int(count.replace(b",", b"")) + len(tail) == len(whole)


def test_people_see_the_last_lines() -> None:
    lines = [f"line {n}" for n in range(100)]
    assert written([f"{line}\n".encode() for line in lines])[1].splitlines() == lines[-SHOWN_LINES:]
    assert written([b"\xff\xfe no text\n"])[1] == "\ufffd\ufffd no text"
    assert len(written([b"x" * 1_000_000])[1]) == module.SHOWN_CHARACTERS
