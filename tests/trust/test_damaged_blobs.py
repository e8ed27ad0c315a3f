"""What `noria data verify` finds and mends, in process: damaged and missing files of a real line, each with who needs it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from small_line import SmallLine, points, small_line

from noria.data.store import DataStore
from noria.pipeline import steps
from noria.pipeline.run_store import RunStore
from noria.pipeline.turn_record import TurnOutcome
from noria.releases.store import ReleaseStore
from noria.trust import gc
from noria.trust.verification import DamageState, Repair, verify


@pytest.fixture
def line(tmp_path: Path) -> Iterator[SmallLine]:
    """v1 serves."""
    with small_line(tmp_path) as made:
        made.deliver("points-01.csv", points(1))
        assert made.turned().outcome is TurnOutcome.PROMOTED
        yield made


def damage(line: SmallLine, digest: str) -> None:
    path = line.context.blobs.path(digest)
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def output(line: SmallLine, step: str, file: str) -> str:
    run = RunStore(line.ledger, "p").list()[0]
    record = next(record for record in run.steps if record.name == step)
    return steps.output(line.context, record).files[file]


def data(line: SmallLine) -> str:
    return DataStore(line.ledger, "p").current("points").files[0].digest


def test_a_whole_store_is_read_and_left_alone(line: SmallLine) -> None:
    events = len(line.events())
    found = verify(line.context)
    assert (found.ok, found.findings, found.bundles) == (True, (), {})
    assert found.blobs > 5
    assert len(line.events()) == events


@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "missing"])
def test_data_is_put_back_from_where_it_came(line: SmallLine, gone: bool) -> None:
    digest = data(line)
    line.context.blobs.discard(digest) if gone else damage(line, digest)
    (finding,) = verify(line.context).findings
    state = DamageState.MISSING if gone else DamageState.DAMAGED
    assert (finding.state, finding.cure, finding.where) == (state, Repair.PUT_BACK, "data/points-01.csv")
    assert finding.text.startswith(f"{digest[:12]} is {state}: data/points-01.csv of points, needed by v1, snapshot ")
    assert finding.text.endswith(": put back from data/points-01.csv")
    assert line.events("blob.restored") == [finding.text]
    assert line.context.blobs.read(digest).decode() == points(1)
    assert verify(line.context).findings == ()
    assert len(list((line.context.state / "damaged").glob("*"))) == (0 if gone else 1)


def test_data_whose_source_is_gone_is_lost_and_said_each_time(line: SmallLine) -> None:
    digest = data(line)
    damage(line, digest)
    (line.home / "data" / "points-01.csv").unlink()
    for state in (DamageState.DAMAGED, DamageState.MISSING):  # the damaged bytes are put aside
        found = verify(line.context)
        (finding,) = found.findings
        assert (found.ok, finding.state, finding.cure) == (False, state, Repair.LOST)
    (kept,) = (line.context.state / "damaged").glob(f"{digest}-*")
    assert kept.is_file()


def test_a_served_model_is_put_back_from_its_bundle(line: SmallLine) -> None:
    damage(line, output(line, "package", "onnx"))
    (finding,) = verify(line.context).findings
    assert (finding.cure, finding.where) == (Repair.PUT_BACK, "the bundle of v1")


def test_what_a_step_can_make_again_is_made_by_the_next_run(line: SmallLine) -> None:
    holdout = output(line, "train", "holdout")
    damage(line, holdout)
    found = verify(line.context)
    assert found.ok
    (finding,) = found.findings
    assert finding.cure is Repair.MADE_AGAIN
    assert finding.text == (
        f"{holdout[:12]} is damaged: left by step train, needed by v1: made again by the next run that needs it"
    )
    line.edit("noria.yaml", "roc_auc >= 0.6", "roc_auc >= 0.61")
    line.commit("another gate")
    line.pool.ran.clear()
    line.turned()
    assert "train" in line.pool.ran
    assert line.context.blobs.verified_size(holdout) > 0  # the same bytes again
    assert verify(line.context).findings == ()


def test_a_bundle_that_is_not_whole_is_named(line: SmallLine) -> None:
    model = line.context.bundle(ReleaseStore(line.ledger, "p").get("v1").digest) / "model.onnx"
    model.chmod(0o600)
    model.write_bytes(model.read_bytes() + b"x")
    found = verify(line.context)
    assert not found.ok
    assert list(found.bundles) == ["v1"]
    assert "v1 is damaged" in found.bundles["v1"]
    assert "model.onnx" in found.bundles["v1"]


def test_a_collection_keeps_all_that_a_release_is_made_of(line: SmallLine) -> None:
    """However old it is: what is deleted is what no release, run or dataset needs, and nothing is missing after it."""
    line.deliver("points-02.csv", points(2))
    line.turned()
    stray = line.context.blobs.put_bytes(b"nobody's " * 200_000)
    for path in (line.context.state / "blobs").rglob("*"):
        if path.is_file() and len(path.name) > 40:
            os.utime(path, (time.time() - 100 * 86_400.0,) * 2)
    bundles = [line.context.bundle(r.digest) for r in ReleaseStore(line.ledger, "p").list()]
    gc.collect(line.context, 0.0, trust_clock=True)
    found = verify(line.context)
    assert (found.ok, found.findings) == (True, ())
    for bundle in bundles:
        pins = msgspec.json.decode((bundle / "manifest.json").read_bytes())["pins"]["snapshots"]
        for pin in DataStore.of(line.context).snapshot(pins["points"]).files:
            assert line.context.blobs.verified_size(pin.digest) == pin.size_bytes
    assert gc.plan(line.context, 0.0).empty
    assert not line.context.blobs.exists(stray)
