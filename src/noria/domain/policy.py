"""Policy a reviewer reads: gates, guards, rollout steps, when to retrain. Small value objects, units last."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Gate:
    """``roc_auc >= 0.60``; ``roc_auc >= champion - 0.01``; ``worst(roc_auc, by=origin) >= 0.55``."""

    text: str
    metric: str
    at_least: bool  # True for >=, False for <=
    value: float  # the threshold, or the signed margin added to the champion's value
    champion: bool = False
    by: str | None = None  # the slice column of worst(...)
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Guards:
    """How much worse than the champion would be too much."""

    errors: float = 0.01  # share of requests, absolute
    slow_ms: float = 100.0  # an answer later than this is slow
    slow_by: float = 0.02  # share of slow answers, absolute


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """``steps`` are the candidate's traffic shares; the last is 1.0. Empty steps mean direct."""

    steps: tuple[float, ...] = ()
    guards: Guards = Guards()
    false_alarm: float = 0.01  # of a rollout being rolled back without cause
    missed: float = 0.05  # of a harm of the guard's size being promoted
    patience_s: float = 3600.0

    @property
    def direct(self) -> bool:
        return not self.steps


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    on: tuple[str, ...] = ("code", "data", "quality")
    schedule: str | None = None  # cron line, project clock
    at_most_count: int | None = None  # turns that start by themselves ...
    at_most_period_s: float | None = None  # ... within this time on the project clock


@dataclass(frozen=True, slots=True)
class MonitorPolicy:
    every_s: float = 86400.0  # window, project clock
    label_delay_s: float = 86400.0  # a window is judged when it ended this long ago
    min_labelled: int = 200  # fewer labels than this: not enough data
    false_alarm: float = 0.001  # per window, of calling quality sunk without cause
    margin: float = 0.0  # how much worse than the holdout is still fine, in the metric's unit
    drift: float = 0.25  # population stability index above which a column has drifted


class WhenFull(StrEnum):
    """What a prediction gets that the log has no room for."""

    REFUSE = "refuse"  # nothing is answered: 507
    COUNT = "count"  # it is answered, and counted as not recorded


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """What the prediction log holds, and for how long."""

    sample: float = 1.0  # the share of predictions that is recorded; of a rollout in progress all are
    keep_s: float | None = None  # days (UTC) that ended longer ago are deleted; None: none ever
    redact: tuple[str, ...] = ()  # inputs that are never written; key and event time too, where they are named
    when_full: WhenFull = WhenFull.REFUSE


RECORD_ALL = LogPolicy()
