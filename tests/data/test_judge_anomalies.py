"""A file is held against the accepted ones: alarms are as rare as stated, named shifts are found, few files decide nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from benchmarks import anomalies as simulated

from noria.data import judge_anomalies as judge
from noria.data.batch_facts import BatchColumn, BatchFacts, PastBatch
from noria.kernel.verdict import Outcome

ROWS = 500


def table(seed: int, rows: int = ROWS, nulls: float = 0.01, shift: float = 0.0, new: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    kind = rng.choice(["a", "b", "c"], rows)
    kind[rng.random(rows) < new] = "z"
    x = (
        pl.Series("x", rng.normal(10 + shift, 2.0, rows))
        .to_frame()
        .with_columns(pl.when(pl.Series(rng.random(rows) < nulls)).then(None).otherwise(pl.col("x")).alias("x"))
    )
    return x.with_columns(kind=pl.Series(kind), ok=pl.Series(rng.random(rows) < 0.9), note=pl.lit("same"))


HISTORY = [PastBatch(judge.measure(table(seed))) for seed in range(30)]


def verdict(seen: pl.DataFrame, history: list[PastBatch] = HISTORY, false_alarm: float = 0.01) -> tuple[Outcome, str]:
    found = judge.judge(judge.measure(seen), history, false_alarm)
    return found.outcome, found.text


def test_the_facts_of_a_table() -> None:
    seen = pl.DataFrame(
        {
            "n": [1.0, 3.0, float("nan"), None],
            "c": ["a", "b", "b", None],
            "t": [True, True, False, False],
            "l": [[1], [2], [3], [4]],
            "d": pl.Series([0, 1, 2, 3]).cast(pl.Date),
        }
    )
    facts = judge.measure(pl.concat([seen, seen[:1]]))
    assert (facts.rows, facts.duplicates) == (5, 1)
    assert facts.columns["n"] == BatchColumn(3, pytest.approx(5 / 3), pytest.approx(0.9428, abs=1e-4))
    assert (facts.columns["c"].filled, facts.columns["c"].categories) == (4, 2)
    assert sorted((facts.columns["c"].seen or {}).values()) == [2, 2]
    assert not {"a", "b"} & set(facts.columns["c"].seen or {}), "hashes, no values"
    assert facts.columns["t"] == BatchColumn(5, pytest.approx(0.6), pytest.approx(0.4899, abs=1e-4), truth=True)
    assert facts.columns["d"] == BatchColumn(5)
    assert "l" not in facts.columns


def test_a_usual_file_is_no_alarm() -> None:
    assert verdict(table(99)) == (Outcome.PASS, "not unusual beside 30 accepted batches")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (table(99, nulls=0.15), "nulls of x: "),
        (table(99, shift=1.5), "mean of x: "),
        (table(99, rows=200), "rows: 200, before 500"),
        (table(99, new=0.08), "rows with a new category of kind: "),
        (pl.concat([table(99), table(99)[:40]]), "duplicate rows: "),
        (table(99).with_columns(pl.col("x") * 3), "standard deviation of x: "),
        (table(99).with_columns(ok=~pl.col("ok")), "true in ok: "),
    ],
)
def test_what_is_unusual_is_named(seen: pl.DataFrame, said: str) -> None:
    outcome, text = verdict(seen)
    assert outcome is Outcome.FAIL
    assert text.startswith("unusual beside 30 accepted batches: ")
    assert said in text


def test_below_eight_files_nothing_is_decided() -> None:
    assert verdict(table(99, rows=5), HISTORY[:5]) == (Outcome.NOT_ENOUGH_DATA, "not enough history: 5 of 8 batches")
    assert verdict(table(99, rows=50), HISTORY[:8])[0] is Outcome.FAIL


def test_a_file_that_was_unusual_does_not_hide_the_next_and_many_are_the_new_usual() -> None:
    odd = PastBatch(judge.measure(table(77, nulls=0.5)), unusual=True)
    assert verdict(table(99, nulls=0.3), [*HISTORY[:19], odd])[0] is Outcome.FAIL
    shifted = [PastBatch(judge.measure(table(100 + at, shift=5)), unusual=True) for at in range(8)]
    assert verdict(table(99, shift=5), [*HISTORY[:8], *shifted])[0] is Outcome.PASS


@pytest.mark.parametrize(
    "history",
    [
        [PastBatch(BatchFacts(0, 0, {}))] * 9,
        [PastBatch(judge.measure(table(1)))] * 9,  # nothing ever varied
        [PastBatch(BatchFacts(10, 0, {"other": BatchColumn(0)}))] * 9,
        [PastBatch(BatchFacts(10, 0, {"x": BatchColumn(10, float(at), 0.0)})) for at in range(9)],
    ],
)
def test_odd_histories_are_judged_without_a_warning_of_numpy(history: list[PastBatch]) -> None:
    for seen in (table(1), table(1).clear(), pl.DataFrame(), pl.DataFrame({"x": [float("inf"), None]})):
        assert judge.judge(judge.measure(seen), history, 0.01).outcome in (Outcome.PASS, Outcome.FAIL)
    same = judge.judge(history[-1].facts, history, 0.01)
    assert same.outcome is Outcome.PASS


@pytest.mark.parametrize("kind", ["independent", "skewed", "autocorrelated", "trend", "weekly"])
def test_alarms_over_nothing_are_as_rare_as_stated(kind: str) -> None:
    """60 histories of each kind at a stated rate of 5 %: 8 alarms are exceeded with a probability below 1 % at the rate."""
    rng = np.random.default_rng([5, len(kind)])
    assert sum(simulated.is_alarm(simulated.batches(rng, kind, 13), 0.05) for _ in range(60)) <= 8


@pytest.mark.parametrize(
    ("shift", "least"),
    [
        (shift, 2 if shift.startswith("mean") else 5) for shift in simulated.SHIFTS
    ],  # a fifth to a half below the rates of the table
)
def test_named_shifts_are_found(shift: str, least: int) -> None:
    rng = np.random.default_rng([6, len(shift)])
    found = sum(simulated.is_alarm(simulated.batches(rng, "independent", 41, shift), 0.01) for _ in range(12))
    assert found >= least
