"""What is said about two runs: each part on its own, and the bounds of a difference against arithmetic and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.data.snapshot import FilePin, Snapshot
from noria.evaluation.judge_compare import CodeFile, ComparedSide, between, compare, summary
from noria.kernel.pins import Pins
from noria.kernel.verdict import Reason
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.run import Run, StepRecord, StepState, flat
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

Z = 1.6448536269514722  # one-sided 95 %
PINS = Pins("a" * 40, None, {"flights": "s1"}, "p1", "c1", "e1")


def side(
    name: str = "v1", *, run: dict[str, Any] | None = None, pins: dict[str, Any] | None = None, **facts: Any
) -> ComparedSide:
    made = Run(f"run-{name}", "p", None, replace(PINS, **(pins or {})), 1.0, **(run or {}))
    return ComparedSide(name, made, **facts)


def measure(value: float, low: float, high: float, n: int = 100) -> Measure:
    return Measure(value, low, high, n)


def evaluation(
    metrics: dict[str, Measure], versus: dict[str, Comparison] | None = None, champion: str | None = None
) -> Evaluation:
    return Evaluation(100, 50, metrics, versus or {}, champion)


def metric(a: ComparedSide, b: ComparedSide, name: str = "roc_auc"):
    return next(m for m in compare(a, b, (), ()).metrics if m.name == name)


def test_a_run_beside_itself_differs_in_nothing() -> None:
    facts = {"roc_auc": measure(0.8, 0.7, 0.9)}
    one = side(
        run={"metrics": {"roc_auc": 0.8, "bad": math.nan}, "plots": {"s/a.json": "d"}},
        params={"lr": 0.1},
        evaluation=evaluation(facts),
        snapshots={"flights": Snapshot("flights", "s1", (FilePin("a", "x", 1, 5),))},
        series={"train": {"loss": [(0.0, 1.0)]}},
    )
    found = compare(one, one, (), ())
    parts = (*found.steps, *found.data, *(found.params or ()), *found.metrics, *found.series, *found.plots, *found.artifacts)
    assert len(parts) == 9
    assert not any(part.changed for part in parts)
    assert not found.code.changed
    assert not found.environment.changed


def test_code_and_environment_that_are_not_known_are_not_guessed() -> None:
    a, b = side("v1"), side("v2", pins={"commit": "b" * 40, "dirty": "d" * 64, "environment": "e2", "params": "p2"})
    found = compare(a, b, None, None)
    assert (found.code.changed, found.code.files, found.code.dirty_after) == (True, None, True)
    assert (found.environment.changed, found.environment.differences) == (True, None)
    assert found.params is None
    known = compare(a, b, [CodeFile("m.py", 1, 2)], ["numpy 1 -> 2"])
    assert known.code.files == (CodeFile("m.py", 1, 2),)
    assert known.environment.differences == ("numpy 1 -> 2",)


def test_equal_digests_of_parameters_tell_the_side_that_is_not_recorded() -> None:
    (lr,) = compare(side(params={"lr": 0.1}), side("v2"), (), ()).params or ()
    assert (lr.before, lr.after, lr.changed) == (0.1, 0.1, False)


def test_parameters() -> None:
    a = side(params=flat({"train": {"lr": 0.1, "on": True, "empty": {}}, "seed": None, "same": [1, 2]}))
    b = side("v2", pins={"params": "p2"}, params={"train.lr": 0.05, "train.on": 1, "train.empty": {}, "same": [1, 2], "new": 3})
    found = {p.name: p for p in compare(a, b, (), ()).params or ()}
    assert [n for n, p in found.items() if p.changed] == ["train.lr", "train.on", "new", "seed"]
    assert (found["seed"].has_before, found["seed"].has_after, found["seed"].before) == (True, False, None)


def test_steps_say_why_their_results_may_differ() -> None:
    reason = Reason("step.never_ran", "never ran")
    old = tuple(StepRecord(n, StepState.RAN, reason, n * 64) for n in "abc")
    new = tuple(StepRecord(n, StepState.RAN, reason, k * 64) for n, k in (("a", "a"), ("b", "x"), ("d", "d")))
    a = side(run={"steps": old}, steps={"b": StepFacts("1", files={"m.py": "1"}, params={"lr": "1"})})
    b = side("v2", run={"steps": new}, steps={"b": StepFacts("2", files={"m.py": "2"}, params={"lr": "2"})})
    found = {s.name: (s.text, s.changed) for s in compare(a, b, (), ()).steps}
    assert found == {
        "a": ("the same work", False),
        "b": ("code changed: m.py; parameter changed: lr", True),
        "c": ("only in v1", True),
        "d": ("only in v2", True),
    }
    assert compare(a, replace(b, steps={}), (), ()).steps[1].text == "other work"


def test_data_file_by_file() -> None:
    old = Snapshot("flights", "s1", (FilePin("a", "x", 1, 5), FilePin("b", "y", 1, 7), FilePin("c", "z", 1, 9)))
    new = Snapshot("flights", "s2", (FilePin("a", "x", 1, 5), FilePin("b", "Y", 1, 8), FilePin("d", "w", 1, 2)))
    a = side(pins={"snapshots": {"flights": "s1", "weather": "w"}}, snapshots={"flights": old, "weather": None})
    b = side("v2", pins={"snapshots": {"flights": "s2", "weather": "w"}}, snapshots={"flights": new, "weather": None})
    flights, weather = compare(a, b, (), ()).data
    assert (flights.rows_before, flights.rows_after, flights.changed) == (21, 15, True)
    assert [(f.name, f.rows_before, f.rows_after) for f in flights.files or ()] == [("b", 7, 8), ("d", None, 2), ("c", 9, None)]
    assert (weather.files, weather.changed) == (None, False)


@pytest.mark.parametrize(
    ("name", "before", "after", "verdict"),
    [
        ("roc_auc", (0.70, 0.69, 0.71), (0.80, 0.79, 0.81), "better"),
        ("roc_auc", (0.80, 0.79, 0.81), (0.70, 0.69, 0.71), "worse"),
        ("brier", (0.20, 0.19, 0.21), (0.10, 0.09, 0.11), "better"),
        ("brier", (0.10, 0.09, 0.11), (0.20, 0.19, 0.21), "worse"),
        ("own", (0.10, 0.09, 0.11), (0.20, 0.19, 0.21), "higher"),
        ("own", (0.20, 0.19, 0.21), (0.10, 0.09, 0.11), "lower"),
        ("roc_auc", (0.70, 0.60, 0.80), (0.72, 0.62, 0.82), "unclear"),
        ("roc_auc", (0.70, 0.60, 0.80), (0.70, 0.60, 0.80), "same"),
        ("roc_auc", (0.70, math.nan, math.nan), (0.72, 0.62, 0.82), ""),
    ],
)
def test_better_and_worse_are_said_when_the_bounds_leave_out_zero(name: str, before, after, verdict: str) -> None:
    a, b = (side(n, evaluation=evaluation({name: measure(*m)})) for n, m in (("v1", before), ("v2", after)))
    found = metric(a, b, name)
    assert found.verdict == verdict
    assert found.paired is None
    assert found.difference == pytest.approx(after[0] - before[0])


def test_a_paired_comparison_counts_before_the_bounds_of_each() -> None:
    wide = {"roc_auc": measure(0.8, 0.5, 0.95)}
    versus = {"roc_auc": Comparison(0.78, 0.02, 0.01, 0.03, 400)}
    a = side("v1", release="v1", evaluation=evaluation({"roc_auc": measure(0.75, 0.5, 0.9)}))
    b = side("v2", release="v2", evaluation=evaluation(wide, versus, "v1"))
    forth, back = metric(a, b), metric(b, a)
    assert (forth.difference, forth.low, forth.high, forth.paired, forth.before_paired) == (0.02, 0.01, 0.03, 400, 0.78)
    assert (back.difference, back.low, back.high, back.paired) == (-0.02, -0.03, -0.01, 400)
    assert back.before_paired == pytest.approx(0.8)
    assert (forth.verdict, back.verdict) == ("better", "worse")
    assert metric(a, replace(b, evaluation=evaluation(wide, versus, "v0"))).paired is None


def test_a_metric_that_only_one_has_or_that_is_not_defined() -> None:
    a = side(run={"metrics": {"train.loss": 0.4, "gone": 1.0, "undefined": math.nan}})
    b = side("v2", run={"metrics": {"train.loss": 0.3, "new": 1.0, "undefined": 0.5}})
    found = {m.name: m for m in compare(a, b, (), ()).metrics}
    assert found["train.loss"].difference == pytest.approx(-0.1)
    assert (found["train.loss"].low, found["train.loss"].verdict) == (None, "")
    for name in ("gone", "new", "undefined"):
        assert (found[name].difference, found[name].changed) == (None, True)


def test_series_and_files() -> None:
    a = side(
        run={"plots": {"e/roc.json": "1", "e/old.csv": "2"}}, series={"train": {"loss": [(0.0, 3.0), (1.0, 1.0), (2.0, 2.0)]}}
    )
    b = side("v2", run={"plots": {"e/roc.json": "3"}}, series={"train": {"loss": [(0.0, 3.0)], "none": []}})
    found = compare(a, b, (), ())
    loss, none = found.series
    assert loss.before is not None
    assert (loss.before.points, loss.before.last, loss.before.least, loss.before.most) == (3, 2.0, 1.0, 3.0)
    assert (loss.changed, none.before, none.after) == (True, None, None)
    assert [(p.name, p.before, p.after) for p in found.plots] == [("e/roc.json", "1", "3"), ("e/old.csv", "2", None)]
    assert summary(()) is None


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 5), st.floats(0.01, 5))
def test_bounds_of_normal_means_are_those_of_their_difference(a: float, b: float, se_a: float, se_b: float) -> None:
    """For symmetric bounds the square-and-add method is the textbook's: the variances add."""
    low, high = between(measure(a, a - Z * se_a, a + Z * se_a), measure(b, b - Z * se_b, b + Z * se_b))
    wide = Z * math.sqrt(se_a**2 + se_b**2)
    assert low == pytest.approx(b - a - wide)
    assert high == pytest.approx(b - a + wide)


@pytest.mark.parametrize(("p", "q", "n", "m"), [(0.9, 0.9, 80, 120), (0.97, 0.9, 200, 60), (0.5, 0.6, 50, 50)])
def test_bounds_of_a_difference_hold_as_often_as_stated(p: float, q: float, n: int, m: int) -> None:
    """20,000 pairs of accuracies with Wilson's bounds: each side misses the true difference in about one of 20."""
    chance = np.random.default_rng(5)

    def wilson(hits: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = hits / rows
        middle = (share + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
        half = Z / (1 + Z**2 / rows) * np.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
        return share, middle - half, middle + half

    before, after = wilson(chance.binomial(n, p, 20_000), n), wilson(chance.binomial(m, q, 20_000), m)
    pairs = zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)
    bounds = np.array([between(measure(*map(float, a)), measure(*map(float, b))) for a, b in pairs])
    missed_low, missed_high = float(np.mean(bounds[:, 0] > q - p)), float(np.mean(bounds[:, 1] < q - p))
    assert 0.025 < missed_low < 0.07
    assert 0.025 < missed_high < 0.07
