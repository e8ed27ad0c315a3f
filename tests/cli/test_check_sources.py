"""`noria check` reads every kind of source once, keeps nothing, and shows no secret."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

YAML = """\
project: shop
data:
  points: {source: "data/*.csv"}
  images: {source: images, format: files}
  orders: {sql: {url: "sqlite:///shop.db", query: SELECT * FROM t, cursor: n}}
  web: {source: "http://127.0.0.1:9/${TOKEN}/x.csv"}
"""


def test_every_kind_of_source_is_checked(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="the extra sql is not installed")
    pytest.importorskip("fsspec", reason="the extra remote is not installed")
    (tmp_path / "noria.yaml").write_text(YAML)
    for folder in ("data", "images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "a.csv").write_text("n\n1\n")
    (tmp_path / "data" / "out.csv").symlink_to("/etc/hostname")
    for name in ("x.png", "y.png"):
        (tmp_path / "images" / name).write_text("1234")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (7)")
    done = subprocess.run(
        [sys.executable, "-m", "noria", "check", "--json"],
        cwd=tmp_path, env={**os.environ, "TOKEN": "hunter2hunter2"}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    found = {each["what"]: (each["ok"], each["text"]) for each in json.loads(done.stdout)["findings"]}
    assert found["data/a.csv"] == (True, "1 rows meet the contract")
    assert found["images"] == (True, "2 files, 8 bytes, stored as they are")
    assert found["orders/start~0000000007.parquet"] == (True, "1 rows meet the contract")
    assert found["data/out.csv"][0] is False
    assert "leads out of the project" in found["data/out.csv"][1]
    assert found["web"][0] is False
    assert "http://127.0.0.1:9/${TOKEN}/x.csv: cannot be read" in found["web"][1]
    assert not (tmp_path / ".noria").exists()
