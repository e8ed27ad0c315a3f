"""Whatever the bytes: a value, or one ConfigError with a place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria import config
from noria.config import document, units
from noria.kernel.errors import ConfigError

PLACE = re.compile(r"[\w./]+(:[0-9]+:[0-9]+)?")
PROJECT = """\
project: pumps
goal: keep
data:
  readings: {source: data/*.csv, contract: contract.yaml, settle: 2s}
  served: log:live
params: params.yaml
steps:
  late: {call: "model:late", timeout: 90s, memory: 512MB}
  other: {cmd: sort, deps: [readings], outs: [out.csv]}
model: {rows: late, key: id, event_time: at, task: binary, label: kind, inputs: [a], train: "model:train", holdout: {last: 2w}}
checks: {code: pytest, timeout: 1m}
gates: [roc_auc >= champion - 0.01 at 90%, "worst(f1, by=site) >= 0.5"]
environments:
  live: {approvals: 1, rollout: {steps: [5%, 0.5, 100%], guard: {errors: 3%, latency: {over: 50ms, by: 1%}}}}
serving: {host: 0.0.0.0, port: 9000, workers: 4, max_body: 2MB}
monitor: {every: 7d, margin: 0.01, drift: 0.3}
retrain: {on: [code], schedule: 0 3 * * mon, at_most: 2 per 12h}
git: {branch: main, repository: x, every: 10s}
"""
CONTRACT = """\
columns: {id: string, age: {type: int, nulls: never, range: [0, 60]}, site: {values: [NO, 7]}}
unique: [id]
rows: {min: 10, max: 1000}
freshness: {column: at, within: 60d}
rules: [{name: sober, expr: age <= 1, at_most: 1%}]
"""
MODEL = "def late(readings, limit): pass\ndef train(features, label, *, rate=0.1): pass\n"
ODD = (
    *("null", "[]", "{}", "''", "-1", "0", "1e999", "1.5", "true", "9" * 299, "[[]]", "{a: b}", "100%", "0%", "log:", "s3://b"),
    *('"\\0"', '"\\ud800"', '"a\\nb"', "x" * 5000, "/etc/passwd", "..", "model:", "* * * * *", "&a [*a]", "*b", "!!str 1", "? x"),
)
WORD = re.compile(r'"[^"]*"|[^\s\[\]{},]+|\[[^\[\]]*\]|\{[^{}]*\}')


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "model.py").write_text(MODEL)
    (home / "params.yaml").write_text("limit: 3\n")
    (home / "contract.yaml").write_text(CONTRACT)
    (home / "noria.yaml").write_text(PROJECT)
    assert config.load(home, environ={}).name == "pumps", "the fuzz begins from a file that is right"
    return home


def read(path: Path, data: bytes, reader: Callable[[], Any]) -> None:
    before = path.read_bytes()
    path.write_bytes(data)
    refusal = None
    try:
        reader()
    except ConfigError as error:
        refusal = error
    finally:
        path.write_bytes(before)
    assert refusal is None or (refusal.message and PLACE.fullmatch(refusal.where or "")), refusal


def edited(good: str) -> st.SearchStrategy[bytes]:
    """``good`` with up to three of its values replaced by odd ones."""
    words = [found.span() for found in WORD.finditer(good)]

    def edit(changes: list[tuple[tuple[int, int], str]]) -> bytes:
        text = good
        for (begin, end), new in sorted(changes, reverse=True):
            text = text[:begin] + new + text[end:]
        return text.encode()

    return st.lists(st.tuples(st.sampled_from(words), st.sampled_from(ODD)), min_size=1, max_size=3).map(edit)


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(st.one_of(edited(PROJECT), st.binary(max_size=200)))
def test_any_project_file_loads_or_is_refused(home: Path, data: bytes) -> None:
    read(home / "noria.yaml", data, lambda: config.load(home, environ={}))


@QUICK
@given(st.one_of(edited(CONTRACT), st.binary(max_size=200)))
def test_any_contract_loads_or_is_refused(home: Path, data: bytes) -> None:
    path = home / "contract.yaml"
    read(path, data, lambda: config.load_contract(path, shown="contract.yaml"))


@QUICK
@given(st.binary(max_size=300))
def test_any_parameters_load_or_are_refused(home: Path, data: bytes) -> None:
    path = home / "params.yaml"
    read(path, data, lambda: config.load_params(path, shown="params.yaml"))


@QUICK
@given(st.binary(max_size=300))
def test_any_source_is_read_or_refused(home: Path, data: bytes) -> None:
    read(home / "model.py", data, lambda: config.load(home, environ={}))


@given(st.integers(1, 5000), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_its_count_of_its_unit(count: int, unit: str) -> None:
    milliseconds = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]
    assert units.duration_s(f"{count}{unit}") == pytest.approx(count * milliseconds / 1000, rel=1e-12)
    assert units.duration_s(f"{count} {unit}") == units.duration_s(f"{count}{unit}")


@given(st.integers(1, 900), st.sampled_from(["B", "KB", "MB", "GB", "TB"]))
def test_a_size_is_its_count_of_powers_of_1024(count: int, unit: str) -> None:
    assert units.size_bytes(f"{count}{unit}") == count * 1024 ** ["B", "KB", "MB", "GB", "TB"].index(unit)
    assert units.size_bytes(f"{count}{unit.lower()}") == units.size_bytes(f"{count}{unit}")


@given(st.integers(0, 10_000))
def test_a_share_is_a_hundredth(hundredths: int) -> None:
    assert units.share(f"{hundredths / 100:.2f}%") == pytest.approx(hundredths / 10_000, abs=1e-12)


@pytest.mark.parametrize("text", ["1e999", "-1e999", ".inf", ".nan", "1e9999"])
def test_a_number_without_bound_is_no_number(text: str) -> None:
    assert document.scalar(text) == text
