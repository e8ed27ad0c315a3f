"""A server that starts answers with what is ready, says what it waits for, and gives nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving_bundles import FEATURES, PROJECT, RECORD, Seal, compiled, hosted, wait_for
from serving_world import World

from noria.kernel.errors import ServingError, StoppedError
from noria.serving import client as control
from noria.serving.route import Route
from noria.serving.route_follower import OVERTAKEN, FollowerActions, Key
from noria.serving.route_store import RouteStore
from noria.storage.ledger import Ledger

ADDRESSES = {"staging": ("127.0.0.1", 0), "production": ("127.0.0.1", 0)}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """While this file is there, a gated release does not finish loading."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.fixture
def world(seal: Seal, tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(control, "SETTLE_S", 1.0)
    made = World(seal, tmp_path / "scratch")
    try:
        yield made
    finally:
        gate.unlink(missing_ok=True)
        made.close()


def publish(world: World, *routes: Route) -> None:
    ledger = Ledger.open(world.state)
    with ledger.transaction():
        for route in routes:
            RouteStore(ledger, PROJECT).put(route)
    ledger.close()


def gated(world: World, gate: Path) -> str:
    waits = f"import os, time\nwhile os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
    return hosted(world.seal, world.scratch, features=waits + FEATURES)


def test_what_is_ready_answers_while_a_release_takes_its_time(world: World, gate: Path) -> None:
    """Number 33: in another environment and in the same one; health and answers say which is waited for."""
    fast, slow = compiled(world.seal, world.scratch, project="fast"), gated(world, gate)
    routes = [Route("fast", "staging", 0, fast, "v7"), Route("fast", "production", 0, fast, "v7")]
    publish(world, *routes, Route(PROJECT, "production", 0, slow, "v3"))
    world.server.start(ADDRESSES, workers=1)
    urls = world.server.addresses()
    for name in ("staging", "production"):
        wait_for(lambda name=name: httpx.post(f"{urls[name]}/fast/predict", json=RECORD).status_code == 200)
    assert httpx.get(f"{urls['staging']}/health/ready").json() == {"ready": True}
    health = httpx.get(f"{urls['production']}/health/ready")
    waiting = {"project": PROJECT, "release": "v3", "state": "loading", "why": "it is being loaded"}
    assert (health.status_code, health.json()) == (503, {"ready": False, "waiting": [waiting]})
    assert httpx.get(f"{urls['production']}/v2/models/fast/ready").status_code == 200
    for path in (f"/{PROJECT}/predict", f"/v2/models/{PROJECT}/infer"):
        refused = httpx.post(f"{urls['production']}{path}", json=RECORD)
        assert refused.status_code == 503
        assert "delays v3: it is being loaded" in refused.text
    assert world.server.status()["environments"]["production"]["waiting"] == [waiting]
    gate.unlink()
    wait_for(lambda: httpx.post(f"{urls['production']}/{PROJECT}/predict", json=RECORD).status_code == 200)
    wait_for(lambda: httpx.get(f"{urls['production']}/health/ready").json() == {"ready": True})


def test_a_refused_release_is_tried_again_where_nothing_else_serves(world: World, gate: Path) -> None:
    """Number 33: a start on a busy or broken machine does not leave nothing serving for good."""
    digest = compiled(world.seal, world.scratch)
    model = world.state / "releases" / digest / "model.onnx"
    model.rename(world.scratch / "away")
    publish(world, Route(PROJECT, "production", 0, digest, "v1"))
    world.server.start({"production": ADDRESSES["production"]}, workers=1)
    health = httpx.get(f"{world.url}/health/ready").json()
    assert (health["ready"], health["waiting"][0]["state"]) == (False, "refused")
    assert "v1" in httpx.post(f"{world.url}/predict", json=RECORD).text
    (world.scratch / "away").rename(model)
    wait_for(lambda: httpx.post(f"{world.url}/predict", json=RECORD).status_code == 200)


def test_a_start_ends_when_it_is_told_to_and_not_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 33: whoever waits for a server that gives signs of life can still leave."""
    with pytest.raises(StoppedError):
        world.server.start(ADDRESSES, workers=1, stopped=lambda: True)
    wait_for(lambda: not world.server.is_running())
    monkeypatch.setattr(control, "SILENT_S", 0.01)
    with pytest.raises(ServingError, match="no sign of life"):
        world.server.start(ADDRESSES, workers=1)


def test_each_route_is_followed_by_itself_and_a_newer_one_breaks_it_off() -> None:
    """Number 33: and one that is broken off again and again is let through at last."""
    log: list[str] = []
    hold = asyncio.Event()

    async def load(key: Key, route: Route) -> str:
        try:
            if key[1] == "slow":
                await hold.wait()
        except asyncio.CancelledError:
            log.append(f"broke off {route.revision}")
            raise
        return route.champion

    async def flip(key: Key, route: Route, loaded: str) -> None:
        log.append(f"{key[1]} {route.revision}")

    def wanted(slow: int) -> dict[Key, Route]:
        routes = [Route("slow", "production", slow, "a", "v1"), Route("fast", "production", 1, "b", "v1")]
        return {(route.environment, route.project): route for route in routes}

    async def story() -> None:
        done = set[Route]()
        following = FollowerActions(lambda key, route, again: route not in done, load, flip)
        for revision in range(1, OVERTAKEN + 3):
            following.aim(wanted(revision))
            done.add(wanted(1)["production", "fast"])
            await asyncio.sleep(0.01)
        assert [route.revision for route in following.coming("production")] == [OVERTAKEN + 1]
        hold.set()
        await following.settled()
        await following.close()

    asyncio.run(story())
    assert log[0] == "fast 1"
    assert log[1:] == [*(f"broke off {n}" for n in range(1, OVERTAKEN + 1)), f"slow {OVERTAKEN + 1}", f"slow {OVERTAKEN + 2}"]
