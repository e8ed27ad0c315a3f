"""Gates on forecasts, rankings, calibration and costs: from noria.yaml to the reason that a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from small_line import CONFIG, points, small_line

from noria import config
from noria.config.gate import demand_task, parse_gate
from noria.engine.turn import TurnOutcome
from noria.evaluation import judge_gate, measure
from noria.evaluation.scores import Scores
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import ConfigError, DataError
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.models import naive_forecast, split, training
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure
from noria.stats.requested import MetricFacts

PASS, FAIL, THIN = Outcome.PASS, Outcome.FAIL, Outcome.NOT_ENOUGH_DATA
LABELLED_COSTS = MetricFacts(costs=(3.0, 40.0))
ROWS = Evaluation(rows=4000, positives=0, metrics={})


def judged(text: str, evaluation: Evaluation) -> tuple[Outcome, str]:
    reason = judge_gate.judge([parse_gate(text)], evaluation).reasons[0]
    return reason.outcome, reason.text


def test_a_ranking_is_told_in_queries() -> None:
    found = Measure(0.41, 0.38, 0.44, 400, counts="query")
    versus = Comparison(0.40, 0.01, -0.012, 0.032, 400, counts="query")
    whole = replace(ROWS, metrics={"ndcg@10": found}, versus={"ndcg@10": versus}, champion="v3")
    assert judged("ndcg@10 >= 0.4", whole) == (PASS, "ndcg@10 0.410 >= 0.4 (95 % bounds 0.380 to 0.440, 400 queries)")
    assert judged("ndcg@10 >= 0.4 at 95%", whole)[0] is THIN
    assert judged("ndcg@10 no worse than champion", whole)[0] is PASS
    outcome, text = judged("ndcg@10 >= champion - 0.02", whole)
    assert outcome is PASS
    assert "400 queries" in text


def test_few_queries_are_not_enough_however_many_rows_they_have() -> None:
    whole = replace(
        ROWS,
        metrics={"map": Measure(0.41, 0.38, 0.44, 12, counts="query")},
        versus={"map": Comparison(0.40, 0.01, -0.012, 0.032, 12, counts="query")},
        champion="v3",
    )
    for text in ("map >= 0.4", "map no worse than champion"):
        reason = judge_gate.judge([parse_gate(text)], whole).reasons[0]
        assert (reason.outcome, reason.text) == (THIN, "map is measured on 12 queries; a gate needs 50")
        assert reason.remedy == "about 38 more labelled queries"
    undecided = replace(whole, metrics={"map": Measure(0.41, 0.38, 0.44, 60, counts="query")})
    assert "more labelled queries" in judge_gate.judge([parse_gate("map >= 0.4 at 95%")], undecided).reasons[0].remedy


@pytest.mark.parametrize("metric", ["recall", "f1", "precision", "accuracy", "ndcg@5"])
def test_a_metric_that_is_0_of_both_compares_nothing(metric: str) -> None:
    whole = replace(ROWS, positives=400, versus={metric: Comparison(0.0, 0.0, -0.01, 0.01, 4000)}, champion="v3")
    for text in (f"{metric} no worse than champion", f"{metric} >= champion - 0.05", f"{metric} >= best"):
        outcome, said = judged(text, whole)
        assert outcome is THIN
        assert said.endswith(f"{metric} is 0 of the candidate and of v3: none was right")


@pytest.mark.parametrize("metric", ["mae", "brier", "cost", "mape"])
def test_two_models_without_error_are_alike(metric: str) -> None:
    whole = replace(ROWS, versus={metric: Comparison(0.0, 0.0, -0.001, 0.001, 4000)}, champion="v3")
    assert judged(f"{metric} <= champion + 0.01", whole)[0] is PASS


@pytest.mark.parametrize("text", ["mape <= 0.2", "mape no worse than champion", "mape <= champion + 5%"])
def test_why_there_is_no_value_is_told(text: str) -> None:
    whole = replace(ROWS, champion="v3", unmeasured={"mape": "3 of 400 labels are 0, by which mape divides"})
    outcome, said = judged(text, whole)
    assert outcome is THIN
    assert "3 of 400 labels are 0, by which mape divides" in said


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("ndcg@10 >= 0.4", "ndcg@10"),
        ("recall@5 no worse than champion by 2%", "recall@5"),
        ("worst(ndcg@5, by=country) >= 0.3", "ndcg@5"),
        ("map >= best - 0.01 at 90%", "map"),
        ("worst(mase, by=days_ahead) <= 1", "mase"),
    ],
)
def test_gates_name_them(text: str, metric: str) -> None:
    gate = parse_gate(text)
    assert gate.metric == metric
    demand_task(gate, Task.REGRESSION)


@pytest.mark.parametrize(
    ("text", "task", "why"),
    [
        ("ndcg@7 >= 0.4", Task.REGRESSION, "there is no metric 'ndcg@7'"),
        ("mape <= 0.4", Task.BINARY, "mape is not a metric of a binary model"),
        ("ece <= 0.4", Task.REGRESSION, "ece is not a metric of a regression model"),
        ("map >= 0.4", Task.MULTICLASS, "map is not a metric of a multiclass model"),
    ],
)
def test_gates_name_no_other(text: str, task: Task, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        demand_task(parse_gate(text), task)


MODEL = "project: shop\ndata: {sales: data/*.csv}\nmodel: {label: sold, task: TASK, train: 'model:train'MORE}\ngates: ['GATE']\n"


def project(home: Path, gate: str, more: str = "", task: str = "regression") -> config.Project:
    (home / "noria.yaml").write_text(MODEL.replace("GATE", gate).replace("MORE", more).replace("TASK", task))
    (home / "model.py").write_text("def train(features, label, groups=None): ...\n")
    return config.load(home, environ={})


@pytest.mark.parametrize(
    ("gate", "more", "task", "why"),
    [
        ("ndcg@5 >= 0.2", "", "regression", "ndcg@5 needs `model.query`"),
        ("pinball <= 2", "", "regression", "pinball needs `model.quantile`"),
        ("mase <= 2", "", "regression", "mase needs `model.season`"),
        ("cost <= 2", "", "binary", "cost needs `model.decision.cost`"),
        ("cost <= 2", ", decision: {threshold: 0.2}", "binary", "cost needs `model.decision.cost`"),
        ("mae <= 2", ", season: 7", "regression", "a season needs event_time"),
        ("ece <= 2", ", season: 7, event_time: day", "binary", "a season is of numbers, and the task is binary"),
        ("mae <= 2", ", season: 0", "regression", "a number from 1"),
        ("mae <= 2", ", quantile: 1.5", "regression", "between 0% and 100%"),
        ("mae <= 2", ", query: session, inputs: [session]", "regression", "'session' is the column of query"),
    ],
)
def test_what_a_metric_needs_is_asked_for_at_once(tmp_path: Path, gate: str, more: str, task: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        project(tmp_path, gate, more, task)
    assert "noria.yaml:" in str(raised.value.where)


def test_rows_of_a_query_are_a_group(tmp_path: Path) -> None:
    model = project(tmp_path, "ndcg@5 >= 0.2", ", query: session, quantile: 0.9").model
    assert model is not None
    assert (model.query, model.groups, model.quantile) == ("session", "session", 0.9)
    model = project(tmp_path, "ndcg@5 >= 0.2", ", query: session, groups: visitor").model
    assert model is not None
    assert (model.query, model.groups) == ("session", "visitor")


def test_the_error_of_the_naive_forecast() -> None:
    """By hand: of shop a with season 2 the errors are |4 - 1| and |2 - 3|; b is as short as a season. Horizons are one point."""
    days = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
    train = pl.DataFrame(
        {
            "shop": ["a"] * 5 + ["b", "b"],
            "day": [days[2], days[0], days[1], days[3], days[3], days[0], days[1]],
            "sold": [4, 1, 3, 1, 3, 5, 9],
        }
    )
    found = naive_forecast.errors(train, "sold", "day", "shop", 2)
    assert found == {"a": 2.0}
    scales = naive_forecast.scales(pl.DataFrame({"shop": ["b", "a", "new"]}), "shop", found)
    assert np.isnan(scales).tolist() == [True, False, True]
    whole = naive_forecast.errors(train.head(4), "sold", "day", None, 1)
    assert whole == {"": (2 + 1 + 3) / 3}
    assert naive_forecast.scales(train, None, whole).tolist() == [2.0] * 7


def test_an_empty_query_is_an_error() -> None:
    table = pl.DataFrame({"id": range(40), "session": [None, *range(39)], "y": [0.5] * 40})
    model: dict[str, Any] = {"key": "id", "label": "y", "inputs": [], "task": "regression", "project": "shop", "holdout": {}}
    with pytest.raises(DataError, match="the query session is empty in 1 of 40 rows"):
        split.split(table, model | {"query": "session"})
    with pytest.raises(DataError, match="no column 'sesion'"):
        split.split(table, model | {"query": "sesion"})
    assert training.input_names(table, model | {"key": None, "query": "session"}) == ["id"]


def test_costs_count_the_calls_of_the_rule_that_serves() -> None:
    """Of 0.3 and 0.6 a rule from 0.2 on calls both positive; without it only the second is."""
    labels, rows = np.tile([0, 1], 50), LABELLED_COSTS
    labelled = measure.LabelledRows(Task.BINARY, labels, rows, ())
    plain, ruled = Scores(np.tile([0.3, 0.6], 50), ""), Scores(np.tile([0.3, 0.6], 50), "", np.ones(100, dtype=np.intp))
    assert labelled.measure(plain, "cost").value == 0.0
    assert labelled.measure(ruled, "cost").value == pytest.approx(0.5 * 3)
    assert labelled.compare(ruled, plain, "cost").difference == pytest.approx(1.5)
    assert labelled.measure(ruled, "ece").value == labelled.measure(plain, "ece").value


def test_slices_are_of_their_own_rows() -> None:
    rng = np.random.default_rng(3)
    n = 600
    y = rng.gamma(2, 3, n) + 1
    far = np.arange(n) % 2
    rows = pl.DataFrame({"ahead": far})
    facts = MetricFacts(0.5, np.ones(n), queries=np.arange(n) // 4)
    labelled = measure.LabelledRows(Task.REGRESSION, y, facts, ())
    gates = tuple(parse_gate(text) for text in ("worst(mase, by=ahead) <= 2", "worst(ndcg@3, by=ahead) >= 0.2"))
    found = measure.measure_slices(labelled, gates, rows, Scores(y + 1 + far, ""))["ahead"]
    assert [found[value]["mase"].value for value in ("0", "1")] == pytest.approx([1.0, 2.0])
    assert [found[value]["ndcg@3"].n for value in ("0", "1")] == [150, 150]


RANKER = (
    CONFIG.replace("task: binary", "task: regression\n  query: session\n  quantile: 0.5\n  event_time: at\n  season: 1")
    .replace('["roc_auc >= 0.6"]', '["ndcg@5 >= 0.5", "ndcg@5 no worse than champion", "pinball <= 1", "mase <= 9", "mape <= 9"]')
    .replace("{source: data/points-*.csv, contract: contracts/points.yaml, settle: 1ms}", "{source: data/*.csv, settle: 1ms}")
)
REGRESSOR = """\
from sklearn.linear_model import LinearRegression


