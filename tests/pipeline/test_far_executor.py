"""The executor's interface assumes no shared folder: steps run on a "machine" that knows trees and blobs by name alone."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from place import Place

from noria.engine import assembly, turn_runner
from noria.pipeline.executors.local import LocalExecutor
from noria.pipeline.executors.pool import Pool
from noria.pipeline.run_store import RunStore
from noria.pipeline.turn_record import TurnOutcome
from noria.storage.blobs import BlobStore

PROJECT = """\
project: far
data: {points: points.csv}
steps:
  doubled: {call: "work:doubled"}
  note: {cmd: "cp text.txt made/note.txt", deps: [text.txt], outs: [made/note.txt]}
  both:
    cmd: cat made/note.txt > made/both.txt; wc -l < $NORIA_INPUT_POINTS >> made/both.txt
    deps: [made/note.txt, points]
    outs: [made/both.txt]
  end: {call: "work:end"}
"""
WORK = """\
import polars as pl
def doubled(points: pl.DataFrame): return points.with_columns(x=pl.col("x") * 2)
def end(doubled: pl.DataFrame, both): return {"sum": int(doubled["x"].sum()), "text": open(both).read()}
"""


class Elsewhere:
    """Another machine's workspace: its own folders; blobs and trees cross only as bytes."""

    def __init__(self, root: Path, origin: Path, network: BlobStore) -> None:
        self.root, self.origin, self.network = root, origin, network
        self.asked: list[str] = []
        self.lock = threading.Lock()

    def tree(self, identity: str) -> Path:
        kind, _, commit = identity.partition(":")
        assert kind == "commit"
        target = self.root / "trees" / commit
        with self.lock:
            if target.exists():
                return target
            target.mkdir(parents=True)
            packed = subprocess.run(["git", "archive", commit], cwd=self.origin, capture_output=True, check=True).stdout
            subprocess.run(["tar", "x"], cwd=target, input=packed, check=True)
        return target

    def scratch(self, task_id: str) -> Path:
        folder = self.root / "scratch" / task_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def link(self, digest: str, target: Path) -> None:
        self.asked.append(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.network.read(digest))

    def place(self, tree: Path, files: Mapping[str, str]) -> None:
        for path, digest in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(self.network.read(digest))

    def keep(self, files: Sequence[Path]) -> list[str]:
        return [self.network.put_bytes(path.read_bytes()) for path in files]


def test_steps_run_where_nothing_is_shared_but_names_and_bytes(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("noria.yaml", PROJECT).put("work.py", WORK).put("text.txt", "words\n").put(".gitignore", ".noria\nmade\n*.csv\n")
    place.put("points.csv", "x\n1\n2\n").commit()
    here = assembly.assemble(place.home)
    far = Elsewhere(tmp_path / "far", place.home, here.blobs)
    context = replace(here, executor=LocalExecutor(Pool(size=1, preload=("polars",)), far))
    try:
        ended = turn_runner.turn_by_hand(context, "try it far away")
    finally:
        context.executor.close()
        here.executor.close()
    assert ended.outcome is TurnOutcome.DONE, ended.reason
    assert ended.run_id is not None
    run = RunStore.of(context).get(ended.run_id)
    assert {step.name: str(step.state) for step in run.steps} == dict.fromkeys(["doubled", "note", "both", "end"], "ran")
    assert place.read("made/both.txt") == "words\n3\n"  # handed out here by the digests alone
    assert far.asked, "inputs came as blobs"
    (end,) = [step for step in run.steps if step.name == "end"]
    assert b'"sum": 6' in here.blobs.read(_output(here.blobs, end.output or ""))


def _output(blobs: BlobStore, manifest: str) -> str:
    import msgspec

    return str(msgspec.json.decode(blobs.read(manifest))["files"]["output"])
