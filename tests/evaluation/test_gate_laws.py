"""Gates as laws: what a higher threshold, a wider margin, more confidence or one gate more may change, and what it may not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config.gate import parse_gate
from noria.evaluation import judge_gate as judge
from noria.evaluation.records import sort_gated_first
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

BETTER = {Outcome.FAIL: 0, Outcome.NOT_ENOUGH_DATA: 1, Outcome.PASS: 2}
SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 400)
FEW = settings(max_examples=80)


def evaluation(value: float, half: float, n: int = 400, positives: int = 200, difference: float = 0.0) -> Evaluation:
    """Of roc_auc and brier alike, beside a champion on the same rows."""
    measure = Measure(value, value - half, value + half, n, positives)
    versus = Comparison(0.7, difference, difference - half, difference + half, n)
    return Evaluation(
        rows=n,
        positives=positives,
        metrics={"roc_auc": measure, "brier": measure},
        champion="v1",
        versus={"roc_auc": versus, "brier": versus},
    )


def outcome(text: str, found: Evaluation) -> Outcome:
    return judge.judge([parse_gate(text)], found).outcome


@FEW
@given(value=SHARES, half=st.floats(0, 0.3), one=SHARES, other=SHARES, bound=st.sampled_from(["", " at 60%", " at 95%"]))
def test_a_higher_threshold_never_helps(value: float, half: float, one: float, other: float, bound: str) -> None:
    low, high = sorted([one, other])
    found = evaluation(value, half)
    assert BETTER[outcome(f"roc_auc >= {low:.6f}{bound}", found)] >= BETTER[outcome(f"roc_auc >= {high:.6f}{bound}", found)]
    assert BETTER[outcome(f"brier <= {low:.6f}{bound}", found)] <= BETTER[outcome(f"brier <= {high:.6f}{bound}", found)]


@FEW
@given(difference=st.floats(-0.5, 0.5), half=st.floats(0, 0.3), one=SHARES, other=SHARES, share=st.sampled_from(["", "%"]))
def test_a_wider_margin_never_harms(difference: float, half: float, one: float, other: float, share: str) -> None:
    low, high = sorted([one, other])
    found = evaluation(0.7, half, difference=difference)
    for form in ("roc_auc >= champion - {}", "roc_auc no worse than champion by {}", "brier <= champion + {}"):
        narrow, wide = (outcome(form.format(f"{margin:.6f}{share}"), found) for margin in (low, high))
        assert BETTER[wide] >= BETTER[narrow]


@FEW
@given(difference=st.floats(-0.5, 0.5), half=st.floats(0.001, 0.3), margin=st.floats(0, 0.2))
def test_more_confidence_only_makes_doubt(difference: float, half: float, margin: float) -> None:
    """What passed or failed may become too uncertain to say, and never its opposite."""
    found = evaluation(0.7, half, difference=difference)
    seen = [outcome(f"roc_auc >= champion - {margin:.6f} at {percent}%", found) for percent in (51, 80, 95, 99.9)]
    decided = [one for one in seen if one is not Outcome.NOT_ENOUGH_DATA]
    assert seen[: len(decided)] == decided
    assert len(set(decided)) <= 1


@FEW
@given(difference=st.floats(-0.5, 0.5), half=st.floats(0, 0.3), margin=st.floats(0, 0.2))
def test_no_worse_forgives_doubt_and_nothing_else(difference: float, half: float, margin: float) -> None:
    found = evaluation(0.7, half, difference=difference)
    strict, mild = (outcome(f"roc_auc {form} {margin:.6f}", found) for form in (">= champion -", "no worse than champion by"))
    assert mild is (Outcome.PASS if strict is Outcome.NOT_ENOUGH_DATA else strict)


@FEW
@given(
    texts=st.lists(
        st.sampled_from(["roc_auc >= 0.6", "brier <= 0.6", "roc_auc >= champion - 0.01", "rows >= 100", "f1 >= 0.1"]), max_size=4
    ),
    value=SHARES,
)
def test_one_gate_more_never_helps_and_each_is_told_in_its_place(texts: list[str], value: float) -> None:
    found, gates = evaluation(value, 0.05, difference=value - 0.7), [parse_gate(text) for text in texts]
    verdict = judge.judge(gates, found)
    told = judge.each(gates, verdict, found)
    assert [one.gate for one in told] == texts
    assert [one.outcome for one in told] == [outcome(text, found) for text in texts]
    for at in range(len(gates)):
        assert BETTER[judge.judge(gates[:at], found).outcome] >= BETTER[verdict.outcome]
    for one in told:
        assert one.value is None or math.isfinite(one.value)


@FEW
@given(n=COUNTS, share=SHARES)
def test_few_rows_or_few_of_a_class_decide_nothing(n: int, share: float) -> None:
    positives = round(n * share)
    enough = n >= 50 and min(positives, n - positives) >= 10
    for text in ("roc_auc >= 0.1", "roc_auc >= 0.9", "roc_auc >= champion", "roc_auc >= 0.5 at 95%"):
        found = outcome(text, evaluation(0.7, 0.0, n, positives, difference=0.1))
        assert (found is not Outcome.NOT_ENOUGH_DATA) is enough, text


@pytest.mark.parametrize("text", ["roc_auc >= 0.5", "roc_auc >= champion", "roc_auc >= 0.5 at 90%"])
def test_what_is_no_number_decides_nothing(text: str) -> None:
    assert outcome(text, evaluation(math.nan, math.nan, difference=math.nan)) is Outcome.NOT_ENOUGH_DATA


@FEW
@given(value=st.floats(-10, 10), low=st.floats(0, 5), high=st.floats(0, 5), confidence=st.floats(0.5, 0.999))
def test_bounds_move_with_confidence_and_stay_at_their_own(value: float, low: float, high: float, confidence: float) -> None:
    versus = Comparison(1.0, value, value - low, value + high, 100)
    same = judge.at_confidence(versus, 0.95)
    assert (same.low, same.high) == pytest.approx((versus.low, versus.high))
    moved = judge.at_confidence(versus, confidence)
    assert moved.low <= value <= moved.high
    assert ((moved.high - moved.low) <= (versus.high - versus.low) + 1e-9) is (confidence <= 0.95 or low + high < 1e-9)


@FEW
@given(values=st.lists(st.tuples(SHARES, st.integers(0, 120)), min_size=1, max_size=6), threshold=SHARES)
def test_the_worst_of_the_slices_that_are_large_enough(values: list[tuple[float, int]], threshold: float) -> None:
    slices = {f"s{at}": {"roc_auc": Measure(value, value, value, n, n // 2)} for at, (value, n) in enumerate(values)}
    found = Evaluation(rows=400, positives=200, metrics={}, slices={"origin": slices})
    reason = judge.judge([Gate("g", "roc_auc", True, threshold, by="origin")], found).reasons[0]
    large = {name: value for name, (value, n) in zip(slices, values, strict=True) if n >= 50}
    if not large:
        assert reason.outcome is Outcome.NOT_ENOUGH_DATA
        return
    worst = min(large.values())
    assert reason.outcome is (Outcome.PASS if worst >= threshold else Outcome.FAIL)
    assert reason.numbers["value"] == worst
    assert all(name in reason.text for name in list(set(slices) - set(large))[:1])


@given(
    names=st.lists(st.sampled_from(["a", "b", "validation.a", "c", "validation.c", "d"]), unique=True),
    gated=st.lists(st.sampled_from("abcx")),
)
def test_what_gates_ask_for_stands_first(names: list[str], gated: list[str]) -> None:
    found = sort_gated_first(names, gated)
    assert sorted(found) == sorted(names)
    bare = [name.removeprefix("validation.") for name in found]
    asked = [name for name in bare if name in gated]
    assert bare[: len(asked)] == asked
    assert list(dict.fromkeys(asked)) == [name for name in dict.fromkeys(gated) if name in bare]
    rest = [name for name in found if name.removeprefix("validation.") not in gated]
    assert rest == [name for name in names if name in rest] or any(name.startswith("validation.") for name in rest)
