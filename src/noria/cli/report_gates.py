"""`noria report gates`: how often each gate fired, was overridden, missed what failed live, or cost a good release."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import closing

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, plain, table
from noria.views.gate_history import RULES, GateHistory, document, gate_history, named

NAMED = 5  # turns or releases that a cell names


@click.command("gates")
@json_option
@pass_home
def command(home: Home, as_json: bool) -> None:
    """Show how often each gate fired, was overridden, missed a release that failed live, or cost a good one.

    Of the newest 1,000 evaluated candidates. Gates that judged at least ten candidates and never fired, and gates that cost good
    releases, are named below the table, with the rule for each.

    \b
    Example:  noria report gates
              noria report gates --json | jq .never_fired

    JSON keys: gates [{gate, judged, fired, failed, undecided, overridden, missed, cost}] (lists of turns and releases),
    never_fired, cost_good_releases, rules.
    """
    with closing(home.existing_ledger()) as ledger:
        histories = gate_history(ledger, home.project_name())
    emit(as_json, document(histories), lambda: render(histories))


def render(histories: Sequence[GateHistory]) -> str:
    """One line for each gate, then those that a person should look at."""
    if not histories:
        return "no candidate was judged by a gate yet; next: noria run"
    heads = ("gate", "judged", "failed", "not enough data", "overridden", "missed", "cost")
    rows = [
        (
            one.gate,
            one.judged,
            len(one.failed),
            len(one.undecided),
            *map(_names, (one.overridden, one.missed, one.cost)),
        )
        for one in histories
    ]
    parts = [table(heads, rows)]
    found = named(histories)
    if found["never_fired"]:
        parts.append(plain(f"never fired: {', '.join(found['never_fired'])}"))
    parts += [plain(f"cost good releases: {one.gate} ({_names(one.cost)})") for one in histories if one.cost]
    return "\n".join([*parts, "", textwrap.fill(RULES, 100)])


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (", ".join(names[:NAMED]) + more) or "–"
