"""Metrics of the project's own: a number, or one for each row; what raises or has no value is said, and ends no turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_line import CONFIG, MODEL, points, small_line

from noria.evaluation import custom_metrics_step
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import ConfigError
from noria.pipeline.turn_record import TurnOutcome
from noria.stats import intervals

MODULE = """
import numpy as np

def squared(label, prediction):
    return (prediction - label) ** 2

def whole(label, prediction):
    return float(np.mean((prediction - label) ** 2))

def weighted(label, prediction, rows):
    return np.abs(prediction - label) * rows["w"].to_numpy()

def raises(label, prediction):
    raise KeyError("no such shop")

def nothing(label, prediction):
    return float("nan")

def gaps(label, prediction):
    return np.where(label == 1, np.nan, 1.0)

def text(label, prediction):
    return "good"

def short(label, prediction):
    return np.ones(3)
"""
N = 400


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "own_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    draw = np.random.default_rng(2)
    truth = draw.random(N)
    label = (draw.random(N) < truth).astype(int)
    pl.DataFrame({"y": label, "w": draw.random(N), "g": np.arange(N) // 20}).write_ipc(tmp_path / "rows.arrow")
    np.save(tmp_path / "mine.npy", truth)
    np.save(tmp_path / "theirs.npy", np.clip(truth + draw.normal(0, 0.3, N), 0, 1))
    return {
        "rows": str(tmp_path / "rows.arrow"), "label": "y", "task": "binary", "classes": ["0", "1"], "groups": None,
        "event_time": None, "scores": {"candidate": str(tmp_path / "mine.npy"), "champion": str(tmp_path / "theirs.npy")},
    }  # fmt: skip


def test_a_metric_of_rows_is_measured_and_compared(job: dict[str, Any], tmp_path: Path) -> None:
    """Against Noria's own Brier score, whose bounds are normal."""
    found = custom_metrics_step.run(job | {"metrics": {"mine": "own_metrics:squared", "whole": "own_metrics:whole"}})
    label = pl.read_ipc(tmp_path / "rows.arrow")["y"].to_numpy()
    mine, theirs = (np.load(tmp_path / f"{name}.npy") for name in ("mine", "theirs"))
    due = intervals.compare("brier", _binary(), label, mine, theirs)
    for name in ("mine", "whole"):
        measured, versus = found["measures"][name], found["versus"]["champion"][name]
        assert measured["value"] == pytest.approx(((mine - label) ** 2).mean())
        assert versus["difference"] == pytest.approx(due.difference)
        assert versus["low"] == pytest.approx(due.low, abs=0.15 * (due.high - due.low))
        assert versus["high"] == pytest.approx(due.high, abs=0.15 * (due.high - due.low))
        assert (measured["n"], versus["n"]) == (N, N)
    assert found["unmeasured"] == {}


def _binary() -> Any:
    from noria.kernel.task import Task  # beside its one use

    return Task("binary")


def test_a_metric_may_ask_for_the_rows_and_groups_are_drawn_together(job: dict[str, Any]) -> None:
    metrics = {"metrics": {"w": "own_metrics:weighted"}}
    alone = custom_metrics_step.run(job | metrics)["measures"]["w"]
    grouped = custom_metrics_step.run(job | metrics | {"groups": "g"})["measures"]["w"]
    assert alone["value"] == grouped["value"]
    assert (alone["low"], alone["high"]) != (grouped["low"], grouped["high"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "own_metrics:raises raised KeyError: 'no such shop'"),
        ("nothing", "own_metrics:nothing returned no finite number"),
        ("gaps", "own_metrics:gaps returned no finite number for"),
        ("text", "own_metrics:text returned str, which is no number"),
        ("short", "own_metrics:short returned an array of shape (3,) for 400 rows"),
    ],
)
def test_what_is_no_value_is_said(job: dict[str, Any], name: str, why: str) -> None:
    found = custom_metrics_step.run(job | {"metrics": {name: f"own_metrics:{name}", "fine": "own_metrics:squared"}})
    assert found["unmeasured"][name].startswith(why)
    assert name not in found["measures"]
    assert "fine" in found["measures"]


OWN = """
import numpy as np

def missed(label, prediction):
    return np.where(label == 1, 1 - prediction, 0.0)

def broken(label, prediction):
    return float("nan")
"""
TEXT = CONFIG.replace(
    'gates: ["roc_auc >= 0.6"]\n',
    'metrics: {missed: "own:missed", share: {call: "own:missed", better: higher}}\n'
    'gates: ["missed <= 0.4", "missed <= champion + 0.05", "share no worse than best by 0.2"]\n',
)


