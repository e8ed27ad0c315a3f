"""`noria status`: shows what serves where, and what happened recently. It loads no heavy library."""

from __future__ import annotations

from contextlib import closing

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import ago, day, duration, emit, json_option, number, pairs, percent, plain, plural, section, table
from noria.evaluation.records import HoldoutBudget
from noria.kernel.words import size
from noria.views.runtime_status import StatusContext, surroundings
from noria.views.status import EnvironmentView, RolloutView, StatusView, document, nothing_yet, read

SHOWN_TURNS = 6


@click.command()
@json_option
@pass_home
def command(home: Home, as_json: bool) -> None:
    """Show what serves where, and what happened recently.

    \b
    Example:  noria status
              noria status --json | jq .addresses.production

    JSON keys: project, daemon, standstill (why the daemon has stopped deciding), server, server_use {workers, processes, cpu,
    memory_bytes}, addresses {console, ENVIRONMENT},
    environments [{name, release, previous, trouble, canary, probation}], turns, quality, deliveries, quarantined_rows,
    waiting_triggers, alerts, holdout {looks, budget, left, rows, fresh_rows, repeated} of the newest verdict, clock, next.
    """
    view = look(home)
    emit(as_json, lambda: document(view), lambda: render(view, _console(home, view)))


def look(home: Home) -> StatusView:
    """The view of this home, also when nothing has happened yet."""
    name, around = home.project_name(), surroundings(home.state)
    if not home.ledger_file.is_file():
        return nothing_yet(name, around)
    with closing(home.ledger()) as ledger:
        return read(ledger, name, around)


def _console(home: Home, view: StatusView) -> str | None:
    """The console's address as a person opens it: with the token, which only its owner can read."""
    address, token = view.around.addresses.get("console"), home.token()
    return f"{address}/?token={token}" if address and token else address


def render(view: StatusView, console: str | None) -> str:
    """The view as text."""
    parts = [click.style(view.project, bold=True), pairs(_lamps(view, console)), ""]
    if view.next_step:
        parts.append(view.next_step)
    if view.environments:
        parts.append(section("Environments", "\n".join(_environment(e) for e in view.environments)))
    if view.turns:
        parts.append(section("Last turns", _turns(view)))
    if view.alerts:
        alert = view.alerts[0]
        parts.append(section("Newest alert", plain(f"{alert.kind} {alert.release}, {day(alert.at)}: {alert.text}")))
    if view.quarantined_rows:
        refused = next((d for d in view.deliveries if not d.accepted), None)
        reason = f"; {refused.name}: {refused.reason}" if refused else ""
        parts.append(section("Quarantine", plain(f"{plural(view.quarantined_rows, 'row')}{reason}")))
    return "\n".join(parts)


def _lamps(view: StatusView, console: str | None) -> list[tuple[str, object]]:
    lamps: list[tuple[str, object]] = [
        ("daemon", _daemon(view.around)),
        ("server", _server(view.around)),
    ]
    if console:
        lamps.append(("console", console))
    if not view.clock.wall:
        lamps.append(("clock", f"{day(view.clock.at)}, {number(view.clock.speed)} times wall speed"))
    if view.holdout is not None and (view.holdout.budget is not None or view.holdout.looks >= 2):
        lamps.append(("holdout", f"{view.holdout.words}{_left(view.holdout)}"))
    if view.waiting_triggers:
        lamps.append(("waiting", plural(view.waiting_triggers, "trigger")))
    return lamps


def _left(holdout: HoldoutBudget) -> str:
    if holdout.left is None:
        return "; no budget is set (`model.holdout.budget`)"
    return "; it is spent" if holdout.spent else f"; {number(round(holdout.left, 1))} left"


def _daemon(around: StatusContext) -> str:
    if around.standstill:
        return f"halted: {around.standstill}. Run `noria audit verify` for details"
    return "runs" if around.daemon else "stopped; `noria up` starts it"


def _server(around: StatusContext) -> str:
    """``answers: 2 workers, 0.31 of a core, 214 MB``; with several environments the workers of each."""
    use = around.use
    if use is None:
        return "answers" if around.server else "stopped"
    counts = list(use.workers.items())
    if not any(count for _, count in counts):
        return "runs, but no worker answers"
    workers = plural(counts[0][1], "worker") if len(counts) == 1 else ", ".join(f"{name} {n}" for name, n in counts) + " workers"
    return f"answers: {workers}, {use.cpu:.2f} of a core, {size(use.memory_bytes)}"


def _environment(environment: EnvironmentView) -> str:
    route = environment.route
    served = "nothing yet" if route is None else click.style(route.champion_version, fg="green", bold=True)
    previous = f", {environment.ready} ready for a rollback" if environment.ready else ""
    line = f"{environment.name}  {served}{previous}  {environment.address or ''}".rstrip()
    trouble = [click.style(plain(f"  {environment.trouble}"), fg="red")] if environment.trouble else []
    more = trouble + [_canary(canary) for canary in (environment.canary, environment.probation) if canary is not None]
    return "\n".join([line, *more])


def _canary(canary: RolloutView) -> str:
    rollout = canary.rollout
    share = f" at {percent(canary.share)}" if canary.share else ""
    return plain(f"  {rollout.release} {rollout.state}{share}: {rollout.look.text if rollout.look else rollout.reason}")


def _turns(view: StatusView) -> str:
    rows = [
        (t.number, ago(t.started_at), t.outcome, t.release or "–", duration(t.overhead_s), t.reason or t.trigger)
        for t in view.turns[:SHOWN_TURNS]
    ]
    return table(("turn", "when", "verdict", "release", "overhead", "why"), rows)
