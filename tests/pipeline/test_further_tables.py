"""``model.also`` and parameters of ``features``: the same at training, at evaluation and for a request over HTTP."""

from __future__ import annotations

import json
import random
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from place import Place

from noria.kernel import names

CONFIG = """\
project: p
params: params.yaml
data:
  rows: {source: rows.csv, settle: 20ms}
  regions: {source: regions.csv, settle: 20ms}
steps:
  labelled: "model:labelled"
  wealth: "model:wealth"
model:
  task: regression
  rows: labelled
  key: id
  label: y
  inputs: [region, a]
  features: "model:features"
  train: "model:train"
  also: [regions, wealth]
  holdout: {fraction: 0.2}
gates: ["mae <= 100"]
checks: {behaviours: {more_is_more: {rises_with: a}}}
environments: {production: {}}
"""
MODEL = """\
import numpy as np
import pandas as pd
import polars as pl

def labelled(rows: pl.DataFrame) -> pl.DataFrame: return rows
def wealth(regions: pl.DataFrame) -> pl.DataFrame: return regions.select("region", rich=pl.col("people") > 500)

def features(rows: pl.DataFrame, *, regions: pl.DataFrame, wealth: pd.DataFrame, scale, shift=0.0) -> pl.DataFrame:
    rich = pl.from_pandas(wealth)
    joined = rows.join(regions, on="region", how="left", maintain_order="left").join(rich, on="region", how="left",
        maintain_order="left")
    people = pl.col("people").fill_null(0) / scale + shift
    return joined.select("a", people=people, rich=pl.col("rich").fill_null(False).cast(pl.Float64))

class Sum:
    def __init__(self, most): self.most = most
    def predict(self, x): return np.minimum(x["a"] + x["people"] + x["rich"], self.most)

def train(features, label, *, regions: pl.DataFrame, weight=1.0):
    return Sum(float(regions["people"].max()))
"""
PEOPLE = {"north": 100, "south": 900, "west": 300}
ASKED = [{"region": region, "a": a} for region in ("north", "south", "west", "atlantis") for a in (0.25, 1.5)]


def due(row: dict[str, Any], people: dict[str, int], scale: float) -> float:
    """In plain Python, what the model answers."""
    found = people.get(row["region"], 0)
    return min(row["a"] + found / scale + float(found > 500), float(max(people.values())))


def regions(people: dict[str, int]) -> str:
    return "region,people\n" + "".join(f"{name},{count}\n" for name, count in people.items())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The project with v1 in production; not to be changed."""
    place = Place(tmp_path_factory.mktemp("further") / "p")
    chance = random.Random(5)
    rows = [{"region": chance.choice(list(PEOPLE)), "a": round(chance.random(), 3)} for _ in range(300)]
    text = "".join(f"k{n},{r['region']},{r['a']},{due(r, PEOPLE, 100):.4f}\n" for n, r in enumerate(rows))
    place.put("noria.yaml", CONFIG).put("model.py", MODEL).put("rows.csv", f"id,region,a,y\n{text}")
    place.put("regions.csv", regions(PEOPLE)).put("params.yaml", "scale: 7\nfeatures: {scale: 100}\n")
    place.put(".gitignore", ".noria\n*.csv\n").commit()
    assert place.json("run")["outcome"] == "promoted"
    return place


def answers(place: Place, version: str) -> list[float]:
    """Over HTTP, of a release that a server of its own serves."""
    server = place.start("serve", version, "--port", "0", "--json")
    try:
        assert server.stdout is not None
        lines: list[str] = []
        for line in server.stdout:
            lines.append(line)
            if line.rstrip() == "}":
                break
        assert lines, server.stderr and server.stderr.read()
        address = json.loads("".join(lines))["address"]
        request = urllib.request.Request(f"{address}/predict", json.dumps(ASKED).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [row["prediction"] for row in json.load(answer)["predictions"]]
    finally:
        server.terminate()
        server.communicate(timeout=60)


def bundle(place: Place, version: str) -> Path:
    digest: str = place.json("show", version)["release"]["digest"]
    return place.home / ".noria" / "releases" / digest


def test_a_served_answer_is_the_offline_one_and_the_tables_are_sealed(made: Place) -> None:
    assert answers(made, "v1") == pytest.approx([due(row, PEOPLE, 100) for row in ASKED], abs=1e-9)

    folder = bundle(made, "v1")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["feature_params"] == {"scale": 100}, "the section comes before the top level, and `shift` has its default"
    assert set(manifest["also"]) == {"regions", "wealth"}
    for name, table in manifest["also"].items():
        assert manifest["files"][table["file"]] == names.digest_file(folder / table["file"]), name
    assert manifest["also"]["regions"]["digest"] == manifest["pins"]["snapshots"]["regions"]
    sealed = pl.read_parquet(folder / "also" / "regions.parquet")
    assert dict(sealed.iter_rows()) == PEOPLE
    offline = made.json("show", "v1")["release"]["metrics"]["mae"]
    assert offline < 1e-4, "evaluation asks the sealed form with the same arguments"


def test_another_table_or_parameter_trains_again_and_the_old_release_keeps_its_own(made: Place, copied: Any) -> None:
    place = copied(made)
    more = {**PEOPLE, "west": 700}
    place.put("regions.csv", regions(more)).put("params.yaml", "features: {scale: 101}\n")
    place.commit()
    assert place.json("run")["release"] == "v2"
    assert answers(place, "v2") == pytest.approx([due(row, more, 101) for row in ASKED], abs=1e-9)
    assert answers(place, "v1") == pytest.approx([due(row, PEOPLE, 100) for row in ASKED], abs=1e-9)
    assert dict(pl.read_parquet(bundle(place, "v2") / "also" / "regions.parquet").iter_rows()) == more
