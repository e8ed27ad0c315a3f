"""Made-up reports, one for each task and outcome, for tests of what draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import replace

from noria import config
from noria.evaluation import judge_curves
from noria.evaluation.judge_compare import CodeFile, CodeState, DataDifference, DataFile, Environments, RunDifference
from noria.evaluation.records import HoldoutBudget
from noria.evaluation.scores import ComparedRelease, Scores
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.releases.release import Release, ServedForm
from noria.stats.curve_records import EvaluationCurves
from noria.stats.measures import Measure
from noria.views.report_records import Report, ReportData, ReportFact, ReportGate, ReportMetric, ReportSlice

TASKS = ("binary", "multiclass", "regression")
ROWS = 3000


def curves(task: str) -> EvaluationCurves:
    random = np.random.default_rng(7)
    classes: list[str] = []
    y: Any
    if task == "regression":
        y = random.gamma(2, 10, ROWS)
        mine, theirs = y * random.normal(1, 0.1, ROWS), y * random.normal(1.05, 0.2, ROWS)
    elif task == "binary":
        mine = random.beta(2, 5, ROWS)
        y, classes = (random.random(ROWS) < mine).astype(int), ["0", "1"]
        theirs = np.clip(mine + random.normal(0, 0.15, ROWS), 0, 1)
    else:
        y, classes = random.choice(3, ROWS, p=[0.2, 0.3, 0.5]), ["a", "b", "c"]
        mine, theirs = (_probabilities(random, y, weight) for weight in (0.8, 0.5))
    model = config.Model(rows="r", key="id", task=Task(task), inputs=("a",), label="kind", train="m:train", holdout=None)  # type: ignore[arg-type]  # unread here
    champion = ComparedRelease(
        Release("v7", "d" * 64, "p", "run-1", None, ServedForm.COMPILED, 0.0, None, {}), Scores(theirs, "")
    )
    found = judge_curves.evaluation_curves(model, classes, y, Scores(mine, ""), champion)
    assert found is not None
    return found


def _probabilities(random: np.random.Generator, y: Any, weight: float) -> Any:
    found = random.dirichlet(np.ones(3), len(y))
    found[np.arange(len(y)), y] += weight
    return found / found.sum(axis=1, keepdims=True)


def report(task: str = "binary", outcome: Outcome = Outcome.PASS) -> Report:
    """Of v8 beside v7."""
    numbers = {"value": 0.713, "threshold": 0.7, "low": 0.703, "high": 0.722}
    text = "roc_auc 0.713 (95 % bounds 0.703 to 0.722, 3,000 rows)"
    remedy = "" if outcome is Outcome.PASS else "about 2,300 more labelled rows"
    difference = {"difference": -0.002, "margin": 0.005, "low": -0.003, "high": -0.001}
    below = "brier is 0.002 below the champion's 0.150"
    gates = (
        ReportGate("gate.threshold", "roc_auc >= 0.7 at 95%", "roc_auc", outcome, text, 0.713, numbers, remedy),
        ReportGate("gate.champion", "brier <= champion + 0.005", "brier", Outcome.PASS, below, 0.148, difference, ""),
    )
    metrics = (
        ReportMetric(
            "roc_auc",
            Measure(0.713, 0.703, 0.722, ROWS, 900, 14, "day", 1.8, 13.0),
            0.704,
            0.009,
            0.006,
            0.011,
            "better",
            True,
            True,
        ),
        ReportMetric("brier", Measure(0.148, 0.145, 0.151, ROWS, 900), 0.15, -0.002, -0.003, -0.001, "better", False, True),
        ReportMetric("log_loss", Measure(0.459, 0.452, 0.466, ROWS, 900), None, None, None, None, "", False, False),
    )
    slices = (
        ReportSlice("origin", "EWR", "roc_auc", Measure(0.66, 0.64, 0.69, 800), 0.053, 0.023),
        ReportSlice("origin", "a name that is very long, as those of people's columns sometimes are", "roc_auc",
                    Measure(0.76, 0.74, 0.78, 900), -0.047, 0.0),
    )  # fmt: skip
    return Report(
        project="flights", name="v8", outcome=outcome, headline=f"v8: {outcome}, beside v7 on the same 3,000 rows.",
        why=(gates[0].text,), remedies=(gates[0].remedy,) if gates[0].remedy else (),
        decisions=("accepted by cli:anna (the labels come late): roc_auc is measured on 40 rows",),
        afterwards="Turn 14: promoted, v8. v8 serves all of production.", gates=gates, champion="v7", champion_note="",
        environment="production", changes=changes(), changes_note="", metrics=metrics, curves=curves(task), curves_note="",
        slices=slices, data=(ReportData("flights", "b" * 64, 8, 224_910), ReportData("weather", "c" * 64, None, None)),
        holdout="last 14 days: 2013-08-18 to 2013-09-01, 3,000 rows", rows=ROWS, positives=900, latency_p50_ms=0.3,
        latency_p99_ms=7.0, latency_rounds_ms=(5.6, 7.0, 9.0), model_size_mb=0.226, remarks=("hour predicts the label alone",),
        unmeasured={"nwrmsle": "it is NaN"}, step_metrics={"evaluate.lift": 1.7},
        lineage=(ReportFact("release", f"v8, compiled, digest {'f' * 64}"), ReportFact("run", "run-1")), at=1.4e9, ref="v8",
        looks=HoldoutBudget(3.0, 20, ROWS, 120),
    )  # fmt: skip


def changes() -> RunDifference:
    """One file of the code, one of the data."""
    return RunDifference(
        before="v7", after="v8", code=CodeState("a" * 40, "b" * 40, False, False, (CodeFile("model.py", 3, 1),), True), steps=(),
        data=(DataDifference("flights", 195_583, 224_910, (DataFile("data/flights-2013-08.parquet", None, 29_327),), True),),
        params=(), metrics=(), series=(), plots=(), artifacts=(), environment=Environments((), False),
    )  # fmt: skip


def bare() -> Report:
    """A first candidate, evaluated before curves were kept."""
    found = report()
    return replace(
        found, curves=None, curves_note="curves were not recorded: this candidate was evaluated before Noria kept them",
        champion=None, changes=None, changes_note="there was no champion to compare it with", looks=None, slices=(), remarks=(),
    )  # fmt: skip
