"""`noria data quarantine`: lists refused files and the reasons; shows, exports, releases and discards one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.action import ActionGroup
from noria.cli.context import Home, pass_home
from noria.cli.output import ago, emit, json_option, moment, pairs, plural, section, table
from noria.cli.versions import at_work
from noria.config.document import nearest
from noria.data import quarantine as stage
from noria.data import quarantine_decisions
from noria.data.quarantine_store import QuarantineState, QuarantineStore
from noria.kernel.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from noria.data.quarantine_store import QuarantinedDelivery, QuarantineDecision

OPEN = (QuarantineState.REFUSED, QuarantineState.ROWS_DROPPED)  # a person may decide
ROWS_MOST = 1000  # rows that a terminal is asked to show


class QuarantineGroup(ActionGroup):
    """Lists when no command is named: what is no command is the list's dataset or option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in self.lines() or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=QuarantineGroup, name="quarantine")
def quarantine() -> None:
    """List refused files and why; show one, export its failing rows, release it or discard it. Without a command: `list`.

    A refused file stays where it is; it is checked again when it changes, or when its contract does. A repaired file of the same
    name is taken in by itself, and the list says that the old one was corrected. DELIVERY is the id that the list shows, or the
    beginning of it.

    \b
    Example:  noria data quarantine
              noria data quarantine show delivery-0197a3c2e5f1-9c1b7e22
              noria data quarantine export delivery-0197a3c2e5f1-9c1b7e22 --into failing.csv
    """


# --- list


@quarantine.command("list")
@click.argument("dataset", required=False)
@click.option("--sample", metavar="DELIVERY", hidden=True, help="As `export DELIVERY --into FILE`.")
@click.option("--into", hidden=True, type=click.Path(dir_okay=False, path_type=Path), help="The file for --sample.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many, newest first.")
@json_option
@pass_home
def list_refused(home: Home, dataset: str | None, sample: str | None, into: Path | None, limit: int, as_json: bool) -> None:
    """List files that were refused, or of which rows were dropped, newest first, and why: those of DATASET, or of every dataset.

    \b
    Example:  noria data quarantine
              noria data quarantine list points --limit 5

    JSON keys: refused [{delivery, dataset, name, digest (empty when it could not be read), at, reason, example (a value
    that does not fit, or empty), rows, failing_rows, sample (whether rows were kept), corrected (a later version was accepted),
    state (refused, rows dropped, judged again, corrected, released, discarded), decision (by, why, at and accepted_as, or
    null)}].
    """
    if (sample is None) != (into is None):
        raise UsageError("--sample and --into go together", hint="noria data quarantine export DELIVERY --into failing.csv")
    home.existing_ledger().close()  # says so where nothing has happened yet
    if sample is not None and into is not None:
        return _write(home, sample, into, as_json)
    with closing(home.ledger()) as ledger:
        found = QuarantineStore(ledger, home.project_name()).newest(dataset, limit)
    if not found and dataset is not None:
        _demand_dataset(home, dataset)
    return emit(as_json, lambda: {"refused": [_facts(one) for one in found]}, lambda: _render(found))


def _demand_dataset(home: Home, dataset: str) -> None:
    known = list(home.project().data)
    if dataset not in known:
        raise NotFoundError(f"there is no dataset {dataset!r}", hint=nearest(dataset, known))


def _facts(found: QuarantinedDelivery) -> dict[str, Any]:
    delivery = found.delivery
    return {
        "delivery": delivery.id,
        "dataset": delivery.dataset,
        "name": delivery.name,
        "digest": delivery.digest,
        "at": delivery.at,
        "reason": delivery.reason,
        "example": delivery.example,
        "rows": delivery.rows_quarantined,
        "failing_rows": delivery.failing_rows,
        "sample": delivery.sample_digest is not None,
        "corrected": found.state is QuarantineState.CORRECTED,
        "state": str(found.state),
        "decision": _decision_facts(found.decision),
    }


