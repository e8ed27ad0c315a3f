"""Check: each data contract, then the project's own tests. Bad data is quarantined whole; production is untouched."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from noria.config import DataSource, Model
from noria.data import arrivals as arrivals_of
from noria.data import files, formats, repeats, rule_process, table_types
from noria.data.arrival import Arrival
from noria.data.arrivals import refusal
from noria.data.formats import OpenedFile
from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.data.table import TableType
from noria.data.table_store import TableStore
from noria.data.table_types import TypeDecision
from noria.kernel import names
from noria.kernel.contract import Contract
from noria.kernel.errors import DataError
from noria.kernel.verdict import Outcome, Reason, Verdict, combine
from noria.kernel.words import plural, size
from noria.pipeline import orders, sealable_code, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.run import StepState
from noria.storage.stat_index import StatEntry

if TYPE_CHECKING:
    import polars as pl

    from noria.data.judge_contract import ContractRuling

BATCH = 10_000  # files that are accepted in one transaction


def check(context: PipelineContext, pinned_run: PinnedRun) -> Verdict:
    """Judge what arrived, then run the project's tests on the pinned commit."""
    data(context, pinned_run)
    return code(context, pinned_run)


def data(context: PipelineContext, pinned_run: PinnedRun) -> None:
    """Each arrival is accepted or quarantined, once, with its reason. Files that are no tables are accepted together."""
    for dataset, group in groupby(pinned_run.arrivals, key=lambda arrival: arrival.dataset):
        source, arrivals = pinned_run.project.data[dataset], list(group)
        if source.opaque:
            keep(context, dataset, [arrival for arrival in arrivals if not arrival.problem])
            arrivals = [arrival for arrival in arrivals if arrival.problem]
        decided = table_types.decide(context, source, arrivals) if arrivals and not source.opaque else TypeDecision(TableType())
        for arrival in arrivals:
            context.check_lease()
            delivery = receive(context, source, arrival, decided)
            if not delivery.accepted:
                pinned_run.refused.append(f"{delivery.name} quarantined: {delivery.reason}")
        if not source.opaque:
            repeats.say(context, source, arrivals)
        if pinned_run.project.model is not None and pinned_run.project.model.rows == dataset and not source.opaque:
            _say_alone(context, pinned_run.project.model, source, arrivals)


def _say_alone(context: PipelineContext, model: Model, source: DataSource, arrivals: Sequence[Arrival]) -> None:
    """Say what predicts the label alone, of the largest file that arrived and was accepted."""
    accepted = DataStore.of(context).standing(source.name)
    kept = [one for one in arrivals if one.name in accepted and accepted[one.name].digest == one.digest]
    if kept:
        largest = max(kept, key=lambda one: one.size_bytes)
        kind = table_types.of(context, source)
        table = files.read_table(_blob_path(context, largest), name=largest.name, kind=kind, dialect=source.csv)
        for text in alone(model, table):
            context.event("data.tells_the_label", source.name, f"{largest.name}: {text}", dataset=source.name)


def keep(context: PipelineContext, dataset: str, arrivals: Sequence[Arrival]) -> None:
    """Accept files that nobody reads, many in one transaction with one event."""
    for first in range(0, len(arrivals), BATCH):
        batch = arrivals[first : first + BATCH]
        size_bytes = sum(arrival.size_bytes for arrival in batch)
        with context.ledger.transaction():
            context.check_lease()
            now = time.time()
            DataStore.of(context).deliver_many([_as_it_is(arrival, now) for arrival in batch])
            context.ledger.marks.put(
                context.name, f"data:{dataset}", {a.name: StatEntry(a.mark, a.digest) for a in batch if a.mark}
            )
            text = f"{dataset}: {plural(len(batch), 'file')} accepted ({size(size_bytes)})"
            context.event("data.accepted", dataset, text, dataset=dataset, files=len(batch), size_bytes=size_bytes)


def _as_it_is(arrival: Arrival, now: float) -> tuple[Delivery, FilePin]:
    known = (arrival.dataset, arrival.name, arrival.digest)
    made = Delivery(names.new_id("delivery"), *known, 0, 0, 0, True, "kept as it is", at=now)
    return made, FilePin(arrival.name, arrival.digest, arrival.size_bytes, 0, arrival.origin)


def receive(context: PipelineContext, source: DataSource, arrival: Arrival, decided: TypeDecision) -> Delivery:
    """Judge one file against its contract and its dataset's table, and record the delivery, and its event, in one transaction."""
    judged_by = arrivals_of.judge_digest(source)
    if arrival.problem:
        return _record(context, arrival, _unreadable(arrival, judged_by, arrival.problem))
    known = DataStore.of(context).seen(arrival.dataset, arrival.name, arrival.digest, judged_by)
    if known is not None:
        return known
    try:
        opened = files.open_table(_blob_path(context, arrival), arrival.name, source.csv)
    except DataError as error:
        return _record(context, arrival, _unreadable(arrival, judged_by, f"{error.message}{_hint(error)}"))
    decided = table_types.for_file(source, decided, opened)
    before = TableStore.of(context).get(source.name)
    base = TableType() if before is None or DataStore.of(context).alone(source.name, arrival.name) else before.type
    now = context.ledger.clock.now(context.name)
    judged, example = ruling(
        source, decided, opened, tuple(base.columns), now, lambda: _known_keys(context, source, decided, arrival)
    )
    accepted = judged.verdict.passed
    sample = None if accepted or judged.failing.is_empty() else context.blobs.put_bytes(_parquet(judged.failing))
    rows = opened.table.height
    delivery = Delivery(
        id=names.new_id("delivery"),
        dataset=arrival.dataset,
        name=arrival.name,
        digest=arrival.digest,
        rows_in=rows,
        rows_passed=rows if accepted else 0,
        rows_quarantined=0 if accepted else rows,
        accepted=accepted,
        reason=f"{rows:,} rows meet the contract" if accepted else judged.verdict.sentence(),
        failing_rows=judged.failing_rows,
        sample_digest=sample,
        contract=judged_by,
        example=example,
    )
    return _record(
        context,
        arrival,
        delivery,
        lambda: table_types.keep(context, source, table_types.accepted_type(decided, base, opened.table.columns)),
    )


