"""The whole circle in one process: what clients were answered and what became true of it makes the next release.

Two projects share a state folder, an environment and its prediction log. For one of them the world turns round; the other one's
labels go on as before. Answers come from the real application over the sealed bundles; steps run in this process.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import polars as pl
from answering import Answers, answering
from small_line import CONFIG, DAY_S, MONDAY, SmallLine, points, small_line

from noria.data.store import DataStore
from noria.kernel.trigger import TriggerKind
from noria.pipeline.run_store import RunStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.trust import audit

LEARNS = CONFIG.replace(
    "model:\n  rows: points\n",
    """\
  served: {source: "log:production"}
steps: {table: "table:build"}
model:
  rows: table
""",
)
TABLE = """\
import polars as pl


def build(points: pl.DataFrame, served: pl.DataFrame) -> pl.DataFrame:
    if served.height:
        points = served.with_columns(pl.col("label").cast(pl.Int64).alias("y"))
    return points.select(pl.col("id").cast(pl.String), "a", "y")
"""


def ask_and_label(answers: Answers, project: str, count: int, *, follows: bool, seed: int) -> list[tuple[float, int, float]]:
    """(input, truth, the probability that was answered) of ``count`` requests, each with its label."""
    chance = random.Random(f"{project} {seed}")
    rows = [{"a": round(chance.gauss(0, 1.5), 3)} for _ in range(count)]
    said = answers.predict(project, rows)
    truth = [int((row["a"] + chance.gauss(0, 0.7) > 0) == follows) for row in rows]
    answers.feedback(project, {one["id"]: label for one, label in zip(said, truth, strict=True)})
    return [(row["a"], label, one["probability"]) for row, label, one in zip(rows, truth, said, strict=True)]


def right(found: list[tuple[float, int, float]]) -> float:
    """The share of answers on the right side."""
    return sum((probability > 0.5) == bool(truth) for _, truth, probability in found) / len(found)


def test_labels_that_turn_bring_a_new_release_to_their_own_project_alone(tmp_path: Path) -> None:
    """label -> window -> breach -> retrain -> snapshot of the log -> run -> gate -> release -> champion, under two projects."""
    files = [("table.py", TABLE)]
    with (
        small_line(tmp_path, "p", LEARNS, files=files) as ours,
        small_line(tmp_path, "q", LEARNS, state=ours.context.state, files=files) as theirs,
    ):
        for line in (ours, theirs):
            line.deliver("points-01.csv", points(1))
            assert line.turned().outcome is TurnOutcome.PROMOTED
        first = {line.name: line.route for line in (ours, theirs)}
        with answering(ours, theirs) as answers:
            sank = ask_and_label(answers, "p", 400, follows=False, seed=1)
            held = ask_and_label(answers, "q", 400, follows=True, seed=1)
        assert (right(sank) < 0.2, right(held) > 0.8) == (True, True)

        # the labels came in, and their window has ended: the monitor judges each project by its own rows
        later = time.time() + 2 * DAY_S
        (breach,) = ours.monitored(later)
        assert (breach.kind, breach.release) == ("quality", "v1")
        assert theirs.monitored(later) == ()
        assert [t.kind for t in TriggerStore(ours.ledger, "p").pending()] == [TriggerKind.BREACH]
        assert TriggerStore(theirs.ledger, "q").pending() == []
        assert ours.monitored() == ()  # said once

        # the breach becomes a turn, which trains on what was answered and became true
        assert theirs.turn() is None
        turn = ours.turn()
        assert turn is not None
        assert (turn.outcome, turn.release, turn.trigger.partition(":")[0]) == (TurnOutcome.PROMOTED, "v2", "breach")
        run = RunStore.of(ours).get(turn.run_id or "")
        snapshot = DataStore.of(ours).snapshot(run.pins.snapshots["served"])
        table = pl.read_parquet(ours.context.blobs.read(snapshot.files[0].digest))
        assert sorted(zip(table["a"], table["label"], strict=True)) == sorted((a, label) for a, label, _ in sank)

        # it serves its own project, and knows the world as it is
        assert (ours.champion, theirs.champion) == ("v2", "v1")
        assert theirs.route == first["q"]
        with answering(ours, theirs) as answers:
            assert right(ask_and_label(answers, "p", 200, follows=False, seed=2)) > 0.8
            assert right(ask_and_label(answers, "q", 200, follows=True, seed=2)) > 0.8
        assert ours.monitored(later + 2 * DAY_S) == ()
        assert theirs.monitored(later + 2 * DAY_S) == ()
        assert theirs.events("retrain.wanted", "monitor.quality") == []
        found = audit.verify(ours.ledger, ours.context.state)
        assert found.ok, found.problems


def test_a_breach_without_new_labels_to_learn_from_makes_no_release(tmp_path: Path) -> None:
    """The project trains on deliveries alone: the breach starts a turn, which finds nothing new and says whose work stands."""
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        line.turned()
        with answering(line) as answers:
            ask_and_label(answers, "p", 200, follows=False, seed=1)
        line.monitored(time.time() + 2 * DAY_S)
        turn = line.turn()
        assert turn is not None
        assert turn.outcome is TurnOutcome.NOTHING_CHANGED
        assert "turn 1 did this work and ended: promoted with v1" in turn.reason
        line.deliver("points-02.csv", points(2, inverted=True))
        assert line.turned().outcome in (TurnOutcome.GATE_FAILED, TurnOutcome.NOT_ENOUGH_DATA)  # half the rows say the opposite
        assert line.champion == "v1"


def test_the_log_is_taken_in_anew_for_the_monitor_and_the_clock_alone(tmp_path: Path) -> None:
    """log -> training data: a commit is compared on the rows that were there, however many answers came since."""
    text = LEARNS + 'retrain: {schedule: "0 0 * * *"}\n'
    with small_line(tmp_path, text=text, files=[("table.py", TABLE)]) as line:
        line.deliver("points-01.csv", points(1))
        line.clock(MONDAY)
        assert line.turned().release == "v1"
        with answering(line) as answers:
            ask_and_label(answers, "p", 300, follows=True, seed=1)
        line.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.5)")
        line.commit("other model")
        assert served_rows(line) == 0
        line.clock(MONDAY + 0.9 * DAY_S)
        assert line.look() == 0
        line.clock(MONDAY + 1.1 * DAY_S)
        assert served_rows(line) == 300
        assert [t.trigger.partition(" ")[0] for t in TurnStore.of(line.context).list()] == ["schedule:", "push:", "push:"]


def test_two_projects_learn_from_one_log_what_was_true_of_their_own_rows(tmp_path: Path) -> None:
    """log -> training data: the same keys, opposite labels, some corrected; each model learns its own world."""
    text = LEARNS + 'retrain: {schedule: "0 0 * * *"}\n'
    files = [("table.py", TABLE)]
    with (
        small_line(tmp_path, "p", text, files=files) as ours,
        small_line(tmp_path, "q", text, state=ours.context.state, files=files) as theirs,
    ):
        for line in (ours, theirs):
            line.deliver("points-01.csv", points(1))
            line.clock(MONDAY)
            assert line.turned().release == "v1"
        chance = random.Random(4)
        rows = [{"id": 7_000_000 + number, "a": round(chance.gauss(0, 1.5), 3)} for number in range(300)]
        expected = {}
        with answering(ours, theirs) as answers:
            for project, follows in (("p", True), ("q", False)):
                truth = [int((row["a"] > 0) == follows) for row in rows]
                said = answers.predict(project, rows)
                wrong = [{"key": str(row["id"]), "label": 1 - label} for row, label in zip(rows[:50], truth, strict=False)]
                right_ones = [{"key": str(row["id"]), "label": label} for row, label in zip(rows, truth, strict=True)]
                assert answers.post(f"/{project}/feedback", wrong).status_code == 202
                assert answers.post(f"/{project}/feedback", right_ones).status_code == 202
                expected[project] = sorted(zip((one["id"] for one in said), (row["a"] for row in rows), truth, strict=True))
        for line in (ours, theirs):
            line.clock(MONDAY + 1.1 * DAY_S)
            turn = line.turned()
            run = RunStore.of(line.context).get(turn.run_id or "")
            (file,) = DataStore.of(line.context).snapshot(run.pins.snapshots["served"]).files
            table = pl.read_parquet(line.context.blobs.read(file.digest))
            assert sorted(zip(table["id"], table["a"], table["label"], strict=True)) == expected[line.name]
            assert (turn.outcome, turn.release) == (TurnOutcome.PROMOTED, "v2")
        with answering(ours, theirs) as answers:
            for project, follows in (("p", True), ("q", False)):
                found = answers.predict(project, [{"a": 2.0}, {"a": -2.0}])
                assert [one["probability"] > 0.5 for one in found] == [follows, not follows]


def served_rows(line: SmallLine) -> int:
    """Of the log, in the run of a turn that starts now."""
    run = RunStore.of(line.context).get(line.turned().run_id or "")
    return sum(pin.rows for pin in DataStore.of(line.context).snapshot(run.pins.snapshots["served"]).files)
