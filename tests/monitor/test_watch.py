"""The monitor: which rows it judges, when, by what, and with how much in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from watch_bench import BRIER, DAY_S, MONDAY, Bench, bench, days_of

from noria import config
from noria.data import served_predictions
from noria.kernel.task import Task
from noria.kernel.trigger import TriggerKind
from noria.monitor import accumulator, retraining
from noria.monitor.watch import EnvironmentMonitor
from noria.pipeline.trigger_store import TriggerStore
from noria.predictions.writer import Feedback, LogReader, Prediction
from noria.releases.evidence import Reference
from noria.releases.store import ReleaseStore
from noria.storage.clock import ClockStore

LOG_LOSS = Reference("log_loss", 0.22, 0.02, 14, 5_000)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    made = bench(tmp_path)
    made.clock(MONDAY)
    yield made
    made.context.ledger.close()


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


# -- when quality is judged


def test_quality_is_judged_at_the_defaults(made: Bench) -> None:
    """Number 37: windows of one day never held five days, so that six days of inverted labels raised nothing."""
    made.release("v1")
    made.write(*days_of(made, 0, 7, 300))
    assert made.look(MONDAY + 8.5 * DAY_S) == ()
    assert [w.p_value < 1 for w in made.windows()] == [False] * 4 + [True] * 3  # from the fifth day on there are five
    made.write(*days_of(made, 7, 7, 300, inverted=True))
    breaches = made.look(MONDAY + 15.5 * DAY_S)
    assert {b.kind for b in breaches} == {"quality"}
    assert "over the newest 7 d" in breaches[-1].text
    assert "of 7 days, against 0.230 on its holdout (14 days): worse beyond chance" in breaches[-1].text
    assert made.look(MONDAY + 15.6 * DAY_S) == ()  # said once


def test_a_label_that_sinks_the_quality_ends_in_a_trigger(made: Bench) -> None:
    """Label, breach, trigger, in process: the circle closes, and for the release that serves alone."""
    made.release("v1")
    made.write(*days_of(made, 0, 6, 300, inverted=True))
    breaches = made.look(MONDAY + 7.5 * DAY_S)
    trigger = retraining.learn(made.context, made.project, breaches)
    assert trigger is not None
    assert trigger.kind is TriggerKind.BREACH
    assert "brier" in trigger.reason
    assert [t.id for t in TriggerStore(made.context.ledger, "p").pending()] == [trigger.id]
    assert retraining.learn(made.context, made.project, breaches) is None  # the same breach asks once
    made.release("v2")
    assert retraining.learn(made.context, made.project, made.look(MONDAY + 9 * DAY_S)) is None


def test_few_labels_a_day_are_judged_over_as_many_days_as_give_enough(made: Bench) -> None:
    """Number 37: with 30 labels a day the 200 that are asked for never came together."""
    made.release("v1", event_time=None)
    made.write(*days_of(made, 0, 12, 30, inverted=True, event_times=False))
    breaches = made.look(MONDAY + 13.5 * DAY_S)
    judged = [w.labelled for w in made.windows() if w.p_value < 1]
    assert len(breaches) == len(judged) == 6  # from the seventh day on
    assert min(judged) == 210
    assert "210 rows" in breaches[0].text


def test_back_dated_predictions_are_judged_in_their_window(made: Bench) -> None:
    """Number 37: what came with an event time before the first one read was passed over until a restart."""
    made.release("v1")
    made.write(*days_of(made, 6, 1, 100))
    assert made.look(MONDAY + 7 * DAY_S) == ()
    made.write(*days_of(made, 0, 6, 100, inverted=True))
    breaches = made.look(MONDAY + 8.5 * DAY_S)
    assert [(w.start - MONDAY) / DAY_S for w in made.windows()] == [0, 1, 2, 3, 4, 5, 6]
    assert [w.predictions for w in made.windows()] == [100] * 7
    assert "quality" in {b.kind for b in breaches}


def test_what_comes_late_is_added_to_its_window_and_judged_with_it(made: Bench) -> None:
    made.release("v1")
    made.write(*days_of(made, 0, 1, 100))
    made.look(MONDAY + 2.5 * DAY_S)
    assert [(w.predictions, w.labelled) for w in made.windows()] == [(100, 100)]
    for restart in (False, True):
        if restart:
            made.restarted()
        made.write(*days_of(made, 0, 1, 50))
        made.look(MONDAY + 4 * DAY_S)
    assert [(w.predictions, w.labelled) for w in made.windows()] == [(200, 200)]


def test_labels_get_their_delay_also_for_predictions_of_the_past(made: Bench) -> None:
    made.release("v1")
    ClockStore(made.context.ledger, "p").set(MONDAY + 30 * DAY_S, 0.0)
    clock = ClockStore(made.context.ledger, "p").read()
    assert clock is not None
    rows = list(days_of(made, 0, 1, 50))
    answered = [r for r in rows if isinstance(r, Prediction)]
    made.write(*(made.answered(clock.wall + 1, 0.7, event_time=row.event_time) for row in answered))
    made.look()
    assert made.windows() == []
    made.look(MONDAY + 31.5 * DAY_S)
    assert [w.predictions for w in made.windows()] == [50]


# -- which rows, and by what


def test_projects_of_one_log_are_watched_and_learned_apart(tmp_path: Path) -> None:
    """Number 3: the rows of one project judged another's release of the same version."""
    ours = bench(tmp_path, "p", 'project: NAME\ndata: {served: {source: "log:production"}}\nenvironments: {production: {}}\n')
    theirs = bench(tmp_path, "q", ledger=ours.context.ledger)
    for one in (ours, theirs):
        one.release("v1")
        one.clock(MONDAY)
    ours.write(*days_of(ours, 0, 6, 60), *days_of(theirs, 0, 6, 90, inverted=True))
    assert ours.look(MONDAY + 7.5 * DAY_S) == ()
    assert {b.kind for b in theirs.look(MONDAY + 7.5 * DAY_S)} == {"quality"}
    assert {w.predictions for w in ours.windows()} == {60}
    assert {w.predictions for w in theirs.windows()} == {90}
    assert ours.told("monitor.quality") == []
    source = ours.project.data["served"]
    for form in ("segments", "parquet"):
        if form == "parquet":
            from noria.predictions import compaction

            assert compaction.compact(ours.log).segments == 1
        snapshot = served_predictions._export(ours.context, source)
        table = pl.read_parquet(ours.context.blobs.read(snapshot.files[0].digest))
        assert table.height == 6 * 60
        assert set(table["id"].str.head(1)) == {"p"}
        assert table.columns == ["id", "release", "variant", "key", "event_time", "at", "output", "label", "x"]
        assert abs(float(((table["output"] - table["label"]) ** 2).mean()) - 0.21) < 0.01  # type: ignore[arg-type]
    ours.context.ledger.close()


