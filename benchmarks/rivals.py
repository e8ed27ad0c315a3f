"""How others would judge the same made-up rollouts: a test with a size fixed beforehand, the same looked at all the time, and
thresholds as Argo Rollouts and Flagger have them.

Sources for the thresholds, read in November 2026:

- Argo Rollouts, docs/features/analysis.md and pkg/apis/rollouts/v1alpha1: a measurement fails when the condition does not hold;
  a metric fails when *more than* failureLimit measurements failed (default 0; the documentation's examples have 3) or more than
  consecutiveErrorLimit (default 4) in a row gave no value. The example's steps pause 10 minutes each, interval 60 s.
- Flagger, docs.flagger.app/usage/metrics and pkg/controller/scheduler.go: the canary is rolled back when *at least* threshold
  checks failed (default 1; the documentation's examples have 5), a check without values being a failed one; each passed check
  raises the weight by stepWeight 10 up to maxWeight 50, interval 60 s.

Both compare the canary's rate within one interval with a fixed number: here the champion's true rate plus the guard, which in
life nobody knows so well.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.delivery.simulation import DecisionRule, Judge, SimulatedDecision, SimulatedVerdict, Stream, looks, noria
from noria.stats.metrics import Floats

WARM = 100  # requests of the candidate before anybody who looks all the time looks first


class Thresholds(msgspec.Struct, frozen=True):
    """A canary judged by its rate in each interval."""

    failures: int  # that many checks failed: roll back
    silent: int  # that many checks in a row without a request: roll back; 0: such a check is a failed one
    checks: int  # at each step
    advance_on_failure: bool  # steps go by the clock, whatever a check says
    shares: tuple[float, ...] = ()  # of the steps; those of the rule when empty
    interval_s: float = 60.0


ARGO = Thresholds(failures=4, silent=5, checks=10, advance_on_failure=True)
FLAGGER = Thresholds(failures=5, silent=0, checks=1, advance_on_failure=False, shares=(0.1, 0.2, 0.3, 0.4, 0.5))


def judges() -> dict[str, Judge]:
    """Noria and the others, by the names that tables show."""
    return {
        "noria": noria,
        "fixed size": fixed,
        "fixed size, peeked at": peeking,
        "Argo Rollouts": lambda rule, stream: thresholds(ARGO, rule, stream),
        "Flagger": lambda rule, stream: thresholds(FLAGGER, rule, stream),
    }


def size(rule: DecisionRule, stream: Stream) -> int:
    """Requests of the candidate that a one-sided test of two proportions needs, at the last step's share.

    For false_alarm / guards and missed at each guard's margin; the champion's true rates are taken as known. Source: Fleiss,
    Levin and Paik, Statistical Methods for Rates and Proportions (3rd edition, 2003), section 4.2, for unequal groups.
    """
    share = rule.shares[-1]
    ratio = (1 - share) / share
    old = stream.scenario.champion
    normal = NormalDist()
    alpha, beta = normal.inv_cdf(1 - rule.false_alarm / rule.guards), normal.inv_cdf(1 - rule.missed)
    needed = []
    for rate, margin in ((old.errors, rule.errors), (old.slow, rule.slow)):
        worse = min(rate + margin, 1.0)
        mean = (worse + ratio * rate) / (1 + ratio)
        spread = alpha * math.sqrt(mean * (1 - mean) * (1 + 1 / ratio))
        spread += beta * math.sqrt(worse * (1 - worse) + rate * (1 - rate) / ratio)
        needed.append((spread / (worse - rate)) ** 2)
    return math.ceil(max(needed))


def fixed(rule: DecisionRule, stream: Stream) -> SimulatedDecision:
    """One look when the candidate has had ``size`` requests: roll back when it is significantly worse, else promote."""
    return _tested(rule, stream, peeked=False)


def peeking(rule: DecisionRule, stream: Stream) -> SimulatedDecision:
    """The same test at every look from WARM requests of the candidate on; promoted when it has not fired by then."""
    return _tested(rule, stream, peeked=True)


def _tested(rule: DecisionRule, stream: Stream, *, peeked: bool) -> SimulatedDecision:
    share, needed = rule.shares[-1], size(rule, stream)
    while not stream.is_over and stream.outcomes(0, share)[0].sum() < needed:
        stream.grow()
    own = stream.outcomes(0, share)[0]
    reached = np.cumsum(own)
    last = int(np.searchsorted(reached, needed))
    if last == len(own) or stream.times[last] > rule.patience_s:
        seen = int(np.searchsorted(stream.times, rule.patience_s, "right"))
        return SimulatedDecision(SimulatedVerdict.HELD, seen, int(reached[seen - 1]) if seen else 0, rule.patience_s)
    at = looks(stream, 0, share, rule.look_requests).at if peeked else np.zeros(0, dtype=np.intp)
    at = np.append(at[(at < last) & (reached[at] >= WARM)], last)
    limit = NormalDist().inv_cdf(1 - rule.false_alarm / rule.guards)
    found = _scores(stream, share, at) > limit
    index = int(found.argmax()) if found.any() else len(at) - 1
    verdict = SimulatedVerdict.ROLLED_BACK if found.any() else SimulatedVerdict.PROMOTED
    return SimulatedDecision(verdict, int(at[index]) + 1, int(reached[at[index]]), float(stream.times[at[index]]))


def _scores(stream: Stream, share: float, at: NDArray[np.intp]) -> Floats:
    """The larger z statistic of both guards after the requests ``at`` [looks]."""
    own, failed, slow = stream.outcomes(0, share)
    new = np.cumsum(own)[at].astype(np.float64)
    old = at + 1 - new
    best = np.full(len(at), -math.inf)
    for event in (failed, slow):
        mine, theirs = np.cumsum(own & event)[at], np.cumsum(~own & event)[at]
        pooled = (mine + theirs) / (new + old)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = (mine / new - theirs / old) / np.sqrt(pooled * (1 - pooled) * (1 / new + 1 / old))
        best = np.maximum(best, np.where(np.isfinite(score), score, 0.0))
    return best


def thresholds(kind: Thresholds, rule: DecisionRule, stream: Stream) -> SimulatedDecision:
    """Rates in each interval against the champion's true rate plus the guard."""
    shares = kind.shares or rule.shares
    limits = (stream.scenario.champion.errors + rule.errors, stream.scenario.champion.slow + rule.slow)
    step = passed = failures = silent = canary = start = 0
    for number in range(1, int(rule.patience_s / kind.interval_s) + 1):
        while not stream.is_over and (len(stream) == 0 or stream.times[-1] <= number * kind.interval_s):
            stream.grow()
        end = int(np.searchsorted(stream.times, number * kind.interval_s))
        rates = _within(stream, start, end, shares[step])
        canary, start = canary + rates[0], end
        quiet = rates[0] == 0
        silent = silent + 1 if quiet else 0
        bad = (quiet and not kind.silent) or rates[1] > limits[0] or rates[2] > limits[1]
        failures += bad
        if failures >= kind.failures or (kind.silent and silent >= kind.silent):
            return SimulatedDecision(SimulatedVerdict.ROLLED_BACK, start, canary, number * kind.interval_s)
        passed += not bad or kind.advance_on_failure
        if passed >= kind.checks:
            step, passed = step + 1, 0
        if step == len(shares):
            return SimulatedDecision(SimulatedVerdict.PROMOTED, start, canary, number * kind.interval_s)
    return SimulatedDecision(SimulatedVerdict.HELD, start, canary, rule.patience_s)


def _within(stream: Stream, start: int, end: int, share: float) -> tuple[int, float, float]:
    """The candidate's requests from ``start`` to ``end``, and its rates of errors and of slow answers."""
    own, failed, slow = stream.outcomes(start, share, end)
    requests = int(own.sum())
    return requests, float((own & failed).sum() / max(requests, 1)), float((own & slow).sum() / max(requests, 1))
