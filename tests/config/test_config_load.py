"""A project file becomes a typed project, defaults filled in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from noria import config
from noria.config import document, units
from noria.kernel.access import Access, RateLimit
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Guards, MonitorPolicy, RetrainPolicy
from noria.kernel.task import Task
from noria.kernel.workers import Workers

ROOT = Path(__file__).parents[2]
SMALL = """\
project: pumps
data: {readings: data/*.csv}
model: {inputs: [age], label: fails, train: "model:train"}
"""
FULL = """\
project: pumps
goal: Keep pumps running, ${as written}
data:
  readings: {source: "${WHERE}/*.csv", contract: contracts/readings.yaml, settle: 500ms}
  served: log:test
params: settings.yaml
steps:
  late: {call: "line.tables:late", timeout: 90s, memory: 512MB}
  clean: line.tables:clean
  other: {cmd: "sort in > out.csv", deps: [readings], outs: [out.csv]}
model:
  rows: late
  key: id
  event_time: at
  task: multiclass
  label: kind
  inputs: [a, b]
  train: line:train
  features: line:build
  holdout: {last: 2w}
  timeout: 1h
  memory: 2GB
checks: {code: pytest -q, timeout: 1m}
gates: ["worst(f1_macro, by=site) >= 0.5", "worst(accuracy, by=site) >= 0.5", "accuracy >= champion - 0.01 at 90%"]
environments:
  test:
  live:
    after: test
    approvals: 2
    rollout:
      steps: [5%, 0.5, 100%]
      guard: {errors: 3%, latency: {over: 50ms, by: 1%}}
      false_alarm: 2%
      missed: 10%
      patience: 2h
serving: {host: 0.0.0.0, port: 9000, workers: 4, max_body: 2MB, max_rows: 10,
          keys_file: keys.txt, hosts: [Models.example.org, "[::1]"], rate: 600/min, access_log: true}
console: {port: 0}
monitor: {every: 7d, label_delay: 12h, min_labelled: 50, false_alarm: 5%, margin: 0.01, drift: 0.3}
retrain: {on: [code], schedule: "0 3 * * mon", at_most: 2 per 12h}
git: {branch: release, repository: "https://example.org/x.git", every: 10s}
"""


@pytest.fixture
def full(tmp_path: Path) -> config.Project:
    package = tmp_path / "src" / "line"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .learning import fit as train\nfrom line.learning import build\n")
    (package / "learning.py").write_text("def fit(features, label, *, depth): pass\ndef build(inputs): pass\n")
    (package / "tables.py").write_text(
        "def clean(readings, limit, seed, unit='bar'): pass\n"
        "def late(clean, *, limit, other=None, served=None, absent=1, **rest): pass\n"
    )
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "readings.yaml").write_text("columns: {id: string}\n")
    (tmp_path / "settings.yaml").write_text("seed: 1\nclean: {limit: 5}\nlate: {limit: 6, extra: 1}\ntrain: {depth: 3}\n")
    (tmp_path / "noria.yaml").write_text(FULL)
    return config.load(tmp_path, environ={"WHERE": "in"})


def test_the_smallest_file(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def train(features, label): pass\n")
    (tmp_path / "noria.yaml").write_text(SMALL)
    project = config.load(tmp_path, environ={})
    assert project.model is not None
    assert (project.model.rows, project.model.task, project.model.holdout) == (
        "readings",
        Task.BINARY,
        config.Holdout(fraction=0.2),
    )
    assert list(project.environments) == ["production"]
    assert project.environments["production"].rollout.direct
    assert (project.params, project.params_file, project.gates) == ({}, None, ())
    assert (project.serving.port, project.serving.max_body_bytes, project.console.port) == (8000, 1_048_576, 8080)
    assert (project.monitor, project.retrain) == (MonitorPolicy(), RetrainPolicy())
    assert project.digest == blake3(SMALL.encode()).hexdigest()


def test_without_inputs_and_contract_the_table_tells_them(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def train(features, label): pass\n")
    (tmp_path / "noria.yaml").write_text(SMALL.replace("inputs: [age], ", ""))
    project = config.load(tmp_path, environ={})
    assert project.model is not None
    assert (project.model.inputs, project.model.key) == ((), None)


def test_data(full: config.Project) -> None:
    readings = full.data["readings"]
    assert (readings.source, readings.settle_s, readings.contract_file) == ("in/*.csv", 0.5, "contracts/readings.yaml")
    assert readings.contract is not None
    assert readings.contract.columns[0].name == "id"
    assert (full.data["served"].source, full.data["served"].contract) == ("log:test", None)
    assert full.goal == "Keep pumps running, ${as written}"


def test_steps_are_wired_by_the_names_of_arguments(full: config.Project) -> None:
    clean, late, other = full.steps["clean"], full.steps["late"], full.steps["other"]
    assert (clean.deps, clean.params) == (("readings",), ("limit", "seed"))
    assert (late.deps, late.params) == (("clean", "other", "served"), ("limit", "extra"))
    assert (late.timeout_s, late.memory_bytes) == (90, 536_870_912)
    assert (other.cmd, other.call, other.deps, other.outs) == ("sort in > out.csv", None, ("readings",), ("out.csv",))
    assert list(full.steps)[-1] == "late", "a step stands after all that it takes"


def test_model(full: config.Project) -> None:
    assert full.model == config.Model(
        rows="late",
        label="kind",
        train="line:train",
        key="id",
        event_time="at",
        task=Task.MULTICLASS,
        inputs=("a", "b"),
        features="line:build",
        holdout=config.Holdout(last_s=1_209_600),
        slices=("site",),
        timeout_s=3600,
        memory_bytes=2_147_483_648,
    )
    assert full.params["train"] == {"depth": 3}


def test_policy(full: config.Project) -> None:
    live = full.environments["live"]
    assert list(full.environments) == ["test", "live"]
    assert (live.after, live.approvals) == ("test", 2)
    assert [(step.kind, step.share) for step in live.rollout.steps] == [("canary", 0.05), ("canary", 0.5), ("canary", 1.0)]
    assert live.rollout.guards == Guards(errors=0.03, slow_ms=50, slow_by=0.01)
    assert (live.rollout.false_alarm, live.rollout.missed, live.rollout.patience_s) == (0.02, 0.1, 7200)
    assert full.monitor == MonitorPolicy(604_800, 43_200, 50, 0.05, 0.01, 0.3)
    assert full.retrain == RetrainPolicy(("code",), "0 3 * * mon", 2, 43_200)
    assert full.checks == config.Checks("pytest -q", 60)
    keys = str(full.home / "keys.txt")
    access = Access(keys, ("models.example.org", "[::1]"), RateLimit(600, 60.0), log=True)
    assert full.serving == config.Serving("0.0.0.0", 9000, Workers(4, 4), 2_097_152, 10, access)
    assert (full.console.port, full.git) == (0, config.GitWatch("release", "https://example.org/x.git", 10))


def test_rows_default_to_the_last_step_and_inputs_to_the_contract(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def train(features, label): pass\ndef a(b): pass\ndef b(readings): pass\n")
    (tmp_path / "noria.yaml").write_text(SMALL + "steps: {a: model:a, b: model:b}\n")
    project = config.load(tmp_path)
    assert list(project.steps) == ["b", "a"]
    assert project.model is not None
    assert project.model.rows == "a"
    (tmp_path / "c.yaml").write_text("columns: {id: string, age: float, site: string, fails: int}\n")
    text = SMALL.replace("data/*.csv", "{source: d.csv, contract: c.yaml}").replace("inputs: [age]", "key: id")
    (tmp_path / "noria.yaml").write_text(text)
    project = config.load(tmp_path)
    assert project.model is not None
    assert project.model.inputs == ("age", "site")


def test_the_flagship_example_loads() -> None:
    project = config.load(ROOT / "examples" / "flights", environ={})
    assert project.steps["departures"].deps == ("flights", "weather", "served")
    assert len(project.gates) == 6
    assert all(source.contract for name, source in project.data.items() if name != "served")


def test_words_that_yaml_1_1_would_turn_into_truth() -> None:
    item = document.read(b"on: no\nNO: [NO, yes, 1:30, 0o7, 1_000, 1e3, -.5, ~, 'null', 0123]\n", "f")
    assert item.plain() == {"on": "no", "NO": ["NO", "yes", "1:30", "0o7", "1_000", 1000.0, -0.5, None, "null", 123]}


@pytest.mark.parametrize(
    ("text", "value"),
    [("${A}", "x"), ("${B:-d}", "d"), ("${EMPTY:-d}", "d"), ("${EMPTY}", ""), ("$${A} $A", "${A} $A"), ("a${A}b${A}", "axbx")],
)
def test_variables(text: str, value: str) -> None:
    assert document.expand(text, {"A": "x", "EMPTY": ""}, "f:1:1") == value


def test_params_are_plain_values_and_no_variables(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("rate: 1e-3\nnested: {names: [a, '${B}']}\nwhen: 2024-01-01\n")
    assert config.load_params(path, shown="p.yaml") == {"rate": 0.001, "nested": {"names": ["a", "${B}"]}, "when": "2024-01-01"}
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping of parameters, found a list"):
        config.load_params(path, shown="p.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("2s", 2), ("10m", 600), ("3h", 10_800), ("7d", 604_800), ("2w", 1_209_600), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-1s", "0s", "1 year", "1e9s", "999999w", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        units.duration_s(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    where = "f.yaml"
    try:
        document.read(text.encode("utf-8", "surrogatepass"), "f.yaml", {})
    except ConfigError as error:
        where = error.where or ""
    assert re.fullmatch(r"f\.yaml(:\d+:\d+)?", where)


def test_loading_stays_light() -> None:
    code = "import noria.config, sys; print([m for m in ('polars', 'numpy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
