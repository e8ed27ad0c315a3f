"""Estimates how long a rollout's guards take to decide at current traffic, and whether that is within patience.

The estimate is the median length of a rollout: about half decide sooner. It is computed, not simulated, so that it takes no time;
``delivery.simulation`` simulates rollouts. Plain numbers in, so that a person can ask about any settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from noria.kernel.words import lasting, percent
from noria.stats import betting
from noria.stats.eprocess import CAPITAL, ODDS_RATIOS, STAKES
from noria.stats.metrics import Floats
from noria.stats.quantiles import values_needed

NEVER = 10**12  # requests; more are no number that a person waits for
PLATEAUS = 10_000  # failures of the candidate on the way


class RateGuard(msgspec.Struct, frozen=True):
    """A guard on a share of requests: errors, or slow answers."""

    name: str
    margin: float  # in (0, 1)
    champion: float = 0.0  # its present rate
    paired: bool = True  # whether a shadow step judges it: errors yes, slow answers no


class Loss(msgspec.Struct, frozen=True):
    """A guard on the mean of paired differences of a bounded loss. ``labels_per_s``: pairs that get their label."""

    name: str
    margin: float  # divided by the bound: in (0, 1)
    sd: float = 0.1  # of the differences, divided by the bound
    labels_per_s: float | None = None


class RolloutPlan(msgspec.Struct, frozen=True):
    """A rollout's settings. ``shares``: of the canary steps below full traffic; at least one, or a shadow step before them."""

    shares: tuple[float, ...]
    false_alarm: float
    missed: float
    patience_s: float
    traffic_per_s: float | None = None  # None: not known
    shadow: float = 0.0  # the share of requests that both score in a first step; 0: there is none

    def stages(self, *, paired: bool) -> list[tuple[int, float, float]]:
        """Of each step that judges: how many have gone on with it, the candidate's share of outcomes, and that of traffic."""
        steps = [(0.5, self.shadow)] * (self.shadow > 0) + [(share, share) for share in self.shares]
        return [(i + 1, *step) for i, step in enumerate(steps) if paired or i or not self.shadow]

    @property
    def steps(self) -> int:
        return len(self.shares) + (self.shadow > 0)


class GuardCost(msgspec.Struct, frozen=True):
    """What one guard takes. Of a loss, ``canary`` and ``requests`` count labelled pairs."""

    guard: str
    canary: tuple[int, ...]  # requests of the candidate that is as good as the champion, at each step that judges this guard
    requests: int  # of both releases, over all steps, until it is promoted
    seconds: float | None
    harm_requests: int  # of both, until one that is worse by the guard is rolled back, at the first step's share
    harm_seconds: float | None


class PatienceWarning(msgspec.Struct, frozen=True):
    """A guard that cannot be expected to decide within patience."""

    guard: str
    text: str
    needed_s: float


def guard_costs(plan: RolloutPlan, guards: Sequence[RateGuard | Loss]) -> list[GuardCost]:
    """Estimates what each guard takes, alone. Raises ValueError for margins, rates and shares that cannot be."""
    if not plan.steps or not all(0 < share < 1 for share in plan.shares) or not 0 <= plan.shadow <= 1:
        raise ValueError(f"shares of traffic lie between 0 and 1: {plan.shares}, {plan.shadow}")
    if not (0 < plan.false_alarm < 1 and 0 < plan.missed < 1):
        raise ValueError(f"error rates lie between 0 and 1: {plan.false_alarm}, {plan.missed}")
    enough = math.log(len(guards) / plan.false_alarm) if guards else 0.0
    return [_of_rate(plan, g, enough) if isinstance(g, RateGuard) else _of_loss(plan, g, enough) for g in guards]


def findings(plan: RolloutPlan, guards: Sequence[RateGuard | Loss]) -> list[PatienceWarning]:
    """The guards that would not clear a good candidate within patience; none where traffic is not known."""
    found = []
    for guard, one in zip(guards, guard_costs(plan, guards), strict=True):
        if one.seconds is not None and one.seconds > plan.patience_s:
            found.append(PatienceWarning(guard.name, _sentence(plan, guard, one), one.seconds))
    return found


def quantile_cost(plan: RolloutPlan, quantile: float) -> tuple[int, float | None]:
    """Requests of the candidate before which a quantile of its latency has no upper bound at what the last step asks for, and the
    seconds until then, None where traffic is not known. A guard on it takes at least that; how much more, the spread decides."""
    canary, seconds = 0, 0.0
    for step, share, _ in plan.stages(paired=False):
        needed = values_needed(quantile, min(0.5, plan.missed ** (step / plan.steps)) / 2)
        seconds += _seconds(max(0, needed - canary), share * (plan.traffic_per_s or 0.0)) or 0.0
        canary = max(canary, needed)
    return canary, None if plan.traffic_per_s is None else seconds


def _sentence(plan: RolloutPlan, guard: RateGuard | Loss, one: GuardCost) -> str:
    shares = ", ".join([f"shadow of {percent(plan.shadow)}"] * (plan.shadow > 0) + [percent(share) for share in plan.shares])
    if isinstance(guard, Loss):
        what, flow, where = "labelled pairs", guard.labels_per_s or 0.0, ""
    else:
        what, flow, where = "requests", plan.traffic_per_s or 0.0, f" at {shares} of traffic"
    return (
        f"{guard.name} cannot be decided within a patience of {lasting(plan.patience_s)}: to clear a candidate that is as good "
        f"as the champion takes about {one.requests:,} {what}{where}, {lasting(one.seconds)} at {_flow(flow)}"
    )


