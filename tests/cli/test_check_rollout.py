"""`noria check` says what each guard of a rollout takes at present traffic, and warns of what cannot be decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from noria.cli import execute
from noria.delivery import judge_patience
from noria.delivery.judge_patience import Loss, RateGuard, RolloutPlan
from noria.kernel.errors import ServingError
from noria.serving.client import Server

ROLLOUT = "steps: [10%, 50%, 100%], guard: {errors: 2%, latency: {over: 50ms, by: 4%}}, missed: 5%, false_alarm: 1%, patience: 1h"
RATES = {
    "over_s": 600.0,
    "requests_per_s": 20.0,
    "labels_per_s": 2.0,
    "served": {"wheel": {"requests": 12_000, "errors": 0.01, "slow": 0.005}},
}


MODEL = """\
project: wheel
data: {rows: data.csv}
model: {rows: rows, key: id, label: late, task: binary, inputs: [n], train: "line:train"}
"""


class Check:
    """A project with one environment, and what a server would say of it."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys
        self.environments: dict[str, Any] | None = None
        monkeypatch.setattr(Server, "status", lambda _: self.status())

    def status(self) -> dict[str, Any]:
        if self.environments is None:
            raise ServingError("no model server runs")
        return {"environments": self.environments}

    def at(self, projects: int = 1, **rates: Any) -> None:
        self.environments = {"production": {"rates": RATES | rates, "routes": [{}] * projects}}

    def text(self, rollout: str, more: str = "") -> str:
        (self.home / "noria.yaml").write_text(f"{MODEL}environments:\n  production:\n    rollout: {{{rollout}}}\n{more}")
        (self.home / "data.csv").write_text("n,id,late\n1,2,0\n")
        (self.home / "line.py").write_text("def train(frame, params): ...\n")
        assert execute(["-C", str(self.home), "check"]) == 0
        return self.capsys.readouterr().out

    def read(self, rollout: str, more: str = "") -> dict[str, tuple[str, str]]:
        """What was found -> level and text; the first of a name."""
        self.text(rollout, more)
        assert execute(["-C", str(self.home), "check", "--json"]) == 0
        document = json.loads(self.capsys.readouterr().out)
        assert document["ok"]
        assert all(each["ok"] for each in document["findings"])
        return {each["what"]: (each["level"], each["text"]) for each in reversed(document["findings"])}


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(tmp_path, monkeypatch, capsys)


def test_without_traffic_there_is_no_time_to_tell(check: Check) -> None:
    found = check.read(ROLLOUT)
    text = "a flawless candidate is promoted after about 188 requests of its own; patience 1 h"
    assert found["rollout production"] == ("ok", text)
    check.at(requests_per_s=0.0, served={})
    assert check.read(ROLLOUT)["rollout production"] == ("ok", f"{text}; no request came in over the last 10 min")
    check.environments = {"production": {}, "elsewhere": {}}  # a server of before
    assert check.read(ROLLOUT)["rollout production"] == ("ok", text)


def test_each_guard_is_foretold_at_present_traffic(check: Check) -> None:
    check.at()
    found = check.read(ROLLOUT)
    assert found["rollout production"] == (
        "ok",
        "20 requests/s over the last 10 min; of the champion's 12,000 answers 1 % failed, 0.5 % slow; 2 labels/s",
    )
    plan = RolloutPlan((0.1, 0.5), 0.01, 0.05, 3600.0, 20.0)
    expected = judge_patience.guard_costs(plan, [RateGuard("errors", 0.02, 0.01), RateGuard("slow answers", 0.04, 0.005)])
    for one in expected:
        level, text = found[f"rollout production, {one.guard}"]
        assert level == "ok"
        assert f"{one.requests:,} requests" in text
        assert f"{one.harm_requests:,} requests" in text
    check.at(projects=3)
    assert "of all 3 projects there" in check.read(ROLLOUT)["rollout production"][1]


