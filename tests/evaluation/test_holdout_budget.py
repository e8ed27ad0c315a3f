"""The holdout is a budget: looks are counted by the rows they saw, and gates ask for more proof with each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.config.gate import parse_gate
from noria.evaluation import judge_holdout as judge
from noria.evaluation.look_store import LookStore
from noria.evaluation.records import HoldoutBudget, HoldoutRows
from noria.kernel.verdict import Outcome, combine
from noria.releases.evidence import Evaluation
from noria.stats import row_sketch
from noria.stats.measures import Comparison, Measure
from noria.storage.ledger import Ledger


def rows(first: int, count: int, candidate: str = "a") -> HoldoutRows:
    found = row_sketch.sketch((str(number) for number in range(first, first + count)), "p")
    return HoldoutRows(candidate, count, tuple(found.tolist()))


def evaluation(difference: float, half: float) -> Evaluation:
    measure = Measure(0.7, 0.7 - half, 0.7 + half, 1000, 400)
    versus = Comparison(0.7, difference, difference - half, difference + half, 1000)
    return Evaluation(1000, 400, {"roc_auc": measure}, champion="v1", versus={"roc_auc": versus})


def judged(texts: list[str], found: Evaluation, holdout: HoldoutBudget | None) -> list[Outcome]:
    return [reason.outcome for reason in judge.judge([parse_gate(text) for text in texts], found, holdout)]


def test_the_share_of_rows_that_were_seen_is_exact_for_small_tables_and_near_for_large_ones() -> None:
    small, other = (row_sketch.sketch(map(str, range(first, first + 400)), "p") for first in (0, 300))
    assert row_sketch.share_within(small, [other]) == 0.25
    assert row_sketch.share_within(small, [other, row_sketch.sketch(map(str, range(50)), "p")]) == 0.375
    assert row_sketch.share_within(small, []) == 0.0
    large = row_sketch.sketch(map(str, range(20_000)), "p")
    assert len(large) == row_sketch.KEPT
    for first in (0, 5_000, 15_000, 20_000):
        shifted = row_sketch.sketch(map(str, range(first, first + 20_000)), "p")
        assert row_sketch.share_within(large, [shifted]) == pytest.approx(1 - first / 20_000, abs=0.06)
    assert row_sketch.share_within(small, [large]) == 1.0


def test_an_overlapping_window_is_no_new_holdout() -> None:
    weeks = [rows(first, 1000, f"model {first}") for first in (0, 500, 1000, 1500)]
    found = judge.count(weeks[-1], weeks[:-1], 20)
    assert (found.looks, found.fresh_rows, found.rows) == (1.5, 500, 1000), "half of it was seen by the look before"
    same = judge.count(rows(0, 1000, "new"), [rows(0, 1000, f"model {k}") for k in range(7)], 5)
    assert (same.looks, same.fresh_rows, same.left, same.spent) == (8.0, 0, 0.0, True)


def test_the_same_candidate_on_the_same_rows_is_no_new_look() -> None:
    earlier = [rows(0, 300, name) for name in ("a", "b", "c")]
    again = judge.count(rows(0, 300, "b"), earlier, 20)
    assert (again.looks, again.repeated, again.fresh_rows) == (2.0, True, 0)
    assert judge.count(rows(0, 301, "b"), earlier, 20).looks == pytest.approx(4.0, abs=0.02), "other rows: a look"


@settings(max_examples=60)
@given(st.integers(1, 30), st.floats(0.001, 0.5))
def test_over_all_looks_and_histories_the_levels_sum_to_no_more_than_the_gate_may_err(looks: int, alpha: float) -> None:
    spent = sum(2**before * judge.level(alpha, before + 1) for before in range(looks))
    assert spent <= alpha


def test_a_pass_must_hold_at_the_confidence_of_its_look() -> None:
    near = evaluation(0.0, 0.015)  # shown to be within 0.02 at 95 %, by two standard errors
    first, tenth = (HoldoutBudget(looks, 20, 1000, 0) for looks in (1.0, 10.0))
    gate = ["roc_auc >= champion - 0.02"]
    assert judged(gate, near, replace(first, budget=None)) == [Outcome.PASS]
    assert judged(gate, near, None) == [Outcome.PASS]
    assert judged(gate, near, first) == [Outcome.PASS, Outcome.PASS]
    found = judge.judge([parse_gate(gate[0])], near, tenth)
    assert [reason.outcome for reason in found] == [Outcome.NOT_ENOUGH_DATA, Outcome.PASS]
    assert "it passes at 95 %, and look 10 at these rows asks for 99.9999" in found[0].text
    assert found[0].remedy, "how many rows would decide"
    assert judged(gate, evaluation(0.0, 0.004), tenth) == [Outcome.PASS, Outcome.PASS], "enough rows pay for it"


def test_what_asks_for_no_proof_is_not_charged_and_what_fails_stays_failed() -> None:
    late = HoldoutBudget(20.0, 20, 1000, 0)
    texts = ["roc_auc >= 0.69", "roc_auc no worse than champion", "roc_auc >= 0.69 at 95%", "roc_auc >= champion + 0.1"]
    due = [Outcome.PASS, Outcome.PASS, Outcome.NOT_ENOUGH_DATA, Outcome.FAIL, Outcome.PASS]
    assert judged(texts, evaluation(0.0, 0.009), late) == due


def test_a_spent_holdout_is_not_enough_data_and_asks_for_fresh_rows() -> None:
    spent = HoldoutBudget(21.0, 20, 1000, 0)
    found = judge.judge([parse_gate("roc_auc >= 0.5")], evaluation(0.0, 0.01), spent)
    assert combine(found).outcome is Outcome.NOT_ENOUGH_DATA
    assert found[-1].code == judge.SPENT
    assert found[-1].text == (
        "the holdout is spent: look 21 of 20 at these 1,000 held-out rows, of which 0 are fresh; `model.holdout.budget` allows 20"
    )
    assert found[-1].remedy == "about 53 more held-out rows that no verdict saw before: bring newly labelled data"
    more = judge.count(rows(0, 1053, "new"), [rows(0, 1000, f"model {k}") for k in range(20)], 20)
    assert not more.spent, "so many are enough"
    assert combine(judge.judge([parse_gate("roc_auc >= 0.9")], evaluation(0.0, 0.01), spent)).outcome is Outcome.FAIL


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(tmp_path / "state")) as found:
        yield found


def test_looks_come_back_in_their_order_and_a_turn_has_one(ledger: Ledger) -> None:
    store = LookStore(ledger, "p")
    looks = [rows(10 * number, 2000, f"model {number}") for number in range(3)]
    for number, look in enumerate(looks):
        store.add(f"turn-{number}", look, float(number))
    store.add("turn-2", looks[0], 9.0)
    LookStore(ledger, "q").add("turn-9", looks[0], 9.0)
    assert store.list() == looks
    assert np.array(looks[0].smallest, dtype=np.uint64).max() > 2**50, "hashes of 8 bytes"
