"""`noria runs`: lists the latest turns, or runs that match a query; tags runs and writes their notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import ago, duration, emit, json_option, number, plain, plural, table
from noria.evaluation.records import sort_gated_first
from noria.kernel import where as conditions
from noria.pipeline.run import Run, RunKind
from noria.pipeline.run_query import find_runs
from noria.pipeline.run_store import RunStore
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore
from noria.views.status import turn_facts

if TYPE_CHECKING:
    from noria.kernel.where import Condition, Order, QueryField

COLUMNS = 6  # metrics and parameters that the table shows; --json has all


@click.group(invoke_without_command=True)
@click.option(
    "--where", metavar="QUERY", help="Only runs that match, as in: metrics.auc > 0.8 and params.train.lr <= 0.1 and tag = 'best'"
)
@click.option("--sort", metavar="FIELD", help="Sort by a metric, a parameter or another field; -metrics.auc: largest first.")
@click.option("--kind", type=click.Choice([str(k) for k in RunKind]), help="Only turns, experiments or trials.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@json_option
@click.pass_context
def command(ctx: click.Context, where: str | None, sort: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """List the latest turns. With --where, --sort or --kind: list runs of turns, experiments and trials.

    A query is an SQL expression, as in a contract's rules: = != < <= > >= in like between, ~* (contains, in any case), functions,
    `is null`, `and`, `or`, `not`, brackets; text and times in single quotes. Fields: metrics.NAME, params.NAME, id, kind,
    outcome, tag (any of them), note, parent, commit, started, seconds. A run that lacks a field matches no comparison with it.

    \b
    Example:  noria runs --limit 5
              noria runs --where "metrics.auc > 0.8 and tag = 'baseline'" --sort -metrics.auc
              noria runs tag run-0197 baseline

    JSON keys: turns [{number, id, trigger, outcome, reason, stage, run_id, release, started_at, ended_at, user_s, overhead_s}];
    with --where, --sort or --kind: runs [{id, kind, outcome, reason, parent, turn_id, started_at, ended_at, metrics, params,
    tags, note, artifacts, plots, commit}].
    """
    if ctx.invoked_subcommand is not None:
        return
    if where is None and sort is None and kind is None:
        _turns(limit, as_json)
    else:
        _search(where, sort, RunKind(kind) if kind else None, limit, as_json)


@pass_home
def _turns(home: Home, limit: int, as_json: bool) -> None:
    with closing(home.existing_ledger()) as ledger:
        project = home.project_name()
        turns, counts = TurnStore(ledger, project).list(limit), RunStore(ledger, project).counts()
    emit(as_json, {"turns": [turn_facts(t) for t in turns]}, lambda: render(turns, counts))


@pass_home
def _search(home: Home, where: str | None, sort: str | None, kind: RunKind | None, limit: int, as_json: bool) -> None:
    asked = conditions.parse(where) if where is not None else None
    order = conditions.parse_order(sort) if sort is not None else None
    with closing(home.existing_ledger()) as ledger:
        runs = find_runs(RunStore(ledger, home.project_name()), asked, order, kind, limit)
    emit(
        as_json,
        {"runs": [run_facts(r) for r in runs]},
        lambda: render_runs(runs, _choose_columns(asked, order, runs, home.gated())),
    )


@command.command("tag")
@click.argument("run")
@click.argument("names", nargs=-1)
@click.option("--remove", multiple=True, metavar="NAME", help="Remove a tag. Repeatable.")
@json_option
@pass_home
def tag(home: Home, run: str, names: tuple[str, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """Tag a run, or remove tags. RUN is its id, or the beginning of it.

    \b
    Example:  noria runs tag run-0197 baseline "wide net"
              noria runs tag run-0197 --remove baseline

    JSON keys: run, tags.
    """
    with closing(home.existing_ledger()) as ledger, ledger.transaction():
        found = RunStore(ledger, home.project_name()).find(run)
        changed = RunStore(ledger, found.project).tag(found.id, names, remove)
        if changed.tags != found.tags:
            text = f"{found.id} is tagged {', '.join(changed.tags) or 'nothing'}"
            ledger.events.append(changed.project, "run.tagged", changed.id, text, {"tags": list(changed.tags)}, actor=actor())
    emit(as_json, {"run": changed.id, "tags": list(changed.tags)}, lambda: f"{changed.id}: {_tags(changed) or 'no tags'}")


@command.command("note")
@click.argument("run")
@click.argument("text")
@json_option
@pass_home
def note(home: Home, run: str, text: str, as_json: bool) -> None:
    """Write a run's note, replacing an earlier one; an empty text removes it. RUN is its id, or the beginning of it.

    \b
    Example:  noria runs note run-0197 "half the rate, twice the trees"

    JSON keys: run, note.
    """
    with closing(home.existing_ledger()) as ledger, ledger.transaction():
        found = RunStore(ledger, home.project_name()).find(run)
        changed = RunStore(ledger, found.project).write_note(found.id, text)
        if changed.note != found.note:
            ledger.events.append(changed.project, "run.noted", changed.id, f"a note was written to {found.id}", actor=actor())
    emit(as_json, {"run": changed.id, "note": changed.note}, lambda: f"{changed.id}: {plain(changed.note) or 'no note'}")


def render(turns: list[Turn], counts: Mapping[RunKind, int]) -> str:
    """Renders one line for each turn, and how many other runs there are."""
    others = [plural(counts[kind], kind) for kind in (RunKind.EXPERIMENT, RunKind.TRIAL) if counts.get(kind)]
    more = [f"and {' and '.join(others)}: noria runs --kind {RunKind.EXPERIMENT if len(others) > 1 else _only(counts)}"]
    if not turns:
        return "\n".join(["no turn yet; next: noria run", *(more if others else [])])
    rows = [
        (t.number, ago(t.started_at), t.outcome, t.release or "–", duration(t.overhead_s), t.run_id or "–", _why(t))
        for t in turns
    ]
    listed = table(("turn", "when", "verdict", "release", "overhead", "run", "why"), rows)
    return "\n".join([listed, *(more if others else [])])


def _only(counts: Mapping[RunKind, int]) -> RunKind:
    return RunKind.TRIAL if counts.get(RunKind.TRIAL) else RunKind.EXPERIMENT


def _why(turn: Turn) -> str:
    return f"{turn.trigger} → {turn.reason}" if turn.reason else turn.trigger


def run_facts(run: Run) -> dict[str, Any]:
    """A run without its steps; a metric that is not defined is null."""
    facts = {name: value for name, value in msgspec.to_builtins(run).items() if name not in ("steps", "pins", "project")}
    metrics = {name: value if math.isfinite(value) else None for name, value in run.metrics.items()}
    return facts | {"kind": str(run.kind), "metrics": metrics, "tags": list(run.tags), "commit": run.pins.commit}


def render_runs(runs: list[Run], fields: list[tuple[str, str]]) -> str:
    """Renders one line for each run, with the fields of the query, or those that most runs have."""
    if not runs:
        return "no run matches"
    beside = any(r.serving for r in runs)
    rows = [
        (
            r.id,
            ago(r.started_at),
            r.kind,
            r.outcome or "running",
            *(_cell(r, *field) for field in fields),
            *([_serving(r, fields)] if beside else []),
            _tags(r),
        )
        for r in runs
    ]
    more = ("serves, same rows",) if beside else ()
    return table(("run", "when", "kind", "verdict", *(name for _, name in fields), *more, "tags"), rows)


def _serving(run: Run, fields: list[tuple[str, str]]) -> str:
    """``v3 0.871``: what serves on the rows that the run was judged on, by the first metric that is shown and known of it."""
    if not run.serving:
        return "–"
    values = run.serving["metrics"]
    named = next((name for group, name in fields if group == "metrics" and name in values), None)
    return f"{run.serving['release']} {number(values[named]) if named is not None else 'not known'}"


def _choose_columns(where: Condition | None, order: Order | None, runs: list[Run], gated: Sequence[str]) -> list[tuple[str, str]]:
    """The metrics and parameters to show, as (group, name): those of the query, then what gates ask for."""
    asked: list[QueryField] = [] if where is None else list(where.fields)
    found = [(f.group, f.name) for f in [*asked, *([order.field] if order else [])] if f.group]
    found += [("metrics", name) for name in sort_gated_first(dict.fromkeys(n for run in runs for n in run.metrics), gated)]
    return list(dict.fromkeys(found))[:COLUMNS]


def _cell(run: Run, group: str, name: str) -> str:
    value = (run.metrics if group == "metrics" else run.params).get(name)
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else "not defined"
    return "–" if value is None else str(value)


def _tags(run: Run) -> str:
    return ", ".join(run.tags)
