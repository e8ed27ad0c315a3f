"""The ledger: every state change, in one SQLite file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from noria.data.store import DataStore
from noria.data.table_store import TableStore
from noria.delivery.rollout_store import RolloutStore
from noria.delivery.route_store import RouteStore
from noria.monitor.store import AlertStore, QualityStore
from noria.pipeline.run_store import RunStore, StepStore
from noria.pipeline.series_store import SeriesStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore
from noria.releases.store import ReleaseStore
from noria.storage.clock import ClockStore
from noria.storage.connection import Database
from noria.storage.disk import make_state
from noria.storage.events import EventStore
from noria.storage.heads import HeadStore
from noria.storage.jobs import JobStore
from noria.storage.projects import ApprovalStore, ProjectStore
from noria.storage.stat_index import StatIndex
from noria.trust.keep_store import KeepStore
from noria.views.totals import TotalStore


class Ledger:
    """One small store per noun. What belongs together is written inside one ``transaction``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projects = ProjectStore(database)
        self.clock = ClockStore(database)
        self.marks = StatIndex(database)
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
