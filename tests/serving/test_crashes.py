"""Workers and hosts that die of a release: blamed on it, and a candidate that does it twice gets no more traffic."""

from __future__ import annotations

import mmap
import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from serving_bundles import BINARY, FEATURES, RECORD, Seal, compiled, hosted, wait_for
from serving_world import World

from noria.serving import counts
from noria.serving.counts import counts_path
from noria.serving.crashes import _telling
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.tallies import Tally

SIDE = 3000  # of the matrices that make a call take a second or more


def ponderous(seal: Seal, scratch: Path) -> str:
    """A compiled release whose call takes long enough to be met in it."""
    matrix = np.random.default_rng(0).normal(0, 1e-3, (SIDE, SIDE)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["distance"], ["d"], keepdims=0),
        helper.make_node("Mul", ["m", "d"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "m"], [f"m{i + 1}"]) for i in range(4)),
        helper.make_node("ReduceMean", ["m4"], ["s"], keepdims=0),
        helper.make_node("Mul", ["s", "zero"], ["z"]),
        helper.make_node("Sigmoid", ["distance"], ["p"]),
        helper.make_node("Add", ["p", "z"], ["p1"]),
        helper.make_node("Sub", ["one", "p1"], ["p0"]),
        helper.make_node("Concat", ["p0", "p1"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "ponderous",
        [
            helper.make_tensor_value_info("carrier", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("distance", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [
            numpy_helper.from_array(matrix, "m"),
            *(numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("one", 1))),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = scratch / "ponderous"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    return seal.seal(folder, {"form": "compiled", "signature": BINARY, "model": {"file": "model.onnx", "runtime": "onnx"}})


def marks(state: Path) -> dict[int, int]:
    """Slot -> calls of a candidate that it is in, read from the file as another program would."""
    with counts_path(state, "production").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        cells = (
            np.frombuffer(mapped, dtype=np.int64, count=counts._NAMES // 8).reshape(counts.SLOTS, -1)[:, counts._AT_WORK].copy()
        )
    return {slot: int(n) for slot, n in enumerate(cells) if n}


class Asked:
    """One request in a thread; whatever becomes of it."""

    def __init__(self, url: str) -> None:
        self.answer: Any = None
        self._thread = threading.Thread(target=self._ask, args=(url,))
        self._thread.start()

    def _ask(self, url: str) -> None:
        try:
            self.answer = httpx.post(f"{url}/predict", json=RECORD, timeout=20).json()
        except httpx.TransportError as error:
            self.answer = error

    def end(self) -> Any:
        self._thread.join()
        return self.answer


def kill_in_a_call(world: World, number: signal.Signals) -> None:
    """End a worker in the middle of a call of the candidate, and wait for its successor."""
    before = world.workers()
    asked = Asked(world.url)
    slot = next(iter(wait_for(lambda: marks(world.state))))
    os.kill(before[slot], number)
    assert isinstance(asked.end(), httpx.TransportError)
    wait_for(lambda: len(set(world.workers()) - set(before)) == 1)


def facts(world: World) -> dict[str, Any]:
    return dict(world.server.status()["environments"]["production"])


def test_a_candidate_that_kills_two_workers_is_suspended(world: World) -> None:
    good, slow = compiled(world.seal, world.scratch), ponderous(world.seal, world.scratch)
    world.serve(good, candidate=slow, candidate_version="v2", share=1.0, deadline_ms=20000, slow_ms=20000, rollout_id="r")
    kill_in_a_call(world, signal.SIGKILL)
    assert facts(world)["crashes"] == {}  # a person's `kill -9` blames nobody
    kill_in_a_call(world, signal.SIGSEGV)
    assert facts(world)["crashes"][slow]["deaths"] == 1
    assert facts(world)["suspended"] == {}
    kill_in_a_call(world, signal.SIGABRT)
    crashes = world.server.health("production").crashes[slow]
    assert (crashes.deaths, crashes.burst) == (2, 2)
    assert crashes.how.startswith("SIGABRT in worker ")
    assert "it crashed 2 processes" in facts(world)["suspended"][slow]
    client = world.client()
    wait_for(lambda: "candidate" not in client.get("/").json())
    for _ in range(5):
        answer = world.client().post("/predict", json=RECORD).json()
        assert (answer["release"], answer["variant"]) == ("v1", "champion")
    assert world.tallies(1).candidate == Tally(requests=2, errors=2)
    # another share of the same rollout changes nothing; without the candidate, or in another rollout, it is forgotten
    world.serve(good, candidate=slow, candidate_version="v2", share=0.9, deadline_ms=20000, rollout_id="r")
    assert world.client().post("/predict", json=RECORD).json()["variant"] == "champion"
    world.serve(good)
    assert (facts(world)["crashes"], facts(world)["suspended"]) == ({}, {})


def test_a_candidate_that_crashes_while_it_only_scores_is_blamed_and_its_client_has_an_answer(world: World) -> None:
    good, slow = compiled(world.seal, world.scratch), ponderous(world.seal, world.scratch)
    timing: dict[str, Any] = {"deadline_ms": 20000, "slow_ms": 20000}
    synced = world.serve(good, candidate=slow, candidate_version="v2", shadow=1.0, rollout_id="r", **timing)
    before = world.workers()
    answer = Asked(world.url).end()
    assert (answer["release"], answer["variant"]) == ("v1", "champion")
    slot = next(iter(wait_for(lambda: marks(world.state))))
    os.kill(before[slot], signal.SIGSEGV)
    wait_for(lambda: len(set(world.workers()) - set(before)) == 1)
    assert facts(world)["crashes"][slow]["deaths"] == 1
    assert world.tallies(synced.applied["production"]).candidate == Tally(1, 1)


def test_a_champion_is_blamed_for_what_dies_in_its_calls_only(world: World) -> None:
    slow = ponderous(world.seal, world.scratch)
    world.serve(slow)
    processes = [psutil.Process(pid) for pid in world.workers()]
    idle = [sum(p.cpu_times()[:2]) for p in processes]

    def worked() -> psutil.Process | None:
        """The one that is in the call: the other may still have had its start to finish."""
        used = {p: sum(p.cpu_times()[:2]) - was for p, was in zip(processes, idle, strict=True)}
        return next((p for p in processes if used[p] > 0.2 + min(used.values())), None)

    asked = Asked(world.url)
    victim = wait_for(worked)
    victim.send_signal(signal.SIGSEGV)
    assert isinstance(asked.end(), httpx.TransportError)
    wait_for(lambda: len({*world.workers()} - {p.pid for p in processes}) == 1)
    assert facts(world)["crashes"][slow]["deaths"] == 1
    next(p for p in processes if p != victim).send_signal(signal.SIGSEGV)  # it had nothing to do
    wait_for(lambda: len({*world.workers()} - {p.pid for p in processes}) == 2)
    assert facts(world)["crashes"][slow]["deaths"] == 1
    assert world.tallies(1).champion == Tally(requests=1, errors=1, slow=0)
    assert "runtime.py" in (world.state / "server.log").read_text()  # where it was, for people


def test_a_hosted_candidate_that_ends_its_host_twice_is_suspended_and_fails_nobody(world: World) -> None:
    aborts = FEATURES.replace("    if ", '    if "abort" in frame["carrier"].to_list():\n        os.abort()\n    if ', 1)
    good = compiled(world.seal, world.scratch)
    bad = hosted(world.seal, world.scratch, features=f"import os\n{aborts}")
    world.serve(good, candidate=bad, candidate_version="v2", share=1.0, deadline_ms=5000, rollout_id="r")
    client = world.client()
    for deaths in (1, 2):
        wait_for(lambda: client.post("/predict", json=RECORD).json()["variant"] == "candidate")
        answer = client.post("/predict", json=RECORD | {"carrier": "abort"})
        assert (answer.status_code, answer.json()["variant"]) == (200, "fallback")
        wait_for(lambda deaths=deaths: facts(world)["crashes"].get(bad, {}).get("deaths") == deaths)
    assert "SIGABRT in its host" in facts(world)["suspended"][bad]
    wait_for(lambda: client.post("/predict", json=RECORD).json()["variant"] == "champion")
    assert client.post("/predict", json=RECORD | {"carrier": "abort"}).json()["release"] == "v1"


ENDS = """import polars as pl

class Panic(BaseException):
    pass


def build(frame):
    carriers = frame["carrier"].to_list()
    if "exit" in carriers:
        raise SystemExit(0)
    if "panic" in carriers:
        raise Panic("out of range")
    return pl.DataFrame({"carrier": [1.0] * frame.height, "distance": frame["distance"]})
"""


def test_a_champion_whose_code_ends_its_thread_is_blamed_and_answers_the_next_request(world: World) -> None:
    """Number 9: a panic or an exit in a model fails the request that met it, and no other; its process is replaced."""
    digest = hosted(world.seal, world.scratch, features=ENDS)
    world.serve(digest)
    client = world.client()
    for deaths, ends in ((1, "panic"), (2, "exit")):
        before = world.server.status()["hosts"][digest]
        answer = client.post("/predict", json=RECORD | {"carrier": ends})
        assert answer.status_code == 503
        assert client.post("/predict", json=RECORD).status_code == 200  # by the next process
        assert world.server.status()["hosts"][digest] != before
        wait_for(lambda deaths=deaths: facts(world)["crashes"].get(digest, {}).get("deaths") == deaths)
        assert client.get("/health/ready").json() == {"ready": True}
    assert "its code ended the thread that predicts" in facts(world)["crashes"][digest]["how"]
    assert any("Panic: out of range in delays/features.py:12" in text for text in facts(world)["complaints"][digest])


def test_health_says_that_the_host_of_the_champion_is_gone(world: World) -> None:
    """Number 9: ready is who can be asked."""
    digest = hosted(world.seal, world.scratch)
    world.serve(digest)
    client = world.client()
    paths = ("/health/ready", "/v2/health/ready", "/v2/models/delays/ready")
    assert [client.get(path).status_code for path in paths] == [200, 200, 200]
    (socket,) = (world.state / "serving").glob("host-*.sock")
    victim, away = world.server.status()["hosts"][digest], socket.with_suffix(".away")
    (world.state / "releases" / digest / "model.joblib").rename(away)  # it cannot come back
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: [client.get(path).status_code for path in paths] == [503, 503, 503])
    away.rename(world.state / "releases" / digest / "model.joblib")
    wait_for(lambda: [client.get(path).status_code for path in paths] == [200, 200, 200])


@pytest.mark.parametrize("text", ["low 0\noom 1\noom_kill {}\n", "pgfree 9\noom_kill {}\nx y\n"])
def test_a_kill_for_want_of_memory_is_told_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "memory.events"
    file.write_text(text.format(3))
    watch = OutOfMemory((tmp_path / "none", file))
    assert not watch.take_kill()
    file.write_text(text.format(5))
    assert [watch.take_kill() for _ in range(3)] == [True, True, False]
    assert not OutOfMemory((tmp_path / "none",)).take_kill()


def test_the_log_begins_with_the_thread_that_was_in_the_model() -> None:
    other = "\n".join(["Thread 0x1 (most recent call first):", *(f'  File "a.py", line {n} in wait' for n in range(30))])
    struck = 'Current thread 0x2 (most recent call first):\n  File "uvloop/loop.py", line 1 in run'
    model = 'Thread 0x3 (most recent call first):\n  File "noria/serving/runtime.py", line 80 in rows'
    text = _telling("\n\n".join(("Fatal Python error: Segmentation fault", other, struck, model)))
    assert text.split("\n\n") == ["Fatal Python error: Segmentation fault", model, struck, other]
