"""Changes of policy that a person approved."""

from __future__ import annotations

import builtins
import time

import msgspec

from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable


class PolicyApproval(msgspec.Struct, frozen=True):
    project: str
    before: str  # digest of the policy that was in force
    after: str  # digest of the policy that takes its place
    changes: str  # the difference, in words
    actor: str
    why: str
    at: float


class PolicyStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "policy_approvals", PolicyApproval, key=("project", "before", "after"))

    def approve(self, before: str, after: str, changes: str, actor: str, why: str) -> None:
        hide = self._database.hide
        self._table.insert(PolicyApproval(self.project, before, after, hide(changes), actor, hide(why), time.time()))

    def find(self, before: str, after: str) -> PolicyApproval | None:
        """Returns the approval of this very change."""
        return self._table.one("project = ? AND before = ? AND after = ?", self.project, before, after)

    def list(self) -> builtins.list[PolicyApproval]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY at DESC", self.project)
