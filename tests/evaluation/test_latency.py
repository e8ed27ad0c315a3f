"""The latency that a gate asks for: measured for this verdict, several times, and again where the verdict hangs on it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from noria.config import parse_gate
from noria.evaluation import evaluate
from noria.evaluation import judge_gate as judge
from noria.evaluation.latency import LatencyRounds
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats.measures import Measure

MEASURED = Evaluation(500, 200, {"roc_auc": Measure(0.8, 0.77, 0.83, 500)}, latency_p50_ms=0.1, latency_p99_ms=0.2)
QUICK, SLOW, EITHER = [1.0, 1.1, 1.2, 1.1, 1.0], [30.0, 31.0, 12.0, 33.0, 30.0], [1.0, 1.0, 1.1, 60.0, 1.0]


class Rounds:
    """A private server that takes as long as it is told."""

    def __init__(self, rounds: tuple[list[float], ...]) -> None:
        self.left, self.times = list(rounds), 0

    def measure(self) -> LatencyRounds:
        self.times += 1
        found = self.left.pop(0)
        return LatencyRounds([one / 2 for one in found], found)


def timed(gates: tuple[str, ...], *rounds: list[float]) -> tuple[Evaluation, int]:
    """The evaluation with its latency, and how often it was measured."""
    server = Rounds(rounds)
    sheet = SimpleNamespace(judging=SimpleNamespace(gates=tuple(parse_gate(text) for text in gates)))
    found = evaluate._with_latency(SimpleNamespace(progress=list[str]().append), sheet, server, MEASURED)  # type: ignore[arg-type]
    return found, server.times


def test_the_median_of_five_rounds_is_judged() -> None:
    """Number 31: what was measured when the model was packaged, perhaps days ago, is not what is judged."""
    found, times = timed(("latency_p99_ms <= 10",), QUICK)
    assert times == 1
    assert (found.latency_p99_ms, found.latency_p50_ms) == (1.1, 0.55)
    verdict = judge.judge([parse_gate("latency_p99_ms <= 10")], found)
    assert verdict.sentence() == "latency_p99_ms 1.100 <= 10 (the median of 5: 1 to 1.2)"


@pytest.mark.parametrize(("first", "median"), [(SLOW, 6.6), (EITHER, 1.05)])
def test_it_is_measured_again_where_the_verdict_hangs_on_it(first: list[float], median: float) -> None:
    """Number 31: one busy moment of the machine fails no candidate."""
    found, times = timed(("roc_auc >= 0.7", "latency_p99_ms <= 10"), first, QUICK)
    assert times == 2
    assert found.latency_p99_ms == pytest.approx(median)
    assert len(found.latency_rounds_ms) == 10


def test_a_slow_model_fails_after_the_second_time() -> None:
    found, times = timed(("latency_p99_ms <= 10",), SLOW, SLOW)
    assert times == 2
    assert judge.judge([parse_gate("latency_p99_ms <= 10")], found).outcome is Outcome.FAIL


def test_it_is_not_measured_again_for_a_candidate_that_fails_anyway() -> None:
    _, times = timed(("roc_auc >= 0.9", "latency_p99_ms <= 10"), SLOW)
    assert times == 1


def test_nothing_is_measured_where_no_gate_asks() -> None:
    assert not judge.asks_for_latency([parse_gate("roc_auc >= 0.7")])
    assert judge.asks_for_latency([parse_gate("latency_p50_ms <= 7")])
