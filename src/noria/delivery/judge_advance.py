"""Judges whether a rollout advances, rolls back or waits. The evidence may be looked at at any time (`delivery.judge_guards`).

- *Roll back* when a guard's evidence for harm, against "no worse than the champion", has ever reached guards / false_alarm.
  By the union bound a release that is no worse is rolled back with probability at most ``false_alarm``, over all guards,
  steps and looks, probation among them.
- *Promote*, at the last step below full traffic, when every guard's evidence for safety, against "worse by at least the
  guard", reaches 1 / missed. A release that is so much worse in any respect is promoted with probability at most ``missed``.
  Step k of K goes on at (1 / missed) ** (k / K): early steps ask for their part of the way.
- Neither within ``patience``: hold, and ask a person. So does a candidate that is safe only because its champion fails as it
  does: one that fails more than ``guards.failing`` of its requests does not go on by itself.
- *Probation* ends by the clock; it says what the evidence shows by then. No data is not healthy: without labels it says so.
"""

from __future__ import annotations

import msgspec

from noria.delivery import judge_guards as guards
from noria.delivery.judge_guards import Evidence
from noria.delivery.rollout_record import ASKS_APPROVAL, Advice, GuardStatus
from noria.kernel.policy import RolloutPolicy, RolloutStep, StepKind
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import lasting, percent, plural


class AnalysisMoment(msgspec.Struct, frozen=True):
    """The time of an analysis, in seconds of the project clock, and the approvals so far."""

    patient_s: float = 0.0  # since patience began to count
    step_s: float = 0.0  # since the step, or probation, began
    approvals: int = 0  # people who agreed since the step began
    deferred: bool = False  # labels come later than patience: quality is judged in probation


class Ruling(msgspec.Struct, frozen=True):
    advice: Advice
    reason: Reason
    stands: tuple[GuardStatus, ...]

    @property
    def errors(self) -> GuardStatus:
        return self.stands[0]

    @property
    def slow(self) -> GuardStatus:
        return self.stands[1]


def judge(policy: RolloutPolicy, step: int, evidence: Evidence, moment: AnalysisMoment) -> Ruling:
    """Judges a rollout at ``policy.steps[step]``."""
    found = guards.stands(policy, evidence, _safe_needed(policy, step))
    advice, reason = _advise(policy, step, evidence, moment, found)
    return Ruling(advice, reason, found)


def judge_probation(policy: RolloutPolicy, evidence: Evidence, moment: AnalysisMoment) -> Ruling:
    """Judges a release on probation, which serves all traffic while the previous one stays loaded: PROMOTE at its end."""
    found = guards.stands(policy, evidence, 1 / policy.missed)
    harm = _harm(found)
    if harm is not None:
        return Ruling(Advice.ROLL_BACK, harm, found)
    quality = [stand for stand in found if policy.guards.quality and stand.guard == policy.guards.quality.metric]
    if moment.step_s < policy.probation_s:
        left = policy.probation_s - moment.step_s
        text = f"on probation for {lasting(left)} more: {_all_words(quality or found[:1])}"
        return Ruling(Advice.WAIT, Reason("probation.wait", text, Outcome.NOT_ENOUGH_DATA, guards.numbers(found)), found)
    undecided = [stand for stand in quality if not stand.cleared]
    if undecided:
        text = f"probation ended without a verdict on quality, so its quality is unconfirmed: {_all_words(undecided)}"
        reason = Reason("probation.undecided", text, Outcome.NOT_ENOUGH_DATA, guards.numbers(found))
    else:
        shown = f": {_all_words(quality)}" if quality else "; quality is not guarded"
        reason = Reason("probation.passed", f"probation is over, no harm was found{shown}", Outcome.PASS, guards.numbers(found))
    return Ruling(Advice.PROMOTE, reason, found)


def judged_steps(policy: RolloutPolicy) -> tuple[RolloutStep, ...]:
    """The steps that live traffic judges: those that leave the champion a share."""
    return tuple(step for step in policy.steps if step.judged)


def _safe_needed(policy: RolloutPolicy, step: int) -> float:
    """What the judged steps up to and with this one ask for."""
    steps = len(judged_steps(policy))
    reached = sum(1 for each in policy.steps[: step + 1] if each.judged)
    return float((1 / policy.missed) ** (reached / steps)) if steps else 1.0