def test_quality_of_several_classes_is_judged_by_their_probabilities(made: Bench) -> None:
    """Number 3: a multiclass model was never judged, for "0 labelled rows", while the log holds its probabilities."""
    made.release("v1", task=Task.MULTICLASS, classes=("a", "b", "c"), reference=LOG_LOSS)
    rng, records = random.Random(1), list[Prediction | Feedback]()
    for day in range(6):
        for row in range(50):
            at, label = MONDAY + day * DAY_S + row, rng.choice("abc")
            shares = {name: 0.8 if name == label else 0.1 for name in "abc"}
            one = made.answered(at, event_time=iso(at), outputs={"prediction": label, "probabilities": shares}, x=1.0)
            records += [one, made.said(at + 9, label if day < 5 or row else "new", one)]
    made.write(*records)
    assert made.look(MONDAY + 7.5 * DAY_S) == ()
    values = [w.value for w in made.windows()]
    assert values[4] == pytest.approx(-np.log(0.8))
    assert values[5] == pytest.approx(-np.log(0.8) + (36.04 + np.log(0.8)) / 300, abs=0.01)  # what it does not know is not likely
    assert [w.labelled for w in made.windows()] == [50, 100, 150, 200, 250, 300]
    assert [w.p_value < 1 for w in made.windows()][-2:] == [True, True]


