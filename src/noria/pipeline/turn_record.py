"""A turn of the wheel, from triggers to a release in production or a stated reason why not."""

from __future__ import annotations

from enum import StrEnum

import msgspec

REPEATS = "repeats"  # what a turn notes that found nothing new, and has the verdict of the turn that did the work


class Stage(StrEnum):
    """The stages of the line, in order."""

    PIN = "pin"
    CHECK = "check"
    PLAN = "plan"
    TRAIN = "train"
    PACKAGE = "package"
    EVALUATE = "evaluate"
    GATE = "gate"
    RELEASE = "release"
    ROLLOUT = "rollout"


class TurnOutcome(StrEnum):
    RUNNING = "running"  # a stage is at work
    NOTHING_CHANGED = "nothing changed"  # the pins equal those of an earlier turn
    QUARANTINED = "quarantined"  # the data that arrived was refused; nothing else was new
    CHECK_FAILED = "check failed"  # the project's own tests or configuration said no
    STEP_FAILED = "step failed"  # the project's own code failed, hung, or outgrew its limits
    GATE_FAILED = "gate failed"  # measured, and refused
    NOT_ENOUGH_DATA = "not enough data"  # measured, and undecided
    BARRED = "barred"  # the same pins were rolled back before
    NOT_RELEASED = "not released"  # measured; the code is no clean commit, so that no release could be built again
    DONE = "done"  # the steps are; there is no model to release
    RELEASED = "released"  # sealed; the rollout waits for approval, for a server, or has just begun
    ROLLING_OUT = "rolling out"  # live traffic is deciding
    PROMOTED = "promoted"  # serves all traffic
    ROLLED_BACK = "rolled back"  # live evidence said no
    HELD = "held"  # patience ended without a verdict: a person decides
    SUPERSEDED = "superseded"  # a newer candidate took its place
    ERROR = "error"  # infrastructure: disk, ledger, server


class Turn(msgspec.Struct, frozen=True):
    id: str
    project: str
    number: int  # 1, 2, ... per project
    triggers: tuple[str, ...]  # trigger ids
    trigger: str  # kinds and reasons, joined: one sentence
    started_at: float
    stage: Stage = Stage.PIN
    outcome: TurnOutcome = TurnOutcome.RUNNING
    reason: str = ""
    run_id: str | None = None
    release: str | None = None  # v12
    ended_at: float | None = None
    user_s: float = 0.0  # wall time inside the project's own functions and test command
    overhead_s: float | None = None  # from trigger to first answer (or end), less user_s
