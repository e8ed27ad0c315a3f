"""What measures how long a candidate takes to answer, seen from below: who serves it is the caller's choice."""

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
    """A candidate that is served, and asked as people will ask."""

    def measure(self) -> LatencyRounds:
        """Raises StepError when it answers nothing."""


ServeCandidate = Callable[[PipelineContext, PinnedRun, Package], AbstractContextManager[LatencyMeter]]
