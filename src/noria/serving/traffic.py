"""Current traffic: requests and labels per second, and how the champion does. Read from the shared counters.

A reading is kept every ten seconds and for ten minutes, so that `noria check` can say how long a rollout would take. Requests
and labels are the environment's, of all its projects; errors and slow answers are each project's, counted as a rollout's guards
count them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from noria.serving.counts import SharedCounters, is_on_probation
from noria.serving.route import Route
from noria.serving.tallies import Tally

EVERY_S = 10.0
OVER_S = 600.0


class Served(msgspec.Struct, frozen=True):
    """How a project's champion did."""

    requests: int  # that were counted: of a sticky rollout the first of each key, in a shadow step those that both scored
    errors: float  # share of them, 0 to 1
    slow: float  # share of them


class TrafficRates(msgspec.Struct, frozen=True):
    """Over the last ``over_s`` seconds, ten minutes at most."""

    over_s: float
    requests_per_s: float  # predictions that were answered
    labels_per_s: float
    served: dict[str, Served]  # by project


class _Reading(NamedTuple):
    at: float
    requests: int
    labels: int
    served: dict[str, Tally]  # since the flow began to be read


class TrafficMeter:
    """Readings of one environment's counters."""

    def __init__(self) -> None:
        self._readings: deque[_Reading] = deque(maxlen=int(OVER_S / EVERY_S) + 1)
        self._seen: dict[int, tuple[Tally, Tally]] | None = None  # by tally key: up to where it was added; None: not read yet
        self._served: dict[str, Tally] = {}

    def read(self, counts: SharedCounters, routes: Iterable[Route], now: float) -> None:
        """Called as often as one likes; keeps one reading in ten seconds. ``now``: of a clock that never goes back, seconds."""
        if not self._readings or now - self._readings[-1].at >= EVERY_S:
            self._readings.append(self._taken(counts, routes, now))

    def rates(self, counts: SharedCounters, routes: Iterable[Route], now: float) -> TrafficRates | None:
        """None before a second has passed."""
        if not self._readings or now - self._readings[0].at < 1:
            return None
        new = self._taken(counts, routes, now)
        old = next((reading for reading in self._readings if now - reading.at <= OVER_S), self._readings[-1])
        served = {project: tally.less(old.served.get(project, Tally())) for project, tally in new.served.items()}
        over_s = now - old.at
        return TrafficRates(
            round(over_s, 1),
            (new.requests - old.requests) / over_s,
            (new.labels - old.labels) / over_s,
            {
                project: Served(t.requests, t.errors / t.requests, t.slow / t.requests)
                for project, t in served.items()
                if t.requests
            },
        )

    def _taken(self, counts: SharedCounters, routes: Iterable[Route], now: float) -> _Reading:
        if self._seen is None:
            self._seen = counts.tallies()  # what was counted before the first reading is old
        for route in routes:
            now_at, arm = counts.tallies_of(route.tally_key), is_on_probation(route)
            more = now_at[arm].less(self._seen.get(route.tally_key, (Tally(), Tally()))[arm])
            self._seen[route.tally_key] = now_at
            if more.requests >= 0:
                self._served[route.project] = self._served.get(route.project, Tally()).plus(more)
        return _Reading(now, sum(counts.variants().values()), counts.feedback(), dict(self._served))