@pytest.mark.parametrize(
    ("classes", "labels"), [(("no", "yes"), ("no", "yes")), (("0", "1"), (False, True)), (("1", "2"), (1, 2.0))]
)
def test_labels_of_any_class_are_understood(made: Bench, classes: tuple[str, ...], labels: tuple[object, object]) -> None:
    """Number 3, of its kind: labels that are words were "0 labelled rows" too."""
    made.release("v1", classes=classes)
    for row in range(20):
        one = made.answered(MONDAY + row, 0.9, outputs={"prediction": labels[1], "probability": 0.9})
        made.write(one, made.said(MONDAY + 100, labels[row % 2], one))
    made.look(MONDAY + 2.5 * DAY_S)
    (window,) = made.windows()
    assert (window.labelled, window.value) == (20, pytest.approx((0.9**2 + 0.1**2) / 2))


def test_inputs_in_the_training_types_do_not_drift(made: Bench) -> None:
    """Number 38, of its kind: booleans came as 1.0 and not as true, so that each flag alarmed in every window."""
    rng = np.random.default_rng(3)
    trained = pl.DataFrame({
        "flag": rng.random(2_000) < 0.3, "count": rng.poisson(3, 2_000), "size": rng.normal(size=2_000),
        "city": rng.choice(list("abc"), 2_000),
    })  # fmt: skip
    made.release("v1", trained=trained)
    rows = trained.sample(600, seed=1).to_dicts()
    made.write(*(made.answered(MONDAY + i, 0.5, **row) for i, row in enumerate(rows)))
    assert made.look(MONDAY + 2.5 * DAY_S) == ()
    (window,) = made.windows()
    assert (window.predictions, window.drift_score < 0.05) == (600, True)
    made.write(*(made.answered(MONDAY + DAY_S + i, 0.5, **(row | {"flag": True})) for i, row in enumerate(rows)))
    (breach,) = made.look(MONDAY + 3.5 * DAY_S)
    assert (breach.kind, breach.text.split()[0]) == ("drift", "flag")


def test_a_weekday_is_quiet_where_no_event_time_is_named(made: Bench) -> None:
    """Number 38: it alarmed on each of 20 quiet days."""
    trained = pl.DataFrame({"weekday": [d % 7 for d in range(700)], "x": np.random.default_rng(1).normal(size=700)})
    made.release("v1", trained=trained, event_time=None)
    rng = np.random.default_rng(2)
    for day in range(20):
        times = (MONDAY + day * DAY_S + i * 200 for i in range(300))
        made.write(*(made.answered(at, 0.5, weekday=day % 7, x=float(rng.normal())) for at in times))
    assert made.look(MONDAY + 30 * DAY_S) == ()
    assert len(made.windows()) == 20
    made.write(*(made.answered(MONDAY + 20 * DAY_S + i * 200, 0.5, weekday=2, x=float(rng.normal())) for i in range(300)))
    assert [b.kind for b in made.look(MONDAY + 40 * DAY_S)] == ["drift"]  # that day was no Wednesday


# -- memory and restarts


