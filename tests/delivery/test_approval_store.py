"""Who approved what: each person once for a release and a place, each project by itself."""

from __future__ import annotations

from pathlib import Path

from noria.delivery.approval_store import ApprovalStore
from noria.storage.ledger import Ledger


def test_an_approval_counts_once_for_each_person_and_place(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    approvals, others = ApprovalStore(ledger, "p"), ApprovalStore(ledger, "q")
    for actor in ("anna", "ben", "anna"):
        approvals.add("v1", "production", actor)
    approvals.add("v1", "staging", "carl")
    others.add("v1", "production", "dora")
    assert approvals.count("v1", "production") == 2
    assert approvals.count("v1", "staging") == others.count("v1", "production") == 1
    assert approvals.count("v2", "production") == 0
    assert {(one.actor, one.environment) for one in approvals.list()} == {
        ("anna", "production"), ("ben", "production"), ("carl", "staging"),
    }  # fmt: skip
    newest = max(one.at for one in approvals.list())
    assert approvals.count("v1", "production", since=newest + 1) == 0
    assert list(approvals.list()) == sorted(approvals.list(), key=lambda one: one.at)
    ledger.close()
