"""What a person has to decide about sealed releases, and who accepted it with which reason."""

from __future__ import annotations

import builtins
import time
from enum import StrEnum

import msgspec

from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable


class DecisionKind(StrEnum):
    GATES = "gates"  # they had not enough data, and `not_enough_data: hold` leaves it to a person
    POLICY = "policy"  # its commit changes policy, and `policy_changes: approve` leaves it to a person


class AskedDecision(msgspec.Struct, frozen=True):
    """What a person has to accept about a release; with ``actor``, who did before it was sealed."""

    text: str
    actor: str = ""
    why: str = ""


class ReleaseDecision(msgspec.Struct, frozen=True):
    project: str
    release: str
    kind: DecisionKind
    asked: str  # what there is to accept
    asked_at: float
    actor: str | None = None  # None: nobody has accepted it yet
    why: str | None = None
    decided_at: float | None = None

    @property
    def words(self) -> str:
        """``accepted by cli:anna: "the labels come late": roc_auc is measured on 40 rows``."""
        return (
            f"waits for a person: {self.asked}" if self.actor is None else f"accepted by {self.actor} ({self.why}): {self.asked}"
        )


class DecisionStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "release_decisions", ReleaseDecision, key=("project", "release", "kind"))

    def ask(self, release: str, kind: DecisionKind, asked: str) -> None:
        """Asks for a decision; one that was asked for already stays."""
        if self._table.one("project = ? AND release = ? AND kind = ?", self.project, release, str(kind)) is None:
            self._table.insert(ReleaseDecision(self.project, release, kind, asked, time.time()))

    def accept(self, release: str, kind: DecisionKind, actor: str, why: str) -> None:
        """Records who accepted and why; the first to accept stands."""
        sql = (
            "UPDATE release_decisions SET actor = ?, why = ?, decided_at = ? "
            "WHERE project = ? AND release = ? AND kind = ? AND actor IS NULL"
        )
        self._database.execute(sql, (actor, self._database.hide(why), time.time(), self.project, release, str(kind)))

    def of_release(self, release: str) -> builtins.list[ReleaseDecision]:
        return self._table.many("project = ? AND release = ? ORDER BY asked_at, kind", self.project, release)

    def undecided(self, release: str) -> builtins.list[ReleaseDecision]:
        """What a person still has to accept before the release goes out."""
        return [decision for decision in self.of_release(release) if decision.actor is None]

    def list(self) -> builtins.list[ReleaseDecision]:
        return self._table.many("project = ? ORDER BY asked_at, kind", self.project)
