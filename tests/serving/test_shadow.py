"""What another release makes of requests after their answers left: what is recorded, what counts as evidence, what is dropped."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from serving_bundles import BINARY, PROJECT, RECORD, Seal, compiled, hosted, logged, wait_for
from serving_world import World

from noria.predictions.records import Shadow as Record
from noria.predictions.writer import LogReader, LogWriter
from noria.releases.bundle import Bundle, HostedFacts, Manifest, ModelFacts, open_bundle
from noria.releases.signing import known_keys
from noria.serving import counts as counting
from noria.serving.app import App, Settings
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.crashes import CrashHistory, last_words
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.recorder import Recorder
from noria.serving.route import Route
from noria.serving.router import Router, table_of
from noria.serving.runtime import BeyondModelError, LoadedRelease, ReleaseFailed, load
from noria.serving.shadow import WAITING, ShadowScorer
from noria.serving.tallies import Tally

HEADERS = [(b"host", b"127.0.0.1:1"), (b"content-type", b"application/json")]
BODY = msgspec.json.encode(RECORD)
LATE = "late"


class Scripted:
    """A runtime that answers a chance, raises what it is told to, or is late."""

    def __init__(self, act: Any, immediate: bool = True) -> None:
        self.act = act
        self.immediate = immediate
        self.asked = 0

    async def predict(self, columns: Any, n: int, until: float, apart: bool = False) -> list[Any]:
        self.asked += 1
        if not self.immediate:
            await asyncio.sleep(0)
        if isinstance(self.act, BaseException):
            raise self.act
        if self.act == LATE:
            raise TimeoutError
        return [[1 - self.act, self.act]] * n

    async def close(self) -> None:
        """Nothing is held."""


def release(name: str, act: Any, immediate: bool = True) -> LoadedRelease:
    manifest = Manifest(1, PROJECT, "compiled", BINARY, ModelFacts("model.onnx"), {}, HostedFacts())  # type: ignore[arg-type]
    return LoadedRelease(Bundle(Path(), name, manifest), Scripted(act, immediate))


@dataclass
class Desk:
    """One worker's application, in this process."""

    state: Path
    app: App
    counts: SharedCounters
    shadow: ShadowScorer
    complaints: list[tuple[str, str]]
    key: int = 0

    def serve(self, releases: dict[str, LoadedRelease], **route: Any) -> None:
        given = {"champion_version": "v1", "rollout_id": "r1", **route}
        made = Route(PROJECT, "production", 7, "a", **given)
        self.key = made.tally_key
        self.app.table = table_of(made, releases)

    def ask(self, *bodies: bytes, path: str = "/predict") -> list[dict[str, Any]]:
        """Answers, once everything that follows from them is done."""

        async def run() -> list[dict[str, Any]]:
            found = [await self._one(body, path) for body in bodies]
            while self.shadow._queue or self.shadow._tasks:
                await asyncio.sleep(0)
            return found

        return asyncio.run(run())

    async def _one(self, body: bytes, path: str) -> dict[str, Any]:
        reply = self.app.try_fast(path.encode(), HEADERS, body)
        if reply is not None:
            return cast("dict[str, Any]", msgspec.json.decode(reply.body)) | {"status": reply.status}
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        head = [*HEADERS, (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": "POST", "path": path, "headers": head, "client": ("127.0.0.1", 1)}
        await self.app(scope, receive, send)
        return cast("dict[str, Any]", msgspec.json.decode(sent[1]["body"])) | {"status": sent[0]["status"]}

    def arms(self) -> tuple[Tally, Tally]:
        return self.counts.tallies().get(self.key, (Tally(), Tally()))

    def records(self) -> list[Record]:
        self.shadow.finish_segment()
        return cast("list[Record]", LogReader(self.state / "shadow" / "production").poll())


Make = Callable[..., Desk]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Desks whose draws come in turn from ``draws``."""
    writers: list[LogWriter] = []
    desks: list[Desk] = []

    def made(*draws: float) -> Desk:
        state = tmp_path / "state"
        path = counts_path(state, "production")
        counting.create(path)
        counts, complaints = SharedCounters(path, 0), list[tuple[str, str]]()
        writers.append(LogWriter(state / "log" / "production", "production"))
        router = Router(counts, lambda digest, text: complaints.append((digest, text)), itertools.cycle(draws).__next__)
        shadow = ShadowScorer(
            counts, lambda digest, text: complaints.append((digest, text)), state / "shadow/production", "production"
        )
        app = App(Settings("production"), router, Recorder(writers[-1]), counts, shadow=shadow)
        desks.append(Desk(state, app, counts, shadow, complaints))
        return desks[-1]

    yield made
    for desk in desks:
        desk.shadow.finish_segment()
        desk.counts.close()
    for writer in writers:
        writer.close()


STEP = {"candidate": "b", "candidate_version": "v2", "shadow": 0.5}
CANARY = STEP | {"share": 0.5}
PROBATION = {"champion_version": "v2", "previous": "p", "previous_version": "v1", "shadow": 0.5}
FAILS = ReleaseFailed("broken")


def test_a_failure_on_probation_counts_only_while_a_pair_would_have_room(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else errors that come when the worker is busy would all be the new release's: the old one's pairs are dropped then."""
    desk = make(0.9)
    desk.serve({"a": release("a", FAILS), "p": release("p", 0.9)}, **PROBATION)
    assert desk.ask(BODY)[0]["variant"] == "fallback"
    assert desk.arms() == (Tally(), Tally(1, 1))
    monkeypatch.setattr("noria.serving.shadow.WAITING", 0)
    assert desk.ask(BODY)[0]["variant"] == "fallback"
    assert desk.arms() == (Tally(), Tally(2, 1))


@pytest.mark.parametrize("immediate", [True, False], ids=["compiled", "hosted"])
@pytest.mark.parametrize(
    ("route", "draws", "champion", "other", "said", "arms", "written"),
    [
        # of a shadow step only what both scored counts
        (STEP, (0.4, 0.9), 0.1, 0.9, ("champion", "v1"), (Tally(1), Tally(1)), ("v1", "v2", 0.9)),
        (STEP, (0.6, 0.9), 0.1, 0.9, ("champion", "v1"), (Tally(), Tally()), None),
        (STEP, (0.4, 0.9), 0.1, FAILS, ("champion", "v1"), (Tally(1), Tally(1, 1)), ("v1", "v2", "broken")),
        (STEP, (0.4, 0.9), 0.1, LATE, ("champion", "v1"), (Tally(1), Tally(1, 1)), ("v1", "v2", "no answer within 1000 ms")),
        (STEP, (0.4, 0.9), FAILS, 0.9, None, (Tally(1, 1), Tally(1)), None),  # else the champion would never fail
        (STEP, (0.6, 0.9), FAILS, 0.9, None, (Tally(), Tally()), None),
        (STEP, (0.4, 0.9), FAILS, FAILS, None, (Tally(1, 1), Tally(1, 1, both=1)), None),  # number 39: no evidence
        (STEP, (0.4, 0.9), 0.1, BeyondModelError("large"), ("champion", "v1"), (Tally(), Tally()), None),
        # pairs of a canary are for quality: arms are counted as without them
        (CANARY, (0.4, 0.6), 0.1, 0.9, ("champion", "v1"), (Tally(1), Tally()), ("v1", "v2", 0.9)),
        (CANARY, (0.4, 0.4), 0.1, 0.9, ("candidate", "v2"), (Tally(), Tally(1)), ("v2", "v1", 0.1)),
        (CANARY, (0.4, 0.4), 0.1, FAILS, ("fallback", "v1"), (Tally(), Tally(1, 1)), None),
        (CANARY, (0.4, 0.6), 0.1, FAILS, ("champion", "v1"), (Tally(1), Tally()), ("v1", "v2", "broken")),
        # later than a candidate may be: an error of the champion as well
        (CANARY | {"deadline_ms": 0.0}, (0.9, 0.6), 0.1, 0.9, ("champion", "v1"), (Tally(1, 1), Tally()), None),
        # in probation the champion is the one that is judged
        (PROBATION, (0.4,), 0.1, 0.9, ("champion", "v2"), (Tally(1), Tally(1)), ("v2", "v1", 0.9)),
        (PROBATION, (0.6,), 0.1, 0.9, ("champion", "v2"), (Tally(), Tally(1)), None),
        (PROBATION, (0.4,), 0.1, FAILS, ("champion", "v2"), (Tally(1, 1), Tally(1)), ("v2", "v1", "broken")),
        (PROBATION, (0.4,), FAILS, 0.9, ("fallback", "v1"), (Tally(), Tally(1, 1)), None),
        (PROBATION | {"deadline_ms": 0.0}, (0.6,), LATE, 0.9, ("fallback", "v1"), (Tally(), Tally(1)), None),  # late, both
        (PROBATION, (0.6,), LATE, 0.9, ("fallback", "v1"), (Tally(), Tally(1, 1)), None),
        (PROBATION, (0.4,), FAILS, FAILS, None, (Tally(), Tally(1)), None),
    ],
)  # fmt: skip
def test_who_answers_who_scores_and_what_counts(
    make: Make, immediate: bool, route: Any, draws: Any, champion: Any, other: Any, said: Any, arms: Any, written: Any
) -> None:
    desk = make(*draws)
    releases = {"a": release("a", champion)} | {d: release(d, other, immediate) for d in ("b", "p")}
    desk.serve(releases, **route)
    (answer,) = desk.ask(BODY)
    if said is None:
        assert (answer["status"], "could not answer" in answer["error"]["message"]) == (503, True)
    else:
        assert (answer["status"], answer["variant"], answer["release"]) == (200, *said)
    assert desk.arms() == arms
    records = desk.records()
    if written is None:
        assert records == []
        return
    (record,) = records
    told = record.error or record.outputs["probability"][0]
    assert (record.release, record.other, told) == written
    assert record.id == answer["predictions"][0]["id"]
    assert record.answered["probability"][0] == answer["predictions"][0]["probability"]
    assert (record.rows, record.project, record.rollout) == (1, PROJECT, "r1")
    assert ("b" if "candidate" in route else "p", "broken") in desk.complaints or record.error != "broken"


@pytest.mark.parametrize("rows", [2, 100], ids=["short", "long"])
def test_a_request_of_the_open_protocol_is_scored_too(make: Make, rows: int) -> None:
    desk = make(0.4)
    desk.serve({"a": release("a", 0.1), "b": release("b", 0.9)}, **STEP)
    inputs = [("carrier", "BYTES", "AA"), ("distance", "FP64", 3.5)]
    tensors = [{"name": name, "datatype": kind, "shape": [rows, 1], "data": [value] * rows} for name, kind, value in inputs]
    (answer,) = desk.ask(msgspec.json.encode({"inputs": tensors}), path=f"/v2/models/{PROJECT}/infer")
    (record,) = desk.records()
    assert (record.rows, record.outputs["probability"]) == (rows, [0.9] * rows)
    assert record.id == answer["parameters"]["prediction_ids"].split(",")[0]
    assert desk.arms() == (Tally(1), Tally(1))


def test_a_hosted_release_before_does_not_slow_a_compiled_champion(make: Make, two: dict[str, LoadedRelease]) -> None:
    """It scores as many as are drawn, and answers the long way where the champion fails."""
    draws = [i / 20 for i in range(20)]
    desk = make(*draws)
    desk.serve(two | {"p": release("p", 0.9, immediate=False)}, **PROBATION)
    asked = asyncio.run(_try_fast(desk, 40))
    assert all(reply is not None for reply in asked)
    assert desk.arms() == (Tally(20), Tally(40))
    desk.serve({"a": release("a", FAILS), "p": release("p", 0.9, immediate=False)}, **PROBATION)
    assert asyncio.run(_try_fast(desk, 1)) == [None]
    assert desk.arms() == (Tally(20), Tally(40))
    assert desk.ask(BODY)[0]["variant"] == "fallback"
    assert desk.arms() == (Tally(20), Tally(41, 1))


async def _try_fast(desk: Desk, times: int) -> list[Any]:
    found = []
    for _ in range(times):
        found.append(desk.app.try_fast(b"/predict", HEADERS, BODY))
        while desk.shadow._tasks:
            await asyncio.sleep(0)
    return found


def test_nothing_is_scored_before_the_answer_is_made_and_what_does_not_fit_is_counted(make: Make) -> None:
    desk = make(0.0)
    candidate = release("b", 0.9)
    scripted = cast("Scripted", candidate.runtime)
    desk.serve({"a": release("a", 0.1), "b": candidate}, **STEP)

    async def run() -> None:
        for _ in range(WAITING + 5):  # they came in one read of the socket
            reply = desk.app.try_fast(b"/predict", HEADERS, BODY)
            assert reply is not None
            assert reply.status == 200
        assert scripted.asked == 0
        await asyncio.sleep(0)
        assert scripted.asked == 1  # who asks meanwhile waits for one at most
        while desk.shadow._queue:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert scripted.asked == WAITING
    assert desk.counts.shadows() == {"scored": WAITING, "failed": 0, "dropped": 5}
    assert desk.arms() == (Tally(WAITING), Tally(WAITING))
    assert len(desk.records()) == WAITING


def test_a_log_that_cannot_be_written_fails_nobody(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    desk = make(0.0)
    (desk.state / "shadow").write_text("in the way of the folder")
    desk.serve({"a": release("a", 0.1), "b": release("b", 0.9)}, **STEP)
    assert [a["status"] for a in desk.ask(BODY, BODY)] == [200, 200]
    assert desk.counts.shadows() == {"scored": 0, "failed": 0, "dropped": 2}
    assert desk.arms() == (Tally(2), Tally(2))  # that it answered is known all the same
    assert capsys.readouterr().err.count("cannot be recorded") == 1


def test_inputs_and_keys_are_not_in_the_record(make: Make) -> None:
    desk = make(0.0)
    desk.serve({"a": release("a", 0.1), "b": release("b", 0.9)}, **STEP)
    record = RECORD | {"carrier": "Zebra", "flight_id": "passenger-7"}
    desk.ask(msgspec.json.encode([record] * 3))
    (found,) = desk.records()
    assert (found.rows, found.outputs["prediction"], found.answered["prediction"]) == (3, [1, 1, 1], [0, 0, 0])
    content = b"".join(path.read_bytes() for path in (desk.state / "shadow").rglob("*.plog"))
    assert len(content) > 100
    assert not any(word in content for word in (b"Zebra", b"passenger", b"carrier", b"distance"))


@pytest.fixture
def two(tmp_path: Path) -> dict[str, LoadedRelease]:
    """Compiled releases that answer differently."""
    seal = Seal(tmp_path / "sealed")
    digests = {name: compiled(seal, tmp_path / name, seed) for seed, name in enumerate("ap")}
    key = known_keys(seal.state)
    folders = {name: seal.state / "releases" / digest for name, digest in digests.items()}
    return {name: asyncio.run(load(open_bundle(folders[name], key, digest), None)) for name, digest in digests.items()}


def test_in_probation_the_lane_answers_what_is_not_drawn(make: Make, two: dict[str, LoadedRelease]) -> None:
    desk = make(0.4, 0.6, 0.9)  # every third is scored by the release before
    desk.serve(two, **PROBATION)
    lane, taken = desk.app._fast_path, list[bytes]()
    assert lane is not None
    read = lane.read
    lane.read = lambda body: taken.append(body) or read(body)  # type: ignore[method-assign,func-returns-value]
    bodies = [msgspec.json.encode(RECORD | {"distance": i / 10}) for i in range(30)]
    answers = desk.ask(*bodies)
    assert taken == [body for i, body in enumerate(bodies) if i % 3]
    assert {(a["variant"], a["release"]) for a in answers} == {("champion", "v2")}
    assert desk.arms() == (Tally(10), Tally(30))
    records = {record.id: record for record in desk.records()}
    assert set(records) == {a["predictions"][0]["id"] for i, a in enumerate(answers) if i % 3 == 0}
    desk.serve({"a": two["p"]})  # alone, the release before answers what it scored
    alone = desk.ask(*bodies)
    for i in range(0, 30, 3):
        record, reference = records[answers[i]["predictions"][0]["id"]], alone[i]["predictions"][0]
        assert record.outputs["probability"][0] == pytest.approx(reference["probability"], abs=1e-12)
        assert record.answered["probability"][0] == answers[i]["predictions"][0]["probability"]
        assert record.answered["probability"] != record.outputs["probability"]


def test_a_route_without_the_release_before_is_served_as_ever(make: Make, two: dict[str, LoadedRelease]) -> None:
    desk = make(0.0)
    desk.serve({"a": two["a"]}, **PROBATION)  # it could not be loaded
    assert desk.ask(BODY)[0]["variant"] == "champion"
    assert desk.arms() == (Tally(1), Tally())
    assert desk.records() == []


def test_the_hot_path_knows_nothing_of_it_while_a_champion_is_alone(make: Make, two: dict[str, LoadedRelease]) -> None:
    desk = make()  # a draw would raise StopIteration
    desk.serve(two, previous="p", previous_version="v1")
    assert desk.app._drawing is None
    assert desk.ask(BODY)[0]["variant"] == "champion"


def test_a_running_server_shadows_and_falls_back(world: World) -> None:
    old, new = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    synced = world.serve(old, candidate=new, candidate_version="v2", shadow=1.0, deadline_ms=5000, slow_ms=5000, rollout_id="r")
    client, unknown = world.client(), RECORD | {"carrier": "ZZ"}
    assert client.get("/").json()["candidate"] == {"release": "v2", "share": 0.0, "shadow": 1.0}
    answers = [client.post("/predict", json=record).json() for record in (RECORD, RECORD, unknown)]
    assert {(a["release"], a["variant"]) for a in answers} == {("v1", "champion")}
    step = synced.applied["production"]
    wait_for(lambda: world.tallies(step).candidate == Tally(3, 1))
    assert world.tallies(step).champion == Tally(3)

    synced = world.serve(new, "v2", previous=old, previous_version="v1", shadow=1.0, deadline_ms=5000, rollout_id="r")
    assert client.get("/").json()["probation"] == {"previous": "v1", "shadow": 1.0}
    judged, saved = client.post("/predict", json=RECORD).json(), client.post("/predict", json=unknown).json()
    assert [(a["release"], a["variant"]) for a in (judged, saved)] == [("v2", "champion"), ("v1", "fallback")]
    probation = synced.applied["production"]
    wait_for(lambda: world.tallies(probation).champion.requests == 1)
    assert world.tallies(probation).candidate.errors == 1
    text = client.get("/metrics").text
    assert 'noria_shadow_total{environment="production",project="delays",result="scored"} 3' in text
    assert 'noria_shadow_total{environment="production",project="delays",result="failed"} 1' in text
    assert f'revision="{probation}",arm="candidate",release="v2",outcome="error"}} 1' in text
    last = next(r for r in logged(world.state, "production") if r["id"] == saved["predictions"][0]["id"])
    assert (last["release"], last["error"]) == ("v1", "the release on probation failed")
    found = cast("list[Record]", LogReader(world.state / "shadow" / "production").poll())
    assert sorted((r.release, r.other, bool(r.error)) for r in found) == [
        ("v1", "v2", False),
        ("v1", "v2", False),
        ("v1", "v2", True),
        ("v2", "v1", False),
    ]


@pytest.mark.parametrize(
    ("marks", "words", "candidate", "blamed"),
    [(1, shadow_words, Tally(), {}) for shadow_words in ("", 'File "noria/serving/runtime.py", line 80 in _run')]
    + [(0, 'File "noria/serving/runtime.py", line 80 in rows', Tally(1, 1), {"a": "champion"})],
)
def test_in_probation_only_the_new_release_is_blamed(
    tmp_path: Path, marks: int, words: str, candidate: Tally, blamed: dict[str, str]
) -> None:
    path = tmp_path / "counts"
    counting.create(path)
    worker = SharedCounters(path, 3)
    for _ in range(marks):
        worker.at_work.__enter__()
    last_words(path, 3).write_text(words)
    route = Route(PROJECT, "production", 7, "a", "v2", previous="p", previous_version="v1", shadow=0.5, rollout_id="r")
    deaths = CrashHistory(path, OutOfMemory(()))
    deaths.note_worker_end(3, -signal.SIGSEGV, [route], {"a", "p"})
    assert worker.tallies().get(route.tally_key, (Tally(), Tally())) == (Tally(), candidate)
    assert {digest: found.role for digest, found in deaths.facts().items()} == blamed
    worker.close()