def _advise(
    policy: RolloutPolicy, step: int, evidence: Evidence, moment: AnalysisMoment, found: tuple[GuardStatus, ...]
) -> tuple[Advice, Reason]:
    harm = _harm(found)
    if harm is not None:
        return Advice.ROLL_BACK, harm
    now = policy.steps[step] if step < len(policy.steps) else RolloutStep(StepKind.CANARY, 1.0)
    if now.kind is StepKind.CANARY and now.share == 1:
        return Advice.PROMOTE, Reason("rollout.direct", "direct rollout: no step is judged by live traffic")
    if now.kind is StepKind.PAUSE:
        return _pause_advice(policy, step, moment, found)
    if now.kind is StepKind.APPROVE:
        return _approval_advice(policy, step, moment, found)
    required = [stand for stand in found if _is_required(policy, now, moment, stand)]
    open_ = [stand for stand in required if not stand.cleared]
    failing = _failing(policy, evidence)
    if open_ or failing:
        return _patience_advice(policy, moment, found, failing or _all_words(open_))
    return _onward(policy, step, _all_words(required), found)


def _harm(found: tuple[GuardStatus, ...]) -> Reason | None:
    harmful = [guards.harm_words(stand) for stand in found if stand.harmful]
    if not harmful:
        return None
    return Reason("rollout.harm", f"{'; '.join(harmful)}: roll back", Outcome.FAIL, guards.numbers(found))


def _is_required(policy: RolloutPolicy, step: RolloutStep, moment: AnalysisMoment, stand: GuardStatus) -> bool:
    """Quality is judged in probation where labels come too late; latency where the candidate answers, not where it scores."""
    if _is_quality(policy, stand):
        return not moment.deferred
    return step.kind is not StepKind.SHADOW or stand.guard == guards.ERRORS


def _is_quality(policy: RolloutPolicy, stand: GuardStatus) -> bool:
    return policy.guards.quality is not None and stand.guard == policy.guards.quality.metric


def _pause_advice(
    policy: RolloutPolicy, step: int, moment: AnalysisMoment, found: tuple[GuardStatus, ...]
) -> tuple[Advice, Reason]:
    left = policy.steps[step].seconds - moment.step_s
    if left <= 0:
        return _onward(policy, step, f"paused for {lasting(policy.steps[step].seconds)}, no harm was found", found)
    text = f"paused for {lasting(left)} more; {_all_words(found[:1])}"
    return Advice.WAIT, Reason("rollout.pause", text, Outcome.NOT_ENOUGH_DATA, guards.numbers(found))


def _approval_advice(
    policy: RolloutPolicy, step: int, moment: AnalysisMoment, found: tuple[GuardStatus, ...]
) -> tuple[Advice, Reason]:
    missing = policy.steps[step].approvals - moment.approvals
    if missing <= 0:
        return _onward(policy, step, plural(moment.approvals, "approval"), found)
    text = f"waits for {plural(missing, 'approval')} (`noria approve`); {_all_words(found[:1])}"
    return Advice.WAIT, Reason(ASKS_APPROVAL, text, Outcome.NOT_ENOUGH_DATA, guards.numbers(found))


def _onward(policy: RolloutPolicy, step: int, shown: str, found: tuple[GuardStatus, ...]) -> tuple[Advice, Reason]:
    after = policy.steps[step + 1]
    numbers = guards.numbers(found)
    if after.kind is StepKind.CANARY and after.share == 1:
        text = f"{shown}: harm of the guards' size is ruled out, promote" if judged_steps(policy) else f"{shown}: promote"
        return Advice.PROMOTE, Reason("rollout.safe", text, Outcome.PASS, numbers)
    return Advice.ADVANCE, Reason("rollout.advance", f"{shown}: go on to {after.words}", Outcome.PASS, numbers)


def _failing(policy: RolloutPolicy, evidence: Evidence) -> str:
    """Returns why a candidate may not advance, whatever its champion did; empty when it may."""
    asked, failed = guards.failing(evidence.blocks)
    if not asked:
        return "no request has reached the candidate yet, and no data is not healthy"
    if failed <= policy.guards.failing * asked:
        return ""
    most = percent(policy.guards.failing)
    return f"it failed {failed:,} of {plural(asked, 'request')}, more than the {most} that guard.failing allows"


def _patience_advice(
    policy: RolloutPolicy, moment: AnalysisMoment, found: tuple[GuardStatus, ...], why: str
) -> tuple[Advice, Reason]:
    if moment.patient_s > policy.patience_s:
        text = f"no verdict within {lasting(policy.patience_s)}: {why}"
        return Advice.HOLD, Reason("rollout.patience", text, Outcome.NOT_ENOUGH_DATA, guards.numbers(found))
    return Advice.WAIT, Reason("rollout.wait", why, Outcome.NOT_ENOUGH_DATA, guards.numbers(found))


def _all_words(found: list[GuardStatus] | tuple[GuardStatus, ...]) -> str:
    return "; ".join(guards.where_words(stand) for stand in found)
