"""`noria rollout`: shows the rollout under way and its evidence; holds, resumes, aborts or simulates one."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Any

import click
from msgspec.structs import replace

from noria.cli.action import ActionGroup
from noria.cli.context import Home, pass_home
from noria.cli.output import ago, emit, json_option, pairs, percent, plain, plural, section, table
from noria.delivery.rollout_record import Rollout, RolloutState, evidence_words
from noria.delivery.rollout_store import RolloutStore
from noria.engine.offered_actions import offered_actions, rollout_facts
from noria.kernel.errors import ConfigError, NoriaError, NotFoundError
from noria.views.runtime_status import surroundings
from noria.views.status import EnvironmentView, RolloutView, ended_facts, read

OTHERS = {
    "simulate": ("noria.cli.rollout_simulate:command", "Simulate rollouts: how long one takes, and how often it decides wrongly.")
}
environment_option = click.option("--environment", "-e", help="The environment; by default the last one of noria.yaml.")


@click.group(cls=ActionGroup, lazy=OTHERS, name="rollout", invoke_without_command=True)
@click.pass_context
@environment_option
@json_option
def command(ctx: click.Context, environment: str | None, as_json: bool) -> None:
    """Show where the rollout of a release stands, and its evidence; hold, resume or abort it.

    \b
    Example:  noria rollout
              noria rollout hold --why "the fair is on"
              noria rollout simulate

    JSON keys: environment, rollout {release, state, share, shadow, step, plan, before, started_at, reason, champion, candidate,
    look {at, text, guards [guard, text, harm, harm_needed, safe, safe_needed, harmful, cleared]}, actions [verb, what,
    command]}, ended [release, state, reason, ended_at].
    """
    if ctx.invoked_subcommand is None:
        _show(environment, as_json)


@pass_home
def _show(home: Home, environment: str | None, as_json: bool) -> None:
    found, ended = _find_environment(home, environment)
    found = _with_freezes(home, found)
    now = found.canary or found.probation
    document: dict[str, Any] = {
        "environment": found.name,
        "rollout": rollout_facts(now) if now else None,
        "ended": [ended_facts(rollout) for rollout in ended],
    }
    emit(as_json, document, lambda: _render(found, ended))


def _find_environment(home: Home, wanted: str | None) -> tuple[EnvironmentView, list[Rollout]]:
    """The environment, and what ended there lately."""
    if not home.ledger_file.is_file():
        raise NotFoundError("there was no rollout yet", hint="`noria run` makes a first release.")
    name = home.project_name()
    with closing(home.ledger()) as ledger:
        every = read(ledger, name, surroundings(home.state)).environments
        known = {e.name: e for e in every}
        moving = next((e.name for e in reversed(every) if e.canary or e.probation), None)
        chosen = wanted or moving or _last(home, list(known))
        rollouts = RolloutStore(ledger, name).list(limit=200, environment=chosen)
    if chosen not in known and not rollouts:
        raise NotFoundError(f"there was no rollout in {chosen or 'any environment'} yet", hint="`noria status` shows them.")
    ended = [r for r in rollouts if r.ended_at is not None]
    return known.get(chosen) or EnvironmentView(chosen, None, None, None, None), ended[:5]


def _with_freezes(home: Home, environment: EnvironmentView) -> EnvironmentView:
    """Of a held rollout with the freezes of the project file, while it can be read: they decide whether it may be promoted."""
    canary = environment.canary
    if canary is not None and canary.rollout.state is RolloutState.HELD:
        with suppress(NoriaError, KeyError):
            freezes = home.project().environments[environment.name].freeze
            return replace(environment, canary=replace(canary, freezes=freezes))
    return environment


def _last(home: Home, known: list[str]) -> str:
    """The last environment of noria.yaml; while that cannot be read, of those that serve."""
    with suppress(ConfigError):
        return list(home.project().environments)[-1]
    return known[-1] if known else ""


def _render(environment: EnvironmentView, ended: list[Rollout]) -> str:
    parts = [_stands(environment, canary) for canary in (environment.canary, environment.probation) if canary]
    if not parts:
        served = environment.route.champion_version if environment.route else "nothing"
        parts = [f"no rollout is under way in {plain(environment.name)}; {served} serves"]
    if ended:
        rows = [(r.release, r.state, ago(r.ended_at or 0.0), r.reason) for r in ended]
        parts.append(section("Ended lately", table(("release", "verdict", "when", "why"), rows)))
    return "\n".join(parts)


def _stands(environment: EnvironmentView, canary: RolloutView) -> str:
    rollout = canary.rollout
    colour = {RolloutState.HELD: "yellow", RolloutState.PROBATION: "green"}.get(rollout.state, "cyan")
    state = "shadow" if rollout.state is RolloutState.CANARY and canary.shadow and not canary.share else str(rollout.state)
    title = f"{rollout.release} in {environment.name}: {click.style(state, fg=colour, bold=True)}"
    told = [("now", rollout.look.text if rollout.look else rollout.reason)]
    if rollout.look and rollout.look.text != rollout.reason:
        told.append(("since", rollout.reason))
    told += [("traffic", _traffic(canary)), ("steps", _plan(rollout)), ("begun", ago(rollout.started_at))]
    for place, offer in enumerate(offered_actions(canary)):
        told.append(("" if place else "next", f"`{offer.command}`: {offer.what}"))
    parts = [title, pairs(told)]
    if rollout.look and rollout.look.stands:
        rows = [
            (s.guard, _progress_words(s.harm, s.harm_needed), _progress_words(s.safe, s.safe_needed), s.text)
            for s in rollout.look.stands
        ]
        parts += ["", table(("guard", "harm, of needed", "safe, of needed", "seen"), rows)]
    return "\n".join(parts) + "\n"


def _progress_words(evidence: float, needed: float) -> str:
    return f"{evidence_words(evidence)} of {evidence_words(needed)}"


def _traffic(canary: RolloutView) -> str:
    if canary.rollout.state in (RolloutState.WAITING, RolloutState.REPLAY):
        return "none yet"
    tried = canary.candidate
    seen = f"{plural(tried.requests, 'request')}, {plural(tried.errors, 'error')}, {tried.slow:,} slow so far"
    if canary.rollout.state is RolloutState.PROBATION:
        return f"all; {canary.rollout.before} scores {percent(canary.shadow)} of the requests too"
    if canary.shadow and not canary.share:
        return f"none; it scores {percent(canary.shadow)} of the requests too; {seen}"
    return f"{percent(canary.share)} beside {canary.rollout.before}; {seen}"


def _plan(rollout: Rollout) -> str:
    """``10 % of traffic, [50 % of traffic], 100 % of traffic``."""
    here = rollout.step if rollout.state in (RolloutState.CANARY, RolloutState.HELD) else -1
    return ", ".join(f"[{words}]" if i == here else words for i, words in enumerate(rollout.plan)) or "direct"
