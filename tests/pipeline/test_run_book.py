"""Runs and their series in the ledger: found by the beginning of an id, the newest equal work, tags and notes, two projects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.kernel.errors import NotFoundError, UsageError
from noria.kernel.pins import Pins
from noria.pipeline.run import Run, RunKind
from noria.pipeline.run_store import RunStore
from noria.pipeline.series_store import SeriesStore
from noria.storage.ledger import Ledger

PINS = Pins(commit="c", dirty=None, snapshots={"points": "s"}, params="p", config="f", environment="e")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path)
    for project in ("p", "q"):
        made.projects.ensure(project, project)
    yield made
    made.close()


def put(ledger: Ledger, name: str, at: float = 0.0, outcome: str = "promoted", pins: Pins = PINS, **more: object) -> Run:
    made = Run(name, "p", None, pins, at, at + 1, outcome)
    made = replace(made, **more)
    RunStore(ledger, "p").put(made)
    return made


def test_a_run_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    runs = {name: put(ledger, name) for name in ("run-aa1", "run-aa2", "run-b", "run-b2")}
    put(ledger, "run-c", project="q")
    assert RunStore(ledger, "p").find("run-aa1") == runs["run-aa1"]
    assert RunStore(ledger, "p").find("run-b") == runs["run-b"]  # whole, though another begins so
    assert RunStore(ledger, "p").find("run-b2") == runs["run-b2"]
    for ref, message in [
        ("run-a", "run-a may be any of run-aa1, run-aa2"),
        ("run-c", "there is no run run-c"),
        ("run-%", "there is no run run-%"),
        ("RUN-B", "there is no run RUN-B"),
    ]:
        with pytest.raises(NotFoundError) as told:
            RunStore(ledger, "p").find(ref)
        assert told.value.message == message
    for number in range(9):
        put(ledger, f"run-x{number}")
    with pytest.raises(NotFoundError, match="may be any of run-x0, run-x1, run-x2, run-x3, run-x4 and others"):
        RunStore(ledger, "p").find("run-x")


def test_equal_work_is_the_newest_turn_with_exactly_these_pins(ledger: Ledger) -> None:
    put(ledger, "run-1", 1.0)
    newest = put(ledger, "run-2", 2.0)
    put(ledger, "run-3", 3.0, outcome="error")
    put(ledger, "run-4", 4.0, kind=RunKind.EXPERIMENT)
    put(ledger, "run-5", 5.0, project="q")
    put(ledger, "run-6", 6.0, pins=replace(PINS, dirty="d"))
    assert RunStore(ledger, "p").latest(PINS, {"promoted"}) == newest
    assert RunStore(ledger, "p").latest(PINS, {"gate failed"}) is None
    for field, value in {"commit": None, "params": "x", "config": "x", "environment": "x", "snapshots": {}}.items():
        assert RunStore(ledger, "p").latest(replace(PINS, **{field: value}), {"promoted"}) is None
    assert RunStore(ledger, "p").counts() == {RunKind.TURN: 4, RunKind.EXPERIMENT: 1}


def test_tags_and_notes_are_a_person_s(ledger: Ledger) -> None:
    put(ledger, "run-1", tags=("first",))
    assert RunStore(ledger, "p").tag("run-1", add=("b", "a", "b", "first")).tags == ("first", "b", "a")
    assert RunStore(ledger, "p").tag("run-1", add=("c",), remove=("first", "nothing")).tags == ("b", "a", "c")
    for bad in ("", "  ", "two\nlines", "x" * 201, "\x1b[31m"):
        with pytest.raises(UsageError, match="a tag is one line of at most 200 characters"):
            RunStore(ledger, "p").tag("run-1", add=("fine", bad))
    assert RunStore(ledger, "p").get("run-1").tags == ("b", "a", "c")  # nothing of a refused call stays
    assert RunStore(ledger, "p").write_note("run-1", "second").note == "second"
    for act in (
        lambda: RunStore(ledger, "p").tag("run-9", add=("a",)),
        lambda: RunStore(ledger, "p").write_note("run-9", "x"),
    ):
        with pytest.raises(NotFoundError) as told:
            act()
        assert (told.value.message, told.value.hint) == ("there is no run run-9", "`noria runs` lists them.")


points = st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e9, 1e9)), max_size=4)
series = st.dictionaries(st.sampled_from(["loss", "auc", "a.b"]), points, max_size=3)


@settings(max_examples=8)
@given(st.lists(st.tuples(st.sampled_from(["train", "search"]), series), max_size=5))
def test_a_step_s_series_take_the_place_of_what_it_logged_before(
    logged: list[tuple[str, dict[str, list[tuple[float, float]]]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder))
        ledger.projects.ensure("p", "p")
        due: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for step, found in logged:
            SeriesStore(ledger, "p").put("run-1", step, found)
            due[step] = found
        assert SeriesStore(ledger, "p").of_run("run-1") == {step: found for step, found in due.items() if found}
        assert SeriesStore(ledger, "p").of_run("run-2") == {}
        ledger.close()
