"""Objects that are pinned by their version stay where they are: the store's copies are a cache."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from place import InnerPlace, Place
from test_gc import age, stored

pytest.importorskip("fsspec", reason="the extra remote is not installed")

PROJECT = """\
project: far
data:
  points: {{source: "{address}/*.csv", pin: version}}
steps:
  total: {{call: "work:total"}}
"""
WORK = "import polars as pl\n\ndef total(points: pl.DataFrame, times=1): return {'sum': int(points['n'].sum()) * times}\n"


@pytest.fixture
def place(inner_place: InnerPlace) -> Place:
    return inner_place


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server, and the folder it serves."""
    folder = tmp_path / "origin"
    folder.mkdir()
    log = tmp_path / "server.log"
    with log.open("w") as out:
        command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
    try:
        deadline = time.monotonic() + 120
        while (found := re.search(r"port (\d+)", log.read_text())) is None:
            assert server.poll() is None
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{found.group(1)}", folder
    finally:
        server.terminate()
        server.wait(timeout=120)


def test_what_was_collected_is_fetched_again_and_must_be_the_same(place: Place, origin: tuple[str, Path]) -> None:
    address, folder = origin
    (folder / "a.csv").write_text("n\n1\n2\n")
    (folder / "b.csv").write_text("n\n3\n")
    place.put("noria.yaml", PROJECT.format(address=address)).put("work.py", WORK).put("params.yaml", "total: {times: 1}\n")
    place.put(".gitignore", ".noria\n__pycache__\n").commit()
    assert place.states()["total"][0] == "ran"
    copies = {blake3(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert copies <= stored(place)
    age(place, 40)
    told = place.json("gc", "--yes")
    assert told["kinds"]["cached copies"]["count"] == 2, told
    assert copies.isdisjoint(stored(place))
    assert place.json("data", "verify")["findings"] == []

    assert place.json("run")["outcome"] == "nothing changed", "nothing is fetched when nothing is read"
    place.noria("run", "--explain")
    assert copies.isdisjoint(stored(place))
    out = place.noria("run", "--set", "total.times=2")
    assert "fetching 2 files again" in out
    assert copies <= stored(place)

    age(place, 40)
    place.noria("gc", "--yes")
    (folder / "b.csv").unlink()
    assert "b.csv is gone from its origin" in place.noria("run", "--set", "total.times=3", code=None)


def test_only_objects_at_an_address_are_pinned_by_their_version(place: Place) -> None:
    place.put("noria.yaml", 'project: p\ndata: {d: {source: "data/*.csv", pin: version}}\n')
    said = place.noria("check", code=2)
    assert "only objects at an address like s3://... are pinned by their version" in said
    assert "noria.yaml:2" in said
