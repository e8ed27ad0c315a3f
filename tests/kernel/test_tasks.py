"""What a task is stands in one record: every task's record is whole, and a task made up here works by its record alone."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from noria import config
from noria.cli import drafted_gates
from noria.config import schema
from noria.config.gate import demand_task, parse_gate
from noria.delivery.batch.scoring import _outputs
from noria.kernel.errors import ConfigError, SignatureError
from noria.kernel.task import DEFAULT_TASK, Task
from noria.kernel.task_definition import BoundsKind, LabelFacts, Metric, Output, TaskDefinition, by_name
from noria.kernel.tasks import DEFINITIONS, find_metric, guarded_metrics
from noria.models import forms, graph_outputs, labels
from noria.models.graph_outputs import GraphOutput
from noria.models.signature import Input, Kind, Signature
from noria.monitor.accumulator import Gauge
from noria.releases.evidence import Reference
from noria.serving import openapi, protocol, v2_messages
from noria.stats import betting, intervals, metrics

EACH_TASK = pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS.keys())


@EACH_TASK
def test_a_definition_is_whole(definition: TaskDefinition) -> None:
    known = definition.metrics
    assert Task(definition.name).definition is definition
    assert all(name == metric.name for name, metric in known.items())
    assert {definition.loss, *definition.always_measured, *definition.gated} <= known.keys()
    assert known[definition.loss].per_row
    assert definition.loss in definition.guarded or known[definition.loss].high is None
    assert all(
        known[name].per_row and (known[name].greater_is_better is False or known[name].high == 1) for name in definition.guarded
    )
    assert next(iter(definition.outputs)) == "prediction"
    assert (Output.CLASS in definition.outputs.values()) is definition.has_classes
    assert parse_gate(definition.better_than_guessing[0].format(commonest=0.5)).metric in known


@EACH_TASK
def test_every_formula_is_there_and_every_metric_has_bounds(definition: TaskDefinition) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 80)
    answer = rng.dirichlet([1, 1], 80) if definition.answers_rows else rng.random(80)
    for metric in definition.metrics.values():
        module, _, name = metric.formula.partition(":")
        made = getattr(import_module(module), name)(y.astype(float), answer)
        assert np.ndim(made) == metric.per_row
        found = intervals.measure(metric.name, Task(definition.name), y, answer)
        assert found.low <= found.value <= found.high
        if metric.high is not None:
            assert found.high <= metric.high


def test_a_metric_means_the_same_in_every_task() -> None:
    """Gates are read before the task is known: a name has one direction."""
    for definition in DEFINITIONS.values():
        for metric in definition.metrics.values():
            found = find_metric(metric.name)
            assert found is not None
            assert msgspec.structs.replace(metric, formula="") == msgspec.structs.replace(found, formula="")


def test_there_is_no_other_task() -> None:
    assert [str(task) for task in Task] == list(DEFINITIONS)
    assert DEFAULT_TASK in Task
    assert find_metric("no such") is None
    with pytest.raises(ValueError, match="'no such' is not a valid Task"):
        Task("no such")


def test_tasks_stay_what_they_are_in_files() -> None:
    for task in Task:
        assert pickle.loads(pickle.dumps(task)) is task
        assert msgspec.json.decode(msgspec.json.encode(task), type=Task) is task


def test_numbers_that_fit_no_bounds_are_refused() -> None:
    """A metric whose bounds nobody knows would be given those of another."""
    with pytest.raises(ValueError, match="how much a row moves brier is not known"):
        intervals.influence.of_metric("brier", np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="brier is not computed from counts"):
        intervals._share("brier", np.zeros(3), np.zeros(3), 0.95)


# -- a made-up task: what share of the seats is sold


FULLNESS = TaskDefinition(
    name="fullness",
    metrics=by_name(
        [
            Metric(
                name="miss",
                formula="noria.stats.metrics:absolute_errors",
                greater_is_better=False,
                bounds=BoundsKind.MEAN,
                per_row=True,
                guard="How much further off a share may be.",
            )
        ]
    ),
    loss="miss",
    always_measured=("miss",),
    outputs={"prediction": Output.VALUE},
    graph_widths=(1,),
    suits=lambda label: "it is a share" if label.name == "sold" else None,
    gated=("miss",),
    better_than_guessing=("miss <= 0.25 at 95%", "better than always saying half"),
    variance=0.04,
    leakage="R2",
)
VERDICT = msgspec.structs.replace(
    DEFINITIONS["binary"], name="verdict", outputs={"prediction": Output.CLASS, "probabilities": Output.EACH}, metrics={}
)


@pytest.fixture
def fullness() -> Iterator[Task]:
    """The task, registered as its line in `kernel/tasks/__init__.py` would."""
    yield from _registered(FULLNESS)


@pytest.fixture
def verdict() -> Iterator[Task]:
    """Two classes, whose probabilities are answered both."""
    yield from _registered(VERDICT)


def _registered(definition: TaskDefinition) -> Iterator[Task]:
    DEFINITIONS[definition.name] = definition
    yield Task(definition.name)
    del DEFINITIONS[definition.name]
    del Task._value2member_map_[definition.name]


def signed(task: Task, classes: tuple[str, ...] = ()) -> Signature:
    return Signature((Input("price", Kind.NUMBER),), task, classes)


def test_a_made_up_task_is_read_and_written(fullness: Task) -> None:
    signature = signed(fullness)
    again = msgspec.json.decode(msgspec.json.encode(signature), type=Signature)
    assert again == signature
    assert again.task.definition is FULLNESS
    assert pickle.loads(pickle.dumps(fullness)) is fullness


def test_a_project_has_a_made_up_task(fullness: Task, tmp_path: Path) -> None:
    text = (
        "project: seats\ndata: {flights: data/*.csv}\n"
        'model: {label: sold, task: fullness, train: "model:train", search: {trials: 2, space: {c: [1, 2]}}}\n'
        "gates: [miss <= 0.2, miss no worse than champion]\n"
    )
    (tmp_path / "noria.yaml").write_text(text)
    (tmp_path / "model.py").write_text("def train(features, label, *, c): ...\n")
    found = config.load(tmp_path, environ={})
    assert found.model is not None
    assert found.model.search is not None
    assert (found.model.task, found.model.search.metric) == (fullness, "miss")
    assert [gate.at_least for gate in found.gates] == [False, False]
    assert "fullness" in json.dumps(schema.schema())
    (tmp_path / "noria.yaml").write_text(text.replace("miss <= 0.2", "mae <= 0.2"))
    with pytest.raises(ConfigError, match="mae is not a metric of a fullness model"):
        config.load(tmp_path, environ={})
    (tmp_path / "noria.yaml").write_text(text.replace("fullness", "fulness"))
    with pytest.raises(ConfigError, match=r"binary, multiclass, regression or fullness.*\n?.*"):
        config.load(tmp_path, environ={})


def test_a_made_up_task_is_measured_guarded_and_gated(fullness: Task) -> None:
    rng = np.random.default_rng(1)
    y, good, bad = rng.random(200), rng.random(200), np.ones(200)
    assert metrics.compute("miss", fullness, y, y) == 0
    found = intervals.measure("miss", fullness, y, good)
    assert 0 < found.low < found.value < found.high < 1
    assert intervals.compare("miss", fullness, y, bad, y).low > 0
    assert list(guarded_metrics()) == ["brier", "accuracy", "mae", "miss"]
    assert betting.clipped_losses("miss", fullness, y, good) == pytest.approx(abs(y - good))
    gates = drafted_gates.gates(fullness, pl.Series("sold", y), 200)
    assert [text for text, _ in gates][:2] == ["miss <= 0.25 at 95%", "miss no worse than champion"]
    for text, _ in gates:
        demand_task(parse_gate(text), fullness)
    with pytest.raises(ValueError, match="'mae' is not a metric of a fullness model; there are miss"):
        metrics.compute("mae", fullness, y, good)


def test_a_made_up_task_reads_its_labels_and_graphs(fullness: Task) -> None:
    label = pl.Series("sold", [1, 0, 1])
    assert labels.plain_label(label, fullness).dtype == pl.Float64
    assert labels.label_numbers(label, fullness, ()).tolist() == [1.0, 0.0, 1.0]
    assert FULLNESS.suits(LabelFacts("sold", 3, True, True)) == "it is a share"
    outputs = [GraphOutput("wide", "float", (None, 3)), GraphOutput("one", "float", (None, 1))]
    assert graph_outputs.likeliest(outputs, fullness) == "one"
    gauge = Gauge(signed(fullness), Reference("miss", 0.1, 0.02, 14, 500), None)
    assert gauge.answer({"prediction": 0.5}) == [0.5]
    assert gauge.truth("a word") is None
    assert gauge.losses([0.75], [[0.5]]).tolist() == [0.25]


def test_a_made_up_task_is_served(fullness: Task) -> None:
    signature = signed(fullness)
    assert protocol.outputs(signature, [0.25, 0.5]) == [{"prediction": 0.25}, {"prediction": 0.5}]
    assert [(o.name, o.datatype, o.width) for o in v2_messages.outputs_of(signature)] == [("prediction", "FP64", 0)]
    assert _outputs(signature, np.array([0.25, 0.5])).to_dict(as_series=False) == {"prediction": [0.25, 0.5]}
    schemas = openapi.document(signature)["components"]["schemas"]
    assert schemas["Feedback"]["properties"]["label"] == {"type": "number"}
    with pytest.raises(SignatureError, match="label must be a number"):
        protocol.read_feedback({"id": "1", "label": "full"}, signature, 10)


def test_outputs_in_another_form(verdict: Task) -> None:
    """Two classes of which both probabilities are answered: no line of the servers knows that there is such a task."""
    signature = signed(verdict, ("no", "yes"))
    answers = [[0.9, 0.1], [0.2, 0.8]]
    rows = protocol.outputs(signature, answers)
    assert rows[1] == {"prediction": "yes", "probabilities": {"no": 0.2, "yes": 0.8}}
    assert [(o.name, o.datatype, o.width) for o in v2_messages.outputs_of(signature)] == [
        ("prediction", "BYTES", 0),
        ("probabilities", "FP64", 2),
    ]
    assert _outputs(signature, np.array(answers)).to_dicts() == rows
    assert forms.of_task(np.array(answers), verdict).shape == (2, 2)
    row = openapi.document(signature)["components"]["schemas"]["Predictions"]["properties"]["predictions"]["items"]["anyOf"][0]
    assert row["properties"]["probabilities"]["type"] == "object"
    assert json.dumps(row)
    gauge = Gauge(signature, Reference("log_loss", 0.1, 0.02, 14, 500), None)
    assert gauge.answer(rows[0]) == [0.9, 0.1]
    with pytest.raises(SignatureError, match="must be one of no, yes"):
        protocol.read_feedback({"id": "1", "label": "maybe"}, signature, 10)
