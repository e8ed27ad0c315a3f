"""Why a turn starts."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class TriggerKind(StrEnum):
    PUSH = "push"  # a new commit on the watched branch
    DATA = "data"  # a data file arrived or changed
    SCHEDULE = "schedule"  # the cron line of the project came due
    BREACH = "breach"  # the monitor saw quality or inputs leave their bounds
    WEBHOOK = "webhook"  # a signed call from a forge
    MANUAL = "manual"  # a person asked


class Trigger(msgspec.Struct, frozen=True):
    id: str
    project: str
    kind: TriggerKind
    reason: str  # one sentence
    detail: dict[str, str] = {}
    at: float = 0.0  # wall time, seconds since 1970
    turn_id: str | None = None  # the turn that took it, once one did
