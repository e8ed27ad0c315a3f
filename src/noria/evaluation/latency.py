"""The interface of a latency measurement; the caller chooses the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from noria.pipeline.context import PinnedRun, PipelineContext
from noria.releases.packaging import Package


class LatencyRounds(msgspec.Struct, frozen=True):
    """The median and the 99th percentile of each round, in ms."""

    p50_ms: list[float]
    p99_ms: list[float]


class LatencyMeter(Protocol):
    """Measures a served candidate with requests like those of clients."""

    def measure(self) -> LatencyRounds:
        """Measures; raises StepError when the candidate answers nothing."""


ServeCandidate = Callable[[PipelineContext, PinnedRun, Package], AbstractContextManager[LatencyMeter]]
