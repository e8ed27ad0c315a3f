"""`noria data quarantine`: what was refused is listed, the rows for which it was are written out."""

from __future__ import annotations

import csv
import json

import polars as pl
from place import Place
from test_data_commands import CONTRACT, PROJECT, rows


def test_what_was_refused_is_listed_and_its_failing_rows_are_written_out(place: Place) -> None:
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\n")
    place.put("data/a.csv", rows(0, 10)).commit().noria("run")
    assert place.noria("data", "quarantine").strip() == "nothing was refused"
    place.put("data/b.csv", rows(10, 3) + rows(20, 2, x=500.0).partition("\n")[2])
    (place.home / "data/c.csv").symlink_to("/etc/hostname")
    place.noria("run", code=1)
    told = {one["name"]: one for one in place.json("data", "quarantine", "points")["refused"]}
    bad, unreadable = told["data/b.csv"], told["data/c.csv"]
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
    assert "failing.csv exists already" in said
    said = place.noria("data", "quarantine", "--sample", unreadable["delivery"], "--into", "more.csv", code=2)
    assert "no row of data/c.csv is to blame" in said
    assert "no suffix" in place.noria("data", "quarantine", "--sample", bad["delivery"], "--into", "x.xlsx", code=2)
    assert "there is no delivery" in place.noria("data", "quarantine", "--sample", "delivery-9", "--into", "x.csv", code=2)

    place.put("data/b.csv", rows(10, 5)).noria("run", code=None)
    told = {one["name"]: one["corrected"] for one in place.json("data", "quarantine")["refused"]}
    assert told == {"data/b.csv": True, "data/c.csv": False}
