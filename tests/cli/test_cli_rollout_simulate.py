"""`noria rollout simulate`: settings of the environment, options in their place, the same figures from the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from noria.cli.rollout_simulate import command
from noria.kernel.errors import NotFoundError, UsageError

PROJECT = """\
project: wheel
environments:
  staging:
    rollout: direct
  production:
    after: staging
    rollout:
      steps: [20%, 50%, 100%]
      guard: {errors: 4%, latency: {over: 50ms, by: 8%}}
      false_alarm: 2%
      missed: 10%
      patience: 30m
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "noria.yaml").write_text(PROJECT)
    return tmp_path


def run(home: Path, *options: str) -> Any:
    settings = {"help_option_names": ["-h", "--help"]}  # as below the group: click keeps what a command was first asked with
    return CliRunner().invoke(command, [*options, "--rollouts", "12"], obj=home, catch_exceptions=True, **settings)


def read(home: Path, *options: str) -> dict[str, Any]:
    done = run(home, *options, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def test_the_settings_are_those_of_the_environment(home: Path) -> None:
    found = read(home)
    assert found["environment"] == "production"
    assert found["settings"]["shares"] == [0.2, 0.5]
    expected = {"errors": 0.04, "slow": 0.08, "false_alarm": 0.02, "missed": 0.1, "patience_s": 1800.0, "guards": 2}
    assert {key: found["settings"][key] for key in expected} == expected
    good, worse, much = found["results"]
    assert (good["promoted"], much["rolled_back"]) == (12, 12)
    assert "5 % errors" in worse["scenario"]
    assert found["results"] == read(home)["results"]  # the same seed
    assert found["results"] != read(home, "--seed", "1")["results"]


def test_options_take_the_place_of_settings(home: Path) -> None:
    options = ("--steps", "10%,100%", "--guard-errors", "3%", "--guard-slow", "5%", "--false-alarm", "5%", "--missed", "20%")
    found = read(home, "-e", "staging", *options, "--patience", "2h", "--traffic", "600/min", "--errors", "1%:20%")
    assert found["settings"] == {
        "shares": [0.1],
        "errors": 0.03,
        "slow": 0.05,
        "false_alarm": 0.05,
        "missed": 0.2,
        "patience_s": 7200.0,
        "guards": 2,
        "look_requests": 20,
        "shadow": 0.0,
        "quality": 0.0,
        "failing": 0.5,
    }
    assert found["traffic_per_s"] == 10
    assert [one["scenario"] for one in found["results"]] == ["as good as the champion", "as given: 20 % errors, 0.5 % slow"]


def test_people_get_a_table_and_a_warning(home: Path) -> None:
    text = run(home, "-e", "staging", "--traffic", "60/h").output
    assert "staging has no canary steps: as with 5 %, 25 %" in text
    assert "much worse" in text
    assert "12 rollouts each" in text
    assert "errors cannot be decided within a patience of 1 h" in text


SHADOW = PROJECT.replace("[20%, 50%, 100%]", "[{shadow: 60%}, 20%, 100%]")


def test_a_shadow_step_and_labels(home: Path) -> None:
    options = ("--brier", "0.05", "--labels", "120/min", "--loss-sd", "0.2", "--traffic", "50/s")
    found = read(home, "--shadow", "30%", *options)
    assert (found["settings"]["shadow"], found["settings"]["quality"], found["settings"]["guards"]) == (0.3, 0.05, 3)
    good, *_, lossy = found["results"]
    assert (good["promoted"], lossy["scenario"], lossy["rolled_back"]) == (12, "worse by the guard: loss +0.05", 12)
    assert [one["guard"] for one in found["foretold"]] == ["errors", "slow answers", "labels"]
    assert found["foretold"][2]["seconds"] == pytest.approx(found["foretold"][2]["requests"] / 2)
    text = run(home, "--shadow", "30%", *options).output
    assert "shadow of 30 %, 20 %, 50 % of 50/s" in text
    assert "0.05 more loss" in text
    (home / "noria.yaml").write_text(SHADOW)
    found = read(home)
    assert (found["settings"]["shadow"], found["settings"]["shares"]) == (0.6, [0.2])
    assert read(home, "--steps", "20%,100%")["settings"]["shadow"] == 0
    assert read(home, "--shadow", "0%")["settings"]["shadow"] == 0
    (home / "noria.yaml").write_text(SHADOW.replace(" 20%,", ""))
    assert [one["guard"] for one in read(home)["foretold"]] == ["errors"]  # pairs tell nothing of slow answers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--errors", "five"), "--errors cannot be read"),
        (("--slow", "1%:x"), "--slow cannot be read"),
        (("--traffic", "20"), "--traffic cannot be read"),
        (("--patience", "soon"), "--patience cannot be read"),
        (("--steps", "5,25"), "--steps cannot be read"),
        (("--steps", "100%"), "cannot be simulated"),
        (("--steps", "50%,25%,100%"), "each step must be larger than the one before"),
        (("--guard-errors", "0%"), "cannot be simulated"),
        (("--missed", "100%"), "cannot be simulated"),
        (("--burst", "0"), "cannot be simulated"),
        (("--brier", "0.01"), "has no effect without labels"),
        (("--labels", "5/s"), "quality is not guarded here"),
        (("--labels", "many", "--brier", "0.01"), "--labels cannot be read"),
        (("--labels", "5/s", "--brier", "2"), "cannot be simulated"),
        (("--errors", "60%", "--drift", "5"), "cannot be simulated"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(home: Path, options: tuple[str, ...], message: str) -> None:
    error = run(home, *options).exception
    assert isinstance(error, UsageError)
    assert message in error.message


def test_an_unknown_environment(home: Path) -> None:
    error = run(home, "-e", "moon").exception
    assert isinstance(error, NotFoundError)
    assert "staging, production" in (error.hint or "")
