"""The ledger: every state change, in one SQLite file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from noria.storage.clock import ClockStore
from noria.storage.connection import Database
from noria.storage.disk import make_state
from noria.storage.events import EventStore
from noria.storage.heads import HeadStore
from noria.storage.jobs import JobStore
from noria.storage.projects import ProjectStore
from noria.storage.stat_index import StatIndex


class Ledger:
    """The file and what all rooms share. A room's tables are behind its own stores (``BoundStore``); what belongs together is
    written inside one ``transaction``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projects = ProjectStore(database)
        self.clock = ClockStore(database)
        self.marks = StatIndex(database)
        self.head = HeadStore(database, self.marks)
        self.events = EventStore(database, self.clock, self.head)
        self.clock.events = self.events
        self.jobs = JobStore(database, self.events)

    @classmethod
    def open(cls, state: Path) -> Ledger:
        """The ledger in a state folder, made and migrated when needed. Raises StoreError."""
        make_state(state)
        return cls(Database(state / "ledger.db"))

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, joined by every store call inside."""
        return self.database.transaction()

    def close(self) -> None:
        self.head.sync()
        self.database.close()
