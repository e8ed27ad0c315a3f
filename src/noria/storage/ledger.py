"""The ledger: every state change, in one SQLite file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from noria.storage.connection import Database
from noria.storage.disk import make_state
from noria.storage.events import EventStore
from noria.storage.heads import HeadStore
from noria.storage.projects import ProjectStore


class Ledger:
    """The file and what all rooms share. A room's tables are behind its own stores (``BoundStore``); what belongs together is
    written inside one ``transaction``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projects = ProjectStore(database)
        self.head = HeadStore(database)
        self.events = EventStore(database, self.head)

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
