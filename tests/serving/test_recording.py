"""`serving.log`: what is sampled, redacted or not recorded is as the policy says, and nothing goes uncounted."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from serving_bundles import BINARY, RECORD, Seal, compiled, logged, wait_for
from serving_world import World

from noria.kernel.policy import LogPolicy, WhenFull
from noria.predictions import log_query
from noria.serving import recorder
from noria.serving.recorder import Ids

KEYED = {**RECORD, "flight_id": "UA-4711", "time_hour": "2026-11-20T12:00:00Z"}
METRIC = re.compile(r'noria_predictions_dropped_total\{environment="production",project="delays",reason="(\w+)"\} (\d+)')


class Start:
    """Starts servers with a policy, and stops them."""

    def __init__(self, seal: Seal, scratch: Path) -> None:
        self.seal, self.scratch = seal, scratch
        self.worlds: list[World] = []

    def __call__(self, policy: LogPolicy, **route: Any) -> World:
        world = World(self.seal, self.scratch)
        world.server.start({"production": ("127.0.0.1", 0)}, workers=2, recording=policy)
        self.worlds.append(world)
        world.serve(compiled(self.seal, self.scratch / str(len(self.worlds)), seed=10 + len(self.worlds)), **route)
        return world


@pytest.fixture
def start(seal: Seal, tmp_path: Path) -> Iterator[Start]:
    made = Start(seal, tmp_path / "scratch")
    try:
        yield made
    finally:
        for world in made.worlds:
            world.close()


def ask(world: World, *records: dict[str, Any]) -> list[str]:
    answer = world.client().post("/predict", json=list(records) or [RECORD])
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["predictions"]]


def dropped(world: World) -> dict[str, int]:
    return {reason: int(n) for reason, n in METRIC.findall(world.client().get("/metrics").text)}


def on_disk(state: Path) -> bytes:
    """Every byte of the log and of what stands beside it."""
    return b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file() and "releases" not in path.parts)


def _labels(world: World) -> list[float]:
    project = logged(world.state, "production")[0]["project"]
    return log_query.training(log_query.scan(world.state / "log" / "production", project)).collect()["label"].to_list()


def test_a_sample_is_answered_in_full_and_recorded_in_part(start: Start) -> None:
    world = start(LogPolicy(sample=0.25))
    ids = [i for _ in range(4) for i in ask(world, *([RECORD] * 500))]
    rows = logged(world.state, "production")
    assert len(set(ids)) == 2000
    assert {row["id"] for row in rows} < set(ids)
    assert {row["sample"] for row in rows} == {0.25}
    assert dropped(world) == {"full": 0, "sample": 2000 - len(rows)}
    assert 400 <= len(rows) <= 600  # 500 expected, five standard deviations of 19
    assert abs(sum(1 / row["sample"] for row in rows) - 2000) <= 400


def test_of_a_key_all_are_recorded_or_none_in_every_worker_and_after_a_restart(start: Start) -> None:
    keyed = [{**RECORD, "flight_id": f"f{i}"} for i in range(200)]
    world = start(LogPolicy(sample=0.3))
    for _ in range(6):
        ask(world, *keyed)
    world.server.stop()
    start(LogPolicy(sample=0.3), version="v2")
    ask(start.worlds[-1], *keyed)
    counts: dict[str, int] = {}
    for row in logged(world.state, "production"):
        counts[row["key"]] = counts.get(row["key"], 0) + 1
    assert set(counts.values()) == {7}
    assert 30 <= len(counts) <= 90


def test_rows_of_a_rollout_are_never_sampled(start: Start) -> None:
    world = start(LogPolicy(sample=0.01))
    champion = compiled(world.seal, world.scratch / "c", seed=1)
    candidate = compiled(world.seal, world.scratch / "d", seed=2)
    world.serve(champion, "v2", candidate=candidate, candidate_version="v3", share=0.5, rollout_id="rollout-1")
    ids = [i for _ in range(20) for i in ask(world, *([RECORD] * 10))]
    rows = logged(world.state, "production")
    assert {row["id"] for row in rows} == set(ids)
    assert {(row["sample"], row["rollout"]) for row in rows} == {(1.0, "rollout-1")}
    assert {row["variant"] for row in rows} == {"champion", "candidate"}
    assert dropped(world)["sample"] == 0


def test_redacted_columns_never_reach_the_disk_and_labels_still_find_their_predictions(start: Start) -> None:
    world = start(LogPolicy(redact=("carrier", "flight_id", "time_hour")))
    ask(world, {**KEYED, "carrier": "Zq-secret"})
    answer = world.client().post("/feedback", json={"key": "UA-4711", "label": 1})
    assert answer.status_code == 202, answer.text
    said, row = sorted(logged(world.state, "production"), key=lambda r: r["record"])
    assert row["inputs"] == {"distance": 3.5}
    assert row["event_time"] is None
    assert row["key"] == said["key"]
    assert re.fullmatch(r"h-[0-9a-f]{32}", row["key"])
    assert _labels(world) == [1.0]
    world.close()
    content = on_disk(world.state)
    for word in (b"Zq-secret", b"UA-4711", b"2026-11-20T12"):
        assert word not in content
    assert os.stat(world.state / recorder.SECRET).st_mode & 0o777 == 0o600


def test_the_same_key_has_another_hash_in_another_installation(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, again, other = recorder.secret(tmp_path / "a"), recorder.secret(tmp_path / "a"), recorder.secret(tmp_path / "b")
    assert one == again != other
    assert len(one) == recorder.SECRET_BYTES


def test_many_workers_agree_on_one_secret(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(recorder.secret(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [p.name for p in tmp_path.iterdir()] == [recorder.SECRET]


def limit(size_bytes: int, *pids: int) -> None:
    """How far the files of processes may grow; nothing at all is what a full disk looks like."""
    for pid in pids:
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (size_bytes, psutil.RLIM_INFINITY))


def full(world: World) -> None:
    limit(0, *world.workers())


def room(world: World) -> None:
    """The parent first: a worker that it starts meanwhile, for one that was silent too long beside a load, has room too."""
    parent = psutil.Process(world.server.status()["pid"])
    limit(psutil.RLIM_INFINITY, parent.pid)
    for child in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            limit(psutil.RLIM_INFINITY, child.pid)


def test_a_full_disk_refuses_unless_told_otherwise(start: Start) -> None:
    world = start(LogPolicy())
    full(world)
    answer = world.client().post("/predict", json=RECORD)
    assert answer.status_code == 507
    assert answer.json()["error"]["code"] == "not_recorded"
    assert logged(world.state, "production") == []
    assert dropped(world) == {"full": 0, "sample": 0}


def test_a_full_disk_counts_where_the_policy_says_so(start: Start) -> None:
    world = start(LogPolicy(when_full=WhenFull.COUNT))
    before = ask(world, RECORD)
    full(world)
    lost = [i for _ in range(5) for i in ask(world, *([RECORD] * 3))]
    said = world.client().post("/feedback", json={"id": before[0], "label": 1})
    assert said.status_code == 507  # a label can be sent again; it is never dropped
    room(world)
    after = ask(world, RECORD, RECORD)
    assert {row["id"] for row in logged(world.state, "production")} == {*before, *after}
    assert dropped(world) == {"full": len(lost), "sample": 0}


def test_answered_are_recorded_and_dropped_together(start: Start) -> None:
    """The sum that an auditor makes, with sampling and a full disk in one run."""
    world = start(LogPolicy(sample=0.5, when_full=WhenFull.COUNT))
    for turn in range(6):
        full(world) if turn % 2 else room(world)
        ask(world, *([RECORD] * 40))
    counted = dropped(world)
    assert counted["full"] > 0 < counted["sample"]
    assert len(logged(world.state, "production")) + sum(counted.values()) == 240


@pytest.mark.parametrize("policy", list(WhenFull))
def test_a_worker_that_dies_while_the_disk_is_full_comes_back(start: Start, policy: WhenFull) -> None:
    world = start(LogPolicy(when_full=policy))
    old = world.workers()
    limit(0, world.server.status()["pid"], *old)  # what the parent starts from now on has no room either
    for pid in old:
        psutil.Process(pid).kill()
    wait_for(lambda: len(world.workers()) == 2 and not set(world.workers()) & set(old))
    answer = wait_for(lambda: (said := world.client().post("/predict", json=RECORD)).status_code != 503 and said)
    assert answer.status_code == (507 if policy is WhenFull.REFUSE else 200)
    assert dropped(world) == {"full": 0 if policy is WhenFull.REFUSE else 1, "sample": 0}
    room(world)
    ids = ask(world, RECORD)
    assert [row["id"] for row in logged(world.state, "production")] == ids


def test_the_policy_travels_as_json() -> None:
    policy = LogPolicy(0.1, 90 * 86400.0, ("carrier",), WhenFull.COUNT)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=LogPolicy) == policy
    assert BINARY.key == "flight_id"


def test_ids_cannot_be_guessed_and_are_never_given_twice() -> None:
    """Number 54: ids counted on within a process, so that one told the others."""
    ids = Ids()
    made = [name for _ in range(2_000) for name in ids.take(1_700_000_000.0, 1)] + ids.take(1_700_000_000.0, 1_000)
    assert len(set(made)) == 3_000
    drawn = [name.split("-")[2] for name in made[:2_000]]
    assert len(set(drawn)) == 2_000
    assert {len(part) for part in drawn} == {16}
    for bit in range(64):
        ones = sum(int(part, 16) >> bit & 1 for part in drawn)
        assert 800 < ones < 1_200  # 1,000 expected, nine standard deviations of 22
    assert ids.take(1_700_000_001.0, 1)[0] > max(made)