def train(features, label):
    return LinearRegression().fit(features, label.to_numpy())
"""


def test_a_ranker_is_measured_by_query_beside_the_champion(tmp_path: Path) -> None:
    def delivered(month: int) -> str:
        lines = points(month, 1600).splitlines()
        days = [f"2026-0{month}-{1 + at % 28:02}" for at in range(1600)]
        rows = [f"{line},{at // 4},{day}" for at, (line, day) in enumerate(zip(lines[1:], days, strict=True))]
        return "\n".join([f"{lines[0]},session,at", *rows]) + "\n"

    with small_line(tmp_path, text=RANKER, files=[("model.py", REGRESSOR)]) as line:
        line.deliver("points-01.csv", delivered(1))
        first = line.turned()
        assert first.outcome is TurnOutcome.NOT_ENOUGH_DATA, first.reason
        assert "by which mape divides" in first.reason
        line.edit("noria.yaml", ', "mape <= 9"', "")
        line.commit("no percentages")
        second = line.turned()
        assert second.outcome is TurnOutcome.PROMOTED, second.reason
        found = EvaluationStore.of(line).of_turn(second.id)
        assert found is not None
        ndcg = found.evaluation.metrics["ndcg@5"]
        assert (ndcg.counts, ndcg.unit) == ("query", "day")  # days widen more than queries, of which each counts once
        assert 50 <= ndcg.n < found.evaluation.rows / 3
        assert {"pinball", "mase"} <= set(found.evaluation.metrics)
        line.deliver("points-02.csv", delivered(2))
        third = line.turned()
        compared = EvaluationStore.of(line).of_turn(third.id)
        assert compared is not None
        versus = compared.evaluation.versus["ndcg@5"]
        assert compared.evaluation.champion == "v1"  # the first candidate was refused
        assert (versus.counts, versus.n) == ("query", compared.evaluation.metrics["ndcg@5"].n)
        assert versus.low <= versus.difference <= versus.high
