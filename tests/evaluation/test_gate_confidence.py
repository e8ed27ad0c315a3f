"""A gate's own confidence moves its bounds as the normal quantiles say."""

from __future__ import annotations

import pytest
from scipy.stats import norm

from noria.config import parse_gate
from noria.evaluation import judge_gate
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure


def evaluation(difference: float, half_width: float) -> Evaluation:
    versus = Comparison(0.75, difference, difference - half_width, difference + half_width, 5000)
    measure = Measure(0.75 + difference, 0.7, 0.8, 5000)
    return Evaluation(5000, 1000, {"roc_auc": measure}, {"roc_auc": versus}, champion="v1")


@pytest.mark.parametrize(
    ("confidence", "outcome"),
    [(95, Outcome.NOT_ENOUGH_DATA), (80, Outcome.PASS), (99, Outcome.NOT_ENOUGH_DATA)],
)
def test_less_confidence_is_satisfied_with_less(confidence: int, outcome: Outcome) -> None:
    found = judge_gate.judge((parse_gate(f"roc_auc >= champion - 0.01 at {confidence}%"),), evaluation(-0.002, 0.012))
    assert found.outcome is outcome
    assert f"{confidence} % bounds" in found.reasons[0].text


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.99])
def test_the_bounds_are_those_of_the_normal_distribution(confidence: float) -> None:
    error = 0.007
    given = Comparison(0.75, 0.01, 0.01 - norm.ppf(0.95) * error, 0.01 + norm.ppf(0.95) * error, 5000)
    moved = judge_gate.at_confidence(given, confidence)
    assert moved.low == pytest.approx(0.01 - norm.ppf(confidence) * error)
    assert moved.high == pytest.approx(0.01 + norm.ppf(confidence) * error)
