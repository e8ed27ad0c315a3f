"""Pins: what fixes a run's identity, and that of the release that it becomes."""

from __future__ import annotations

import msgspec


class Pins(msgspec.Struct, frozen=True):
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
