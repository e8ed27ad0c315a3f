"""`noria data quarantine`: what was refused, when and why; the failing rows in a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import ago, emit, json_option, plural, table
from noria.cli.versions import at_work
from noria.config.document import nearest
from noria.data import quarantine as stage
from noria.data.holding_store import HoldingStore
from noria.kernel.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from noria.data.snapshot import Delivery


@click.command()
@click.argument("dataset", required=False)
@click.option("--sample", metavar="DELIVERY", help="Write the failing rows of this delivery, up to 1,000, each with its reason.")
@click.option(
    "--into", type=click.Path(dir_okay=False, path_type=Path), help="The file for --sample: .csv, .parquet, .jsonl or .ndjson."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many, newest first.")
@json_option
@pass_home
def quarantine(home: Home, dataset: str | None, sample: str | None, into: Path | None, limit: int, as_json: bool) -> None:
    """List what was refused, when and why; or write out the failing rows of one file.

    Of DATASET, or of all, newest first. A refused file stays where it is, and is judged again when it changes, or when its
    contract does.

    \b
    Example:  noria data quarantine
              noria data quarantine --sample delivery-0197a3c2e5f1-9c1b7e22 --into failing.csv

    JSON keys: refused [{delivery, dataset, name, digest (empty when it could not be read), at, reason, example (a value
    that does not fit, or empty), rows, failing_rows, sample
    (whether rows were kept), corrected (a later version was accepted)}]. With --sample: delivery, name, reason, failing_rows,
    rows (written), file.
    """
    if (sample is None) != (into is None):
        raise UsageError("--sample and --into go together", hint="--sample DELIVERY --into failing.csv")
    home.existing_ledger().close()  # says so where nothing has happened yet
    if sample is not None and into is not None:
        return _write(home, sample, into, as_json)
    with closing(home.ledger()) as ledger:
        found = HoldingStore(ledger, home.project_name()).refused(dataset, limit)
    if not found and dataset is not None:
        _demand_dataset(home, dataset)
    return emit(as_json, lambda: {"refused": [_facts(*one) for one in found]}, lambda: _render(found))


def _demand_dataset(home: Home, dataset: str) -> None:
    known = list(home.project().data)
    if dataset not in known:
        raise NotFoundError(f"there is no dataset {dataset!r}", hint=nearest(dataset, known))


def _write(home: Home, sample: str, into: Path, as_json: bool) -> None:
    with at_work(home, as_json) as context:
        delivery, count = stage.sample(context, sample, into)
    facts = {"delivery": delivery.id, "name": delivery.name, "reason": delivery.reason, "failing_rows": delivery.failing_rows}
    of = f" of {delivery.failing_rows:,}" if count < delivery.failing_rows else ""
    text = f"{delivery.name}: {plural(count, 'failing row')}{of} written to {into}; the column noria_reason says why"
    emit(as_json, facts | {"rows": count, "file": str(into.resolve())}, lambda: text)


def _facts(delivery: Delivery, corrected: bool) -> dict[str, Any]:
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
        "corrected": corrected,
    }


def _render(found: list[tuple[Delivery, bool]]) -> str:
    if not found:
        return "nothing was refused"
    rows = [
        (
            d.name,
            ago(d.at),
            f"{d.failing_rows:,} of {d.rows_quarantined:,}" if d.rows_quarantined else "–",
            "corrected since" if corrected else "refused",
            d.id,
            f"{d.reason}: {d.example}" if d.example else d.reason,
        )
        for d, corrected in found
    ]
    shown = table(("file", "when", "failing rows", "now", "delivery", "why"), rows)
    sampled = next((d for d, _ in found if d.sample_digest is not None), None)
    if sampled is None:
        return shown
    return f"{shown}\n\nthe failing rows of one: noria data quarantine --sample {sampled.id} --into failing.csv"
