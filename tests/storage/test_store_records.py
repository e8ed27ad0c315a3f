"""Stores of single nouns: what is kept comes back, and what cannot be is refused."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.delivery.approval_store import ApprovalStore
from noria.delivery.rollout_record import Interval, Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.kernel.errors import CorruptBlobError, DiskFullError, NotFoundError, StoreError
from noria.kernel.pins import Pins
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome, Reason
from noria.monitor.records import Window
from noria.monitor.store import QualityStore
from noria.pipeline.run import Run, StepRecord, StepState
from noria.pipeline.run_store import RunStore, StepStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.tallies import Tally
from noria.storage import blobs as blob_store
from noria.storage.blobs import BlobStore
from noria.storage.jobs import ATTEMPTS, JobStore
from noria.storage.ledger import Ledger

PINS = Pins("c" * 40, None, {"flights": "a" * 64}, "b" * 64, "d" * 64, "e" * 64)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def shelf(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def arrival(books: Ledger, name: str, digest: str, *, accepted: bool = True, n: int = [0]) -> None:  # counts calls
    n[0] += 1
    passed, refused = (10, 0) if accepted else (0, 10)
    pin = FilePin(name, digest * 64, 100, 10) if accepted else None
    judged = Delivery(f"d{n[0]}", "flights", name, digest * 64, 10, passed, refused, accepted, "because", at=float(n[0]))
    DataStore(books, "p").deliver(judged, pin)


def test_a_run_comes_back_whole_with_its_undefined_numbers(books: Ledger) -> None:
    reason = Reason("step.data_changed", "flights changed", Outcome.PASS, {"rows": 10.0, "ratio": math.inf})
    step = StepRecord("train", StepState.RAN, reason, "k" * 64, output="f" * 64, seconds=1.5)
    run = Run("run-1", "p", None, PINS, 1.0, steps=(step,), metrics={"auc": 0.75})
    RunStore(books, "p").put(run)
    assert RunStore(books, "p").get("run-1") == run
    RunStore(books, "p").put(Run("run-1", "p", None, PINS, 1.0, steps=(step,), metrics={"auc": math.nan}))
    assert math.isnan(RunStore(books, "p").get("run-1").metrics["auc"])
    assert len(RunStore(books, "p").list()) == 1
    StepStore(books, "p").put(step, {"code": "x"})
    assert StepStore(books, "p").latest("train") == (step, {"code": "x"})
    assert StepStore(books, "p").get("k" * 64) == step
    assert StepStore(books, "other").get("k" * 64) is None


def test_a_rollout_comes_back_with_its_evidence(books: Ledger) -> None:
    block = Interval(0.05, Tally(95, 1, 2), Tally(5, 0, 1), revision=3)
    begun = Rollout("r1", "p", "production", "t1", "v2", "a" * 64, RolloutState.CANARY, 0, 1.0, blocks=(block,))
    RolloutStore(books, "p").start(begun)
    assert RolloutStore(books, "p").get("r1") == begun
    assert RolloutStore(books, "p").active("production") == begun
    RolloutStore(books, "p").update("r1", state=RolloutState.PROMOTED, blocks=(block, block))
    assert RolloutStore(books, "p").active("production") is None
    assert RolloutStore(books, "p").get("r1").blocks == (block, block)
    with pytest.raises(NotFoundError):
        RolloutStore(books, "p").update("r9", reason="nobody")


def test_an_earlier_version_of_a_file_arrives_again(books: Ledger) -> None:
    first = "a" * 64
    arrival(books, "april", "a")
    april = DataStore(books, "p").current("flights")
    assert DataStore(books, "p").find_judgement("flights", "april", first) is not None
    arrival(books, "april", "b")
    assert DataStore(books, "p").find_judgement("flights", "april", first) is None
    arrival(books, "april", "a")
    assert DataStore(books, "p").current("flights") == april
    assert len(DataStore(books, "p").deliveries(10)) == 3


def test_a_refused_file_is_judged_once_and_leaves_the_accepted_one(books: Ledger) -> None:
    arrival(books, "may", "a")
    arrival(books, "may", "b", accepted=False)
    seen = DataStore(books, "p").find_judgement("flights", "may", "b" * 64)
    assert seen is not None
    assert not seen.accepted
    assert [f.digest for f in DataStore(books, "p").current("flights").files] == ["a" * 64]
    assert DataStore(books, "p").quarantined_rows() == 10


def test_a_withdrawn_file_leaves_the_versions_to_come_only(books: Ledger) -> None:
    arrival(books, "april", "a")
    arrival(books, "may", "b")
    both = DataStore(books, "p").current("flights")
    DataStore(books, "p").withdraw("flights", "april")
    assert [f.name for f in DataStore(books, "p").current("flights").files] == ["may"]
    assert DataStore(books, "p").snapshot(both.digest) == both
    with pytest.raises(NotFoundError):
        DataStore(books, "p").withdraw("flights", "april")


def test_a_delivery_is_accepted_with_its_file_only(books: Ledger) -> None:
    accepted = Delivery("d", "flights", "f", "a" * 64, 1, 1, 0, True, "fine")
    with pytest.raises(StoreError, match="accepted with its file"):
        DataStore(books, "p").deliver(accepted, None)
    assert DataStore(books, "p").deliveries(10) == []


def seal(books: Ledger, digest: str, turn: str | None) -> str:
    return ReleaseStore(books, "p").seal(digest, "run-1", turn, ServedForm.COMPILED, None, {}, f"pins of {digest[:7]}").version


def test_a_turn_told_again_keeps_its_version_and_a_digest_names_one_release(books: Ledger) -> None:
    one, two = "abcdef1" + "0" * 57, "abcdef2" + "0" * 57
    assert [seal(books, one, "t1"), seal(books, two, "t2"), seal(books, one, "t2"), seal(books, one, None)] == [
        "v1",
        "v2",
        "v2",
        "v1",
    ]
    assert ReleaseStore(books, "p").get("abcdef2").version == "v2"
    with pytest.raises(NotFoundError, match="any of v1, v2"):
        ReleaseStore(books, "p").get("abcdef")
    for wrong in ("abcde", "v3", "%", "ABCDEF1", "ab_def1"):
        with pytest.raises(NotFoundError):
            ReleaseStore(books, "p").get(wrong)


def test_a_bar_is_set_and_lifted_on_releases_that_exist(books: Ledger) -> None:
    seal(books, "a" * 64, None)
    ReleaseStore(books, "p").bar("v1", "rolled back")
    assert ReleaseStore(books, "p").barred_pins() == {"pins of aaaaaaa": ("v1", "rolled back")}
    ReleaseStore(books, "p").unbar("v1")
    assert ReleaseStore(books, "p").barred_pins() == {}
    with pytest.raises(NotFoundError):
        ReleaseStore(books, "p").bar("v9", "nothing")


def test_windows_and_approvals_are_written_anew_not_twice(books: Ledger) -> None:
    for value in (0.2, math.nan):
        QualityStore(books, "p").put(Window("p", "production", "v1", 0.0, 86400.0, "brier", 10, 5, value, 0.1, 0.5))
    (window,) = QualityStore(books, "p").windows()
    assert math.isnan(window.value)
    for actor in ("anna", "anna", "bo"):
        ApprovalStore(books, "p").add("v1", "production", actor)
    assert ApprovalStore(books, "p").count("v1", "production") == 2


def test_turns_are_found_while_unfinished(books: Ledger) -> None:
    TriggerStore(books, "p").add(TriggerKind.MANUAL, "a person asked", {"tree": "home"})
    turn = TurnStore(books, "p").start()
    assert turn is not None
    assert TurnStore(books, "p").unfinished() == [turn]
    assert TriggerStore(books, "p").of_turn(turn.id)[0].detail == {"tree": "home"}
    changed = TurnStore(books, "p").update(turn.id, outcome=TurnOutcome.PROMOTED, ended_at=5.0, overhead_s=0.5)
    assert TurnStore(books, "p").get(turn.id) == changed
    assert TurnStore(books, "p").unfinished() == []
    with pytest.raises(NotFoundError):
        TurnStore(books, "p").update("turn-9", reason="nobody")


def test_a_dead_job_does_not_hide_the_next(books: Ledger) -> None:
    JobStore(books, "p").add("turn", "cursed")
    for _ in range(ATTEMPTS):
        assert JobStore(books, "p").claim(["turn"], "engine", -1.0) is not None  # the lease is over at once
    healthy = JobStore(books, "p").add("turn", "healthy")
    claimed = JobStore(books, "p").claim(["turn"], "engine", 60.0)
    assert claimed is not None
    assert (claimed.id, claimed.fence) == (healthy, 1)
    assert [e.kind for e in books.events.tail("p")] == ["job.dead"]
    JobStore(books, "p").finish(claimed, "done")
    assert JobStore(books, "p").stats() == {"dead": 1, "done": 1}


CLAIMER = """
import sys
from pathlib import Path
from noria.kernel.errors import LeaseLostError
from noria.storage.jobs import JobStore
from noria.storage.ledger import Ledger
books, me, begun = Ledger.open(Path(sys.argv[1])), sys.argv[2], ""
while (job := JobStore(books, "p").claim(("turn",), me, 30.0)) is not None:
    print(job.id, job.fence, flush=True)
    if not begun:
        begun = sys.stdin.readline()  # until the other engine holds a job too
    try:
        with books.transaction():
            JobStore(books, "p").check(job)
            books.events.append("p", "worked", job.subject, me)
            if int(job.subject) % 3 == 0 and job.fence < 3:
                JobStore(books, "p").release(job, 0.0)
            else:
                JobStore(books, "p").finish(job, "done")
    except LeaseLostError:
        print("lost", flush=True)
