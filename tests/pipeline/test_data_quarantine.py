"""`noria data quarantine`: what was refused is listed, the rows for which it was are written out."""

from __future__ import annotations

import csv
import json
import re

import polars as pl
import pytest
from place import InnerPlace, Place
from test_data_commands import CONTRACT, PROJECT, rows


@pytest.fixture
def place(inner_place: InnerPlace) -> Place:
    return inner_place


def test_what_was_refused_is_listed_and_its_failing_rows_are_written_out(place: Place) -> None:
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\n")
    place.put("data/a.csv", rows(0, 10)).commit().noria("run")
    assert place.noria("data", "quarantine").strip() == "nothing was refused"
    place.put("data/b.csv", rows(10, 3) + rows(20, 2, x=500.0).partition("\n")[2])
    (place.home / "data/c.csv").symlink_to("/etc/hostname")
    place.noria("run", code=1)
    told = {one["name"]: one for one in place.json("data", "quarantine", "points")["refused"]}
    bad, unreadable = told["data/b.csv"], told["data/c.csv"]
    assert (bad["state"], bad["decision"]) == ("refused", None)
    assert (bad["rows"], bad["failing_rows"], bad["sample"], bad["corrected"]) == (5, 2, True, False)
    assert unreadable["digest"] == "", "its bytes were never read"
    assert (unreadable["rows"], unreadable["failing_rows"], unreadable["sample"]) == (0, 0, False)
    listed = place.noria("data", "quarantine").splitlines()
    assert len([line for line in listed if "data/b.csv" in line and "2 of 5" in line and bad["reason"] in line]) == 1
    assert bad["delivery"] in listed[-1], "a line that can be copied"

    place.noria("data", "quarantine", "--sample", bad["delivery"], "--into", "failing.csv")
    with (place.home / "failing.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["id"], row["x"]) for row in found] == [("20", "500.0"), ("21", "500.0")]
    assert all("outside 0 to 100" in row["noria_reason"] for row in found)
    done = place.json("data", "quarantine", "--sample", bad["delivery"], "--into", "failing.jsonl")
    assert (done["rows"], done["failing_rows"], done["name"]) == (2, 2, "data/b.csv")
    assert [json.loads(line)["id"] for line in place.read("failing.jsonl").splitlines()] == [20, 21]
    place.noria("data", "quarantine", "--sample", bad["delivery"], "--into", "failing.parquet")
    assert pl.read_parquet(place.home / "failing.parquet")["id"].to_list() == [20, 21]

    said = place.noria("data", "quarantine", "--sample", bad["delivery"], "--into", "failing.csv", code=1)
    assert "failing.csv already exists" in said
    said = place.noria("data", "quarantine", "--sample", unreadable["delivery"], "--into", "more.csv", code=2)
    assert "no single row of data/c.csv failed" in said
    assert "no suffix" in place.noria("data", "quarantine", "--sample", bad["delivery"], "--into", "x.xlsx", code=2)
    assert "there is no delivery" in place.noria("data", "quarantine", "--sample", "delivery-9", "--into", "x.csv", code=2)

    shown = place.json("data", "quarantine", "show", bad["delivery"])
    (reason,) = shown["reasons"]
    assert (reason["code"], reason["rows"], shown["rows_in"], shown["rows_passed"]) == ("contract.range", 2, 5, 0)
    assert "first" not in shown, "rows are data"
    assert "500.0" not in place.noria("data", "quarantine", "show", bad["delivery"])
    assert "500.0" in place.noria("data", "quarantine", "show", bad["delivery"], "--rows", "1")
    assert [row["id"] for row in place.json("data", "quarantine", "show", bad["delivery"], "--rows", "1")["first"]] == [20]
    done = place.json("data", "quarantine", "export", bad["delivery"], "--into", "all.csv")
    assert (done["rows"], done["failing_rows"]) == (2, 2)

    place.put("data/b.csv", rows(10, 5)).noria("run", code=None)
    told = {one["name"]: one["corrected"] for one in place.json("data", "quarantine")["refused"]}
    assert told == {"data/b.csv": True, "data/c.csv": False}
    said = place.noria("data", "quarantine", "release", bad["delivery"], "--why", "it was right", code=1)
    assert "a later version of data/b.csv was accepted" in said


def test_a_person_releases_a_file_as_it_is_or_discards_it(place: Place) -> None:
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\n")
    place.put("data/a.csv", rows(0, 10)).commit().noria("run")
    place.put("data/b.csv", rows(10, 4, x=500.0)).put("data/c.csv", rows(20, 3, x=900.0)).put("data/d.csv", "id,x\n1,much\n")
    place.noria("run", code=1)
    ids = {one["name"]: one["delivery"] for one in place.json("data", "quarantine")["refused"]}
    assert "needs" in place.noria("data", "quarantine", "release", ids["data/b.csv"], code=2)
    said = place.noria("data", "quarantine", "release", ids["data/d.csv"], "--why", "let it in", code=1)
    assert "cannot be read as a part of points" in said

    done = place.json("data", "quarantine", "release", ids["data/b.csv"], "--why", "the sensor is right")
    assert (done["name"], done["rows"]) == ("data/b.csv", 4)
    assert "already released" in place.noria("data", "quarantine", "release", ids["data/b.csv"], "--why", "again", code=1)
    place.noria("data", "quarantine", "discard", ids["data/c.csv"], "--why", "a test export")
    newest = place.json("data", "log", "points")["snapshots"][0]
    assert (newest["files"], newest["rows"]) == (2, 14)
    (file,) = newest["irregular"]
    assert (file["name"], file["why"], file["delivery"]) == ("data/b.csv", "the sensor is right", done["accepted_as"])
    assert "the sensor is right" in place.noria("data", "log")
    told = {one["name"]: one for one in place.json("data", "quarantine")["refused"]}
    assert (told["data/b.csv"]["state"], told["data/c.csv"]["state"]) == ("released", "discarded")
    assert told["data/b.csv"]["decision"]["why"] == "the sensor is right"
    assert "the sensor is right" in place.noria("show", done["accepted_as"])
    assert "released" in place.noria("show", ids["data/b.csv"])
    assert place.json("status")["quarantined_rows"] == 1, "of data/d.csv: people decided on the others"

    said = place.noria("check", code=1)
    assert re.search(r"warn +data/b.csv: released by .*outside 0 to 100", said)
    assert re.search(r"warn +data/c.csv: discarded by .*: no turn judges it again", said)
    assert re.search(r"FAIL +data/d.csv", said)
    place.noria("run")  # with the released file
    assert place.read("made/sum.txt").strip() == "16", "two heads and 14 rows"
    place.put("contracts/points.yaml", CONTRACT.replace("100", "50")).commit().noria("run", code=None)
    told = {one["name"]: one["state"] for one in place.json("data", "quarantine")["refused"] if one["name"] != "data/d.csv"}
    assert told == {"data/b.csv": "released", "data/c.csv": "discarded"}, "neither is judged again"
    assert place.json("data", "log", "points")["snapshots"][0]["rows"] == 14
    assert place.json("audit", "verify")["problems"] == []

    place.put("data/b.csv", rows(10, 2, x=3.0)).put("data/c.csv", rows(20, 1)).noria("run", code=None)
    newest = place.json("data", "log", "points")["snapshots"][0]
    assert (newest["files"], newest["rows"], newest["irregular"]) == (3, 13, []), "other bytes are judged as ever"
