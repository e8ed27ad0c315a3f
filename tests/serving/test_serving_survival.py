"""Swaps, failing candidates, kills and damage, under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest
from serving_bundles import RECORD, Seal, compiled, hosted, logged, wait_for
from serving_world import Load, World

from noria.kernel import names
from noria.kernel.errors import ServingError
from noria.serving.tallies import Tally
from noria.storage import disk


def test_swaps_under_load_fail_no_request(world: World) -> None:
    releases = [compiled(world.seal, world.scratch, seed=i) for i in range(2)]
    world.serve(releases[0], "v1")
    flips = []
    with Load(world.url) as load:
        until = time.monotonic() + 3
        while time.monotonic() < until or len(flips) <= 10:
            i = len(flips) % 2
            flips.append(world.serve(releases[1 - i], f"v{2 - i}", previous=releases[i], previous_version=f"v{1 + i}").ms)
    assert load.failures == []
    assert load.retries == 0
    assert load.releases() == {"v1", "v2"}
    assert set(load.ids()) <= {r["id"] for r in logged(world.state, "production")}
    assert len(set(load.ids())) == len(load.ids())


def test_after_a_flip_every_answer_is_the_new_releases(world: World) -> None:
    """The acknowledgement means it: whoever asks afterwards, on an old connection or a new one, gets the new release."""
    releases = [compiled(world.seal, world.scratch, seed=i) for i in range(2)]
    clients = [world.client() for _ in range(6)]
    for turn in range(6):
        world.serve(releases[turn % 2], f"v{turn + 1}", previous=releases[1 - turn % 2])
        assert {c.post("/predict", json=RECORD).json()["release"] for c in clients} == {f"v{turn + 1}"}


def test_a_candidate_that_raises_is_answered_for_and_counted(world: World) -> None:
    champion, candidate = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=1.0, slow_ms=5000, deadline_ms=5000)
    client = world.client()
    for carrier, variant in (("XX", "fallback"), ("AA", "candidate"), ("YY", "fallback")):
        answer = client.post("/predict", json=RECORD | {"carrier": carrier})
        assert (answer.status_code, answer.json()["variant"]) == (200, variant)
    assert world.tallies(1).candidate == Tally(requests=3, errors=2)
    assert world.tallies(1).champion == Tally()
    written = logged(world.state, "production")
    assert [(r["release"], r["variant"]) for r in written] == [("v1", "fallback"), ("v2", "candidate"), ("v1", "fallback")]


def test_a_candidate_past_its_deadline_is_answered_for(world: World) -> None:
    champion, candidate = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=1.0, slow_ms=50, deadline_ms=250)
    client = world.client()
    client.post("/predict", json=RECORD)  # the host's first call is slower than its later ones
    before = world.tallies(1).candidate
    began = time.monotonic()
    answer = client.post("/predict", json=RECORD | {"carrier": "slow"})  # sleeps 0.6 s
    took = time.monotonic() - began
    assert answer.json()["variant"] == "fallback"
    assert 0.25 <= took < 0.55
    after = world.tallies(1).candidate
    assert (after.errors - before.errors, after.slow - before.slow, after.requests - before.requests) == (1, 1, 1)


def test_kill_9_of_a_worker_under_load_loses_no_answered_prediction(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch))
    with Load(world.url) as load:
        for _ in range(2):
            seen = len(load.answers)
            wait_for(lambda seen=seen: len(load.answers) > seen + 100)
            victims = world.workers()
            os.kill(victims[0], signal.SIGKILL)
            wait_for(lambda victims=victims: len(set(world.workers()) - set(victims)) == 1)
        seen = len(load.answers)
        wait_for(lambda: len(load.answers) > seen + 100)
    assert load.failures == []
    assert load.retries <= 8  # the connections in flight of four threads, twice
    assert set(load.ids()) <= {r["id"] for r in logged(world.state, "production")}
    assert world.tallies(1).champion.requests >= len(load.answers)  # the dead workers' counts are still there


def test_kill_9_of_a_host_is_the_candidates_failure_and_heals(world: World) -> None:
    champion, candidate = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=1.0, deadline_ms=5000)
    client = world.client()
    assert client.post("/predict", json=RECORD).json()["variant"] == "candidate"
    os.kill(world.server.status()["hosts"][candidate], signal.SIGKILL)
    answer = client.post("/predict", json=RECORD)
    assert answer.status_code == 200
    wait_for(lambda: client.post("/predict", json=RECORD).json()["variant"] == "candidate")


def test_workers_come_back_while_the_candidates_host_is_down(world: World) -> None:
    """The champion does not wait for its candidate."""
    champion, candidate = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=0.5)
    (socket,) = (world.state / "serving").glob("host-*.sock")
    socket.rename(socket.with_suffix(".away"))
    victims = set(world.workers())
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    client = world.client()
    wait_for(lambda: len(set(world.workers()) - victims) == 2)
    variants = [client.post("/predict", json=RECORD).json()["variant"] for _ in range(30)]
    assert set(variants) == {"champion", "fallback"}
    socket.with_suffix(".away").rename(socket)
    wait_for(lambda: client.post("/predict", json=RECORD).json()["variant"] == "candidate")


def test_kills_in_a_loop_lose_nothing_and_interrupt_only_what_is_in_flight(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    account = import_module("benchmarks.survival").alone(world, seconds=7)
    assert (account.missing(), account.doubled(), account.unexplained()) == ([], [], [])
    assert (account.told.refused, account.told.unsent) == ([], 0)
    assert account.killed("worker") >= 2
    assert account.killed("host") >= 1
    calls, interrupted = len(account.told.calls), len(account.interrupted())
    assert calls > 700
    assert interrupted <= account.killed("worker") * 16  # each of the connections carries one request at a time
    assert account.unheard() <= interrupted
    assert {call.variant for call in account.told.calls if call.status == 200} >= {"champion", "candidate"}


@pytest.mark.parametrize("damage", ["model", "manifest", "signature", "missing", "foreign"])
def test_a_damaged_release_is_refused_and_the_old_one_serves_on(world: World, damage: str, tmp_path: Path) -> None:
    good, bad = compiled(world.seal, world.scratch), compiled(world.seal, world.scratch, seed=1)
    world.serve(good)
    folder = world.state / "releases" / bad
    if damage == "foreign":
        other = Seal(tmp_path / "elsewhere")
        (folder / "manifest.sig").write_bytes(other._key.sign((folder / "manifest.json").read_bytes()))
    elif damage == "missing":
        (folder / "model.onnx").unlink()
    else:
        path = folder / {"model": "model.onnx", "manifest": "manifest.json", "signature": "manifest.sig"}[damage]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    world.publish(bad, "v2")
    synced = world.server.sync()
    assert synced.applied == {"production": 1}
    assert list(synced.failed) == [bad]
    assert world.client().post("/predict", json=RECORD).json()["release"] == "v1"


def test_a_hosted_release_with_an_added_module_is_refused(world: World) -> None:
    good, bad = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(good)
    (world.state / "releases" / bad / "code" / "polars.py").write_text("raise SystemExit")
    world.publish(bad, "v2")
    assert "polars.py is not part of the release" in world.server.sync().failed[bad]


def test_a_hosted_release_that_cannot_be_imported_says_why(world: World) -> None:
    bad = hosted(world.seal, world.scratch, features="import nonexistent_library\n")
    world.publish(bad, "v2")
    synced = world.server.sync()
    assert synced.applied == {}
    assert "No module named 'nonexistent_library' in delays/features.py:1" in synced.failed[bad]


def test_a_missed_nudge_is_made_good(world: World) -> None:
    world.publish(compiled(world.seal, world.scratch), "v9")
    client = world.client()
    wait_for(lambda: client.get("/health/ready").status_code == 200)
    assert client.get("/").json()["release"] == "v9"


def test_the_server_outlives_its_starter_and_is_adopted(seal: Seal, tmp_path: Path) -> None:
    starter = f"""
