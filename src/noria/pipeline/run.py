"""A run: one execution, bound to commit, snapshots, parameters and environment."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from noria.kernel.pins import Pins
from noria.kernel.verdict import Reason


class StepState(StrEnum):
    RAN = "ran"  # executed in this run
    REUSED = "reused"  # nothing it depends on changed: an earlier result was taken
    SKIPPED = "skipped"  # its condition does not hold, or the run was not asked for it
    FAILED = "failed"  # its code failed, hung or outgrew its limits
    BLOCKED = "blocked"  # a step it needs failed


class StepRecord(msgspec.Struct, frozen=True):
    name: str
    state: StepState
    reason: Reason
    key: str  # digest of everything the result depends on
    output: str | None = None  # blob digest
    seconds: float = 0.0  # wall time of the whole step
    user_s: float = 0.0  # wall time inside the project's own function or command
    peak_rss_mb: float = 0.0  # megabytes (10^6 bytes), the whole process tree
    log: str | None = None  # blob digest of the log
    cpu_s: float = 0.0  # processor time, user and system, the whole process tree
    read_mb: float = 0.0  # megabytes read from storage
    written_mb: float = 0.0  # megabytes written to storage
    attempts: int = 1
    tracked: str | None = None  # blob digest of what it logged
    artifacts: dict[str, str] = {}  # path -> blob digest of the files it asked to keep


class RunKind(StrEnum):
    TURN = "turn"  # of the wheel: may become a release
    EXPERIMENT = "experiment"  # by hand, with parameters or steps chosen: measured, never released
    TRIAL = "trial"  # one of a search


class Run(msgspec.Struct, frozen=True):
    id: str
    project: str
    turn_id: str | None
    pins: Pins
    started_at: float
    ended_at: float | None = None
    outcome: str | None = None
    reason: str = ""
    steps: tuple[StepRecord, ...] = ()
    metrics: dict[str, float] = {}
    kind: RunKind = RunKind.TURN
    parent: str | None = None  # the run whose search this is a trial of
    params: dict[str, object] = {}  # flat: "train.lr" -> 0.1
    tags: tuple[str, ...] = ()
    note: str = ""
    artifacts: dict[str, str] = {}  # "step/path" -> blob digest
    plots: dict[str, str] = {}  # "step/path" -> blob digest
    # what serves, fitted and scored on the very same rows: `release`, `metrics`, and `note`: why it has none
    serving: dict[str, Any] = {}


def lasting(run: Run) -> list[object]:
    """What of a run never changes once its turn has ended, as its event seals it. A new field of a Run must not come in here:
    the events of before hold digests without it."""
    steps = [(step.name, str(step.state), step.key, step.output) for step in run.steps]
    return [run.id, run.turn_id, run.pins.identity(), run.outcome, run.metrics, run.params, steps]


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested parameters by their dotted names."""
    found: dict[str, object] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
