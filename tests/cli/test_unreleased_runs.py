"""What a run that was not released was measured to be, and why not; and in which order metrics are read."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria import cli, config
from noria.console import metrics, page
from noria.evaluation.gate import gate
from noria.evaluation.records import sort_gated_first
from noria.kernel.pins import Pins
from noria.kernel.trigger import TriggerKind
from noria.pipeline.run import Run, RunKind
from noria.pipeline.run_store import RunStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.evidence import Evaluation, Measured, Reference
from noria.stats.measures import Comparison, Measure
from noria.storage.ledger import Ledger
from noria.views.status import StatusView
from noria.views.totals import TotalStore

PROJECT = """\
project: p
data: {rows: {source: rows.csv}}
model: {task: binary, rows: rows, label: y, train: "model:train", holdout: {fraction: 0.2}}
gates:
  - roc_auc no worse than champion
  - log_loss <= 0.2
  - worst(accuracy, by=place) >= 0.5
environments: {staging: {}, production: {}}
"""
MEASURED = Evaluation(
    rows=400,
    positives=100,
    metrics={
        "accuracy": Measure(0.8, 0.77, 0.83, 400),
        "brier": Measure(float("nan"), float("nan"), float("nan"), 400),
        "log_loss": Measure(0.31, 0.29, 0.33, 400, 100),
        "roc_auc": Measure(0.7, 0.66, 0.74, 400, 100),
    },
    versus={"roc_auc": Comparison(0.79, -0.09, -0.1, -0.08, 400)},
    champion="v1",
    holdout="a fifth of the rows",
)
REFERENCE = Reference("log_loss", 0.31, 0.1, 400, 400)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A turn whose candidate was measured and refused, and two experiments."""
    monkeypatch.delenv("NORIA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noria.yaml").write_text(PROJECT)
    (tmp_path / "model.py").write_text("def train(features, label): ...\n")
    project = config.load(tmp_path)
    pins = Pins("c" * 40, None, {}, "1" * 64, "2" * 64, "3" * 64)
    with closing(Ledger.open(tmp_path / ".noria")) as ledger:
        ledger.projects.ensure("p", str(tmp_path))
        TriggerStore(ledger, "p").add(TriggerKind.DATA, "data")
        turn = TurnStore(ledger, "p").start()
        assert turn is not None
        line = cast(Any, SimpleNamespace(name="p", ledger=ledger, event=lambda *_, **__: None, check_lease=lambda: None))
        verdict, _ = gate(
            line,
            cast(Any, SimpleNamespace(turn=turn, run_id="run-1", project=project, judging=project)),
            Measured(MEASURED, REFERENCE, None),
        )
        assert not verdict.passed
        values = {name: measure.value for name, measure in MEASURED.metrics.items()}
        TurnStore(ledger, "p").update(turn.id, outcome=TurnOutcome.GATE_FAILED, reason=verdict.sentence(), run_id="run-1")
        RunStore(ledger, "p").put(Run("run-1", "p", turn.id, pins, 1000.0, 1010.0, "gate failed", "refused", metrics=values))
        named = {f"validation.{name}": 0.5 for name in ("accuracy", "brier", "f1", "log_loss", "precision", "recall", "roc_auc")}
        RunStore(ledger, "p").put(
            Run("run-2", "p", None, pins, 2000.0, 2010.0, "done", metrics={"a.loss": 1.0} | named, kind=RunKind.EXPERIMENT)
        )
        RunStore(ledger, "p").put(Run("run-3", "p", None, pins, 3000.0, 3010.0, "done", metrics=named, kind=RunKind.EXPERIMENT))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.execute(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("ref", ["run-1", "1", "latest"])
def test_a_run_that_was_refused_shows_gates_and_evaluation(home: Path, capsys: pytest.CaptureFixture[str], ref: str) -> None:
    """Number 34: gates and evaluation were shown of releases alone."""
    if ref == "latest":
        with closing(Ledger.open(home / ".noria")) as ledger, ledger.transaction():
            ledger.database.execute("DELETE FROM runs WHERE id <> 'run-1'")
    text = said(capsys, "show", ref)
    for needed in (
        "Gates", "roc_auc is 0.090 below the champion's 0.790", "log_loss 0.310 > 0.2", "no slice has 50 rows",
        "Evaluation", "0.66 to 0.74", "against v1", "-0.09 (-0.1 to -0.08), champion 0.79", "a fifth of the rows", "not defined",
    ):  # fmt: skip
        assert needed in text, needed
    document = json.loads(said(capsys, "show", ref, "--json"))
    assert document["gate"]["outcome"] == "fail"
    assert [(one["metric"], one["outcome"]) for one in document["gate"]["gates"]] == [
        ("roc_auc", "fail"),
        ("log_loss", "fail"),
        ("accuracy", "not enough data"),
    ]
    assert list(document["evaluation"]["metrics"]) == ["roc_auc", "log_loss", "accuracy", "brier"]


def test_the_console_shows_them_too(home: Path) -> None:
    """Number 34: on the console the page is the only one there is, so that they open below their turn."""
    with closing(Ledger.open(home / ".noria")) as ledger:
        view = StatusView.read(ledger, "p", home / ".noria", config.load(home))
        html = page.render(view)
        text = metrics.render(view, TotalStore(ledger, "p").read())
    assert "gates and evaluation of <code>run-1</code>" in html
    assert "roc_auc no worse than champion" in html
    places = [html.index(f"<tr><th>{name}</th>") for name in ("roc_auc", "log_loss", "accuracy", "brier")]
    assert places == sorted(places)
    named = 'project="p",environment="production",gate="log_loss <= 0.2"'
    assert f'noria_gate_verdict{{{named},verdict="fail"}} 1' in text
    assert f'noria_gate_verdict{{{named},verdict="pass"}} 0' in text
    assert f'noria_gate_value{{{named},metric="log_loss"}} 0.31' in text
    assert 'gate="worst(accuracy, by=place) >= 0.5",metric=' not in text, "what was not measured has no value"


def test_what_gates_ask_for_stands_first_in_every_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 34: of six columns none was the gated metric, where its name comes late in the alphabet."""
    for arguments in (("runs", "--kind", "experiment"), ("runs", "--kind", "experiment", "--where", "kind = 'experiment'")):
        heads = said(capsys, *arguments).splitlines()[0].split()
        assert heads[4:7] == ["validation.roc_auc", "validation.log_loss", "validation.accuracy"], heads
    shown = said(capsys, "show", "run-2")
    assert shown.index("validation.roc_auc") < shown.index("validation.accuracy") < shown.index("a.loss")
    compared = said(capsys, "diff", "run-2", "run-3", "--all")
    assert compared.index("validation.roc_auc") < compared.index("validation.brier")


def test_the_order_of_metrics() -> None:
    """Number 34."""
    found = sort_gated_first(
        ["a.roc_auc", "brier", "validation.roc_auc", "log_loss", "roc_auc"], ["roc_auc", "log_loss", "roc_auc"]
    )
    assert found == ["roc_auc", "validation.roc_auc", "log_loss", "a.roc_auc", "brier"]
    assert sort_gated_first(["b", "a"], []) == ["b", "a"]
