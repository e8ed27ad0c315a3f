"""The audit log's hash chain, reckoned anew from the file alone; and that no change of it goes unseen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from noria.kernel.errors import StoreError
from noria.storage.clock import ClockStore
from noria.storage.connection import Database
from noria.storage.events import GENESIS, HASHED, ChainEnd, EventStore
from noria.storage.heads import HeadStore
from noria.storage.ledger import Ledger

TEXTS = ["plain", "", "ä€🙂", 'quote " and \\', "line\nbreak", "\x7f", "x" * 5000]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "ledger.db")
    yield made
    made.close()


@pytest.fixture
def events(database: Database) -> EventStore:
    store = EventStore(database, HeadStore(database))
    for number, text in enumerate(TEXTS):
        store.append("p" if number % 2 else "q", f"kind.{number % 3}", f"s{number}", text, {"b": number, "a": text}, "cli:ä")
    return store


def rows(database: Database) -> list[sqlite3.Row]:
    return database.rows("SELECT * FROM events ORDER BY seq")


def test_the_chain_is_that_of_the_documented_bytes(events: EventStore, database: Database) -> None:
    """BLAKE3 of a JSON list of the fields in their order, by the standard library's JSON."""
    previous = GENESIS
    for seq, row in enumerate(rows(database), 1):
        body = json.dumps([row[name] for name in HASHED], ensure_ascii=False, separators=(",", ":")).encode()
        assert row["hash"] == blake3(body).hexdigest()
        assert (row["seq"], row["previous"]) == (seq, previous)
        assert row["facts"] == json.dumps(json.loads(row["facts"]), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        previous = row["hash"]
    assert events.verify().ok
    assert events.verify().text == f"{len(TEXTS)} events, the chain holds"


CHANGED: dict[str, Any] = dict.fromkeys(HASHED, "other") | {"at": 1.5, "clock_at": 1.5, "clock_speed": 2.0, "facts": "{}"}


@pytest.mark.parametrize("seq", [1, 4, len(TEXTS)])
@pytest.mark.parametrize("column", [*(name for name in HASHED if name != "seq"), "hash"])
def test_any_change_of_any_field_is_found_at_its_event(events: EventStore, database: Database, column: str, seq: int) -> None:
    database.execute(f"UPDATE events SET {column} = ? WHERE seq = ?", (CHANGED.get(column, "f" * 64), seq))
    found = events.verify()
    assert (found.ok, found.first_bad_seq, found.text) == (False, seq, f"event {seq} was changed, or one before it is missing")
    place, problem = events.verify_after(ChainEnd(), 100)
    assert problem == found.text
    assert place.seq == seq - 1


def test_a_change_that_is_hashed_anew_breaks_the_next_link(events: EventStore, database: Database) -> None:
    database.execute("UPDATE events SET text = 'forged' WHERE seq = 3")
    row = rows(database)[2]
    body = json.dumps([row[name] for name in HASHED], ensure_ascii=False, separators=(",", ":")).encode()
    database.execute("UPDATE events SET hash = ? WHERE seq = 3", (blake3(body).hexdigest(),))
    assert events.verify().first_bad_seq == 4


@pytest.mark.parametrize(
    ("sql", "first_bad"),
    [
        ("DELETE FROM events WHERE seq = 1", 2),
        ("DELETE FROM events WHERE seq = 4", 5),
        ("UPDATE events SET seq = 100 WHERE seq = 5", 6),
        ("UPDATE events SET seq = seq + 1000; UPDATE events SET seq = seq - 999", 2),
    ],
)
def test_what_is_gone_or_moved_is_found(events: EventStore, database: Database, sql: str, first_bad: int) -> None:
    for one in sql.split(";"):
        database.execute(one)
    assert (events.verify().ok, events.verify().first_bad_seq) == (False, first_bad)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_looking_in_steps_finds_what_looking_at_once_does(events: EventStore, limit: int) -> None:
    place, steps = ChainEnd(), 0
    while True:
        before = place
        place, problem = events.verify_after(place, limit)
        assert problem == ""
        steps += 1
        if place == before:
            break
    assert place.seq == len(TEXTS)
    assert steps <= -(-len(TEXTS) // limit) + 1
    assert events.place(place.seq) == place


def test_an_event_that_was_checked_and_is_gone_or_changed_is_found(events: EventStore, database: Database) -> None:
    place, _ = events.verify_after(ChainEnd(), 100)
    assert events.verify_after(ChainEnd(3, "0" * 64), 100)[1] == "event 3 was changed, or one before it is missing"
    database.execute("DELETE FROM events WHERE seq = ?", (place.seq,))
    assert events.verify_after(place, 100) == (place, f"event {place.seq} is missing")
    assert events.place(99) == ChainEnd() == ChainEnd(0, GENESIS)


def test_events_are_asked_for_by_project_kind_and_place(events: EventStore) -> None:
    everything = events.tail()
    assert [event.seq for event in everything] == list(range(1, len(TEXTS) + 1))
    assert [event.text for event in everything] == TEXTS
    assert everything[0].facts == {"a": "plain", "b": 0}
    assert [event.seq for event in events.tail("p")] == [2, 4, 6]
    assert [event.seq for event in events.tail("p", after=2, limit=1)] == [4]
    assert [event.seq for event in events.tail(kinds=["kind.0", "kind.2"])] == [1, 3, 4, 6, 7]
    assert [event.seq for event in events.each(["kind.1"])] == [2, 5]
    assert [event.seq for event in events.newest("q")] == [7, 5, 3, 1]
    assert [event.seq for event in events.newest("q", 1, "kind.0")] == [7]
    assert events.tail("nobody") == events.newest("nobody") == []
    assert events.latest_seq() == len(TEXTS)
    assert events.clock_times("q", "kind.0", 0.0) == [everything[0].clock_at, everything[6].clock_at]
    assert events.moments(everything[2].at, 2)[-1] <= everything[2].at


def test_facts_that_are_damaged_are_told(events: EventStore, database: Database) -> None:
    database.execute("UPDATE events SET facts = '{' WHERE seq = 2")
    with pytest.raises(StoreError, match="the ledger is damaged"):
        events.tail()


def test_a_transaction_that_failed_leaves_no_gap(events: EventStore, database: Database) -> None:
    def fail() -> None:
        with database.transaction():
            events.append("p", "x", "y", "lost")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert events.append("p", "x", "y", "kept").seq == len(TEXTS) + 1
    assert events.verify().ok


@pytest.mark.parametrize("speed", [0.0, 1.0, 60.0, 86_400.0])
def test_the_projects_clock_stands_in_events(tmp_path: Path, speed: float) -> None:
    ledger = Ledger.open(tmp_path)
    events, clock = ledger.events, ClockStore(ledger, "p")
    clock.set(1_356_998_400.0, speed)
    told = events.tail("p", kinds=["clock.set"])[-1]
    assert told.text == f"the project clock stands at 2013-01-01 00:00 UTC, speed {speed:g}"
    later = events.append("p", "x", "y", "z")
    known = clock.read()
    assert known is not None
    assert later.clock_at == pytest.approx(1_356_998_400.0 + (later.at - known.wall) * speed)
    assert later.clock_speed == speed == clock.speed()
    other = ClockStore(ledger, "q")
    assert events.append("q", "x", "y", "z").clock_speed == 1.0 == other.speed()
    assert other.read() is None
    ledger.close()