def test_a_guard_beyond_patience_is_a_warning_and_no_failure(check: Check) -> None:
    check.at(requests_per_s=0.05)
    text = check.text(ROLLOUT)
    assert "warn  rollout production, errors: errors cannot be decided within a patience of 1 h" in text
    assert "at 3/min. A larger share, a wider guard or more patience would decide it" in text
    check.at(requests_per_s=20.0)
    assert "warn" not in check.text(ROLLOUT)


def test_a_quantile_is_told_the_least_that_it_takes(check: Check) -> None:
    rollout = ROLLOUT.replace("by: 4%", "by: 4%, p99: 20ms")
    assert "after about 587 requests of its own" in check.read(rollout)["rollout production"][1]  # 185 without it
    check.at()
    canary, seconds = judge_patience.quantile_cost(RolloutPlan((0.1, 0.5), 0.01, 0.05, 3600.0, 20.0), 0.99)
    level, text = check.read(rollout)["rollout production, p99"]
    assert (level, f"needs at least {canary:,} requests of the candidate" in text) == ("ok", True)
    assert seconds is not None
    assert seconds < 3600
    check.at(requests_per_s=0.1)
    level, text = check.read(rollout)["rollout production, p99"]
    assert (level, "exceeds the patience of 1 h" in text) == ("warn", True)


QUALITY = "steps: [{shadow: 50%}, 10%, 100%], guard: {errors: 2%, brier: 0.02}, patience: 1h"


def test_labels_on_pairs(check: Check) -> None:
    """Two labels a second, of which a tenth are on pairs."""
    check.at()
    delay = "monitor: {label_delay: 10m}\n"
    found = check.read(QUALITY, delay)
    (expected,) = judge_patience.guard_costs(
        RolloutPlan((0.1,), 0.01 / 3, 0.05, 3600.0, 20.0, shadow=0.5), [Loss("brier", 0.02, labels_per_s=2.0 * 0.1)]
    )
    assert expected.seconds == pytest.approx(expected.requests / 0.2)
    level, text = found["rollout production, brier"]
    assert level == "ok"
    assert f"{expected.requests:,} labelled pairs" in text
    assert f"{expected.harm_requests:,} labelled pairs" in text
    check.at(labels_per_s=0.0)
    level, text = check.read(QUALITY, delay)["rollout production, brier"]
    assert (level, "for ever" in text, "More pairs" in text) == ("warn", True, True)


@pytest.mark.parametrize(
    ("rollout", "more", "said"),
    [
        (
            QUALITY,
            "",
            "labels come 1 d after the request, after the patience ends: quality is judged in probation, and that ends before",
        ),
        (f"{QUALITY}, probation: 2d", "", "quality is judged in probation"),
        ("steps: [shadow, 100%]", "", "so slow answers are not judged"),
        (f"{ROLLOUT}, assign: key", "", "counts only the first request of each key"),
    ],
)
def test_settings_that_decide_less_than_one_expects(check: Check, rollout: str, more: str, said: str) -> None:
    for live in (False, True):
        if live:
            check.at()
        (line,) = [line for line in check.text(rollout, more).splitlines() if said in line]
        assert line.startswith("warn  rollout production: ")


def test_only_shadow_never_foretells_slow_answers(check: Check) -> None:
    check.at()
    found = check.read("steps: [{shadow: 50%}, 100%]")
    assert "rollout production, slow answers" not in found
    assert found["rollout production, errors"][0] == "ok"


def test_a_monitor_that_can_never_judge_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 37: `noria check` said ok where quality was never judged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Server, "status", lambda _: {"environments": {"production": {}}})
    (tmp_path / "data.csv").write_text("id,late,n,t\n1,0,2,2026-01-01\n")
    (tmp_path / "line.py").write_text("def train(features, label): ...\n")
    for holdout, level in (("14d", "ok"), ("3d", "warn")):
        timed = MODEL.replace("key: id", f"key: id, event_time: t, holdout: {{last: {holdout}}}")
        (tmp_path / "noria.yaml").write_text(f"{timed}environments: {{production: {{}}}}\n")
        execute(["check", "--no-tests", "--json"])
        findings = {f["what"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
        assert findings["monitor"]["level"] == level, findings
