"""`noria rollout simulate`: how many requests a rollout needs to decide, and how often it decides wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec
from msgspec.structs import replace

from noria.cli.context import Home, pass_home
from noria.cli.output import duration, emit, json_option, number, percent, plural, table
from noria.config import units
from noria.delivery import judge_advance, judge_guards, judge_patience, simulation
from noria.delivery.judge_patience import Loss, RateGuard, RolloutPlan
from noria.delivery.simulation import ArmShares, Scenario
from noria.kernel.errors import NotFoundError, UsageError
from noria.kernel.policy import StepKind

if TYPE_CHECKING:
    from noria.config import Project
    from noria.delivery.judge_patience import GuardCost, Loss, RateGuard
    from noria.delivery.simulation import DecisionRule, Scenario, SimulationResult
    from noria.kernel.policy import RolloutPolicy

STEPS = (0.05, 0.25)  # where the project has no canary steps
LABELS = "labels"
MUCH = 5  # times the guard, of the candidate that is much worse

Kind = Literal["share", "duration_s", "frequency"]


class SimulateOptions(msgspec.Struct, frozen=True):
    """The options as they were written; None takes what noria.yaml says."""

    errors: str
    slow: str
    traffic: str
    burst: float
    drift: float
    steps: str | None
    guard_errors: str | None
    guard_slow: str | None
    false_alarm: str | None
    missed: str | None
    patience: str | None
    shadow: str | None
    brier: float | None
    labels: str | None
    loss_sd: float


@click.command()
@click.option(
    "--errors",
    default="1%",
    show_default=True,
    metavar="A[:B]",
    help="Share of errors: of the champion, or of champion:candidate.",
)
@click.option("--slow", default="0.5%", show_default=True, metavar="A[:B]", help="Share of slow answers, in the same form.")
@click.option("--traffic", default="20/s", show_default=True, help="How many requests come: 20/s, 300/min, 5000/h.")
@click.option("--burst", default=1.0, show_default=True, help="How many times the requests of every fifth minute are multiplied.")
@click.option(
    "--drift",
    default=1.0,
    show_default=True,
    help="By what factor the champion's rates grow in the meantime; the candidate's grow by as much.",
)
@click.option("--steps", help="The candidate's shares of traffic: 5%,25%,100%.")
@click.option("--guard-errors", metavar="SHARE", help="How many more errors are too much: 1%.")
@click.option("--guard-slow", metavar="SHARE", help="How many more slow answers are too much: 2%.")
@click.option("--false-alarm", metavar="SHARE", help="The share of good candidates that may be rolled back: 1%.")
@click.option("--missed", metavar="SHARE", help="The share of harmful candidates that may be promoted: 5%.")
@click.option("--patience", metavar="DURATION", help="After how long an undecided rollout is held: 1h.")
@click.option("--shadow", metavar="SHARE", help="The share of requests that both score in a first step: 30%.")
@click.option("--brier", type=float, metavar="LOSS", help="How much greater a loss is too much, where labels come: 0.01.")
@click.option("--labels", metavar="RATE", help="How often labels come for requests that both scored: 5/s.")
@click.option(
    "--loss-sd",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="The standard deviation of the difference of two losses.",
)
@click.option("--rollouts", default=300, show_default=True, type=click.IntRange(1, 20_000), help="How many rollouts to simulate.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed gives the same figures.")
@click.option("--environment", "-e", help="The environment whose settings to use; by default the last one of noria.yaml.")
@json_option
@pass_home
def command(home: Home, /, rollouts: int, seed: int, environment: str | None, as_json: bool, **options: Any) -> None:
    """Simulate rollouts: how many requests and how much time a decision takes, and how often it is wrong.

    Settings come from the environment unless given here. With one rate each, the candidates are as good as the champion, worse by
    the guard, and much worse; with two (1%:5%), the one you describe, beside a good one. Evidence is judged after every error and
    every slow answer; with --labels, quality is judged, too. Pauses are left out.

    \b
    Example:  noria rollout simulate
              noria rollout simulate --errors 1%:5% --traffic 3/s --steps 5%,25%,100%
              noria rollout simulate --shadow 30% --brier 0.01 --labels 5/s

    JSON keys: environment, settings {shares, errors, slow, false_alarm, missed, patience_s, guards, look_requests, shadow,
    quality}, traffic_per_s, foretold [guard, canary, requests, seconds, harm_requests, harm_seconds], warnings [text], results
    [rule, scenario, rollouts, promoted, rolled_back, held, requests {median, p90}, canary {...}, seconds {...}].
    """
    asked = SimulateOptions(**options)
    name, rule, said = _rule(home.project(), environment, asked)
    scenarios = _scenarios(asked, rule)
    plan, guards = _plan(asked, rule, scenarios[0])
    try:
        foretold, warnings = judge_patience.guard_costs(plan, guards), [f.text for f in judge_patience.findings(plan, guards)]
        found = [one for scenario in scenarios for one in simulation.run(scenario, rule, rollouts, seed)]
    except ValueError as error:
        raise UsageError(f"this cannot be simulated: {error}") from error
    document = {
        "environment": name,
        "settings": msgspec.to_builtins(rule),
        "traffic_per_s": scenarios[0].traffic_per_s,
        "foretold": [msgspec.to_builtins(one) for one in foretold],
        "warnings": warnings,
        "results": [msgspec.to_builtins(one) for one in found],
    }
    emit(as_json, document, lambda: _render(name, rule, asked, said, foretold, warnings, found))


def _rule(project: Project, environment: str | None, asked: SimulateOptions) -> tuple[str, DecisionRule, str]:
    """The environment's name, its settings with those that were given, and a remark."""
    known = project.environments
    name = environment or list(known)[-1]
    if name not in known:
        raise NotFoundError(f"there is no environment {name!r}", hint=f"noria.yaml has: {', '.join(known)}.")
    policy, said = known[name].rollout, ""
    judged = judge_advance.judged_steps(policy)
    shares = tuple(step.share for step in judged if step.kind is StepKind.CANARY)
    shadow = next((step.share for step in judged if step.kind is StepKind.SHADOW), 0.0)
    if asked.steps is not None:
        parts = [_read(part.strip(), "share", "--steps", "5%,25%,100%") for part in asked.steps.split(",")]
        if any(later <= before for before, later in pairwise(parts)):
            raise UsageError(f"--steps {asked.steps}: each step must be larger than the one before")
        shares, shadow = tuple(part for part in parts if part < 1), 0.0
    elif not judged:
        shares, said = STEPS, f"{name} has no canary steps: as with {_shares(STEPS)}"
    quality = _margin(asked, policy)
    return (
        name,
        simulation.DecisionRule(
            shares,
            errors=_read_option(asked.guard_errors, "share", "--guard-errors", "1%", policy.guards.errors),
            slow=_read_option(asked.guard_slow, "share", "--guard-slow", "2%", policy.guards.slow_by),
            false_alarm=_read_option(asked.false_alarm, "share", "--false-alarm", "1%", policy.false_alarm),
            missed=_read_option(asked.missed, "share", "--missed", "5%", policy.missed),
            patience_s=_read_option(asked.patience, "duration_s", "--patience", "1h", policy.patience_s),
            guards=judge_guards.guards(policy) + (quality > 0 and policy.guards.quality is None),
            shadow=_read_option(asked.shadow, "share", "--shadow", "30%", shadow),
            quality=quality,
            failing=policy.guards.failing,
        ),
        said,
    )


