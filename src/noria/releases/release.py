"""A release: what is deployed. Immutable, signed, whole."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ServedForm(StrEnum):
    COMPILED = "compiled"  # ONNX; runs inside the server's workers
    HOSTED = "hosted"  # the sealed source and model run in host processes of their own


IMPORTED = "import"  # how the run's id begins of a release that no run made


class Release(msgspec.Struct, frozen=True):
    version: str  # v12
    digest: str  # of the bundle's manifest
    project: str
    run_id: str
    turn_id: str | None
    form: ServedForm
    created_at: float
    commit: str | None
    metrics: dict[str, float]
    barred: str | None = None  # the reason, once it was rolled back; cleared by a person

    @property
    def imported(self) -> bool:
        """Whether its model was trained elsewhere: it passed no gates, and cannot be made again."""
        return self.run_id.startswith(f"{IMPORTED}-")