def _flow(per_s: float) -> str:
    return f"{per_s:.3g}/s" if per_s >= 1 else f"{60 * per_s:.3g}/min" if 60 * per_s >= 1 else f"{3600 * per_s:.3g}/h"


def _of_rate(plan: RolloutPlan, guard: RateGuard, enough: float) -> GuardCost:
    if not (0 < guard.margin < 1 and 0 <= guard.champion <= 1 - guard.margin):
        raise ValueError(
            f"{guard.name}: the guard and the champion's rate are shares of requests: {guard.margin}, {guard.champion}"
        )
    canary = _requests_to_clear(plan, guard)
    stages = plan.stages(paired=guard.paired)
    requests = min(NEVER, sum(math.ceil(own / part) for own, (_, _, part) in zip(canary, stages, strict=True)))
    even = np.full(len(ODDS_RATIOS), -math.log(len(ODDS_RATIOS)))
    harm = NEVER
    if stages:
        _, share, part = stages[0]
        outcomes = 2 * part if plan.shadow and guard.paired else 1  # of a request: two where it is a pair
        harm = _arrives(even, outcomes * _harm_growth(guard, share), enough) or NEVER
    flow = plan.traffic_per_s
    return GuardCost(guard.name, tuple(canary), requests, _seconds(requests, flow), harm, _seconds(harm, flow))


def _requests_to_clear(plan: RolloutPlan, guard: RateGuard) -> list[int]:
    """Requests of the candidate at each step, both releases failing at the champion's rate.

    The candidate's failures are as many as the median of their number is so far. They are few and each costs much, so what is
    expected of a request alone would foretell too much; the champion's failures count as is expected of them.
    """
    reached, sent, failed, canary = np.log(CAPITAL), 0, 0, list[int]()
    stages = plan.stages(paired=guard.paired)
    for step, share, _ in stages:
        both = guard.paired and plan.shadow > 0 and step == 1
        enough, (sound, bad) = math.log(1 / plan.missed) * step / plan.steps, _safe_growth(guard, share, paired=both)
        begun = sent
        while True:
            # The median of a Poisson number is k until its mean is about k + 0.673 (Choi 1994: between k + ln 2 and k + 2/3).
            end = math.floor((failed + 0.673) / guard.champion) if guard.champion * NEVER > 1 else NEVER
            more = _arrives(reached, sound, enough, max(0, end - sent))
            if more is not None:
                reached, sent = reached + more * sound, sent + more
                break
            if failed >= PLATEAUS or end >= NEVER:
                return [NEVER] * len(stages)
            reached, sent, failed = reached + max(0, end - sent) * sound + bad, max(sent, end) + 1, failed + 1
        canary.append(sent - begun)
    return canary


def _safe_growth(guard: RateGuard, share: float, *, paired: bool) -> tuple[Floats, Floats]:
    """Log growth of each stake with a request of the candidate that is answered well, and with one that fails, and with what the
    champion fails meanwhile."""
    stakes, odds = STAKES / (1 - guard.margin), share / (1 - share)
    calm, bad = np.log1p(stakes * guard.margin), np.log1p(stakes * (guard.margin - 1))
    weight = (1 - guard.margin) * odds
    if paired:  # what both fail tells nothing
        alone = np.log1p(stakes * (weight + guard.margin))
        return (1 - guard.champion) * calm + guard.champion * alone, (1 - guard.champion) * bad
    theirs = guard.champion / odds * np.log1p(stakes * weight)
    return calm + theirs, bad + theirs


def _harm_growth(guard: RateGuard, share: float) -> Floats:
    """Expected log growth of each odds ratio with a request of either release, the candidate worse by the guard."""
    spread = np.log1p(share * (ODDS_RATIOS - 1))
    worse = share * (guard.champion + guard.margin)
    growth: Floats = worse * (np.log(ODDS_RATIOS) - spread) - (1 - share) * guard.champion * spread
    return growth


def _of_loss(plan: RolloutPlan, guard: Loss, enough: float) -> GuardCost:
    if not (0 < guard.margin < 1 and 0 < guard.sd < 1):
        raise ValueError(f"{guard.name}: the guard and the spread lie between 0 and the bound: {guard.margin}, {guard.sd}")
    stakes = betting.STAKES
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    noise = np.clip(guard.sd * nodes, -1.0, 1.0)
    weights = weights / weights.sum()
    even = np.full(len(stakes), -math.log(len(stakes)))
    safe = np.log1p(stakes[:, None] * ((1 - noise) / (1 - guard.margin) - 1)) @ weights
    harm = np.log1p(stakes[:, None] * np.clip(guard.margin + noise, -1.0, 1.0)) @ weights
    cleared = _arrives(even, safe, math.log(1 / plan.missed)) or NEVER
    blamed = _arrives(even, harm, enough) or NEVER
    flow = guard.labels_per_s
    return GuardCost(guard.name, (cleared,), cleared, _seconds(cleared, flow), blamed, _seconds(blamed, flow))


def _arrives(reached: Floats, growth: Floats, enough: float, most: int = NEVER) -> int | None:
    """After how many times ``growth`` the mixture of log capitals ``reached`` is enough; None when not within ``most``."""

    def there(times: int) -> bool:
        return float(np.logaddexp.reduce(reached + times * growth)) >= enough

    if there(0):
        return 0
    low, high = 0, 1
    while not there(min(high, most)):
        if high >= most:
            return None
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if there(middle) else (middle, high)
    return high


def _seconds(requests: int, per_s: float | None) -> float | None:
    if per_s is None:
        return None
    return requests / per_s if per_s > 0 and requests < NEVER else math.inf