def _margin(asked: SimulateOptions, policy: RolloutPolicy) -> float:
    """How much greater a loss is too much, divided by its bound; 0 where no labels come."""
    if asked.labels is None:
        if asked.brier is not None:
            raise UsageError("--brier has no effect without labels", hint="Name how many come: --labels 5/s")
        return 0.0
    if asked.brier is not None:
        return asked.brier
    guard = policy.guards.quality
    if guard is None:
        raise UsageError("quality is not guarded here", hint="Name what is too much: --brier 0.01")
    return guard.by / guard.bound


def _read(text: str, kind: Kind, option: str, like: str) -> float:
    try:
        if kind == "frequency":
            count, seconds = units.frequency(text)
            return count / seconds
        return units.share(text) if kind == "share" else units.duration_s(text)
    except ValueError as error:
        raise UsageError(f"{option} cannot be read: {text!r}", hint=str(error) or f"Like {like}") from None


def _read_option(text: str | None, kind: Kind, option: str, like: str, otherwise: float) -> float:
    return otherwise if text is None else _read(text, kind, option, like)


def _rates(text: str, option: str) -> tuple[float, float | None]:
    old, given, new = text.partition(":")
    return _read(old, "share", option, "1% or 1%:5%"), _read(new, "share", option, "1%:5%") if given else None


