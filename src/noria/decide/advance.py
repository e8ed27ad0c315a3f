"""Does the canary advance, roll back, or wait? Judged by evidence that may be looked at any time.

Two guards, each with its evidence (``stats.eprocess``) and what it must reach:

- *Roll back* when a guard's evidence for harm, against "no worse than the champion", has ever reached guards / false_alarm.
  By the union bound a release that is no worse is rolled back with probability at most ``false_alarm``, over all guards,
  steps and looks.
- *Promote*, at the last step below full traffic, when every guard's evidence for safety, against "worse by at least the
  guard", reaches 1 / missed. A release that is so much worse in either respect is promoted with probability at most
  ``missed``. Step k of K goes on at (1 / missed) ** (k / K): early steps ask for their part of the way.
- Neither within ``patience``: hold, and ask a person.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from noria.domain.policy import RolloutPolicy
from noria.domain.rollout import Advice, Block, Tally
from noria.domain.verdict import Outcome, Reason
from noria.stats import eprocess
from noria.stats.eprocess import Outcomes

GUARDS = 2  # errors, slow answers
LARGEST = 700.0  # exp of more is not a float

Count = Callable[[Tally], int]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one guard stands. ``harm`` and ``safe`` are evidence (e-values, not logarithms), beside what they need to reach."""

    candidate_events: int
    candidate_requests: int
    champion_events: int
    champion_requests: int
    harm: float
    harm_needed: float
    safe: float
    safe_needed: float


@dataclass(frozen=True, slots=True)
class Ruling:
    advice: Advice
    reason: Reason
    errors: Standing
    slow: Standing


def judge(policy: RolloutPolicy, step: int, blocks: Sequence[Block], elapsed_s: float, seed: int) -> Ruling:
    """One look at a rollout at ``policy.steps[step]``.

    ``blocks``: all the evidence since the rollout began, in order, each written down at a look and never changed after.
    ``elapsed_s``: since the rollout began. ``seed``: the same at every look of a rollout (0 or more).
    """
    needed = _safe_needed(policy, step)
    errors = _standing(policy, blocks, lambda t: t.errors, policy.guards.errors, needed, seed)
    slow = _standing(policy, blocks, lambda t: t.slow, policy.guards.slow_by, needed, seed + 1)
    advice, reason = _advise(policy, step, blocks, elapsed_s, errors, slow)
    return Ruling(advice, reason, errors, slow)


def judged_steps(policy: RolloutPolicy) -> tuple[float, ...]:
    """The steps that live traffic judges: those that leave the champion a share."""
    return tuple(step.share for step in policy.steps if step.judged)


def _safe_needed(policy: RolloutPolicy, step: int) -> float:
    steps = len(judged_steps(policy))
    return (1 / policy.missed) ** (min(step + 1, steps) / steps) if steps else 1.0


def _standing(policy: RolloutPolicy, blocks: Sequence[Block], count: Count, margin: float, needed: float, seed: int) -> Standing:
    outcomes = [
        Outcomes(
            champion_requests=b.champion.requests,
            champion_events=count(b.champion),
            candidate_requests=b.candidate.requests,
            candidate_events=count(b.candidate),
        )
        for b in blocks
    ]
    return Standing(
        candidate_events=sum(o.candidate_events for o in outcomes),
        candidate_requests=sum(o.candidate_requests for o in outcomes),
        champion_events=sum(o.champion_events for o in outcomes),
        champion_requests=sum(o.champion_requests for o in outcomes),
        harm=_highest([(b.share, o.champion_events, o.candidate_events) for b, o in zip(blocks, outcomes, strict=True)]),
        harm_needed=GUARDS / policy.false_alarm,
        safe=_value(eprocess.safe_log_evidence(outcomes, margin, seed)),
        safe_needed=needed,
    )


def _highest(events: Sequence[tuple[float, int, int]]) -> float:
    """The most that the evidence for harm has ever been: what was shown once stays shown."""
    judged = [(share, old, new) for share, old, new in events if 0 < share < 1]  # else there is nobody to compare with
    if not judged:
        return 1.0
    share, champion, candidate = np.array(judged, dtype=np.float64).T
    return _value(max(0.0, float(eprocess.harm_path(share, champion, candidate).max())))


def _value(log_evidence: float) -> float:
    return math.exp(min(log_evidence, LARGEST))


