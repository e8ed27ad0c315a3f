"""`noria runs`: the latest turns and their runs."""

from __future__ import annotations

from contextlib import closing

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import ago, duration, emit, json_option, table
from noria.console.view import turn_facts
from noria.domain.turn import Turn


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@json_option
@pass_home
def command(home: Home, limit: int, as_json: bool) -> None:
    """List the latest turns and their runs.

    \b
    Example:  noria runs --limit 5

    JSON keys: turns [{number, id, trigger, outcome, reason, stage, run_id, release, started_at, ended_at, user_s, overhead_s}].
    """
    with closing(home.existing_ledger()) as ledger:
        turns = ledger.turns.list(home.project_name(), limit)
    emit(as_json, {"turns": [turn_facts(t) for t in turns]}, lambda: render(turns))


def render(turns: list[Turn]) -> str:
    """One line a turn."""
    if not turns:
        return "no turn yet; next: noria run"
    rows = [
        (t.number, ago(t.started_at), t.outcome, t.release or "–", duration(t.overhead_s), t.run_id or "–", _why(t))
        for t in turns
    ]
    return table(("turn", "when", "verdict", "release", "overhead", "run", "why"), rows)


def _why(turn: Turn) -> str:
    return f"{turn.trigger} → {turn.reason}" if turn.reason else turn.trigger