"""


def test_two_engines_never_hold_a_job_under_one_fence(tmp_path: Path) -> None:
    books = Ledger.open(tmp_path)
    for i in range(60):
        JobStore(books, "p").add("turn", str(i))
    engines = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(tmp_path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    said = [engine.stdout.readline().strip() for engine in engines if engine.stdout is not None]
    for engine in engines:
        assert engine.stdin is not None
        engine.stdin.write("go\n")
        engine.stdin.flush()
    said += [line for engine in engines for line in engine.communicate()[0].splitlines()]
    assert "lost" not in said
    assert len(said) == len(set(said)) == 40 + 20 * 3  # each third job is given back twice
    assert JobStore(books, "p").stats() == {"done": 60}
    events = books.events.tail("p", limit=1000)
    assert len(events) == len(said)
    assert {e.text for e in events} == {"one", "two"}
    books.close()


def test_a_damaged_blob_is_mended_by_keeping_its_content_again(shelf: BlobStore, tmp_path: Path) -> None:
    digest = shelf.put_bytes(b"precious")
    place = shelf.path(digest)
    place.chmod(0o644)
    place.write_bytes(b"previous")
    with pytest.raises(CorruptBlobError):
        shelf.read(digest)
    assert shelf.put_bytes(b"precious") == digest
    assert shelf.read(digest) == b"precious"
    place.chmod(0o644)
    place.write_bytes(b"")
    source = tmp_path / "source"
    source.write_bytes(b"precious")
    assert shelf.put_file(source) == digest
    assert BlobStore(shelf.root).read(digest) == b"precious"


COPIER = """
import resource, sys
from pathlib import Path
from noria.kernel.errors import DiskFullError
from noria.storage.blobs import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    BlobStore(Path(sys.argv[1])).materialise(sys.argv[2], Path(sys.argv[3]))
except DiskFullError:
    print("full")
"""


def test_a_copy_that_does_not_fit_is_not_there(shelf: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = shelf.put_bytes(os.urandom(300_000))
    target = tmp_path / "work" / "copy"
    target.parent.mkdir()
    target.write_bytes(b"what was there")
    command = [sys.executable, "-c", COPIER, str(shelf.root), digest, str(target)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "full\n"
    assert target.read_bytes() == b"what was there"
    assert list(target.parent.iterdir()) == [target]
    assert issubclass(DiskFullError, StoreError)


def test_a_copy_is_writable_and_its_own(shelf: BlobStore, tmp_path: Path) -> None:
    digest = shelf.put_bytes(b"content")
    target = tmp_path / "copy"
    shelf.materialise(digest, target)
    assert target.stat().st_nlink == 1
    target.write_bytes(b"changed")
    assert shelf.read(digest) == b"content"


def test_what_a_killed_writer_left_is_swept(shelf: BlobStore) -> None:
    incoming = shelf.root / "incoming"
    incoming.mkdir(parents=True)
    old, young = incoming / "old", incoming / "young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    past = old.stat().st_mtime - blob_store.ABANDONED_S - 1
    os.utime(old, (past, past))
    shelf.put_bytes(b"something")
    assert list(incoming.iterdir()) == [young]
