"""A release: what is deployed. Immutable, signed, whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    COMPILED = "compiled"  # ONNX; runs inside the server's workers
    HOSTED = "hosted"  # the sealed source and model run in host processes of their own


@dataclass(frozen=True, slots=True)
class Release:
    version: str  # v12
    digest: str  # of the bundle's manifest
    project: str
    run_id: str
    turn_id: str | None
    form: Form
    created_at: float
    commit: str | None
    metrics: dict[str, float]
    barred: str | None = None  # the reason, once it was rolled back; cleared by a person