from pathlib import Path
from noria.serving.client import Server
import os, signal
Server(Path({str(seal.state)!r})).start({{"production": ("127.0.0.1", 0)}}, workers=1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", starter], check=False).returncode == -signal.SIGKILL
    world = World(seal, tmp_path / "scratch")
    try:
        assert world.server.is_alive()
        pid = world.server.status()["pid"]
        adopted = world.server.start({"production": ("127.0.0.1", 0)})
        assert adopted["pid"] == pid
        os.kill(pid, signal.SIGHUP)
        world.serve(compiled(seal, tmp_path / "scratch"))
        assert world.client().post("/predict", json=RECORD).status_code == 200
        facts = json.loads((seal.state / "server.json").read_text())
        assert (facts["pid"], facts["addresses"]) == (pid, world.server.addresses())
        assert (seal.state / "server.sock").stat().st_mode & 0o777 == 0o600
    finally:
        world.close()
    assert not world.server.is_alive()
    assert not (seal.state / "server.json").exists()


def test_a_restarted_server_takes_up_its_route_and_its_counts(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch))
    client = world.client()
    for _ in range(5):
        client.post("/predict", json=RECORD)
    pid = world.server.status()["pid"]
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not world.server.is_alive() and not psutil.pid_exists(pid))
    left = _leave_unfinished(world.state)
    with disk.whole_file(world.state / "log" / "production" / "compacted.json", fleeting="a test's") as file:
        world.server.start({"production": ("127.0.0.1", 0)}, workers=2)
        assert [path for path in left if path.exists()] == []
        file.write(b'{"batches":[],"damaged":[],"format":1}')  # of another process that lives: it is named below
    assert world.client().post("/predict", json=RECORD).json()["release"] == "v1"  # its very first answer
    assert world.tallies(1).champion == Tally(requests=6)
    assert len(logged(world.state, "production")) == 6


def _leave_unfinished(state: Path) -> list[Path]:
    """What writers of small files leave that are killed, where a server writes them."""
    files = (state / "serve.json", state / "serving" / "production.delays.seen", state / "log" / "production" / "compacted.json")
    left = [file.with_name(f".{file.name}.{names.new_id('w')}") for file in files]
    for path in left:
        path.write_bytes(b"half")
    return left


def test_workers_and_hosts_end_with_a_killed_parent(world: World) -> None:
    world.serve(hosted(world.seal, world.scratch))
    status = world.server.status()
    children = [psutil.Process(p) for p in (*world.workers(), *status["hosts"].values())]
    assert len(children) == 3
    os.kill(status["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=120)
    assert alive == []
    with pytest.raises(ServingError):
        world.server.status()


def test_a_full_disk_is_told_and_nothing_is_answered(world: World) -> None:
    """The log's folder is the limit of what can be promised: no record, no answer."""
    world.serve(compiled(world.seal, world.scratch))
    for pid in world.workers():
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))
    answer = world.client().post("/predict", json=RECORD)
    assert answer.status_code in (503, 507)
    assert answer.json()["error"]["code"] == "not_recorded"
    assert logged(world.state, "production") == []
