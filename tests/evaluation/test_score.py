"""Scoring through the sealed form: what the code writes while it is evaluated is no part of the bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import polars as pl

from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.releases.bundle import HostedFacts, Manifest, ModelFacts, write_manifest
from noria.releases.release import ServedForm

WORK = """\
import pathlib

SCALE = float(open("conf/scale.txt").read())


def features(rows):
    pathlib.Path("left.csv").write_text("1,Zebra")
    pathlib.Path(__file__).with_name("beside.csv").write_text("1,Zebra")
    return rows.select(a=rows["a"] * SCALE)
"""


class Doubled:
    """A regression that needs nothing but numpy."""

    def predict(self, table: pl.DataFrame) -> np.ndarray:
        return 2.0 * table["a"].to_numpy()


def test_what_the_code_leaves_while_it_is_scored_stays_out_of_the_bundle(tmp_path: Path) -> None:
    """Numbers 1 and 5: it would have been sealed, or, of a champion, would have made the release invalid."""
    bundle, folder = tmp_path / "bundle", tmp_path / "folder"
    (bundle / "code/conf").mkdir(parents=True)
    folder.mkdir()
    (bundle / "code/work.py").write_text(WORK)
    (bundle / "code/conf/scale.txt").write_text("10")
    joblib.dump(Doubled(), bundle / "model.joblib")
    signature = Signature(inputs=(Input("a", Kind.NUMBER),), task=Task.REGRESSION)
    hosted = HostedFacts("work:features")
    write_manifest(bundle, Manifest(1, "p", ServedForm.HOSTED, signature, ModelFacts("model.joblib"), hosted))
    pl.DataFrame({"a": [1.0, 2.0]}).write_ipc(tmp_path / "rows.arrow")
    before = sorted(bundle.rglob("*"))
    job = {"bundle": ".", "rows": str(tmp_path / "rows.arrow"), "folder": str(folder)}
    script = (
        f"import json, sys; from noria.evaluation import score_step; score_step.run(json.loads({json.dumps(json.dumps(job))}))"
    )
    here = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-P", "-c", script], cwd=bundle, env=env, check=True, timeout=100)
    assert np.load(folder / "scores.npy").tolist() == [20.0, 40.0]
    assert sorted(bundle.rglob("*")) == before
    assert (folder / "code/left.csv").exists()
    assert (folder / "code/beside.csv").exists()
