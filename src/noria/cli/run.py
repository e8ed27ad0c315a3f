"""`noria run`: runs one turn, or an experiment, in this process."""

from __future__ import annotations

import time
from typing import Any

import click

from noria.cli import experiment_options
from noria.cli.context import Home, actor, pass_home
from noria.cli.output import ExitCode, duration, emit, json_option, pairs, plain
from noria.cli.step_log import failed_log
from noria.delivery.context import DeliveryContext
from noria.engine import assembly, turn_runner
from noria.pipeline.run_store import RunStore
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.views.runtime_status import running_daemon

EXIT = {
    TurnOutcome.NOTHING_CHANGED: ExitCode.PASSED,
    TurnOutcome.DONE: ExitCode.PASSED,
    TurnOutcome.RELEASED: ExitCode.PASSED,
    TurnOutcome.ROLLING_OUT: ExitCode.PASSED,
    TurnOutcome.PROMOTED: ExitCode.PASSED,
    TurnOutcome.NOT_ENOUGH_DATA: ExitCode.NOT_ENOUGH_DATA,
    TurnOutcome.HELD: ExitCode.NOT_ENOUGH_DATA,
    TurnOutcome.ERROR: ExitCode.INFRASTRUCTURE,
}


@click.command()
@click.option("--reason", default="noria run", help="The reason, for the audit log.")
@click.option("--wait/--no-wait", default=True, help="Wait until live traffic has decided the rollout.")
@click.option("--explain", is_flag=True, help="Say which steps would run, and why; run nothing.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a parameter to another value. Repeatable.")
@click.option("--sweep", "sweeps", multiple=True, metavar="NAME=A,B,C", help="Run once for each value, or combination of values.")
@click.option("--to", metavar="STEP", help="Only this step and those before it.")
@click.option("--from", "start", metavar="STEP", help="Only this step and those after it, on existing results.")
@click.option("--only", metavar="STEP", help="Only this step, on existing results.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Tag the experiment. Repeatable.")
@click.option("--note", default="", metavar="TEXT", help="A note on the experiment.")
@json_option
@pass_home
def command(
    home: Home,
    reason: str,
    wait: bool,
    explain: bool,
    settings: tuple[str, ...],
    sweeps: tuple[str, ...],
    to: str | None,
    start: str | None,
    only: str | None,
    tags: tuple[str, ...],
    note: str,
    as_json: bool,
) -> int:
    """Run one turn: check, train, evaluate, gate, release, roll out.

    The code is taken as it is in this folder. With uncommitted changes, a candidate is measured but not released.

    With other parameters (--set, --sweep), chosen steps (--to, --from, --only), a tag or a note, it is an experiment: its steps
    run, and their logged metrics can be compared (`noria runs`, `noria diff`); nothing is checked, gated or released.

    \b
    Example:
      noria run
      noria run --explain
      noria run --set train.learning_rate=0.1 --tag slow
      noria run --sweep train.learning_rate=0.05,0.1,0.2
      noria run --json | jq .outcome

    JSON: turn, outcome, release, reason, run, user_s, overhead_s, steps[name, state, reason, seconds].
    Of experiments: experiments[run, outcome, reason, params, metrics, steps]. With --explain:
    steps[name, runs, reason], where runs is null when it depends on the result of an earlier step.
    """
    asked = experiment_options.parse_options(settings, sweeps, (to, start, only), tags, note)
    if not explain and not asked.any:
        return turn(home, reason, wait, as_json)
    from noria.cli import experiments  # a turn needs none of it

    return experiments.explain(home, asked, as_json) if explain else experiments.run(home, asked, as_json)


def turn(home: Home, reason: str, wait: bool, as_json: bool) -> int:
    """Runs one turn and returns the exit code."""
    context = assembly.assemble(home.path, actor=actor(), progress=_quiet if as_json else _tell, warm=3)
    try:
        ended = turn_runner.turn_by_hand(context, reason)
        if wait and ended.outcome is TurnOutcome.ROLLING_OUT:
            ended = _follow(context, home, ended)
    finally:
        context.executor.close()
    emit(as_json, lambda: _document(context, ended), lambda: _render(ended, _failed_log(context, ended)))
    return EXIT.get(ended.outcome, ExitCode.NO)


def _quiet(_: str) -> None:
    """JSON goes to programs: no progress in between."""


def _tell(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {text}", err=True)


def _follow(context: DeliveryContext, home: Home, ended: Turn) -> Turn:
    """Waits until live traffic has decided. Without a daemon, this process drives the rollout itself."""
    from noria.delivery.rollout_controller import RolloutController  # SciPy: only a rollout that is judged needs it

    controller = RolloutController(context)
    while ended.outcome is TurnOutcome.ROLLING_OUT:
        if running_daemon(home.state) is None:
            controller.reconcile()
        time.sleep(0.2)
        ended = TurnStore.of(context).get(ended.id)
    return ended


def _document(context: DeliveryContext, ended: Turn) -> dict[str, Any]:
    run = RunStore.of(context).get(ended.run_id) if ended.run_id and ended.outcome is not TurnOutcome.ERROR else None
    return {
        "turn": ended.number,
        "outcome": str(ended.outcome),
        "release": ended.release,
        "reason": ended.reason,
        "run": ended.run_id,
        "user_s": ended.user_s,
        "overhead_s": ended.overhead_s,
        "steps": [
            {"name": s.name, "state": str(s.state), "reason": s.reason.text, "seconds": s.seconds}
            for s in (run.steps if run else ())
        ],
    }


def _failed_log(context: DeliveryContext, ended: Turn) -> tuple[str, str] | None:
    """Returns the step that failed, or the project's tests, with the end of its log; None when nothing failed or printed."""
    if ended.outcome not in (TurnOutcome.STEP_FAILED, TurnOutcome.CHECK_FAILED) or ended.run_id is None:
        return None

    return failed_log(context.blobs, RunStore.of(context).get(ended.run_id).steps)


def _render(ended: Turn, log: tuple[str, str] | None) -> str:
    first, *more = ended.reason.splitlines() or [""]
    items = [("turn", f"{ended.number}: {ended.outcome}"), ("reason", first), *(("", line.strip()) for line in more)]
    if ended.release:
        items.append(("release", f"{ended.release}   (noria show {ended.release})"))
    if ended.overhead_s is not None:
        items.append(("time", f"{duration(ended.user_s)} in your own code, {duration(ended.overhead_s)} in Noria"))
    if log is None:
        return pairs(items)
    step, text = log
    items.append(("whole log", f"noria show {ended.number} --log {step}"))
    return f"{pairs(items)}\n\n{step} said last:\n{plain(text, lines=True)}"