def _advise(
    policy: RolloutPolicy, step: int, blocks: Sequence[Block], elapsed_s: float, errors: Standing, slow: Standing
) -> tuple[Advice, Reason]:
    steps = judged_steps(policy)
    if step >= len(steps):
        return Advice.PROMOTE, Reason("rollout.direct", "direct rollout: no step of it is judged by live traffic")
    share = steps[step]
    harmful = [_harm_words(n, s, share) for n, s in (("errors", errors), ("slow answers", slow)) if s.harm >= s.harm_needed]
    if harmful:
        text = f"{'; '.join(harmful)}: roll back"
        return Advice.ROLL_BACK, Reason("rollout.harm", text, Outcome.FAIL, _numbers(errors, slow))
    if min(errors.safe, slow.safe) >= errors.safe_needed:
        return _onward(policy, step, errors, slow)
    return _undecided(policy, share, elapsed_s, errors, slow)


def _onward(policy: RolloutPolicy, step: int, errors: Standing, slow: Standing) -> tuple[Advice, Reason]:
    steps, numbers = judged_steps(policy), _numbers(errors, slow)
    shown = f"{_counts(errors, slow)}; {_safe_words(errors, slow)}"
    if step + 1 < len(steps):
        return Advice.ADVANCE, Reason(
            "rollout.advance", f"{shown}: go on to {_percent(steps[step + 1])} of traffic", Outcome.PASS, numbers
        )
    limits = f"{_percent(policy.guards.errors)} more errors or {_percent(policy.guards.slow_by)} more slow answers"
    return Advice.PROMOTE, Reason("rollout.safe", f"{shown}: harm of {limits} is ruled out, promote", Outcome.PASS, numbers)


def _undecided(policy: RolloutPolicy, share: float, elapsed_s: float, errors: Standing, slow: Standing) -> tuple[Advice, Reason]:
    late = elapsed_s > policy.patience_s
    if errors.candidate_requests == 0:
        stands = f"no requests on the canary yet at {_percent(share)} of traffic"
    else:
        stands = (
            f"{_counts(errors, slow)} at {_percent(share)} of traffic; {_safe_words(errors, slow)}, {_harm_stand(errors, slow)}"
        )
    numbers = _numbers(errors, slow)
    if late:
        text = f"no verdict within {policy.patience_s / 60:,.4g} min: {stands}"
        return Advice.HOLD, Reason("rollout.patience", text, Outcome.NOT_ENOUGH_DATA, numbers)
    return Advice.WAIT, Reason("rollout.wait", stands, Outcome.NOT_ENOUGH_DATA, numbers)


def _counts(errors: Standing, slow: Standing) -> str:
    return (
        f"{_plural(errors.candidate_events, 'error')} and {_plural(slow.candidate_events, 'slow answer')} "
        f"in {_plural(errors.candidate_requests, 'request')} on the canary"
    )


def _plural(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}s" if number != 1 else f"1 {noun}"


def _harm_words(name: str, standing: Standing, share: float) -> str:
    total = standing.candidate_events + standing.champion_events
    return (
        f"{name}: {standing.candidate_events:,} of {total:,} events on the canary at {_percent(share)} of traffic "
        f"after {standing.candidate_requests:,} of its requests; evidence {_evidence(standing.harm)}, "
        f"needed {_evidence(standing.harm_needed)}"
    )


def _safe_words(errors: Standing, slow: Standing) -> str:
    return f"evidence for safety {_evidence(min(errors.safe, slow.safe))}, needed {_evidence(errors.safe_needed)}"


def _harm_stand(errors: Standing, slow: Standing) -> str:
    return f"for harm {_evidence(max(errors.harm, slow.harm))}, needed {_evidence(errors.harm_needed)}"


def _evidence(value: float) -> str:
    return f"{value:,.0f}" if 10 <= value < 1e6 else f"{value:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _numbers(errors: Standing, slow: Standing) -> dict[str, float]:
    numbers: dict[str, float] = {"requests": errors.candidate_requests, "champion_requests": errors.champion_requests}
    for name, standing in (("errors", errors), ("slow", slow)):
        numbers |= {f"{name}_candidate": standing.candidate_events, f"{name}_champion": standing.champion_events}
        numbers |= {f"{name}_harm": standing.harm, f"{name}_safe": standing.safe}
    return numbers | {"harm_needed": errors.harm_needed, "safe_needed": errors.safe_needed}
