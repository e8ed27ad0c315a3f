"""One default a key: what the project file leaves unsaid, the servers' command lines and the reference agree on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from noria import config
from noria.cli.serve import command
from noria.config import keys, rollout_keys
from noria.config.shapes import Record
from noria.delivery.simulation import DecisionRule
from noria.kernel.workers import Workers
from noria.serving.__main__ import parse
from noria.serving.app import Settings
from noria.serving.client import Server
from noria.serving.route import Route
from noria.serving.router import table_of
from noria.serving.supervisor import Options
from noria.views.runtime_status import StatusContext

NOTHING = {"none", "no limit", "any", "for ever"}  # said in words: no value could be written there that means the same
WORDS = {
    *("serving.hosts", "git.branch", "git.repository", "rollout.probation", "data.csv", "step.cpus"),
    *("model.rows", "model.key", "model.inputs", "model.train", "model.decision"),
    *("search.metric", "search.algorithms", "search.parallel"),
}


def load(home: Path, more: str = "") -> Any:
    """The project, as if its file had always the same bytes."""
    (home / "noria.yaml").write_text(f"project: p\n{more}")
    (home / "work.py").write_text("def train(features, label, *, c=1.0): ...\n")
    return replace(config.load(home, environ={}), digest="")


def test_the_servers_command_line_has_the_project_files_defaults(tmp_path: Path) -> None:
    serving = load(tmp_path).serving
    options, _, _ = parse(["--state", str(tmp_path), "--environment", "production=127.0.0.1:0"])
    due = (serving.max_body_bytes, serving.max_rows, serving.workers, serving.access, serving.log)
    assert (options.max_body_bytes, options.max_rows, options.workers, options.access, options.recording) == due
    bare = Options(tmp_path, {})
    assert (bare.max_body_bytes, bare.max_rows, bare.workers, bare.access, bare.recording) == due
    start = {name: p.default for name, p in inspect.signature(Server.start).parameters.items()}
    assert (start["max_body_bytes"], start["max_rows"], start["workers"], start["access"], start["recording"]) == due
    settings = Settings("production")
    assert (settings.host, settings.max_body_bytes, settings.max_rows) == (serving.host, *due[:2])
    assert inspect.signature(table_of).parameters["max_rows"].default == serving.max_rows


def test_noria_serve_has_the_project_files_defaults(tmp_path: Path) -> None:
    project = load(tmp_path)
    serving, given = project.serving, {option.name: option.default for option in command.params}
    assert (given["host"], given["port"], given["environment"]) == (serving.host, serving.port, *project.environments)
    assert (given["max_body"], given["max_rows"]) == (serving.max_body_bytes, serving.max_rows)
    assert Workers.of(given["workers"]) == serving.workers


def test_a_route_and_a_simulation_have_the_policys_defaults(tmp_path: Path) -> None:
    project = load(tmp_path)
    (policy,) = [environment.rollout for environment in project.environments.values()]
    assert Route("p", "production", 1, "a" * 64, "v1").slow_ms == policy.guards.slow_ms
    rule = DecisionRule((0.5,))
    assert (rule.errors, rule.slow, rule.failing) == (policy.guards.errors, policy.guards.slow_by, policy.guards.failing)
    assert (rule.false_alarm, rule.missed, rule.patience_s) == (policy.false_alarm, policy.missed, policy.patience_s)
    assert StatusContext().false_alarm == project.monitor.false_alarm


SECTIONS = [
    ("serving", keys.SERVING),
    ("console", keys.CONSOLE),
    ("monitor", keys.MONITOR),
    ("retrain", keys.RETRAIN),
    ("git", keys.GIT),
]
MODEL = 'data: {{{{a: a.csv}}}}\nmodel: {{{{rows: a, label: y, train: "work:train", {}}}}}'
NESTED = [
    ("checks", keys.CHECKS, "checks: {{code: pytest, {}}}"),
    ("model", keys.MODEL, MODEL.format("{}")),
    ("search", keys.SEARCH, MODEL.format("search: {{space: {{c: [0.1, 1.0]}}, {}}}")),
    ("holdout", keys.HOLDOUT, MODEL.format("holdout: {{{}}}")),
    ("log", keys.LOG, "serving: {{log: {{{}}}}}"),
    ("rollout", rollout_keys.ROLLOUT, "environments: {{production: {{rollout: {{steps: [50%, 100%], {}}}}}}}"),
    ("replay", rollout_keys.REPLAY.record, "environments: {{production: {{rollout: {{steps: [50%, 100%], replay: {{{}}}}}}}}}"),
    ("guard", rollout_keys.GUARD, "environments: {{production: {{rollout: {{steps: [50%, 100%], guard: {{{}}}}}}}}}"),
    (
        "latency",
        rollout_keys.LATENCY,
        "environments: {{production: {{rollout: {{steps: [50%, 100%], guard: {{latency: {{{}}}}}}}}}}}",
    ),
    ("step", keys.STEP, "steps: {{a: {{cmd: echo, {}}}}}"),
    ("data", keys.DATA, "data: {{a: {{source: a.csv, {}}}}}"),
    ("environment", keys.ENVIRONMENT, "environments: {{production: {{{}}}}}"),
]
PLACES = [(name, record, f"{name}: {{{{{{}}}}}}") for name, record in SECTIONS] + NESTED


@pytest.mark.parametrize(("section", "record", "form"), PLACES, ids=[name for name, *_ in PLACES])
def test_what_the_reference_calls_a_default_is_what_holds(tmp_path: Path, section: str, record: Record, form: str) -> None:
    unsaid = load(tmp_path, form.format(""))
    said = []
    for key in record.keys:
        if key.default and key.default not in NOTHING and f"{section}.{key.name}" not in WORDS:
            said.append(key.name)
            written = f"[{key.default}]" if ", " in key.default else key.default
            written = f"{{{key.default}}}" if isinstance(key.shape, Record) else written
            assert load(tmp_path, form.format(f"{key.name}: {written}")) == unsaid, key.name
    assert said
