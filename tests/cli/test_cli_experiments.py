"""runs --where, tag, note, diff and show over runs, releases and commits of a real repository."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from noria.cli import execute
from noria.data.snapshot import FilePin, Snapshot
from noria.data.store import DataStore
from noria.evaluation.records import Assessment
from noria.evaluation.store import EvaluationStore, read_evaluation
from noria.kernel import names
from noria.kernel.pins import Pins
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline import environment
from noria.pipeline.run import Run, RunKind, StepRecord, StepState
from noria.pipeline.run_store import RunStore, StepStore
from noria.pipeline.series_store import SeriesStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases import signing
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.blobs import BlobStore
from noria.storage.ledger import Ledger

PROJECT = "pumps"
LIBRARY = {"python": "3.11.7", "packages": {"numpy": "2.1.0", "polars": "1.34.0"}}
NEWER = {"python": "3.11.7", "packages": {"numpy": "2.2.0", "polars": "1.34.0"}}


@dataclass
class Told:
    """v1 serves; the second turn was refused; one experiment and three trials came after."""

    home: Path
    first: str
    second: str
    experiment: str
    commits: tuple[str, str]


def git(home: Path, *arguments: str) -> str:
    who = {f"GIT_{r}_{w}": "t@t" for r in ("AUTHOR", "COMMITTER") for w in ("NAME", "EMAIL")}
    surroundings = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], cwd=home, env=surroundings, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commits(home: Path) -> tuple[str, str]:
    (home / "noria.yaml").write_text(f"project: {PROJECT}\n")
    (home / "model.py").write_text("a = 1\nb = 2\n")
    (home / "picture.bin").write_bytes(b"\0\1\2")
    git(home, "init", "-q", "-b", "main")
    git(home, "add", "-A")
    git(home, "commit", "-qm", "first")
    first = git(home, "rev-parse", "HEAD")
    (home / "model.py").write_text("a = 1\nb = 3\nc = 4\n")
    (home / "päth with space.py").write_text("x\n")
    (home / "picture.bin").write_bytes(b"\0\3")
    git(home, "add", "-A")
    git(home, "commit", "-qm", "second")
    return first, git(home, "rev-parse", "HEAD")


def evaluation(value: float, **more: Any) -> dict[str, Any]:
    measures = {"roc_auc": {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 400}}
    measures["brier"] = {"value": None, "low": None, "high": None, "n": 400}
    speed = {"latency_p50_ms": 0.04, "latency_p99_ms": 0.09, "model_size_mb": 0.3}
    return {"rows": 400, "positives": 100, "metrics": measures, "versus": {}, "champion": None, **speed, **more}


def turn(ledger: Ledger, run_id: str, outcome: TurnOutcome, release: str | None = None) -> str:
    TriggerStore(ledger, PROJECT).add(TriggerKind.DATA, f"data for {run_id}")
    started = TurnStore(ledger, PROJECT).start()
    assert started is not None
    TurnStore(ledger, PROJECT).update(started.id, outcome=outcome, reason="because", run_id=run_id, release=release)
    ledger.events.append(PROJECT, "turn.ended", started.id, f"{outcome}: because", {"outcome": str(outcome)})
    return started.id


def write(home: Path) -> Told:
    before, after = commits(home)
    blobs = BlobStore(home / ".noria" / "blobs")
    log, long_log = blobs.put_bytes(b"one\ntwo\nthree\nfour\n"), blobs.put_bytes("\n".join(map(str, range(5000))).encode())
    roc, newer_roc = blobs.put_bytes(b"[1]"), blobs.put_bytes(b"[2]")
    kept = blobs.put_bytes(msgspec.json.encode(NEWER))
    reason = Reason("step.never_ran", "never ran")
    ran = StepRecord("train", StepState.RAN, reason, "a" * 64, "o", 2.0, 1.5, 210.0, log, 3.5, 12.0, 0.5, 2)
    failed = StepRecord("train", StepState.FAILED, Reason("step.raised", "boom", Outcome.FAIL), "b" * 64, None, 1.0, log=long_log)
    reused = StepRecord("load", StepState.REUSED, Reason("step.unchanged", "unchanged"), "c" * 64, "o")
    first, second, experiment = (f"run-00000000000{i}-0000000{i}" for i in range(3))
    july = FilePin("data/july.csv", "2" * 64, 9, 70)
    snapshots = [
        Snapshot("flights", "d" * 64, (FilePin("data/june.csv", "1" * 64, 9, 100),)),
        Snapshot("flights", "e" * 64, (FilePin("data/june.csv", "1" * 64, 9, 100), july)),
    ]
    with closing(Ledger.open(home / ".noria")) as ledger:
        signing.public_key(home / ".noria")  # as an installation has it that sealed something
        ledger.projects.ensure(PROJECT, str(home))
        for snapshot in snapshots:
            DataStore(ledger, PROJECT).put_snapshot(snapshot)
        old = Pins(before, None, {"flights": "d" * 64}, "1" * 64, "2" * 64, "3" * 64)
        new = Pins(after, None, {"flights": "e" * 64}, "4" * 64, "2" * 64, kept)
        StepStore(ledger, PROJECT).put(ran, {"code": "1", "params": {"lr": "1"}})
        params: dict[str, object] = {"train.lr": 0.1, "seed": 0}
        first_turn = turn(ledger, first, TurnOutcome.PROMOTED, "v1")
        RunStore(ledger, PROJECT).put(
            Run(first, PROJECT, first_turn, old, 1000.0, 1010.0, "promoted", "well", (reused, ran),
                {"roc_auc": 0.8, "train.loss": 0.3}, params=params, plots={"train/roc.json": roc})
        )  # fmt: skip
        second_turn = turn(ledger, second, TurnOutcome.GATE_FAILED)
        worse = {"roc_auc": {"champion": 0.79, "difference": -0.09, "low": -0.1, "high": -0.08, "n": 400}}
        measured = read_evaluation(evaluation(0.7, champion="v1", versus=worse))
        EvaluationStore(ledger, PROJECT).put(Assessment(second_turn, PROJECT, second, "production", measured))
        RunStore(ledger, PROJECT).put(
            Run(second, PROJECT, second_turn, new, 2000.0, 2010.0, "gate failed", "refused", (reused, failed),
                {"roc_auc": 0.7, "train.loss": 0.2}, params=params | {"train.lr": 0.05}, plots={"train/roc.json": newer_roc},
                artifacts={"train/model.txt": "9" * 64})
        )  # fmt: skip
        RunStore(ledger, PROJECT).put(
            Run(experiment, PROJECT, None, new, 3000.0, 3010.0, "done", "by hand", (ran,), {"roc_auc": 0.75},
                kind=RunKind.EXPERIMENT, params=params, tags=("wide",), note="a try")
        )  # fmt: skip
        for i in range(3):
            RunStore(ledger, PROJECT).put(
                Run(f"run-00000000000{i + 3}-aaaaaaaa", PROJECT, None, new, 4000.0 + i, 4001.0 + i, "done",
                    metrics={"roc_auc": 0.6 + i / 10}, kind=RunKind.TRIAL, parent=second, params={"train.lr": i / 10})
            )  # fmt: skip
        SeriesStore(ledger, PROJECT).put(first, "train", {"loss": [(0.0, 0.9), (1.0, 0.3)]})
        SeriesStore(ledger, PROJECT).put(second, "train", {"loss": [(0.0, 0.8), (1.0, 0.25), (2.0, 0.2)]})
        ReleaseStore(ledger, PROJECT).seal("f" * 64, first, first_turn, ServedForm.COMPILED, before, {"roc_auc": 0.8}, "x")
        RouteStore(ledger, PROJECT).put(Route(PROJECT, "production", 0, "f" * 64, "v1"))
        serves = {"environment": "production", "digest": "f" * 64}
        ledger.events.append(PROJECT, "release.sealed", "v1", "v1 sealed", {"digest": "f" * 64})
        ledger.events.append(PROJECT, "rollout.promoted", "v1", "v1 serves all of production", serves)
    evidence = home / ".noria" / "releases" / ("f" * 64) / "evidence"
    evidence.mkdir(parents=True)
    for name, facts in (("evaluation", evaluation(0.8)), ("environment", LIBRARY), ("params", {"train": {"lr": 0.1}, "seed": 0})):
        (evidence / f"{name}.json").write_text(json.dumps(facts))
    return Told(home, first, second, experiment, (before, after))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NORIA_HOME", raising=False)
        return write(tmp_path_factory.mktemp("home"))


@pytest.fixture
def say(made: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NORIA_HOME", raising=False)

    def run(*arguments: str, code: int = 0) -> str:
        assert execute(["-C", str(made.home), *arguments]) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


def test_the_turns_are_listed_and_the_other_runs_counted(say) -> None:
    text = say("runs")
    assert "promoted" in text
    assert "and 1 experiment and 3 trials: noria runs --kind experiment" in text
    assert [t["number"] for t in json.loads(say("runs", "--json"))["turns"]] == [2, 1]


def test_runs_that_meet_a_query(say, made: Told) -> None:
    text = say("runs", "--where", "metrics.roc_auc >= 0.75 and params.train.lr <= 0.1", "--sort", "-metrics.roc_auc")
    lines = text.splitlines()
    assert lines[0].split() == ["run", "when", "kind", "verdict", "roc_auc", "train.lr", "train.loss", "tags"]
    assert [line.split()[0] for line in lines[1:]] == [made.first, made.experiment]
    found = json.loads(say("runs", "--kind", "trial", "--sort", "-metrics.roc_auc", "--limit", "2", "--json"))["runs"]
    assert [r["metrics"]["roc_auc"] for r in found] == [0.8, 0.7]
    assert found[0]["parent"] == made.second
    assert found[0]["commit"] == made.commits[1]
    assert "no run matches" in say("runs", "--where", "tag = 'nobody'")


def test_a_wrong_query_is_told(say) -> None:
    error = json.loads(say("runs", "--where", "metrics.roc_acu > 0.8", "--json", code=2))["error"]
    assert error["message"] == "no run has the metric roc_acu"
    assert (error["where"], error["hint"]) == ("--where, column 1", "Did you mean metrics.roc_auc?")
    assert "Traceback" not in say("runs", "--where", "metrics.roc_auc >", code=2)
    assert "--sort, column 1" in say("runs", "--sort", "roc_auc", code=2)


def test_tags_and_notes_stand_on_the_run_and_in_the_audit_log(say, made: Told) -> None:
    assert json.loads(say("runs", "tag", made.experiment, "best", "--json"))["tags"] == ["wide", "best"]
    assert json.loads(say("runs", "tag", made.experiment, "--remove", "best", "--json"))["tags"] == ["wide"]
    assert "two words" in say("runs", "note", made.experiment[:16], "two words")
    assert made.experiment in say("runs", "--where", "note ~* 'WORDS'")
    say("runs", "note", made.experiment, "a try")
    kinds = [e["kind"] for e in json.loads(say("audit", "log", "--json"))["events"]]
    assert kinds[-4:] == ["run.tagged", "run.tagged", "run.noted", "run.noted"]
    assert "there is no run run-9" in say("runs", "tag", "run-9", "x", code=2)
    assert "may be any of" in say("runs", "tag", "run-", "x", code=2)
    assert "one line" in say("runs", "tag", made.experiment, "a\nb", code=2)
    assert json.loads(say("audit", "verify", "--json"))["ok"] is True


def test_a_difference_in_one_view(say, made: Told) -> None:
    text = say("diff", "v1", "2")
    for needed in (
        "v1 → turn 2", f"{made.commits[0][:10]} → {made.commits[1][:10]}",
        "model.py", "+2 -1", "päth with space.py", "+1 -0", "picture.bin", "not text",
        "flights  100 → 170 rows, 1 file new", "+ data/july.csv  70 rows",
        "train.lr  0.1 → 0.05",
        "0.8 (0.79 to 0.81)", "-0.09 (-0.1 to -0.08)", "worse, on the same 400 rows, where the first has 0.79",
        "train.loss", "0.2 of 3 points", "0.3 → 0.2",
        "train/roc.json", "train/model.txt", "no longer stored",
        "numpy 2.1.0 -> 2.2.0",
    ):  # fmt: skip
        assert needed in text, needed
    for same in ("seed", "june.csv", "polars", "load", "brier"):
        assert same not in text, same
    assert "seed" in say("diff", "v1", "2", "--all")


def test_the_differences_of_git_are_those_of_git(say, made: Told) -> None:
    files = json.loads(say("diff", "v1", "2", "--json"))["code"]["files"]
    assert {f["path"]: (f["added"], f["removed"]) for f in files} == {
        "model.py": (2, 1),
        "päth with space.py": (1, 0),
        "picture.bin": (None, None),
    }


def test_a_difference_as_json(say, made: Told) -> None:
    document = json.loads(say("diff", made.first, made.experiment, "--json"))
    assert document["before"] == {
        "name": made.first, "run": made.first, "kind": "turn", "release": "v1", "turn": document["before"]["turn"],
    }  # fmt: skip
    assert document["after"]["kind"] == "experiment"
    assert document["same"] == ["parameters"]
    (auc,) = [m for m in document["metrics"] if m["name"] == "roc_auc"]
    assert (auc["before"]["value"], auc["after"]["value"], auc["paired"], auc["low"]) == (0.8, 0.75, None, None)
    (brier,) = [m for m in document["metrics"] if m["name"] == "brier"]
    assert (brier["before"]["value"], brier["after"]) == (None, None)
    assert document["environment"]["differences"] == ["numpy 2.1.0 -> 2.2.0"]


def test_what_is_compared_by_default(say, made: Told) -> None:
    def sides(*arguments: str) -> list[str]:
        document = json.loads(say("diff", *arguments, "--json"))
        return [document["before"]["name"], document["after"]["name"]]

    newest = "run-000000000005-aaaaaaaa"
    assert sides() == ["v1 (serves production)", f"{newest} (latest)"]
    assert sides(made.second) == [made.second, "v1 (serves production)"]
    assert sides("v1") == ["v1", f"{newest} (latest)"]
    assert sides("production", "latest") == ["v1 (serves production)", f"{newest} (latest)"]
    assert sides("ffffff", "run-000000000003") == ["v1", "run-000000000003-aaaaaaaa"]


def test_a_turn_where_nothing_changed_is_not_what_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = write(tmp_path).home
    with closing(Ledger.open(home / ".noria")) as ledger:
        idle = turn(ledger, "run-9", TurnOutcome.NOTHING_CHANGED)
        RunStore(ledger, PROJECT).put(
            Run("run-9", PROJECT, idle, Pins(None, None, {}, "1", "2", "3"), 9000.0, 9000.1, "nothing changed")
        )
    assert execute(["-C", str(home), "diff", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["after"]["run"] == "run-000000000005-aaaaaaaa"


def test_a_run_beside_itself(say) -> None:
    text = say("diff", "v1", "1")
    assert text.splitlines()[0] == "v1 → turn 1"
    assert "the same: code, environment, parameters, steps, data, metrics, series, plots" in text
    assert len(text.splitlines()) <= 4


@pytest.mark.parametrize("ref", ["v9", "99", "run-nope", "nonsense", "%", "abcdef"])
def test_a_side_that_is_not_there(say, ref: str) -> None:
    text = say("diff", ref, "v1", code=2)
    assert "there is no" in text
    assert "Traceback" not in text


def test_the_story_of_a_run(say, made: Told) -> None:
    text = say("show", made.experiment[:18])
    for needed in ("experiment", "wide", "a try", "train.lr", "ran, attempt 2", "3.5 s", "210 MB", "12.0 MB", "500 kB", "four"):
        assert needed in text, needed
    assert "one" not in text.partition("Logs")[2].partition("Metrics")[0].splitlines()[1:]
    failed = say("show", "2")
    assert "4999" in failed
    assert "4980" in failed
    assert "4979" not in failed
    assert "trial of" in say("show", "run-000000000003")
    assert json.loads(say("show", "latest", "--json"))["run"]["id"] == "run-000000000005-aaaaaaaa"
    document = json.loads(say("show", made.second, "--json"))
    assert document["series"]["train"]["loss"] == {"points": 3, "last": 0.2, "least": 0.2, "most": 0.8}
    assert "train.loss" in say("show", made.second)


def test_a_log_is_printed_whole(say, made: Told) -> None:
    assert say("show", made.experiment, "--log", "train") == "one\ntwo\nthree\nfour\n"
    assert say("show", "2", "--log", "train").splitlines() == [str(i) for i in range(5000)]
    assert json.loads(say("show", "v1", "--log", "train", "--json"))["log"] == "one\ntwo\nthree\nfour\n"
    assert "Steps: load, train" in say("show", "2", "--log", "tarin", code=2)
    assert "step load wrote no log in this run: reused, unchanged" in say("show", "2", "--log", "load", code=2)


def test_the_environment_record_can_be_kept_as_a_blob_under_its_digest(tmp_path: Path) -> None:
    """What `noria diff` relies on: the digest of a record is that of its canonical JSON without what is no identity."""
    record = environment.record()
    identity = {name: value for name, value in record.items() if name != "cpus"}
    assert names.digest_bytes(json.dumps(identity, sort_keys=True).encode()) == environment.digest(record)