def test_memory_is_bounded_whatever_the_traffic(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 3: every prediction of a window was kept, 1.5 kB each."""
    monkeypatch.setattr(accumulator, "MOST_WAITING", 400)
    monkeypatch.setattr(accumulator, "RECENT", 300)
    made.release("v1")
    records = list(days_of(made, 0, 6, 1_500))
    labels = [r for r in records if isinstance(r, Feedback)]
    answered = [r for r in records if isinstance(r, Prediction)]
    random.Random(1).shuffle(labels)
    most = 0
    for first in range(0, len(answered), 500):
        made.write(*answered[first : first + 500])
        made.look(MONDAY + DAY_S)
        assert made.monitor is not None
        notes = made.monitor.notes
        most = max(most, len(notes.waiting))
        assert len(notes.heard) <= 400
    made.write(*labels)
    made.look(MONDAY + 7.5 * DAY_S)
    assert 200 <= most <= 400
    assert len(notes.early) <= 300
    assert [w.predictions for w in made.windows()] == [1_500] * 6
    last = made.windows()[-1]
    assert 200 <= last.labelled <= 400  # a sample of the keys, enough to judge
    assert last.value == pytest.approx(0.21, abs=0.03)
    assert last.p_value < 1


def test_a_restart_reads_what_is_new_and_not_the_log(made: Bench) -> None:
    """Number 3: at a restart the whole log was read."""
    made.release("v1")
    made.write(*days_of(made, 0, 3, 100))
    made.look(MONDAY + 3 * DAY_S)
    assert made.monitor is not None
    made.monitor.save(now=True)
    made.restarted()
    made.write(*days_of(made, 3, 3, 100))
    monitor = EnvironmentMonitor(made.context, made.project, "production")
    assert len(monitor.reader.poll(1 << 30)) == 600
    made.monitor = None
    made.look(MONDAY + 7.5 * DAY_S)
    assert [(w.predictions, w.p_value < 1) for w in made.windows()] == [(100, False)] * 4 + [(100, True)] * 2
    assert oct((made.log / "p.watched").stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("seed", range(3))
def test_restarts_and_deaths_change_nothing_of_the_judgement(tmp_path: Path, seed: int) -> None:
    """A daemon that dies between two looks, with its notes written or not, judges as one that lives."""
    chance = random.Random(seed)
    results = []
    for mortal in (False, True):
        made = bench(tmp_path / str(mortal))
        made.release("v1")
        made.clock(MONDAY)
        alerts = 0
        for day in range(9):
            made.write(*days_of(made, day, 1, 60, inverted=day > 4))
            alerts += len(made.look(MONDAY + (day + 1.2) * DAY_S))
            if mortal and chance.random() < 0.5 and made.monitor is not None:
                if chance.random() < 0.5:
                    made.monitor.save(now=True)
                made.restarted()
        results.append(([(w.start, w.predictions, w.labelled, round(w.value, 9)) for w in made.windows()], alerts))
        made.context.ledger.close()
    assert results[0] == results[1]


def test_notes_that_are_gone_or_of_other_windows_do_not_raise_what_was_raised(made: Bench) -> None:
    made.release("v1")
    made.write(*days_of(made, 0, 7, 100, inverted=True))
    assert len(made.look(MONDAY + 8.5 * DAY_S)) == 3
    for change in ("gone", "garbage", "windows"):
        file = made.log / "p.watched"
        file.unlink() if change == "gone" else file.write_bytes(b"garbage")
        if change == "windows":
            (made.context.home / "noria.yaml").write_text("project: p\nenvironments: {production: {}}\nmonitor: {every: 2d}\n")
        made.restarted()
        assert made.look(MONDAY + 8.5 * DAY_S) == ()
        assert len(made.windows()) == 7
    made.write(*days_of(made, 7, 6, 100, inverted=True))
    assert (
        len(made.look(MONDAY + 15.5 * DAY_S)) == 1
    )  # only six days of it are known anew: windows of two days, the third decides


def test_a_window_that_is_known_as_it_is_alarms_once(made: Bench) -> None:
    """The ledger has the window, and the monitor died before it wrote that down."""
    made.release("v1")
    made.write(*days_of(made, 0, 6, 100, inverted=True))
    made.look(MONDAY + 1 * DAY_S)
    assert made.monitor is not None
    made.monitor.save(now=True)
    notes = (made.log / "p.watched").read_bytes()
    first = made.look(MONDAY + 7.5 * DAY_S)
    (made.log / "p.watched").write_bytes(notes)
    made.restarted()
    assert len(first) == 2
    assert made.look(MONDAY + 7.5 * DAY_S) == ()


def test_event_times_of_any_kind_do_not_blind_the_monitor(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 3, of its kind: a client that sends event times of all centuries takes no room from what is judged next."""
    monkeypatch.setattr(accumulator, "MOST_WINDOWS", 20)
    monkeypatch.setattr(accumulator, "MOST_WAITING", 400)
    made.release("v1")
    ends = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "not a time"]
    for day in range(7):
        strange = [iso(MONDAY + DAY_S * 40 * row) for row in range(-100, 300)] + ends
        made.write(*(made.answered(MONDAY + day * DAY_S, 0.5, event_time=time) for time in strange), *days_of(made, day, 1, 40))
        made.look(MONDAY + (day + 0.9) * DAY_S)
        assert made.monitor is not None
        notes = made.monitor.notes
        assert len(notes.releases["v1"].spans) <= 20
        assert len(notes.waiting) <= 400
    assert notes.passed_over > 1_000
    made.look(MONDAY + 9 * DAY_S)
    ours = [w for w in made.windows() if MONDAY <= w.start < MONDAY + 7 * DAY_S]
    assert [w.predictions >= 40 for w in ours] == [True] * 7
    assert ours[-1].labelled >= 100


