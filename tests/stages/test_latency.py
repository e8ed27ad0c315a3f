"""The latency that a gate asks for: measured for this verdict, several times, and again where the verdict hangs on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from noria.config import parse_gate
from noria.decide import gate as judge
from noria.domain.evaluation import Evaluation, Measure
from noria.domain.verdict import Outcome
from noria.stages import evaluate

MEASURED = Evaluation(500, 200, {"roc_auc": Measure(0.8, 0.77, 0.83, 500)}, latency_p50_ms=0.1, latency_p99_ms=0.2)
QUICK, SLOW, EITHER = [1.0, 1.1, 1.2, 1.1, 1.0], [30.0, 31.0, 12.0, 33.0, 30.0], [1.0, 1.0, 1.1, 60.0, 1.0]


def timed(gates: tuple[str, ...], *rounds: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[Evaluation, int]:
    """The evaluation with its latency, and how often it was measured."""
    left, said = list(rounds), list[str]()

    def once(*_: Any) -> tuple[list[float], list[float]]:
        found = left.pop(0)
        return [one / 2 for one in found], found

    monkeypatch.setattr(evaluate, "_timed", once)
    sheet = SimpleNamespace(project=SimpleNamespace(gates=tuple(parse_gate(text) for text in gates)))
    found = evaluate._with_latency(SimpleNamespace(progress=said.append), sheet, None, MEASURED)  # type: ignore[arg-type]
    return found, len(rounds) - len(left)


def test_the_median_of_five_rounds_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 31: what was measured when the model was packaged, perhaps days ago, is not what is judged."""
    found, times = timed(("latency_p99_ms <= 10",), QUICK, monkeypatch=monkeypatch)
    assert times == 1
    assert (found.latency_p99_ms, found.latency_p50_ms) == (1.1, 0.55)
    verdict = judge.judge([parse_gate("latency_p99_ms <= 10")], found)
    assert verdict.sentence() == "latency_p99_ms 1.100 <= 10 (the median of 5: 1 to 1.2)"


@pytest.mark.parametrize(("first", "median"), [(SLOW, 6.6), (EITHER, 1.05)])
def test_it_is_measured_again_where_the_verdict_hangs_on_it(
    first: list[float], median: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 31: one busy moment of the machine fails no candidate."""
    found, times = timed(("roc_auc >= 0.7", "latency_p99_ms <= 10"), first, QUICK, monkeypatch=monkeypatch)
    assert times == 2
    assert found.latency_p99_ms == pytest.approx(median)
    assert len(found.latency_rounds_ms) == 10


def test_a_slow_model_fails_after_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found, times = timed(("latency_p99_ms <= 10",), SLOW, SLOW, monkeypatch=monkeypatch)
    assert times == 2
    assert judge.judge([parse_gate("latency_p99_ms <= 10")], found).outcome is Outcome.FAIL


def test_it_is_not_measured_again_for_a_candidate_that_fails_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    _, times = timed(("roc_auc >= 0.9", "latency_p99_ms <= 10"), SLOW, monkeypatch=monkeypatch)
    assert times == 1


def test_nothing_is_measured_where_no_gate_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(("roc_auc >= 0.7",), monkeypatch=monkeypatch) == (MEASURED, 0)
