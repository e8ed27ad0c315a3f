"""The ledger: every state change, in one SQLite file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from noria.store.clock import ClockStore
from noria.store.connection import Database
from noria.store.data import DataStore
from noria.store.disk import make_state
from noria.store.events import EventStore
from noria.store.heads import FILE, HeadStore
from noria.store.jobs import JobStore
from noria.store.keep import KeepStore
from noria.store.marks import MarkStore
from noria.store.monitor import AlertStore, QualityStore
from noria.store.projects import ApprovalStore, ProjectStore
from noria.store.releases import ReleaseStore
from noria.store.rollouts import RolloutStore
from noria.store.routes import RouteStore
from noria.store.runs import RunStore, StepStore
from noria.store.series import SeriesStore
from noria.store.tables import TableStore
from noria.store.triggers import TriggerStore
from noria.store.turns import TurnStore


class Ledger:
    """One small store per noun. What belongs together is written inside one ``transaction``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projects = ProjectStore(database)
        self.clock = ClockStore(database)
        self.marks = MarkStore(database)
        self.head = HeadStore(database, self.marks)
        self.events = EventStore(database, self.clock, self.head)
        self.clock.events = self.events
        self.triggers = TriggerStore(database)
        self.turns = TurnStore(database, self.triggers, self.events)
        self.runs = RunStore(database)
        self.steps = StepStore(database)
        self.series = SeriesStore(database)
        self.data = DataStore(database)
        self.tables = TableStore(database)
        self.keep = KeepStore(database)
        self.releases = ReleaseStore(database)
        self.routes = RouteStore(database)
        self.rollouts = RolloutStore(database)
        self.jobs = JobStore(database, self.events)
        self.quality = QualityStore(database)
        self.alerts = AlertStore(database)
        self.approvals = ApprovalStore(database)

    @classmethod
    def open(cls, state: Path) -> Ledger:
        """The ledger in a state folder, made and migrated when needed. Raises StoreError."""
        make_state(state)
        return cls(Database(state / "ledger.db"))

    @classmethod
    @contextmanager
    def to_read(cls, state: Path) -> Iterator[Ledger]:
        """The ledger, of which nothing is changed: in its place, or, where that cannot be written, as a copy elsewhere."""
        if all(os.access(path, os.W_OK) for path in (state, state / "ledger.db")):
            with closing(cls.open(state)) as found:
                yield found
            return
        with TemporaryDirectory(prefix="noria-") as folder:
            for name in ("ledger.db", "ledger.db-wal", FILE):
                if (state / name).exists():
                    shutil.copyfile(state / name, Path(folder) / name)
            with closing(cls.open(Path(folder))) as found:
                yield found

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, joined by every store call inside."""
        return self.database.transaction()

    def close(self) -> None:
        self.head.sync()
        self.database.close()
