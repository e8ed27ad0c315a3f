"""Jobs: rows with a lease and a fencing token, so that two engines on one ledger never do a thing twice."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from noria.kernel import names
from noria.kernel.errors import LeaseLostError
from noria.storage.bound_store import BoundStore
from noria.storage.connection import Value
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable

ATTEMPTS = 5  # claims of one job that ended without an outcome: then it is dead, and a person looks


class Job(msgspec.Struct, frozen=True):
    id: str
    project: str
    kind: str
    subject: str
    owner: str | None
    fence: int  # grows with every claim
    attempts: int
    lease_until: float  # wall time


class JobStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "jobs", Job)

    def add(self, kind: str, subject: str, dedupe: str | None = None) -> str | None:
        """A new open job; None when an open one with the same ``dedupe`` exists."""
        with self._database.transaction():
            if dedupe is not None and self._table.one("project = ? AND dedupe = ?", self.project, dedupe) is not None:
                return None
            made = Job(names.new_id("job"), self.project, kind, subject, None, 0, 0, 0.0)
            self._table.insert(made, state="open", dedupe=dedupe, not_before=0.0)
        return made.id

    def claim(self, kinds: Sequence[str], owner: str, lease_s: float, subject: str | None = None, gone: str = "") -> Job | None:
        """Take the oldest job that nobody holds, or whose lease ran out, under a new fence; ``gone``: an owner known to be dead.

        Jobs that used up their attempts are buried on the way.
        """
        now = time.time()
        with self._database.transaction():
            while (found := self._free(kinds, subject, now, gone)) is not None and found.attempts >= ATTEMPTS:
                self._bury(found)
            if found is None:
                return None
            taken = replace(found, owner=owner, fence=found.fence + 1, attempts=found.attempts + 1, lease_until=now + lease_s)
            changes = {"owner": owner, "fence": taken.fence, "attempts": taken.attempts, "lease_until": taken.lease_until}
            self._table.update("id", taken.id, changes)
        return taken

    def _free(self, kinds: Sequence[str], subject: str | None, now: float, gone: str) -> Job | None:
        held = "(lease_until < ? OR owner = ?) AND not_before <= ?"
        where = f"project = ? AND state = 'open' AND kind IN ({', '.join('?' * len(kinds))}) AND {held}"
        values: list[Value] = [self.project, *kinds, now, gone, now]
        if subject is not None:
            where, values = f"{where} AND subject = ?", [*values, subject]
        return self._table.one(f"{where} ORDER BY id", *values)

    def open(self, kind: str) -> list[str]:
        """Subjects of the jobs of a kind that are not done, oldest first."""
        return [
            job.subject for job in self._table.many("project = ? AND kind = ? AND state = 'open' ORDER BY id", self.project, kind)
        ]

    def known(self, kind: str, subject: str) -> bool:
        """Whether there is such a job, done or not."""
        return self._table.one("project = ? AND kind = ? AND subject = ?", self.project, kind, subject) is not None

    def stats(self) -> dict[str, int]:
        """How many jobs there are, by state: open, done, dead."""
        rows = self._database.rows("SELECT state, count(*) AS n FROM jobs WHERE project = ? GROUP BY state", (self.project,))
        return {row["state"]: row["n"] for row in rows}

    def holder(self, kind: str, subject: str) -> str | None:
        """Who holds the job of this kind now; None when nobody does."""
        where = "project = ? AND kind = ? AND subject = ? AND state = 'open' AND lease_until >= ?"
        found = self._table.one(where, self.project, kind, subject, time.time())
        return found.owner if found is not None else None

    def _bury(self, job: Job) -> None:
        self._table.update("id", job.id, {"state": "dead", "dedupe": None})
        text = f"{job.kind} {job.subject} was given up after {job.attempts} attempts that ended without a message"
        self.ledger.events.append(job.project, "job.dead", job.id, text)

    def check(self, job: Job) -> None:
        """Raise LeaseLostError unless this very claim still holds. Inside a transaction: until its end."""
        row = self._database.row("SELECT owner, fence, state FROM jobs WHERE id = ?", (job.id,))
        if row is None or row["state"] != "open" or row["fence"] != job.fence or row["owner"] != job.owner:
            raise LeaseLostError(f"the lease on {job.kind} {job.subject} is another's now")

    def renew(self, job: Job, lease_s: float = 6.0) -> Job:
        """Hold the job for another ``lease_s``."""
        with self._database.transaction():
            self.check(job)
            until = time.time() + lease_s
            self._table.update("id", job.id, {"lease_until": until})
        return replace(job, lease_until=until)

    def finish(self, job: Job, outcome: str) -> None:
        """The job is done and will not be claimed again."""
        with self._database.transaction():
            self.check(job)
            self._table.update("id", job.id, {"state": "done", "outcome": outcome, "dedupe": None, "lease_until": 0.0})

    def release(self, job: Job, delay_s: float, *, worked: bool = False) -> None:
        """Give the job back, not to be claimed before ``delay_s``; ``worked``: this claim does not count as an attempt."""
        with self._database.transaction():
            self.check(job)
            changes = {"owner": None, "lease_until": 0.0, "not_before": time.time() + delay_s}
            self._table.update("id", job.id, changes | ({"attempts": 0} if worked else {}))