def _decision_facts(decision: QuarantineDecision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {"by": decision.actor, "why": decision.why, "at": decision.at, "accepted_as": decision.accepted_as}


def _render(found: list[QuarantinedDelivery]) -> str:
    if not found:
        return "nothing was refused"
    shown = table(("file", "when", "failing rows", "now", "delivery", "why"), [_row(one) for one in found])
    waiting = [one.delivery for one in found if one.state in OPEN]
    if not waiting:
        return shown
    chosen = next((one for one in waiting if one.sample_digest is not None), waiting[0])
    verb = "export" if chosen.sample_digest is not None else "show"
    rest = " --into failing.csv" if verb == "export" else ""
    what = "the failing rows of one file" if verb == "export" else "more of one file"
    return f"{shown}\n\n{what}: noria data quarantine {verb} {chosen.id}{rest}"


def _row(found: QuarantinedDelivery) -> tuple[str, ...]:
    d = found.delivery
    total = d.rows_in if d.accepted else d.rows_quarantined
    counts = f"{d.failing_rows:,} of {total:,}" if total else "–"
    why = f"{d.reason}: {d.example}" if d.example else d.reason
    return (d.name, ago(d.at), counts, quarantine_decisions.words(found), d.id, why)


# --- show


@quarantine.command()
@click.argument("delivery")
@click.option("--rows", metavar="N", type=click.IntRange(1, ROWS_MOST), help="Show the first N failing rows too: they are data.")
@json_option
@pass_home
def show(home: Home, delivery: str, rows: int | None, as_json: bool) -> None:
    """Show why the file of DELIVERY was refused: each reason with the rows that it concerns, and what a person decided.

    \b
    Example:  noria data quarantine show delivery-0197a3c2e5f1-9c1b7e22
              noria data quarantine show delivery-0197 --rows 5

    JSON keys: those of `list`, reasons [{code, text, rows (that break it; null where it is not about single rows)}], rows_in,
    rows_passed; with --rows: first [{COLUMN: value, noria_reason}].
    """
    home.existing_ledger().close()
    with at_work(home, as_json) as context:
        store = QuarantineStore.of(context)
        found = store.stand(store.delivery(delivery))
        first = stage.first_rows(context, found.delivery, rows) if rows else []
    d = found.delivery
    told = [{"code": one.code, "text": one.text, "rows": one.rows} for one in stage.reasons(d)]
    document = _facts(found) | {"reasons": told, "rows_in": d.rows_in, "rows_passed": d.rows_passed}
    document |= {"first": first} if rows else {}
    emit(as_json, document, lambda: _render_one(found, first))


def _render_one(found: QuarantinedDelivery, first: list[dict[str, object]]) -> str:
    d = found.delivery
    balance = f"{d.rows_in:,} in = {d.rows_passed:,} passed + {d.rows_quarantined:,} quarantined; {d.failing_rows:,} fail"
    lines: list[tuple[str, object]] = [("file", d.name), ("dataset", d.dataset), ("delivery", d.id), ("judged", moment(d.at))]
    lines += [("rows", balance), ("now", quarantine_decisions.words(found))]
    if found.decision is not None:
        lines += [("why", found.decision.why), ("decided", moment(found.decision.at))]
        lines += [("accepted as", found.decision.accepted_as)] if found.decision.accepted_as else []
    why = [("–" if one.rows is None else f"{one.rows:,}", one.text) for one in stage.reasons(d)]
    parts = [pairs(lines), section("Why", table(("rows", "reason"), why))]
    if first:
        parts.append(section("Failing rows", table(tuple(first[0]), [tuple(row.values()) for row in first])))
    return "\n".join(parts)


# --- export


@quarantine.command()
@click.argument("delivery")
@click.option(
    "--into",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .csv, .parquet, .jsonl or .ndjson.",
)
@json_option
@pass_home
def export(home: Home, delivery: str, into: Path, as_json: bool) -> None:
    """Write every failing row of the file of DELIVERY, with a column `noria_reason` that says all reasons.

    Where a refused file breaks no promise about single rows (a missing column, too few rows), there are none to write.

    \b
    Example:  noria data quarantine export delivery-0197a3c2e5f1-9c1b7e22 --into failing.csv

    JSON keys: delivery, name, reason, failing_rows, rows (written), file.
    """
    home.existing_ledger().close()
    _write(home, delivery, into, as_json)


def _write(home: Home, reference: str, into: Path, as_json: bool) -> None:
    with at_work(home, as_json) as context:
        delivery, count = stage.export(context, reference, into)
    facts = {"delivery": delivery.id, "name": delivery.name, "reason": delivery.reason, "failing_rows": delivery.failing_rows}
    of = f" of {delivery.failing_rows:,}" if count < delivery.failing_rows else ""
    text = f"{delivery.name}: {plural(count, 'failing row')}{of} written to {into}; the column noria_reason says why"
    emit(as_json, facts | {"rows": count, "file": str(into.resolve())}, lambda: text)
