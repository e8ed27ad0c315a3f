"""Gates on the champion are held against the best release so far, too: small losses do not add up."""

from __future__ import annotations

import numpy as np
import pytest

from noria.config import parse_gate
from noria.evaluation import judge_gate as judge
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome, Reason
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

WITHIN = parse_gate("roc_auc >= champion - 0.01")
NO_WORSE = parse_gate("roc_auc no worse than champion by 0.01")


def compared(to_champion: float, to_best: float, half: float = 0.008, best: str = "v3") -> Evaluation:
    measure = Measure(0.7, 0.69, 0.71, 9000, 3000)
    versus, versus_best = (Comparison(0.7, each, each - half, each + half, 9000) for each in (to_champion, to_best))
    return Evaluation(
        9000, 3000, {"roc_auc": measure}, {"roc_auc": versus}, champion="v9", best=best, versus_best={"roc_auc": versus_best}
    )


def judged(gate: Gate, evaluation: Evaluation, *more: Gate) -> Reason:
    return judge.judge([gate, *more], evaluation).reasons[0]


@pytest.mark.parametrize(
    ("to_best", "outcome"),
    [(0.0, Outcome.PASS), (-0.012, Outcome.PASS), (-0.018, Outcome.NOT_ENOUGH_DATA), (-0.03, Outcome.FAIL)],
)
def test_twice_the_margin_may_be_lost_to_the_best(to_best: float, outcome: Outcome) -> None:
    found = judged(WITHIN, compared(0.0, to_best))
    assert found.outcome is outcome
    assert "v3's, the best release so far, 0.700" in found.text
    assert "0.02 below is allowed" in found.text or "more than 0.02 allowed" in found.text
    assert found.numbers["best_difference"] == to_best
    assert bool(found.remedy) is (outcome is Outcome.NOT_ENOUGH_DATA)


def test_what_decides_stands_first() -> None:
    assert judged(WITHIN, compared(0.0, -0.03)).text.startswith("roc_auc is 0.030 below v3's, the best release so far,")
    assert judged(WITHIN, compared(-0.03, 0.0)).text.startswith("roc_auc is 0.030 below the champion's")


def test_what_is_shown_to_be_worse_than_the_best_fails() -> None:
    assert judged(NO_WORSE, compared(0.0, -0.025)).outcome is Outcome.PASS  # not shown at 97.5 %
    assert judged(NO_WORSE, compared(0.0, -0.031)).outcome is Outcome.FAIL


def test_a_gate_on_the_best_says_how_much_itself() -> None:
    own = parse_gate("roc_auc >= best - 0.05")
    assert judged(WITHIN, compared(0.0, -0.03), own).outcome is Outcome.PASS
    assert judge.best_metrics([WITHIN, own]) == ["roc_auc"]


@pytest.mark.parametrize("text", ["roc_auc >= champion + 0.01", "roc_auc >= champion", "roc_auc >= 0.6"])
def test_gates_that_let_nothing_be_lost_need_no_anchor(text: str) -> None:
    gate = parse_gate(text)
    assert judge.best_metrics([gate]) == []
    assert "best" not in judged(gate, compared(0.03, -0.5)).text


def test_the_champion_may_be_the_best() -> None:
    assert "best" not in judged(WITHIN, compared(0.0, -0.5, best="v9")).text
    assert judge.best_metrics([WITHIN]) == ["roc_auc"]
    assert judge.best_metrics([parse_gate("brier <= champion + 0.01"), parse_gate("roc_auc >= best - 0.1")]) == [
        "roc_auc",
        "brier",
    ]


def accepted(anchored: bool, seed: int, candidates: int = 50, error: float = 0.003) -> float:
    """What is left of the true value after so many candidates, each made from the champion and on average 0.003 below it."""
    rng = np.random.default_rng([8, seed])
    champion = best = 0.0
    for _ in range(candidates):
        candidate = champion + rng.normal(-0.003, 0.003)
        to_champion = candidate - champion + error * rng.normal()
        to_best = to_champion if best == champion else candidate - best + error * rng.normal()
        name = "v3" if anchored and best != champion else "v9"
        if judged(WITHIN, compared(to_champion, to_best, 1.6449 * error, name)).outcome is Outcome.PASS:
            best = candidate if to_best >= 0 else best
            champion = candidate
    return champion


def test_fifty_small_losses_do_not_add_up() -> None:
    """Everson-Stewart and Emerson (Statistics in Medicine 2010) call it bio-creep."""
    without, held = (np.mean([accepted(anchored, seed) for seed in range(40)]) for anchored in (False, True))
    assert without < -0.05
    assert held > -0.025
