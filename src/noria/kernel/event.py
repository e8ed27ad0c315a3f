"""Every state change, in a hash chain: the audit log."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True):
    """``hash`` covers every other field and ``previous``, the hash of the event before."""

    seq: int
    project: str
    at: float  # wall time
    clock_at: float  # project clock
    clock_speed: float  # 1.0 on the wall clock
    actor: str  # "engine", "cli:anna", "api"
    kind: str  # "turn.started", "release.sealed", "rollout.promoted", ...
    subject: str  # id of what changed
    text: str  # one sentence
    facts: dict[str, object] = {}  # digests and counts, never row values
    previous: str = ""
    hash: str = ""
