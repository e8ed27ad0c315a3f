"""Policy a reviewer reads: gates, guards, rollout steps, when to retrain. Small value objects, units last."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from noria.kernel.words import lasting, percent, plural

SLOW_MS = 100.0  # an answer later than this is slow, unless told otherwise


class Gate(msgspec.Struct, frozen=True):
    """``roc_auc >= 0.60``; ``roc_auc >= champion - 0.01``; ``mae no worse than best``; ``worst(roc_auc, by=origin) >= 0.55``."""

    text: str
    metric: str
    at_least: bool  # True for >=, False for <=
    value: float  # the threshold, or the signed margin added to the other release's value
    champion: bool = False  # compared with another release on the same rows: the champion ...
    by: str | None = None  # the slice column of worst(...) or gap(...)
    confidence: float = 0.95
    best: bool = False  # ... or the best release so far
    relative: bool = False  # the margin is a share of the other's value
    no_worse: bool = False  # fails what is shown to be worse, and nothing else
    bound: bool = False  # a confidence was asked for: the bound must reach the threshold, not the value alone
    gap: bool = False  # of gap(...): the greatest difference between two slices


class UndecidedPolicy(StrEnum):
    """What becomes of a candidate whose gates have not enough data."""

    REFUSE = "refuse"  # it is not released
    HOLD = "hold"  # it is sealed, and goes out once a person accepts it with a reason


class PolicyChanges(StrEnum):
    """What a commit needs that changes gates, contracts, environments or who decides."""

    ALLOW = "allow"  # nothing: the verdict names the difference
    APPROVE = "approve"  # a person's approval; until then the champion's policy judges, too


class QualityGuard(msgspec.Struct, frozen=True):
    """How much greater the candidate's mean loss may be, on requests that both releases scored and that got a label."""

    metric: str  # brier, mae, or accuracy, whose loss is 1 for a wrong class
    by: float  # in the metric's unit, absolute
    bound: float = 1.0  # an absolute error above it counts as it; 1 for losses that lie between 0 and 1


class QuantileGuard(msgspec.Struct, frozen=True):
    """How much later the candidate's quantile of latency may be."""

    quantile: float  # 0.99
    by_ms: float


class Guards(msgspec.Struct, frozen=True):
    """How much worse than the champion would be too much."""

    errors: float = 0.01  # share of requests, absolute
    failing: float = 0.5  # share of its requests that a candidate may fail and still go on, whatever the champion does
    slow_ms: float = SLOW_MS  # an answer later than this is slow
    slow_by: float = 0.02  # share of slow answers, absolute
    quality: QualityGuard | None = None
    quantile: QuantileGuard | None = None


class StepKind(StrEnum):
    SHADOW = "shadow"  # the candidate scores a share of requests too; the champion answers all
    CANARY = "canary"  # the candidate answers a share of requests
    PAUSE = "pause"  # nothing changes for a while
    APPROVE = "approve"  # nothing changes until so many people agree


class RolloutStep(msgspec.Struct, frozen=True):
    kind: StepKind
    share: float = 0.0  # of requests, in (0, 1]
    seconds: float = 0.0  # of a pause, project clock
    approvals: int = 0  # people

    @property
    def judged(self) -> bool:
        """Whether evidence must allow to go on; all traffic leaves no champion to compare with."""
        return self.kind is StepKind.SHADOW or (self.kind is StepKind.CANARY and self.share < 1)

    @property
    def words(self) -> str:
        """``25 % of traffic``; ``shadow of 20 % of traffic``; ``a pause of 10 min``; ``1 approval``."""
        if self.kind is StepKind.PAUSE:
            return f"a pause of {lasting(self.seconds)}"
        if self.kind is StepKind.APPROVE:
            return plural(self.approvals, "approval")
        return f"{'shadow of ' if self.kind is StepKind.SHADOW else ''}{percent(self.share)} of traffic"


class ReplayPolicy(msgspec.Struct, frozen=True):
    """Logged requests that the candidate must answer before any live one."""

    requests: int = 500  # the newest; 0: none
    differ: float = 0.25  # mean difference of answers from the champion's that is too large, in [0, 1]


class Assign(StrEnum):
    """By what a request is given to one of two releases."""

    REQUEST = "request"  # each by chance
    KEY = "key"  # all requests of a key to the same release


class Freeze(msgspec.Struct, frozen=True):
    """A time in which no release goes out: `fri 16:00 .. mon 08:00` each week, or from one day to another; rollback may always.

    ``start`` and ``end``: minutes since Monday 00:00 when ``weekly``, else since 1970-01-01, both on the clock of ``zone``.
    """

    text: str
    start: int
    end: int
    weekly: bool
    zone: str = "UTC"


NO_REPLAY = ReplayPolicy(requests=0)


class RolloutPolicy(msgspec.Struct, frozen=True):
    """The last step is all traffic. No steps: direct. Durations are of the project clock."""

    steps: tuple[RolloutStep, ...] = ()
    guards: Guards = Guards()
    false_alarm: float = 0.01  # of a rollout being rolled back without cause
    missed: float = 0.05  # of a harm of the guard's size being promoted
    patience_s: float = 3600.0
    probation_s: float = 0.0  # after promotion: so long quality is judged, and the old release may take over
    replay: ReplayPolicy = NO_REPLAY
    assign: Assign = Assign.REQUEST
    pairs: float = 0.1  # share of requests that both releases score while one answers, where quality is guarded

    @property
    def direct(self) -> bool:
        return not self.steps


class RetrainPolicy(msgspec.Struct, frozen=True):
    on: tuple[str, ...] = ("code", "data", "quality")
    schedule: str | None = None  # cron line, project clock
    at_most_count: int | None = None  # turns that start by themselves ...
    at_most_period_s: float | None = None  # ... within this time on the project clock


class MonitorPolicy(msgspec.Struct, frozen=True):
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


class LogPolicy(msgspec.Struct, frozen=True):
    """What the prediction log holds, and for how long."""

    sample: float = 1.0  # the share of predictions that is recorded; of a rollout in progress all are
    keep_s: float | None = None  # days (UTC) that ended longer ago are deleted; None: none ever
    redact: tuple[str, ...] = ()  # inputs that are never written; key and event time too, where they are named
    when_full: WhenFull = WhenFull.REFUSE


RECORD_ALL = LogPolicy()