def ruling(
    source: DataSource,
    decided: TypeDecision,
    opened: OpenedFile,
    base: Sequence[str],
    now: float | None,
    keys: Callable[[], pl.DataFrame | None] = lambda: None,
) -> tuple[ContractRuling, str]:
    """What becomes of a file beside accepted ones with the columns ``base``, and a value for which it is refused."""
    from noria.data import judge_contract as judge  # Polars: loaded once a table is to be read

    refusals = table_types.refusals(source, decided, opened, base)
    if refusals:
        return judge.refuse_file(opened.table, [(text, None) for text in refusals]), ""
    table, misfits = formats.fit_columns(opened, decided.type, source.csv)
    if misfits:
        return judge.refuse_file(opened.table, [(one.text, one.rows) for one in misfits]), table_types.examples(misfits)
    return judge.judge(source.contract or Contract(), table, now=now, known_keys=keys(), apart=rule_process.apart), ""


def alone(model: Model, table: pl.DataFrame) -> list[str]:
    """Of each input that predicts the label alone, a sentence."""
    from noria.models import judge_leakage as judge  # NumPy and Polars: loaded once a table is to be read

    inputs = model.inputs or tuple(n for n in table.columns if n not in (model.label, model.key, model.event_time))
    return [one.words(model.label) for one in judge.judge_inputs(table, inputs, model.label, model.task)]


def _hint(error: DataError) -> str:
    return f" ({error.hint.rstrip('.')})" if error.hint and "noria.yaml" in error.hint else ""


def _unreadable(arrival: Arrival, judged_by: str, message: str) -> Delivery:
    return Delivery(
        names.new_id("delivery"), arrival.dataset, arrival.name, arrival.digest, 0, 0, 0, False, message, contract=judged_by
    )


def _record(
    context: PipelineContext, arrival: Arrival, delivery: Delivery, accepted: Callable[[], None] = lambda: None
) -> Delivery:
    rows = delivery.rows_passed
    pin = FilePin(arrival.name, arrival.digest, arrival.size_bytes, rows, arrival.origin) if delivery.accepted else None
    verb = "accepted" if delivery.accepted else "quarantined"
    with context.ledger.transaction():
        context.check_lease()
        DataStore.of(context).deliver(delivery, pin)
        if delivery.accepted:
            accepted()
        if arrival.mark:
            seen = arrival.mark if delivery.accepted else refusal(arrival.mark, delivery.contract)
            context.ledger.marks.put(context.name, f"data:{arrival.dataset}", {arrival.name: StatEntry(seen, arrival.digest)})
        context.event(
            f"data.{verb}",
            delivery.id,
            f"{arrival.name} {verb}: {delivery.reason}",
            dataset=arrival.dataset,
            digest=arrival.digest,
            rows_in=delivery.rows_in,
            rows_passed=delivery.rows_passed,
            rows_quarantined=delivery.rows_quarantined,
        )
    if delivery.example:  # a value of a row is told to whoever looks, and stands in no event
        context.progress(f"  {arrival.name}: {delivery.example}")
    return delivery


def _blob_path(context: PipelineContext, arrival: Arrival) -> Path:
    """The blob under a name that keeps its suffix: readers go by it."""
    return context.named_blob(arrival.digest, arrival.name)


def _known_keys(context: PipelineContext, source: DataSource, decided: TypeDecision, arrival: Arrival) -> pl.DataFrame | None:
    """The keys of the accepted files, less an earlier version of this one."""
    contract = source.contract
    if contract is None or not contract.unique or source.key:  # by a key, a newer row takes the place of an older one
        return None
    standing = [pin for pin in DataStore.of(context).standing(arrival.dataset).values() if pin.name != arrival.name]
    parts = [
        files.read_table(
            context.named_blob(pin.digest, pin.name),
            columns=list(contract.unique),
            name=pin.name,
            kind=decided.type,
            dialect=source.csv,
        )
        for pin in standing
    ]
    if not parts:
        return None
    import polars as pl

    return pl.concat(parts, how="vertical_relaxed")


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def code(context: PipelineContext, pinned_run: PinnedRun) -> Verdict:
    """What can be sealed, then the project's own tests; what passed once for the same code and environment is not run again."""
    bad = sealable_code.bad_links_of(context, pinned_run) if pinned_run.project.model is not None else ""
    if bad:
        return combine((Reason("check.links", f"{bad}. {sealable_code.CURE}", Outcome.FAIL),))
    command = pinned_run.project.checks.code
    if not command:
        return Verdict(Outcome.PASS, (Reason("check.none", "no code check is set"),))
    record = steps.perform(context, pinned_run, orders.code_check(pinned_run, command))
    if record.state is StepState.FAILED:
        return combine((Reason("check.code", f"`{command}` failed ({record.reason.text})", Outcome.FAIL),))
    again = " before, for the same code" if record.state is StepState.REUSED else ""
    return combine((Reason("check.code", f"`{command}` passed{again}"),))
