"""The audit log: events in a hash chain. Whoever changes, drops or reorders one breaks every hash after it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from noria.kernel import names
from noria.kernel.event import Event
from noria.storage.connection import Database, Value
from noria.storage.heads import HeadStore
from noria.storage.project_clock import read_clock
from noria.storage.rows import damage_error, parse_json

GENESIS = "0" * 64
HASHED = ("seq", "project", "at", "clock_at", "clock_speed", "actor", "kind", "subject", "text", "facts", "previous")


class ChainCheck(msgspec.Struct, frozen=True):
    count: int
    ok: bool
    first_bad_seq: int | None
    text: str


class ChainEnd(msgspec.Struct, frozen=True):
    """How far the chain was checked: an event and its hash, or the beginning."""

    seq: int = 0
    hash: str = GENESIS


class EventStore:
    def __init__(self, database: Database, head: HeadStore) -> None:
        self._database, self._head = database, head

    def append(
        self, project: str, kind: str, subject: str, text: str, facts: Mapping[str, Any] | None = None, actor: str = "engine"
    ) -> Event:
        """Add one event, in the transaction that is open or in its own."""
        with self._database.transaction():
            last = self._database.row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1")
            at = time.time()
            clock = read_clock(self._database, project)
            body = {
                "seq": last["seq"] + 1 if last else 1,
                "project": project,
                "at": at,
                "clock_at": clock.now(at) if clock else at,
                "clock_speed": clock.speed if clock else 1.0,
                "actor": actor,
                "kind": kind,
                "subject": subject,
                "text": self._database.hide(text),
                "facts": msgspec.json.encode(facts or {}, order="sorted").decode(),
                "previous": last["hash"] if last else GENESIS,
            }
            body["hash"] = event_hash(body)
            marks = ", ".join("?" * len(body))
            self._database.execute(f"INSERT INTO events ({', '.join(body)}) VALUES ({marks})", list(body.values()))  # noqa: S608  # names are ours, values are bound
            self._head.note_append()
        return _event(body)

    def tail(
        self, project: str | None = None, after: int = 0, limit: int = 100, kinds: Sequence[str] | None = None
    ) -> list[Event]:
        """Events after ``after``, oldest first."""
        where, values = "seq > ?", list[Value]([after])
        if project is not None:
            where, values = f"{where} AND project = ?", [*values, project]
        if kinds:
            where, values = f"{where} AND kind IN ({', '.join('?' * len(kinds))})", [*values, *kinds]
        rows = self._database.rows(f"SELECT * FROM events WHERE {where} ORDER BY seq LIMIT ?", [*values, limit])  # noqa: S608  # names are ours, values are bound
        return [_event(row) for row in rows]

    def each(self, kinds: Sequence[str]) -> Iterator[Event]:
        """Every event of these kinds, of every project, oldest first, one at a time."""
        query = f"SELECT * FROM events WHERE kind IN ({', '.join('?' * len(kinds))}) ORDER BY seq"  # noqa: S608  # marks only
        yield from (_event(row) for row in self._database.each(query, list(kinds)))

    def newest(self, project: str, limit: int = 100, kind: str | None = None) -> list[Event]:
        """The newest events, or those of one kind, newest first."""
        if kind is not None:
            query = "SELECT * FROM events WHERE project = ? AND kind = ? ORDER BY seq DESC LIMIT ?"
            return [_event(row) for row in self._database.rows(query, (project, kind, limit))]
        rows = self._database.rows("SELECT * FROM events WHERE project = ? ORDER BY seq DESC LIMIT ?", (project, limit))
        return [_event(row) for row in rows]

    def clock_times(self, project: str, kind: str, after: float) -> list[float]:
        """When, on the project clock, events of one kind happened, of those later than ``after``; however many there are."""
        query = "SELECT clock_at FROM events WHERE project = ? AND kind = ? AND clock_at > ? ORDER BY clock_at"
        return [float(at) for (at,) in self._database.rows(query, (project, kind, after))]

    def moments(self, before: float, limit: int = 10_000) -> list[float]:
        """When (wall time) the newest events of any project were written that are not later than a moment."""
        query = "SELECT at FROM events WHERE at <= ? ORDER BY seq DESC LIMIT ?"
        return [float(at) for (at,) in self._database.rows(query, (before, limit))]

    def latest_seq(self) -> int:
        row = self._database.row("SELECT max(seq) AS seq FROM events")
        return int(row["seq"] or 0) if row else 0

    def verify(self) -> ChainCheck:
        """Walk the whole chain; the first event that does not fit is named.

        A chain that lost its newest events still holds: the signed head (``heads``) says how long it was.
        """
        previous, count = GENESIS, 0
        for row in self._database.each("SELECT * FROM events ORDER BY seq"):
            count += 1
            if row["seq"] != count or row["previous"] != previous or row["hash"] != event_hash(row):
                return ChainCheck(count, False, row["seq"], f"event {row['seq']} was changed, or one before it is missing")
            previous = row["hash"]
        return ChainCheck(count, True, None, f"{count:,} events, the chain holds")

    def place(self, seq: int) -> ChainEnd:
        """An event that was checked; the beginning where there is none."""
        row = self._database.row("SELECT hash FROM events WHERE seq = ?", (seq,))
        return ChainEnd(seq, row["hash"]) if row else ChainEnd()

    def verify_after(self, place: ChainEnd, limit: int) -> tuple[ChainEnd, str]:
        """Check up to ``limit`` events that come after a place, and that event itself: how far the chain holds now, and what is
        wrong there; an empty text where nothing is."""
        for row in self._database.rows("SELECT * FROM events WHERE seq >= ? ORDER BY seq LIMIT ?", (place.seq, limit + 1)):
            again = row["seq"] == place.seq
            due = (place.seq, row["previous"]) if again else (place.seq + 1, place.hash)
            if (row["seq"], row["previous"]) != due or row["hash"] != event_hash(row) or (again and row["hash"] != place.hash):
                return place, f"event {row['seq']} was changed, or one before it is missing"
            place = ChainEnd(row["seq"], row["hash"])
        if place.seq and not self._database.row("SELECT 1 FROM events WHERE seq = ?", (place.seq,)):
            return place, f"event {place.seq} is missing"
        return place, ""


def event_hash(row: sqlite3.Row | Mapping[str, Any]) -> str:
    """The hash of an event: over every other field, the previous event's hash among them."""
    try:
        return names.digest_bytes(msgspec.json.encode([row[name] for name in HASHED]))
    except LookupError as error:
        raise damage_error("events", error) from error


def _event(row: sqlite3.Row | Mapping[str, Any]) -> Event:
    try:
        facts = {name: row[name] for name in (*HASHED, "hash")}
    except LookupError as error:
        raise damage_error("events", error) from error
    return Event(**facts | {"facts": parse_json(row["facts"])})
