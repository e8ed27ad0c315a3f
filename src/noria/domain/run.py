"""A run: one execution, bound to commit, snapshots, parameters and environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from noria.domain.verdict import Reason


@dataclass(frozen=True, slots=True)
class Pins:
    """Everything that fixes a run's identity, as digests."""

    commit: str | None  # full hex id; None outside a Git repository
    dirty: str | None  # digest of the difference to the commit; None when clean
    snapshots: dict[str, str]  # dataset -> snapshot digest
    params: str  # digest of the parameters' canonical JSON
    config: str  # digest of noria.yaml
    environment: str  # digest of the environment record

    def identity(self) -> tuple[object, ...]:
        """What must be equal for two runs to be the same work (the environment included)."""
        return (self.commit, self.dirty, tuple(sorted(self.snapshots.items())), self.params, self.config, self.environment)


class StepState(StrEnum):
    RAN = "ran"  # executed in this run
    REUSED = "reused"  # nothing it depends on changed: an earlier result was taken
    FAILED = "failed"  # its code failed, hung or outgrew its limits
    BLOCKED = "blocked"  # a step it needs failed


@dataclass(frozen=True, slots=True)
class StepRecord:
    name: str
    state: StepState
    reason: Reason
    key: str  # digest of everything the result depends on
    output: str | None = None  # blob digest
    seconds: float = 0.0  # wall time of the whole step
    user_s: float = 0.0  # wall time inside the project's own function or command
    peak_rss_mb: float = 0.0
    log: str | None = None  # blob digest of the log


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    project: str
    turn_id: str | None
    pins: Pins
    started_at: float
    ended_at: float | None = None
    outcome: str | None = None
    reason: str = ""
    steps: tuple[StepRecord, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
