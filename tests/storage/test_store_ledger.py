"""The ledger: transactions, the hash chain, migrations, versions, routes, deliveries."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.kernel.errors import LeaseLostError, NotFoundError, StoreError
from noria.kernel.trigger import TriggerKind
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage import connection
from noria.storage.clock import ClockStore
from noria.storage.jobs import JobStore
from noria.storage.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = Ledger.open(tmp_path / "state")
    opened.projects.ensure("p", str(tmp_path))
    yield opened
    opened.close()


def delivery(name: str, digest: str, rows: int, *, accepted: bool) -> Delivery:
    passed = rows if accepted else 0
    return Delivery(f"d-{name}-{digest}", "flights", name, digest, rows, passed, rows - passed, accepted, "because")


def route(champion: str, **more: object) -> Route:
    return Route("p", "production", 0, champion * 64, "v1", **more)  # type: ignore[arg-type]


def test_a_failed_transaction_leaves_neither_state_nor_event(ledger: Ledger) -> None:
    def fails() -> None:
        with ledger.transaction():
            RouteStore(ledger, "p").put(route("a"))
            ledger.events.append("p", "x", "y", "z")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fails()
    assert RouteStore(ledger, "p").get("production") is None
    assert ledger.events.latest_seq() == 0


def test_nested_transactions_are_one(ledger: Ledger) -> None:
    def fails() -> None:
        with ledger.transaction():
            with ledger.transaction():
                ledger.events.append("p", "x", "y", "inner")
            raise RuntimeError("the outer one fails")

    with pytest.raises(RuntimeError):
        fails()
    assert ledger.events.latest_seq() == 0


def test_triggers_that_wait_together_become_one_turn(ledger: Ledger) -> None:
    TriggerStore(ledger, "p").add(TriggerKind.DATA, "april arrived", dedupe="data:april")
    TriggerStore(ledger, "p").add(TriggerKind.PUSH, "a commit", dedupe="commit:1")
    assert TriggerStore(ledger, "p").add(TriggerKind.DATA, "april again", dedupe="data:april") is None
    turn = TurnStore(ledger, "p").start()
    assert turn is not None
    assert (turn.number, len(turn.triggers)) == (1, 2)
    assert TurnStore(ledger, "p").start() is None
    assert TurnStore(ledger, "p").unfinished() == [turn]
    TurnStore(ledger, "p").update(turn.id, outcome=TurnOutcome.PROMOTED)
    assert TurnStore(ledger, "p").unfinished() == []
    assert TriggerStore(ledger, "p").add(TriggerKind.DATA, "april, after its turn", dedupe="data:april") is None


def test_the_first_record_of_a_turn_wins(ledger: Ledger) -> None:
    assert TurnStore(ledger, "p").record("t", "pin", {"commit": "a"}) == {"commit": "a"}
    assert TurnStore(ledger, "p").record("t", "pin", {"commit": "b"}) == {"commit": "a"}


def test_one_changed_byte_breaks_the_chain(ledger: Ledger, tmp_path: Path) -> None:
    for i in range(20):
        ledger.events.append("p", "kind", str(i), f"event {i}", {"n": i})
    assert ledger.events.verify().ok
    raw = sqlite3.connect(tmp_path / "state" / "ledger.db")
    raw.execute("UPDATE events SET text = 'event 8' WHERE seq = 8")
    raw.commit()
    raw.close()
    found = ledger.events.verify()
    assert (found.ok, found.first_bad_seq) == (False, 8)


@pytest.mark.parametrize("damage", ["DELETE FROM events WHERE seq = 5", "UPDATE events SET seq = 100 WHERE seq = 3"])
def test_a_missing_or_moved_event_breaks_the_chain(ledger: Ledger, tmp_path: Path, damage: str) -> None:
    for i in range(10):
        ledger.events.append("p", "kind", str(i), f"event {i}")
    raw = sqlite3.connect(tmp_path / "state" / "ledger.db")
    raw.execute(damage)
    raw.commit()
    raw.close()
    assert not ledger.events.verify().ok


def test_events_carry_the_replays_clock(ledger: Ledger) -> None:
    ClockStore(ledger, "p").set(1_000_000.0, 0.0)
    event = ledger.events.append("p", "kind", "s", "t")
    assert (event.clock_at, event.clock_speed) == (1_000_000.0, 0.0)
    assert ClockStore(ledger, "p").now() == 1_000_000.0


def test_every_row_in_is_passed_or_quarantined(ledger: Ledger) -> None:
    lossy = Delivery("d", "flights", "a.parquet", "x", 10, 4, 5, True, "one row vanished")
    with pytest.raises(StoreError, match="rows in"):
        DataStore(ledger, "p").deliver(lossy, None)
    DataStore(ledger, "p").deliver(delivery("a.parquet", "1", 10, accepted=True), FilePin("a.parquet", "1", 5, 10))
    DataStore(ledger, "p").deliver(delivery("a.parquet", "2", 11, accepted=False), None)
    assert DataStore(ledger, "p").quarantined_rows() == 11
    assert [f.digest for f in DataStore(ledger, "p").current("flights").files] == ["1"]


def test_a_repaired_file_takes_the_place_of_its_name(ledger: Ledger) -> None:
    DataStore(ledger, "p").deliver(delivery("a", "1", 10, accepted=True), FilePin("a", "1", 5, 10))
    before = DataStore(ledger, "p").current("flights")
    DataStore(ledger, "p").deliver(delivery("a", "2", 12, accepted=True), FilePin("a", "2", 6, 12))
    after = DataStore(ledger, "p").current("flights")
    assert (before.rows, after.rows) == (10, 12)
    assert DataStore(ledger, "p").snapshot(before.digest) == before
    assert DataStore(ledger, "p").latest_snapshot("flights") == after


def test_versions_count_up_and_a_turn_told_again_gets_its_own(ledger: Ledger) -> None:
    def seal(digest: str, turn: str) -> str:
        return ReleaseStore(ledger, "p").seal(digest * 64, "run", turn, ServedForm.COMPILED, "c", {"auc": 0.7}, digest).version

    assert [seal("a", "t1"), seal("b", "t2"), seal("a", "t1"), seal("c", "t2")] == ["v1", "v2", "v1", "v2"]
    assert ReleaseStore(ledger, "p").get("bbbbbb").version == "v2"
    with pytest.raises(NotFoundError, match="v9"):
        ReleaseStore(ledger, "p").get("v9")
    ReleaseStore(ledger, "p").bar("v2", "it failed live")
    assert ReleaseStore(ledger, "p").barred_pins() == {"b": ("v2", "it failed live")}


def test_routes_grow_by_revisions_and_notice_a_race(ledger: Ledger) -> None:
    first = RouteStore(ledger, "p").put(route("a"))
    second = RouteStore(ledger, "p").put(route("b"), expected_revision=first.revision)
    assert (first.revision, second.revision) == (1, 2)
    with pytest.raises(StoreError, match="meanwhile"):
        RouteStore(ledger, "p").put(route("c"), expected_revision=first.revision)
    assert RouteStore(ledger, "p").all() == [second]
    assert RouteStore(ledger, "p").history("production") == [second, first]


def test_two_threads_never_hold_the_same_job(ledger: Ledger) -> None:
    for i in range(30):
        JobStore(ledger, "p").add("turn", str(i), dedupe=str(i))
    taken: list[tuple[str, int]] = []

    def work() -> None:
        while (job := JobStore(ledger, "p").claim(("turn",), threading.current_thread().name, 60.0)) is not None:
            taken.append((job.id, job.fence))

    threads = [threading.Thread(target=work, name=f"engine-{i}") for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 30


def test_an_engine_that_was_paused_cannot_write_any_more(ledger: Ledger) -> None:
    JobStore(ledger, "p").add("turn", "p", dedupe="turn")
    paused = JobStore(ledger, "p").claim(("turn",), "one", lease_s=-1.0)  # a lease that ran out at once
    other = JobStore(ledger, "p").claim(("turn",), "two", lease_s=60.0)
    assert paused is not None
    assert other is not None
    assert other.fence == paused.fence + 1

    def writes_late() -> None:
        with ledger.transaction():
            JobStore(ledger, "p").check(paused)
            RouteStore(ledger, "p").put(route("a"))

    with pytest.raises(LeaseLostError):
        writes_late()
    assert RouteStore(ledger, "p").get("production") is None
    JobStore(ledger, "p").check(other)
    JobStore(ledger, "p").finish(other, "done")
    assert JobStore(ledger, "p").add("turn", "p", dedupe="turn") is not None


def test_a_job_that_always_kills_its_engine_is_given_up(ledger: Ledger) -> None:
    JobStore(ledger, "p").add("turn", "p", dedupe="turn")
    claims = [JobStore(ledger, "p").claim(("turn",), "e", lease_s=-1.0) for _ in range(7)]
    assert [c is not None for c in claims] == [True] * 5 + [False] * 2
    assert ledger.events.tail("p", kinds=("job.dead",))


def test_the_schema_is_the_sum_of_the_migrations(ledger: Ledger) -> None:
    fresh = sqlite3.connect(":memory:")
    for script in connection.migrations():
        fresh.executescript(script)
    wanted = {tuple(r) for r in fresh.execute("SELECT type, name, sql FROM sqlite_master")}
    fresh.close()
    found = {(r["type"], r["name"], r["sql"]) for r in ledger.database.rows("SELECT type, name, sql FROM sqlite_master")}
    assert found == wanted


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()
    raw = sqlite3.connect(tmp_path / "ledger.db")
    raw.execute("PRAGMA user_version = 999")
    raw.close()
    with pytest.raises(StoreError, match="schema 999"):
        Ledger.open(tmp_path)


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database, whatever its name says" * 40)
    with pytest.raises(StoreError, match="damaged"):
        Ledger.open(tmp_path)


WRITER = """
import sys
from pathlib import Path
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
for i in range(100000):
    with ledger.transaction():
        made = RouteStore(ledger, "p").put(Route("p", "production", 0, f"{i:064d}", f"v{i + 1}"))
        ledger.events.append("p", "route", str(made.revision), "changed", {"champion": made.champion})
    print(made.revision, flush=True)
"""


def test_state_and_event_agree_after_kill_9(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(40)][-1]
    writer.kill()
    acknowledged = max(
        [acknowledged, *(int(line) for line in writer.stdout.read().splitlines() if line.endswith(("\n", "")) and line)]
    )
    writer.wait()
    writer.stdout.close()
    ledger = Ledger.open(tmp_path)
    now = RouteStore(ledger, "p").get("production")
    assert now is not None
    assert now.revision >= acknowledged
    last = ledger.events.newest("p", 1)[0]
    assert (last.subject, last.facts) == (str(now.revision), {"champion": now.champion})
    assert ledger.events.verify().ok
    ledger.close()
