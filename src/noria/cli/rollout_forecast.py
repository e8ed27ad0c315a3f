"""Forecasts how long a rollout takes at current traffic, guard by guard, and which of its settings decide nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec.structs import replace

from noria.cli.output import duration, number, percent, plural
from noria.delivery import judge_guards, judge_patience
from noria.delivery.judge_patience import NEVER, Loss, RateGuard, RolloutPlan
from noria.kernel.policy import Assign, StepKind
from noria.kernel.words import lasting
from noria.stats.eprocess import requests_needed
from noria.stats.quantiles import values_needed

if TYPE_CHECKING:
    from noria.config.project import Environment
    from noria.delivery.judge_patience import GuardCost, Loss, RateGuard, RolloutPlan
    from noria.kernel.policy import RolloutPolicy

Level = Literal["ok", "warn"]


class ForecastLine(NamedTuple):
    """Something to say of a rollout."""

    guard: str  # errors, slow answers, brier; empty: of all of it
    level: Level
    text: str


def lines(
    environment: Environment, project: str, label_delay_s: float, rates: Mapping[str, Any] | None, projects: int
) -> list[ForecastLine]:
    """``rates``: as the server's status has them, None without a server; of so many ``projects`` together."""
    policy = environment.rollout
    if policy.direct:
        return []
    deferred = policy.guards.quality is not None and label_delay_s >= policy.patience_s
    remarks = [ForecastLine("", "warn", text) for text in _remarks(policy, label_delay_s, deferred=deferred)]
    if rates is None or not rates["requests_per_s"]:
        return [ForecastLine("", "ok", _unknown(policy, rates)), *remarks]
    plan, guards = _plan(policy, rates, project, deferred=deferred)
    return [
        ForecastLine("", "ok", _present(rates, project, projects)),
        *_guards(plan, guards),
        *_quantile(plan, policy),
        *remarks,
    ]


def _unknown(policy: RolloutPolicy, rates: Mapping[str, Any] | None) -> str:
    needed = requests_needed(min(policy.guards.errors, policy.guards.slow_by), policy.missed)
    if policy.guards.quantile is not None:
        needed = max(needed, values_needed(policy.guards.quantile.quantile, policy.missed / 2))
    text = f"a flawless candidate is promoted after about {plural(needed, 'request')} of its own"
    text += f"; patience {lasting(policy.patience_s)}"
    return text if rates is None else f"{text}; no request came in over the last {duration(rates['over_s'])}"


def _present(rates: Mapping[str, Any], project: str, projects: int) -> str:
    served = rates["served"].get(project)
    text = f"{number(rates['requests_per_s'])} requests/s over the last {duration(rates['over_s'])}"
    if projects > 1:
        text += f", of all {plural(projects, 'project')} there"
    if served is not None:
        errors, slow = percent(served["errors"]), percent(served["slow"])
        text += f"; of the champion's {served['requests']:,} answers {errors} failed, {slow} slow"
    return f"{text}; {number(rates['labels_per_s'])} labels/s"


def _plan(
    policy: RolloutPolicy, rates: Mapping[str, Any], project: str, *, deferred: bool
) -> tuple[RolloutPlan, Sequence[RateGuard | Loss]]:
    """Plans the guards whose time can be forecast.

    Of a quantile only the minimum can, see `_quantile`; guards whose labels come too late are left out.
    """
    judged, limits = [step for step in policy.steps if step.judged], policy.guards
    shares = tuple(step.share for step in judged if step.kind is StepKind.CANARY)
    shadow = next((step.share for step in judged if step.kind is StepKind.SHADOW), 0.0)
    served = rates["served"].get(project, {"errors": 0.0, "slow": 0.0})
    guards: list[RateGuard | Loss] = [RateGuard("errors", limits.errors, min(served["errors"], 1 - limits.errors))]
    if shares:
        guards.append(RateGuard("slow answers", limits.slow_by, min(served["slow"], 1 - limits.slow_by), paired=False))
    if limits.quality is not None and not deferred:
        paired = policy.pairs if shares else shadow
        pairs_per_s = paired * min(rates["labels_per_s"], rates["requests_per_s"])
        guards.append(Loss(limits.quality.metric, limits.quality.by / limits.quality.bound, labels_per_s=pairs_per_s))
    each = policy.false_alarm / judge_guards.guards(policy)  # also where not all of the guards are foretold
    plan = RolloutPlan(shares, each * len(guards), policy.missed, policy.patience_s, rates["requests_per_s"], shadow)
    return plan, guards


def _guards(plan: RolloutPlan, guards: Sequence[RateGuard | Loss]) -> list[ForecastLine]:
    late = {found.guard: found.text for found in judge_patience.findings(plan, guards)}
    taken = zip(guards, judge_patience.guard_costs(plan, guards), strict=True)
    return [
        ForecastLine(guard.name, "warn", f"{late[guard.name]}. {_remedy(guard)}")
        if guard.name in late
        else ForecastLine(guard.name, "ok", _words(guard, one))
        for guard, one in taken
    ]


def _quantile(plan: RolloutPlan, policy: RolloutPolicy) -> list[ForecastLine]:
    """The least that a guard on a quantile takes: how latencies spread is not known here."""
    guard = policy.guards.quantile
    if guard is None or not plan.shares:
        return []
    canary, seconds = judge_patience.quantile_cost(plan, guard.quantile)
    late = seconds is not None and seconds > policy.patience_s
    text = f"needs at least {canary:,} requests of the candidate, {duration(seconds or 0)}; more if latencies vary"
    if late:
        text += f". That exceeds the patience of {lasting(policy.patience_s)}; a larger share or more patience is needed"
    return [ForecastLine(f"p{100 * guard.quantile:g}", "warn" if late else "ok", text)]


def _words(guard: RateGuard | Loss, one: GuardCost) -> str:
    what = "labelled pairs" if isinstance(guard, Loss) else "requests"
    good, harm = _after(one, what), _after(replace(one, requests=one.harm_requests, seconds=one.harm_seconds), what)
    spread = f", where differences spread by {percent(guard.sd)} of the bound" if isinstance(guard, Loss) else ""
    return f"a candidate as good is cleared after about {good}, one worse by the guard found after {harm}{spread}"


def _after(one: GuardCost, what: str) -> str:
    return "never" if one.requests >= NEVER else f"{number(one.requests)} {what}, {duration(one.seconds)}"


def _remedy(guard: RateGuard | Loss) -> str:
    first = "More pairs (rollout.pairs) or labels" if isinstance(guard, Loss) else "A larger share"
    return f"{first}, a wider guard or more patience would decide it"


def _remarks(policy: RolloutPolicy, label_delay_s: float, *, deferred: bool) -> list[str]:
    said = []
    if deferred:
        text = f"labels come {duration(label_delay_s)} after the request, after the patience ends: quality is judged in probation"
        if policy.probation_s <= label_delay_s:
            ends = f"that ends before them, after {duration(policy.probation_s)}" if policy.probation_s else "there is none"
            text += f", and {ends}: a longer probation could judge it"
        said.append(text)
    if not any(step.judged and step.kind is StepKind.CANARY for step in policy.steps):
        said.append("in no step do candidate and champion answer at the same time, so slow answers are not judged")
    if policy.assign is Assign.KEY:
        said.append("assign: key counts only the first request of each key: the numbers above are keys, so it takes longer")
    return said
