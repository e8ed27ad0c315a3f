"""Files that a running server needs are deleted under it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from serving_bundles import RECORD, Seal, compiled, hosted, logged, wait_for
from serving_world import World

from noria.serving.client import FACTS, SOCKET


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Seal(tmp_path / "state"), tmp_path / "scratch")
    made.server.start({"production": ("127.0.0.1", 0)}, workers=2)
    try:
        yield made
    finally:
        made.close()


def test_what_was_deleted_is_made_again(world: World) -> None:
    """Number 54: serving/ and server.sock: nudges arrive, workers and hosts can be replaced, counts go on where they stood."""
    first, second = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    revision = world.serve(first).applied["production"]
    client = world.client()
    for _ in range(10):
        client.post("/predict", json=RECORD)
    (world.state / SOCKET).unlink()
    (world.state / FACTS).unlink()
    shutil.rmtree(world.state / "serving")
    wait_for(lambda: (world.state / FACTS).exists() and world.server.is_alive())
    wait_for(lambda: list((world.state / "serving").glob("production.counts*")))
    before = world.workers()
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(set(world.workers()) - set(before)) == 2)
    again = world.client()
    for _ in range(5):
        assert again.post("/predict", json=RECORD).status_code == 200
    assert world.tallies(revision).champion.requests == 15
    assert "was deleted: it is restored" in (world.state / "server.log").read_text()
    world.serve(second, "v2")
    victim = world.server.status()["hosts"][second]
    shutil.rmtree(world.state / "serving")
    wait_for(lambda: world.server.status()["hosts"][second] != victim)
    wait_for(lambda: again.post("/predict", json=RECORD, timeout=60).status_code == 200, 120)


def test_a_log_that_was_deleted_under_its_writer_goes_on_and_is_counted(world: World) -> None:
    """Number 54's kind: log/ENVIRONMENT is made again, what was in it is named as lost, and what is answered then is kept."""
    world.serve(compiled(world.seal, world.scratch))
    client, folder = world.client(), world.state / "log" / "production"
    assert client.post("/predict", json=RECORD).status_code == 200
    shutil.rmtree(folder)
    wait_for(lambda: len(list(folder.glob("*.plog"))) == 2)  # both workers'
    answered = [client.post("/predict", json=RECORD).json()["predictions"][0]["id"] for _ in range(5)]
    assert {row["id"] for row in logged(world.state, "production")} == set(answered)
    assert 'noria_worker_logs_deleted_total{environment="production"} 2' in client.get("/metrics").text
    assert "bytes of records: they are lost" in (world.state / "server.log").read_text()