def _scenarios(asked: SimulateOptions, rule: DecisionRule) -> list[Scenario]:
    (errors, new_errors), (slow, new_slow) = _rates(asked.errors, "--errors"), _rates(asked.slow, "--slow")
    per_s = _read(asked.traffic, "frequency", "--traffic", "20/s")
    champion = ArmShares(errors, slow)
    good = Scenario("as good as the champion", champion, champion, per_s, asked.burst, asked.drift)
    if asked.labels is not None:
        labels_per_s = _read(asked.labels, "frequency", "--labels", "5/s")
        good = replace(good, labels_per_s=labels_per_s, loss_sd=asked.loss_sd)
    if new_errors is not None or new_slow is not None:
        given = ArmShares(errors if new_errors is None else new_errors, slow if new_slow is None else new_slow)
        return [good, replace(good, name=f"as given: {_arm(given)}", candidate=given)]
    worse, much = (ArmShares(min(1.0, errors + times * rule.errors), slow) for times in (1, MUCH))
    lossy = [replace(good, name=f"worse by the guard: loss +{rule.quality:g}", loss=rule.quality)] if rule.quality else []
    return [
        good,
        replace(good, name=f"worse by the guard: {percent(worse.errors)} errors", candidate=worse),
        replace(good, name=f"much worse: {percent(much.errors)} errors", candidate=much),
        *lossy,
    ]


def _arm(arm: Any) -> str:
    return f"{percent(arm.errors)} errors, {percent(arm.slow)} slow"


def _plan(asked: SimulateOptions, rule: DecisionRule, good: Scenario) -> tuple[Any, Sequence[RateGuard | Loss]]:
    guards: list[RateGuard | Loss] = [RateGuard("errors", rule.errors, good.champion.errors)]
    if rule.shares:
        guards.append(RateGuard("slow answers", rule.slow, good.champion.slow, paired=False))
    if rule.quality:
        guards.append(Loss(LABELS, rule.quality, good.loss_sd, good.labels_per_s))
    each = rule.false_alarm / rule.guards
    plan = RolloutPlan(rule.shares, each * len(guards), rule.missed, rule.patience_s, good.traffic_per_s, rule.shadow)
    return plan, guards


def _shares(shares: Sequence[float]) -> str:
    return ", ".join(percent(share) for share in shares)


def _steps(rule: DecisionRule) -> str:
    return ", ".join([f"shadow of {percent(rule.shadow)}"] * (rule.shadow > 0) + [_shares(rule.shares)] * bool(rule.shares))


def _render(
    name: str,
    rule: DecisionRule,
    asked: SimulateOptions,
    said: str,
    foretold: Sequence[GuardCost],
    warnings: Sequence[str],
    found: Sequence[SimulationResult],
) -> str:
    loss = f" or {rule.quality:g} more loss" if rule.quality else ""
    settings = (
        f"{name}: {_steps(rule)} of {asked.traffic}; too much is {percent(rule.errors)} more errors or "
        f"{percent(rule.slow)} more slow answers{loss}; false alarms {percent(rule.false_alarm)}, missed {percent(rule.missed)}, "
        f"patience {duration(rule.patience_s)}"
    )
    head = ("candidate", "promoted", "rolled back", "held", "requests", "canary", "time")
    rows = [_row(one) for one in found]
    note = f"{plural(found[0].rollouts, 'rollout')} each; to a decision: median (9 in 10 by)"
    slowest = max(foretold, key=lambda one: one.seconds or 0.0)
    what = "of them" if slowest.guard == LABELS else "requests"
    takes = (
        f"computed: {slowest.guard} clear a good candidate after about {number(slowest.requests)} {what}, "
        f"{duration(slowest.seconds)}"
    )
    return "\n".join([settings, *([said] if said else []), "", table(head, rows), "", note, takes, *warnings])


def _row(one: SimulationResult) -> tuple[str, ...]:
    shares = (percent(count / one.rollouts) for count in (one.promoted, one.rolled_back, one.held))
    if one.held == one.rollouts:
        return (one.scenario, *shares, "–", "–", "–")
    spreads = (f"{spread.median:,.0f} ({spread.p90:,.0f})" for spread in (one.requests, one.canary))
    times = f"{duration(one.seconds.median)} ({duration(one.seconds.p90)})"
    return (one.scenario, *shares, *spreads, times)
