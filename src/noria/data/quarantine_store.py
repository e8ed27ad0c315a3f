"""What was refused, whole or in part, and what people decided of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from noria.data.snapshot import Delivery
from noria.kernel.errors import NotFoundError
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable

HELD = "(accepted = 0 OR rows_quarantined > 0)"  # deliveries of which something is, or was, in quarantine


class QuarantineState(StrEnum):
    """Where a delivery in quarantine stands."""

    REFUSED = "refused"  # nothing of it reaches training
    ROWS_DROPPED = "rows dropped"  # its good rows were accepted
    JUDGED_AGAIN = "judged again"  # a later delivery of the file is in quarantine in its place
    CORRECTED = "corrected"  # a later version of the file was accepted
    RELEASED = "released"  # a person let it in as it is
    DISCARDED = "discarded"  # a person said that it will not come again


class QuarantineDecision(msgspec.Struct, frozen=True):
    """What a person decided of a delivery in quarantine."""

    project: str
    delivery: str
    outcome: QuarantineState  # RELEASED or DISCARDED
    actor: str
    why: str
    at: float = 0.0
    accepted_as: str = ""  # id of the delivery that a release made


class QuarantinedDelivery(msgspec.Struct, frozen=True):
    """A delivery in quarantine, where it stands, and what a person decided of it."""

    delivery: Delivery
    state: QuarantineState
    decision: QuarantineDecision | None = None


class QuarantineStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._deliveries = StructTable(ledger.database, "deliveries", Delivery)
        self._decisions = StructTable(ledger.database, "quarantine_decisions", QuarantineDecision, key=("project", "delivery"))

    def newest(self, dataset: str | None, limit: int) -> list[QuarantinedDelivery]:
        """What was refused, whole or in part, newest first."""
        where = f"project = ? AND {HELD} AND dataset = COALESCE(?, dataset) ORDER BY at DESC, id DESC LIMIT ?"
        return [self.stand(delivery) for delivery in self._deliveries.many(where, self.project, dataset, limit)]

    def stand(self, delivery: Delivery) -> QuarantinedDelivery:
        """Where a delivery stands."""
        decision = self.decision(delivery.id)
        if decision is not None:
            return QuarantinedDelivery(delivery, decision.outcome, decision)
        sql = (
            "SELECT max(accepted) AS accepted FROM deliveries "
            "WHERE project = ? AND dataset = ? AND name = ? AND (at > ? OR (at = ? AND id > ?))"
        )
        values = (self.project, delivery.dataset, delivery.name, delivery.at, delivery.at, delivery.id)
        row = self._database.row(sql, values)
        later = row["accepted"] if row is not None else None
        if later is not None:
            return QuarantinedDelivery(delivery, QuarantineState.CORRECTED if later else QuarantineState.JUDGED_AGAIN)
        return QuarantinedDelivery(delivery, QuarantineState.ROWS_DROPPED if delivery.accepted else QuarantineState.REFUSED)

    def delivery(self, beginning: str) -> Delivery:
        """The delivery whose id begins so. Raises NotFoundError when there is none, or more than one."""
        found = self._deliveries.many(
            "project = ? AND id >= ? AND id < ? ORDER BY id LIMIT 2", self.project, beginning, f"{beginning}\U0010ffff"
        )
        if len(found) > 1:
            raise NotFoundError(f"{beginning} may be any of several deliveries", hint="Give more characters.")
        if not found:
            raise NotFoundError(f"there is no delivery {beginning}", hint="`noria data quarantine` lists what was refused.")
        return found[0]

    def decide(self, decision: QuarantineDecision) -> None:
        """Record what a person decided; once for each delivery."""
        self._decisions.insert(replace(decision, at=decision.at or time.time()))

    def decision(self, delivery: str) -> QuarantineDecision | None:
        """What a person decided of a delivery, if anybody did."""
        return self._decisions.one("project = ? AND delivery = ?", self.project, delivery)

    def decisions(self) -> list[QuarantineDecision]:
        """All that people decided, oldest first."""
        return self._decisions.many("project = ? ORDER BY at, delivery", self.project)

    def irregular_files(self) -> Iterator[tuple[Delivery, QuarantineDecision | None]]:
        """Accepted files that a person released, each with the decision, and those of which rows were dropped."""
        released = {one.accepted_as: one for one in self.decisions() if one.accepted_as}
        for delivery in self._deliveries.many("project = ? AND accepted = 1 AND kept_digest <> ''", self.project):
            yield delivery, None
        for made, decision in released.items():
            yield from ((one, decision) for one in self._deliveries.many("project = ? AND id = ?", self.project, made))

    def discarded_files(self, dataset: str) -> dict[tuple[str, str], str]:
        """Name and digest of each file that a person discarded whole -> who did."""
        sql = (
            "SELECT name, digest, actor FROM quarantine_decisions AS q JOIN deliveries AS d ON d.id = q.delivery "
            "WHERE q.project = ? AND d.dataset = ? AND q.outcome = ? AND d.accepted = 0"
        )
        rows = self._database.rows(sql, (self.project, dataset, QuarantineState.DISCARDED))
        return {(row["name"], row["digest"]): str(row["actor"]) for row in rows}

    def kept(self, since: float) -> Iterator[Delivery]:
        """What was refused since then, whole or in part, and not discarded."""
        discarded = "SELECT delivery FROM quarantine_decisions WHERE project = ? AND outcome = ?"
        where = f"project = ? AND {HELD} AND at >= ? AND id NOT IN ({discarded})"
        yield from self._deliveries.many(where, self.project, since, self.project, QuarantineState.DISCARDED)

    def failing_rows_of(self, digests: Set[str]) -> set[str]:
        """The blobs of failing rows that were taken of files with these bytes, in any project."""
        rows = self._database.each("SELECT digest, sample_digest FROM deliveries WHERE sample_digest IS NOT NULL")
        return {str(row["sample_digest"]) for row in rows if row["digest"] in digests}

    def made_of_each_other(self, digests: Set[str]) -> set[tuple[str, str, str]]:
        """Dataset, name and digest of the files that hold the same rows as these: a file as it arrived, and the one without the
        rows that were dropped. In any project."""
        found: set[tuple[str, str, str]] = set()
        for row in self._database.each("SELECT dataset, name, digest, kept_digest FROM deliveries WHERE kept_digest <> ''"):
            both = {row["digest"], row["kept_digest"]}
            if not digests.isdisjoint(both):
                found.update((str(row["dataset"]), str(row["name"]), str(digest)) for digest in both - digests)
        return found
