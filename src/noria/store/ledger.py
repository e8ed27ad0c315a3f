"""The ledger: every state change, in one SQLite file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from noria.store.clock import ClockStore
from noria.store.connection import Database
from noria.store.data import DataStore
from noria.store.disk import make_state
from noria.store.events import EventStore
from noria.store.heads import HeadStore
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
from noria.store.totals import TotalStore
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
        self.totals = TotalStore(database)

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