def test_answers_that_no_metric_takes_do_not_stop_the_monitor(made: Bench) -> None:
    made.release("v1")
    odd = [made.answered(MONDAY + i, p) for i, p in enumerate((7.0, -1.0, float("nan"), None))]
    made.write(*odd, *(made.said(MONDAY + 50, 1, one) for one in odd), made.said(MONDAY + 51, "what?", odd[0]))
    made.write(*days_of(made, 1, 1, 30))
    made.look(MONDAY + 3.5 * DAY_S)
    assert [(w.predictions, w.labelled) for w in made.windows()] == [(4, 0), (30, 30)]


def test_a_bundle_that_is_gone_leaves_nothing_waiting(made: Bench) -> None:
    made.release("v1")
    made.write(*days_of(made, 0, 1, 30))
    made.look(MONDAY + DAY_S)
    assert made.monitor is not None
    made.monitor.save(now=True)
    made.restarted()
    digest = ReleaseStore(made.context.ledger, "p").get("v1").digest
    (made.context.bundle(digest) / "evidence" / "reference.json").unlink()
    assert made.look(MONDAY + 3.5 * DAY_S) == ()
    assert (made.monitor and made.monitor.notes.waiting, made.windows()) == ({}, [])


# -- what is told


def test_damage_and_labels_that_differ_are_told_once(made: Bench) -> None:
    """Numbers 51 and 54: what cannot be read, and what was said in two ways, reaches the people who rely on it."""
    made.release("v1")
    rows = list(days_of(made, 0, 1, 50))
    answered = [r for r in rows if isinstance(r, Prediction)]
    made.write(*rows, made.said(MONDAY + 2 * DAY_S, 0, answered[0]), made.said(MONDAY + 2 * DAY_S, 1, answered[0]))
    (path,) = made.log.glob("*.plog")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o400)
    made.look(MONDAY + 3.5 * DAY_S)
    for _ in range(2):
        made.restarted()
        made.look(MONDAY + 3.6 * DAY_S)
    (damaged,) = made.told("log.damaged")
    assert "1 damaged place (" in damaged
    (conflict,) = made.told("labels.conflict")
    assert "1 of " in conflict
    (made.context.home / "noria.yaml").write_text(
        'project: p\ndata: {served: {source: "log:production"}}\nenvironments: {production: {}}\n'
    )
    served_predictions._export(made.context, config.load(made.context.home).data["served"])
    assert len(made.told("log.damaged")) == 2
    assert "are not trained on" in made.told("log.damaged")[0]
    assert len(made.told("labels.conflict")) == 2
    assert LogReader(made.log).poll() != []
    assert BRIER.metric == "brier"
