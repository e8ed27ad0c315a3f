"""Batch scoring: the answers of a running server, row for row, in files that are whole or not there."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from serving_alone import exported
from serving_bundles import BINARY, Seal, compiled, hosted, wait_for
from serving_world import World

from noria import cli
from noria.delivery import standalone
from noria.delivery.batch import parts, scoring
from noria.delivery.batch.rows import InputFile
from noria.delivery.batch.scoring import BatchOrder, BatchResult
from noria.kernel.errors import DataError, NotFoundError, RefusedError, UsageError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature

ROWS = 97


def flights(n: int = ROWS, seed: int = 5) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "flight_id": [f"00{i}" for i in range(n)],
            "carrier": rng.choice(["AA", "UA"], n),
            "distance": rng.normal(3, 1, n),
        }
    )


@pytest.fixture
def file(seal: Seal, tmp_path: Path) -> Path:
    return exported(seal, compiled(seal, tmp_path / "scratch", seed=3), tmp_path / "v3.noria.tar")


def score(file: Path, given: Path | str, output: Path, **more: Any) -> BatchResult:
    return scoring.score(BatchOrder(scoring.files(str(given)), output, **more), standalone.from_file(file))


def records(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k in ("carrier", "distance")} for row in table.to_dicts()]


# --- the same answers as the server


@pytest.mark.parametrize("form", ["compiled", "hosted"])
def test_the_answers_are_the_servers_bit_for_bit(form: str, world: World, seal: Seal, tmp_path: Path) -> None:
    digest = (compiled if form == "compiled" else hosted)(seal, tmp_path / "scratch")
    world.serve(digest)
    table = flights()
    table.write_parquet(tmp_path / "rows.parquet")
    done = score(exported(seal, digest, tmp_path / "v1.tar", "v1"), tmp_path / "rows.parquet", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert (done.rows, done.rejected, done.release) == (ROWS, 0, "v1")
    assert found.columns == ["flight_id", "carrier", "distance", "prediction", "probability", "release"]
    assert found.select(table.columns).equals(table)
    with world.client() as client:
        together = client.post("/predict", json=records(table)).json()["predictions"]
        one_by_one = [client.post("/predict", json=record).json()["predictions"][0] for record in records(table)[:10]]
    assert found["probability"].to_list() == [p["probability"] for p in together]
    assert found["prediction"].to_list() == [p["prediction"] for p in together]
    # a row alone goes another way through ONNX Runtime than rows together: float32's last digits differ, in the server as here
    assert found["probability"].to_list()[:10] == pytest.approx([p["probability"] for p in one_by_one], abs=1e-6)


REGRESSION = Signature(BINARY.inputs, Task.REGRESSION)


def test_a_regression_has_its_numbers_alone(seal: Seal, tmp_path: Path) -> None:
    digest = compiled(seal, tmp_path / "scratch", seed=2, signature=REGRESSION)
    flights().write_parquet(tmp_path / "rows.parquet")
    score(exported(seal, digest, tmp_path / "r.tar"), tmp_path / "rows.parquet", tmp_path / "out.parquet", columns=())
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert (found.columns, found.height, found["prediction"].dtype) == (["prediction", "release"], ROWS, pl.Float64())


def test_many_classes_are_decided_as_the_server_does() -> None:
    from noria.serving import protocol

    rng = np.random.default_rng(1)
    answers = rng.dirichlet([1, 1, 1], 50)
    answers[7] = [0.4, 0.4, 0.2]  # a tie
    for classes in (("a", "b", "c"), ("0", "1", "2"), ("1", "x", "y")):
        signature = Signature((Input("x", Kind.NUMBER),), Task.MULTICLASS, classes)
        found = scoring._outputs(signature, answers).to_dicts()
        due = protocol.outputs(signature, answers.tolist())
        mixed = any(isinstance(d["prediction"], str) for d in due)  # a column has one type
        assert found == [{**d, "prediction": str(d["prediction"]) if mixed else d["prediction"]} for d in due]


# --- formats


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet", "arrow", "csv.gz", "jsonl.gz", "csv.zst"])
def test_every_format_is_read_alike(suffix: str, file: Path, tmp_path: Path) -> None:
    table = flights()
    table.write_parquet(tmp_path / "reference.parquet")
    score(file, tmp_path / "reference.parquet", tmp_path / "due.parquet")
    path = tmp_path / f"rows.{suffix}"
    write: dict[str, Callable[[Path], object]] = {
        "csv": table.write_csv,
        "tsv": lambda p: table.write_csv(p, separator="\t"),
        "jsonl": table.write_ndjson,
        "json": table.write_json,
        "parquet": lambda p: table.write_parquet(p, row_group_size=20),
        "arrow": table.write_ipc,
    }
    kind, _, packing = suffix.partition(".")
    plain = tmp_path / f"plain.{kind}"
    write[kind](plain)
    if packing == "gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif packing == "zst":
        import pyarrow as pa

        with pa.output_stream(str(path), compression="zstd") as packed:
            packed.write(plain.read_bytes())
    else:
        plain.rename(path)
    score(file, path, tmp_path / "out.parquet", batch_rows=10, part_rows=30)
    columns = ["flight_id", "prediction", "probability", "release"]
    due, found = pl.read_parquet(tmp_path / "due.parquet"), pl.read_parquet(tmp_path / "out.parquet")
    assert found.select(columns).equals(due.select(columns))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_every_format_is_written_alike(suffix: str, file: Path, tmp_path: Path) -> None:
    flights().write_parquet(tmp_path / "rows.parquet")
    score(file, tmp_path / "rows.parquet", tmp_path / "due.parquet", batch_rows=10, part_rows=30)
    out = tmp_path / f"out.{suffix}"
    score(file, tmp_path / "rows.parquet", out, batch_rows=10, part_rows=30)
    read = {
        "csv": lambda: pl.read_csv(out, schema_overrides={"flight_id": pl.String}),
        "tsv": lambda: pl.read_csv(out, separator="\t", schema_overrides={"flight_id": pl.String}),
        "jsonl": lambda: pl.read_ndjson(out),
        "parquet": lambda: pl.read_parquet(out),
        "arrow": lambda: pl.read_ipc(out),
    }
    assert read[suffix]().equals(pl.read_parquet(tmp_path / "due.parquet"))


def test_several_files_are_scored_in_order_and_columns_united(file: Path, tmp_path: Path) -> None:
    table = flights(30)
    table.head(10).write_csv(tmp_path / "a.csv")
    table.slice(10, 10).with_columns(extra=pl.lit("x")).write_csv(tmp_path / "b.csv")
    table.slice(20).drop("flight_id").write_csv(tmp_path / "c.csv")
    score(file, tmp_path / "*.csv", tmp_path / "out.jsonl", part_rows=10)
    found = pl.read_ndjson(tmp_path / "out.jsonl")
    assert found["flight_id"].to_list() == [*table["flight_id"].to_list()[:20], *[None] * 10]
    assert found["extra"].to_list() == [*[None] * 10, *["x"] * 10, *[None] * 10]
    assert found.columns[-3:] == ["prediction", "probability", "release"]


# --- rows that have no answer


def test_rows_that_are_refused_are_kept_with_their_reason(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        'flight_id,carrier,distance\n1,AA,3.5\n2,AA,far\n3,AA\n4,UA,\n5,"A\nA",inf\n6,AA,1,2\n7,UA,nan\n8,UA,1e39\n9,,2\n'
    )
    for size in (1, 2, 100):
        done = score(file, path, tmp_path / "out.csv", restart=True, batch_rows=size)
        with (tmp_path / "out.csv").open() as out:
            assert [row["flight_id"] for row in csv.DictReader(out)] == ["1", "8", "9"]  # 8: as the server does
        found = [json.loads(line) for line in (tmp_path / "out.csv.rejected.jsonl").read_text().splitlines()]
        assert [(r["row"], r["reason"]) for r in found] == [
            (2, 'distance must be a number, not "far"'),
            (3, "has 2 values where the head has 3 columns"),
            (4, "distance must not be null"),
            (5, "distance is infinite"),
            (6, "has 4 values where the head has 3 columns"),
            (7, "distance must not be null"),
        ]
        assert found[0]["record"] == {"flight_id": "2", "carrier": "AA", "distance": "far"}
        assert (done.rows, done.rejected) == (3, 6)


def test_lines_that_are_no_records_are_refused_as_requests_are(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"carrier": "AA", "distance": 2, "more": [1, {"a": None}]}
    lines = [json.dumps(good), "{", "[1]", '{"carrier": "AA"}', '{"carrier": 1, "distance": "x"}', "", json.dumps(good)]
    path.write_text("\n".join(lines))
    done = score(file, path, tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [r["row"] for r in found] == [2, 3, 4, 5]
    assert [r["reason"] for r in found[2:]] == [
        "distance is missing",
        'carrier must be a string, not 1; distance must be a number, not "x"',
    ]
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [json.loads(row["more"]) for row in out] == [good["more"], good["more"]]
    assert done.rejected == 4


def test_a_hosted_row_that_raises_or_kills_its_process_costs_no_other_row(seal: Seal, tmp_path: Path) -> None:
    features = (
        "import os\nimport polars as pl\n\n\ndef build(frame):\n"
        "    if 'kill' in frame['carrier'].to_list():\n        os._exit(1)\n"
        "    numbers = [{'AA': 0.0, 'UA': 1.0}[c] for c in frame['carrier']]\n"
        "    return pl.DataFrame({'carrier': numbers, 'distance': frame['distance']})\n"
    )
    digest = hosted(seal, tmp_path / "scratch", "fragile", features)
    table = flights(3).to_dicts()
    table[0]["carrier"], table[1]["carrier"] = "kill", "ZZ"
    pl.DataFrame(table).write_parquet(tmp_path / "rows.parquet")
    done = score(exported(seal, digest, tmp_path / "h.tar"), tmp_path / "rows.parquet", tmp_path / "out.parquet")
    found = [json.loads(line) for line in (tmp_path / "out.parquet.rejected.jsonl").read_text().splitlines()]
    assert [r["row"] for r in found] == [1, 2]
    assert "KeyError: 'ZZ' in delays/features.py" in found[1]["reason"]
    assert "host process" in found[0]["reason"]
    assert done.rows == 1


def test_strict_stops_at_the_first_and_leaves_no_output(file: Path, tmp_path: Path) -> None:
    table = flights().with_columns(distance=pl.when(pl.col("flight_id") == "0013").then(None).otherwise("distance"))
    table.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet: row 14: distance must not be null"):
        score(file, tmp_path / "rows.parquet", tmp_path / "out.parquet", strict=True)
    assert sorted(p.name for p in tmp_path.glob("*out*")) == []


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pl.DataFrame({"carrier": ["AA"]}), "has no column distance"),
        (pl.DataFrame({"carrier": ["AA"], "distance": ["3"]}), "column distance is String, where the release takes a number"),
        (pl.DataFrame({"carrier": [1], "distance": [3.0]}), "column carrier is Int64, where the release takes text"),
        (pl.DataFrame({"carrier": ["AA"], "distance": [3.0], "release": ["v1"]}), "has a column 'release' itself"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_as_a_whole(table: pl.DataFrame, words: str, file: Path, tmp_path: Path) -> None:
    table.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=words):
        score(file, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert sorted(p.name for p in tmp_path.glob("*out*")) == []


def test_damaged_and_absent_inputs_and_outputs_are_said(file: Path, tmp_path: Path) -> None:
    flights().write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:200])
    (tmp_path / "empty.csv").touch()
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    for name in ("cut.parquet", "empty.csv", "twice.csv"):
        with pytest.raises(DataError):
            score(file, tmp_path / name, tmp_path / "out.parquet")
    (tmp_path / "head.csv").write_text("carrier,distance\n")
    assert score(file, tmp_path / "head.csv", tmp_path / "none.csv").rows == 0
    assert (tmp_path / "none.csv").read_text() == "carrier,distance,prediction,probability,release\n"
    with pytest.raises(UsageError):
        score(file, tmp_path / "rows.parquet", tmp_path / "out.xlsx")
    with pytest.raises(UsageError):
        score(file, tmp_path / "rows.parquet", tmp_path / "rows.parquet")
    with pytest.raises(NotFoundError):
        score(file, tmp_path / "rows.parquet", tmp_path / "nowhere" / "out.csv")
    with pytest.raises(RefusedError, match="exists already"):
        score(file, tmp_path / "rows.parquet", tmp_path / "none.csv")
    assert (tmp_path / "none.csv").exists()


# --- interrupted


class _StopError(Exception):
    """As Ctrl-C would, in the middle."""


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "arrow"])
def test_an_interrupted_job_goes_on_and_has_each_row_once(
    suffix: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / f"rows.{suffix}", tmp_path / "out.csv"
    table = flights().with_columns(distance=pl.when(pl.col("flight_id").is_in(["0013", "0060"])).then(None).otherwise("distance"))
    {"parquet": table.write_parquet, "csv": table.write_csv, "jsonl": table.write_ndjson, "arrow": table.write_ipc}[suffix](path)
    score(file, path, tmp_path / "due.csv", batch_rows=10, part_rows=20)
    whole = parts.BatchParts.add

    def stopping(self: parts.BatchParts, *arguments: Any) -> None:
        whole(self, *arguments)
        raise _StopError

    resumed = []
    for _ in range(20):
        monkeypatch.setattr(parts.BatchParts, "add", stopping)
        with pytest.raises(_StopError):
            score(file, path, out, batch_rows=10, part_rows=20)
        assert not out.exists()
        folder = tmp_path / ".out.csv.scoring"
        with (folder / parts.JOURNAL).open("ab") as journal:
            journal.write(b'{"number":99,"fi')  # a torn line
        resumed.append(len((folder / parts.JOURNAL).read_bytes().splitlines()) - 1)
        if len(resumed) == 3:
            break
    monkeypatch.undo()
    done = score(file, path, out, batch_rows=10, part_rows=20)
    assert resumed == [1, 2, 3]
    assert done.resumed > 50
    assert out.read_bytes() == (tmp_path / "due.csv").read_bytes()
    due = (tmp_path / "due.csv.rejected.jsonl").read_bytes()
    assert (tmp_path / "out.csv.rejected.jsonl").read_bytes() == due
    assert not folder.exists()


def test_another_input_or_release_begins_anew_and_a_changed_part_is_refused(
    seal: Seal, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flights().write_csv(tmp_path / "rows.csv")
    folder = tmp_path / ".out.csv.scoring"

    def interrupted() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(parts.BatchParts, "join", lambda *_: (_ for _ in ()).throw(_StopError()))
            with pytest.raises(_StopError):
                score(file, tmp_path / "rows.csv", tmp_path / "out.csv")

    interrupted()
    flights(50).write_csv(tmp_path / "rows.csv")
    assert score(file, tmp_path / "rows.csv", tmp_path / "out.csv").resumed == 0
    (tmp_path / "out.csv").unlink()
    interrupted()
    part = folder / "000001.arrow"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="was changed"):
        score(file, tmp_path / "rows.csv", tmp_path / "out.csv")
    assert score(file, tmp_path / "rows.csv", tmp_path / "out.csv", restart=True).rows == 50


def command(tmp_path: Path, *more: str) -> list[str]:
    given = ["--input", "rows.jsonl", "--output", "out.jsonl", "--release", "v3.noria.tar", "--json", *more]
    return [sys.executable, "-m", "noria", "predict", *given]


def test_a_killed_command_goes_on(file: Path, tmp_path: Path) -> None:
    """kill -9 of the real command after some part of it is on disk, again and again."""
    flights(60_000).write_ndjson(tmp_path / "rows.jsonl")
    journal = tmp_path / ".out.jsonl.scoring" / parts.JOURNAL
    script = "from noria.delivery.batch import scoring; scoring.BATCH_ROWS, scoring.PART_ROWS = 250, 500\n"
    script += "import functools; scoring.BatchOrder = functools.partial(scoring.BatchOrder, batch_rows=250, part_rows=500)\n"
    script += "from noria import cli; cli.main()"
    arguments = [sys.executable, "-c", script, *command(tmp_path)[3:]]
    parts_seen = 0
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        due = parts_seen + 3
        wait_for(lambda due=due: journal.exists() and len(journal.read_bytes().splitlines()) >= due)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, b"Traceback" in err) == (-9 if number == signal.SIGKILL else 130, False)
        assert not (tmp_path / "out.jsonl").exists()
        parts_seen = len(journal.read_bytes().splitlines())
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=True, timeout=300)
    facts = json.loads(done.stdout)
    assert (facts["rows"], facts["rejected"], facts["resumed"] >= 500 * (parts_seen - 1)) == (60_000, 0, True)
    assert pl.read_ndjson(tmp_path / "out.jsonl")["flight_id"].to_list() == [f"00{i}" for i in range(60_000)]


# --- the command


def test_the_command_says_by_its_exit_code_that_rows_were_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"carrier": "AA", "distance": 2}\n{"carrier": "AA"}\n')
    assert cli.execute(command(tmp_path)[3:]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["rows"], facts["rejected"], facts["rejected_file"]) == (1, 1, "out.jsonl.rejected.jsonl")
    assert cli.execute(command(tmp_path, "--restart", "--strict")[3:]) == 1
    assert cli.execute(["predict", "--input", "rows.jsonl"]) == 2
    assert cli.execute(["predict", "--output", "x.csv"]) == 2
    assert cli.execute(["predict", "--input", "nothing.csv", "--output", "x.csv", "--release", str(file)]) == 2
    assert cli.execute(["predict", "--input", "rows.jsonl", "--output", "x.csv", "--release", "v1"]) == 2  # no project here
    Path("fine.jsonl").write_text('{"carrier": "AA", "distance": 2}\n')
    assert cli.execute(["predict", "--input", "fine.jsonl", "--output", "fine.csv", "--release", str(file)]) == 0
    assert os.listdir(tmp_path).count("fine.csv") == 1


def test_a_source_is_named_as_people_know_it(file: Path, tmp_path: Path) -> None:
    """A dataset's file lies in the store under another name."""
    pl.DataFrame({"carrier": ["AA"], "distance": [None]}, schema={"carrier": pl.String, "distance": pl.Float64}).write_parquet(
        tmp_path / "b.parquet"
    )
    order = BatchOrder((InputFile("flights:2013/a.parquet", tmp_path / "b.parquet", "parquet"),), tmp_path / "o.csv")
    scoring.score(order, standalone.from_file(file))
    assert json.loads((tmp_path / "o.csv.rejected.jsonl").read_text())["file"] == "flights:2013/a.parquet"
