"""Judges each guard of a rollout: the evidence for harm and for safety, what each must reach, and a sentence.

Harm rejects "no worse than the champion"; one budget ``false_alarm`` is shared over the guards by the union bound, and each
process may be looked at any time, so it must reach guards / false_alarm. Safety rejects "worse by at least the guard"; a
release is promoted when every guard is cleared, so each alone keeps the budget ``missed``: it must reach 1 / missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from noria.delivery.rollout_record import GuardStatus, Interval, evidence_words
from noria.kernel.policy import QualityGuard, QuantileGuard, RolloutPolicy
from noria.kernel.tasks import find_metric
from noria.kernel.words import percent
from noria.serving.tallies import Tally
from noria.stats import betting, eprocess, quantiles
from noria.stats.eprocess import Outcomes
from noria.stats.metrics import Floats

ERRORS, SLOW = "errors", "slow answers"
DROPPED_SE = 2.0  # standard errors below what chance draws: pairs were dropped
LARGEST = 700.0  # exp of more is not a float

Count = Callable[[Tally], int]


def _none() -> Floats:
    return np.zeros(0)


class Evidence(msgspec.Struct, frozen=True, eq=False):
    """Everything that came in since a rollout began.

    ``blocks``: in order, each written down at a look and never changed after. ``differences`` [n]: loss of the candidate less
    that of the champion, on requests that both scored and whose label is known, divided by the guard's bound: in [-1, 1].
    ``pairs``: requests that both scored, labelled or not. ``latencies``: of the champion's [n] and the candidate's requests
    [m], in ms, where a quantile is guarded.
    """

    blocks: Sequence[Interval] = ()
    differences: Floats = msgspec.field(default_factory=_none)
    pairs: int = 0
    latencies: tuple[Floats, Floats] = msgspec.field(default_factory=lambda: (_none(), _none()))


def guards(policy: RolloutPolicy) -> int:
    """How many guards share the budget."""
    return 2 + (policy.guards.quality is not None) + (policy.guards.quantile is not None)


def share_on_probation(drawn: float, answered: int, pairs: int) -> float:
    """The chance that a failure of one release alone is the new one's: each of its own is seen, and of the old one's those on
    the pairs. Of these some are dropped where there is more to score than time for it; then the pairs that there are count.

    ``drawn``: the share of requests for pairs; ``answered``: requests that the new release did not fail; ``pairs``: of them,
    scored by the old one.
    """
    share, due = drawn, drawn * answered
    if answered > 0 and pairs < due - DROPPED_SE * math.sqrt(due * (1 - drawn)):
        share = pairs / answered
    return 1 / (1 + share)


def stands(policy: RolloutPolicy, evidence: Evidence, needed: float) -> tuple[GuardStatus, ...]:
    """Every guard, errors and slow answers first. ``needed``: evidence for safety that this step asks for."""
    found = [
        _event_status(policy, evidence.blocks, ERRORS, needed),
        _event_status(policy, evidence.blocks, SLOW, needed),
    ]
    if policy.guards.quality is not None:
        found.append(_quality(policy, policy.guards.quality, evidence, needed))
    if policy.guards.quantile is not None:
        found.append(_quantile(policy, policy.guards.quantile, evidence.latencies, needed))
    return tuple(found)


def harm_needed(policy: RolloutPolicy) -> float:
    return guards(policy) / policy.false_alarm


def _event_status(policy: RolloutPolicy, blocks: Sequence[Interval], guard: str, needed: float) -> GuardStatus:
    count, margin = _COUNTED[guard]
    if guard == SLOW:  # not that none was slow: nothing is known of it
        blocks = [b for b in blocks if not b.paired]
    outcomes = [_outcomes(block, count) for block in blocks]
    own, theirs = sum(o.candidate_events for o in outcomes), sum(o.champion_events for o in outcomes)
    compared = [o for o in outcomes if 0 < o.share < 1]  # else there is nobody to compare with
    text = f"{own:,} of {own + theirs:,} events on the canary{_where(outcomes)}" if own + theirs else "no event on either release"
    return GuardStatus(
        guard=guard,
        text=f"{text} in {_request_words(blocks, outcomes)}",
        harm=_highest(compared),
        harm_needed=harm_needed(policy),
        safe=value(eprocess.safe_log_evidence(compared, margin(policy))),
        safe_needed=needed,
    )


def _outcomes(block: Interval, count: Count) -> Outcomes:
    """Of pairs, without those that both failed."""
    both = block.candidate.both if block.paired else 0
    return Outcomes(
        share=block.share,
        champion_events=count(block.champion) - both,
        candidate_requests=block.candidate.requests - both,
        candidate_events=count(block.candidate) - both,
        paired=block.paired,
    )


_COUNTED: dict[str, tuple[Count, Callable[[RolloutPolicy], float]]] = {
    ERRORS: (lambda t: t.errors, lambda p: p.guards.errors),
    SLOW: (lambda t: t.slow, lambda p: p.guards.slow_by),
}


def failing(blocks: Sequence[Interval]) -> tuple[int, int]:
    """Requests that the candidate was asked, and those that it failed, also where the champion failed them too."""
    return sum(b.candidate.requests for b in blocks), sum(b.candidate.errors for b in blocks)


def _request_words(blocks: Sequence[Interval], outcomes: Sequence[Outcomes]) -> str:
    """``412 of its requests``; ``300 pairs, and 2 that both failed``."""
    asked = f"{sum(o.candidate_requests for o in outcomes):,}"
    if not blocks or not all(b.paired for b in blocks):
        return f"{asked} of its requests"
    both = sum(b.candidate.both for b in blocks)
    return f"{asked} pairs" + (f", and {both:,} that both failed" if both else "")


def _where(outcomes: Sequence[Outcomes]) -> str:
    """At which shares of traffic: one, or from the smallest to the largest."""
    shares = [o.share for o in outcomes if o.candidate_requests]
    if not shares:
        return ""
    low, high = min(shares), max(shares)
    return f" at {percent(low)} of traffic" if low == high else f" at {percent(low)} to {percent(high)} of traffic"


def _highest(outcomes: Sequence[Outcomes]) -> float:
    """The most that the evidence for harm has ever been: what was shown once stays shown."""
    if not outcomes:
        return 1.0
    share, champion, _, candidate, _ = zip(*outcomes, strict=True)
    return value(max(0.0, float(eprocess.harm_path(share, champion, candidate).max())))


def _quality(policy: RolloutPolicy, guard: QualityGuard, evidence: Evidence, needed: float) -> GuardStatus:
    """Betting on paired differences of a bounded loss."""
    found, margin = evidence.differences, guard.by / guard.bound
    if len(found):
        low, high = betting.confidence_sequence(found, policy.missed)
        metric = find_metric(guard.metric)
        worse = -1 if metric is not None and metric.greater_is_better else 1  # a loss is told as what people know
        low, high = sorted((worse * low * guard.bound, worse * high * guard.bound))
        mean = worse * float(found.mean()) * guard.bound
        text = f"{mean:+.4g} ({low:+.4g} to {high:+.4g}) on {len(found):,} labelled of {evidence.pairs:,} pairs"
    else:
        text = f"no label yet on {evidence.pairs:,} pairs"
    return GuardStatus(
        guard=guard.metric,
        text=text,
        harm=value(betting.harm_log_evidence(found)),
        harm_needed=harm_needed(policy),
        safe=value(betting.safe_log_evidence(found, margin)),
        safe_needed=needed,
    )


def _quantile(policy: RolloutPolicy, guard: QuantileGuard, latencies: tuple[Floats, Floats], needed: float) -> GuardStatus:
    """Bounds of the difference of a quantile, at the level that each side must reach."""
    old, new = latencies
    most, harm, safe = harm_needed(policy), 1.0, 1.0
    text = f"{len(new):,} latencies of the candidate"
    if len(old) and len(new):
        later, _ = quantiles.quantile_difference(new, old, guard.quantile, 1 / most)
        low, high = quantiles.quantile_difference(new, old, guard.quantile, min(0.5, 1 / needed))
        harm, safe = most if later > 0 else 1.0, needed if high < guard.by_ms else 1.0  # bounds decide or say nothing
        text = f"{low:+.3g} to {high:+.3g} ms on {text}" if math.isfinite(low + high) else f"{text} are too few to judge"
    return GuardStatus(f"p{100 * guard.quantile:g}", text, harm, most, safe, needed)


def value(log_evidence: float) -> float:
    """An e-value from its logarithm."""
    return math.exp(min(log_evidence, LARGEST))


def harm_words(stand: GuardStatus) -> str:
    """``errors: 7 of 9 events on the candidate at 10 % of traffic in 412 of its requests; evidence 212, needed 100``."""
    return f"{stand.guard}: {stand.text}; evidence {evidence_words(stand.harm)}, needed {evidence_words(stand.harm_needed)}"


def where_words(stand: GuardStatus) -> str:
    return (
        f"{stand.guard}: {stand.text}; for safety {evidence_words(stand.safe)} of {evidence_words(stand.safe_needed)}, "
        f"for harm {evidence_words(stand.harm)} of {evidence_words(stand.harm_needed)}"
    )


def numbers(found: Sequence[GuardStatus]) -> dict[str, float]:
    """For programs: each guard's evidence under its name."""
    pairs: dict[str, float] = {}
    for stand in found:
        name = stand.guard.replace(" ", "_")
        pairs |= {f"{name}_harm": stand.harm, f"{name}_safe": stand.safe}
    return pairs