def test_gates_ask_for_it_of_the_candidate_and_of_champion_and_best(tmp_path: Path) -> None:
    with small_line(tmp_path, text=TEXT, files=[("own.py", OWN)]) as line:
        line.deliver("points-01.csv", points(1))
        first = line.turned()
        assert first.outcome is TurnOutcome.PROMOTED, first.reason
        line.write("model.py", MODEL.replace("LogisticRegression()", "LogisticRegression(C=0.5)"))
        line.commit("C=0.5")
        second = line.turned()
        assert second.outcome is TurnOutcome.PROMOTED, second.reason
        found = EvaluationStore.of(line).of_turn(second.id)
        assert found is not None
        assert {"missed", "share"} <= set(found.evaluation.metrics) & set(found.evaluation.versus)
        assert [gate.metric for gate in found.gates] == ["missed", "missed", "share"]
        line.write("model.py", MODEL.replace("LogisticRegression()", "LogisticRegression(C=0.25)"))
        line.edit("noria.yaml", "own:missed", "own:broken")
        line.commit("a metric without a value")
        third = line.turned()
        assert third.outcome is TurnOutcome.NOT_ENOUGH_DATA
        assert "missed could not be computed: own:broken returned no finite number" in third.reason


@pytest.mark.parametrize(
    ("metrics", "gate", "why"),
    [
        ('{price: "own:nothing"}', "price <= 1", "there is no function 'nothing'"),
        ('{brier: "own:missed"}', "brier <= 1", "brier is a metric of Noria"),
        ('{cost: "own:missed"}', "cost <= 1", "cost is a metric of Noria"),
        ('{"my-cost": "own:missed"}', "brier <= 1", "gates cannot name 'my-cost'"),
        ('{missed: "own:missed"}', "mised <= 1", "there is no metric 'mised'"),
        ('{missed: "own:missed"}', "worst(missed, by=a) <= 1", "takes a metric of Noria"),
        ('{missed: {call: "own:missed", better: bigger}}', "missed <= 1", "expected lower or higher"),
    ],
)
def test_what_is_written_wrongly_is_an_error_with_its_line(tmp_path: Path, metrics: str, gate: str, why: str) -> None:
    text = CONFIG.replace('gates: ["roc_auc >= 0.6"]', f'metrics: {metrics}\ngates: ["{gate}"]')
    with pytest.raises(ConfigError, match=why) as raised, small_line(tmp_path, text=text, files=[("own.py", OWN)]) as line:
        line.project()
    assert "noria.yaml:" in str(raised.value.where)


STEPS = CONFIG.replace(
    'gates: ["roc_auc >= 0.6"]\n',
    "steps:\n"
    "  simulate:\n"
    "    cmd: echo '{\"profit\":' $NORIA_PARAM_SIMULATE_PROFIT '}' > profit.json\n"
    "    params: [simulate.profit]\n"
    "    metrics: [profit.json]\n"
    'gates: ["simulate.profit >= 10"]\n',
)


@pytest.mark.parametrize(
    ("profit", "due", "why"),
    [
        ("12", TurnOutcome.PROMOTED, ""),
        ("9.5", TurnOutcome.GATE_FAILED, "simulate.profit 9.500 < 10"),
        ("null", TurnOutcome.NOT_ENOUGH_DATA, "the step simulate wrote no metric profit: it wrote none"),
    ],
)
def test_gates_ask_for_what_a_step_wrote(tmp_path: Path, profit: str, due: TurnOutcome, why: str) -> None:
    with small_line(tmp_path, text=STEPS, files=[("params.yaml", f"train: {{}}\nsimulate: {{profit: {profit}}}\n")]) as line:
        line.deliver("points-01.csv", points(1))
        turn = line.turned()
        assert turn.outcome is due, turn.reason
        assert why in turn.reason


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        ("simulat.profit >= 1", "there is no step 'simulat'"),
        ("simulate.profit >= champion", "has no bounds, and is compared with a number"),
        ("simulate.profit >= 1 at 90%", "has no bounds, and is compared with a number"),
    ],
)
def test_a_gate_on_a_step_that_cannot_be_is_an_error(tmp_path: Path, gate: str, why: str) -> None:
    text = STEPS.replace("simulate.profit >= 10", gate)
    files = [("params.yaml", "train: {}\nsimulate: {profit: 1}\n")]
    with pytest.raises(ConfigError, match=why), small_line(tmp_path, text=text, files=files) as line:
        line.project()
