"""Check: each data contract, then the project's own tests. Bad data is quarantined whole; production is untouched."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from noria.config import DataSource, Model, referenced_first
from noria.data import arrivals as arrivals_of
from noria.data import dropped_rows, files, formats, referenced_rows, repeats, retyped, rule_process, table_types, unique_keys
from noria.data.arrival import Arrival
from noria.data.arrivals import refusal
from noria.data.batch_facts import HISTORY_MOST, BatchHistory
from noria.data.batch_store import BatchStore
from noria.data.dropped_rows import AcceptedRows
from noria.data.formats import OpenedFile
from noria.data.formats.format import DialectError
from noria.data.referenced_rows import REFERENCES, ReferencedRows
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
from noria.pipeline.context import PipelineContext, StartedRun
from noria.pipeline.run import StepState
from noria.storage.clock import ClockStore
from noria.storage.stat_index import StatEntry, StatIndex

if TYPE_CHECKING:
    import polars as pl

    from noria.data.judge_contract import ContractRuling
    from noria.data.judge_dropped_rows import DroppedRows, NotDropped
    from noria.data.referenced_values import ReferencedValues

BATCH = 10_000  # files that are accepted in one transaction


def check(context: PipelineContext, run: StartedRun) -> Verdict:
    """Judge what arrived, then run the project's tests on the pinned commit."""
    data(context, run)
    return code(context, run)


def data(context: PipelineContext, run: StartedRun) -> None:
    """Each arrival is accepted or quarantined, once, with its reason; what a dataset refers to is judged before it. Files that
    are no tables are accepted together."""
    order = {name: place for place, name in enumerate(referenced_first(run.project.data))}
    ordered = sorted(run.arrivals, key=lambda arrival: order[arrival.dataset])
    for dataset, group in groupby(ordered, key=lambda arrival: arrival.dataset):
        source, arrivals = run.project.data[dataset], list(group)
        if source.opaque:
            keep(context, dataset, [arrival for arrival in arrivals if not arrival.problem])
            arrivals = [arrival for arrival in arrivals if arrival.problem]
        decided = table_types.decide(context, source, arrivals) if arrivals and not source.opaque else TypeDecision(TableType())
        refused = receive_all(context, source, arrivals, decided, ReferencedRows(context, run.project.data, source))
        run.refused.extend(f"{delivery.name} quarantined: {delivery.reason}" for delivery in refused)
        if not source.opaque:
            repeats.say(context, source, arrivals)
        if run.project.model is not None and run.project.model.rows == dataset and not source.opaque:
            _say_alone(context, run.project.model, source, arrivals)


def receive_all(
    context: PipelineContext,
    source: DataSource,
    arrivals: Sequence[Arrival],
    decided: TypeDecision,
    referenced: ReferencedRows,
) -> list[Delivery]:
    """Judge files one after the other; those that are refused. Where rows refer to others of their dataset, a file that was
    refused for that is judged again once a later one was accepted."""
    to_itself = any(one.dataset == source.name for one in source.references)
    refused = dict[str, Delivery]()
    waiting = list(arrivals)
    while waiting:
        again = []
        for arrival in waiting:
            context.check_lease()
            delivery = receive(context, source, arrival, decided, referenced)
            refused.pop(arrival.name, None)
            if not delivery.accepted:
                refused[arrival.name] = delivery
                again += [arrival] if to_itself and _is_for_references(delivery) else []
        if len(again) == len(waiting):  # nothing was accepted meanwhile
            break
        waiting = again
    return list(refused.values())


def _is_for_references(delivery: Delivery) -> bool:
    """Whether a file was refused for rows that refer to none, perhaps among other reasons."""
    return any(one.code == REFERENCES for one in delivery.reasons)


def _say_alone(context: PipelineContext, model: Model, source: DataSource, arrivals: Sequence[Arrival]) -> None:
    """Say what predicts the label alone, of the largest file that arrived and was accepted."""
    accepted = DataStore.of(context).accepted_files(source.name)
    kept = [one for one in arrivals if one.name in accepted and accepted[one.name].arrived_as == one.digest]
    if kept:
        largest = max(kept, key=lambda one: one.size_bytes)
        kind = table_types.of(context, source)
        blob = context.named_blob(accepted[largest.name].digest, largest.name)
        table = files.read_table(blob, name=largest.name, kind=kind, dialect=source.csv)
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
            StatIndex.of(context).put(f"data:{dataset}", {a.name: StatEntry(a.mark, a.digest) for a in batch if a.mark})
            text = f"{dataset}: {plural(len(batch), 'file')} accepted ({size(size_bytes)})"
            context.event("data.accepted", dataset, text, dataset=dataset, files=len(batch), size_bytes=size_bytes)


def _as_it_is(arrival: Arrival, now: float) -> tuple[Delivery, FilePin]:
    known = (arrival.dataset, arrival.name, arrival.digest)
    made = Delivery(names.new_id("delivery"), *known, 0, 0, 0, True, "kept as it is", at=now)
    return made, FilePin(arrival.name, arrival.digest, arrival.size_bytes, 0, arrival.origin)


def receive(
    context: PipelineContext, source: DataSource, arrival: Arrival, decided: TypeDecision, referenced: ReferencedRows
) -> Delivery:
    """Judge one file against its contract and its dataset's table, and record the delivery, and its event, in one transaction."""
    judges = arrivals_of.judges_of(context, source)
    judged_by = judges[0]
    if arrival.problem:
        return _record(context, arrival, _unreadable(arrival, judged_by, arrival.problem))
    known = DataStore.of(context).find_judgement(arrival.dataset, arrival.name, arrival.digest, judges)
    if known is not None:
        return known
    try:
        opened = files.open_table(_blob_path(context, arrival), arrival.name, source.csv)
    except DataError as error:
        return _record(context, arrival, _unreadable(arrival, judged_by, f"{error.message}{_how_to_read(error)}"))
    before = TableStore.of(context).get(source.name)
    decided = retyped.for_arrival(context, source, decided, opened)
    base = TableType() if before is None or DataStore.of(context).is_only_file(source.name, arrival.name) else before.type
    now = ClockStore.of(context).now()
    keys = cache(lambda: _known_keys(context, source, decided, arrival))
    values = cache(lambda: referenced.beside(arrival.name))
    batch = BatchHistory(
        lambda: BatchStore.of(context).history(arrival.dataset, arrival.name, HISTORY_MOST),
        lambda: {
            one.name: partial(referenced_rows.file_values, source, decided.type, one)
            for one in retyped.files_beside(context, source, arrival.name)
        },
    )
    judged, divided, example = ruling(source, decided, opened, tuple(base.columns), now, keys, batch, values)
    part = divided.text if divided.good is None else dropped_rows.accept_good_rows(context, source, decided, opened, divided)
    delivery = replace(_delivery(context, arrival, opened.table.height, judged, part), contract=judged_by, example=example)
    if not delivery.accepted and _is_for_references(delivery):
        delivery = replace(delivery, contract=judges[-1])  # until what it refers to has other rows

    def keep_facts() -> None:
        table_types.keep(context, source, table_types.accepted_type(decided, base, opened.table.columns))
        if batch.measured is not None:
            BatchStore.of(context).put(arrival.dataset, arrival.name, arrival.digest, batch.measured)

    size_bytes = part.size_bytes if isinstance(part, AcceptedRows) else arrival.size_bytes
    return _record(context, arrival, delivery, keep_facts, size_bytes)


def _delivery(
    context: PipelineContext, arrival: Arrival, rows: int, judged: ContractRuling, part: AcceptedRows | str
) -> Delivery:
    """What became of a file: accepted, accepted without the rows that fail, or refused."""
    made = Delivery(
        id=names.new_id("delivery"),
        dataset=arrival.dataset,
        name=arrival.name,
        digest=arrival.digest,
        rows_in=rows,
        rows_passed=rows,
        rows_quarantined=0,
        accepted=True,
        reason=judged.verdict.sentence(),
    )
    if judged.verdict.passed:
        return made
    if isinstance(part, AcceptedRows):
        dropped = part.failing.height
        counts = {"rows_passed": part.rows, "rows_quarantined": dropped, "failing_rows": dropped}
        kept_rows = context.blobs.put_bytes(_parquet(part.failing))
        return replace(made, **counts, reason=part.text, sample_digest=kept_rows, reasons=part.reasons, kept_digest=part.digest)
    reason = "; ".join(filter(None, [made.reason, part]))
    sample = None if judged.failing.is_empty() else context.blobs.put_bytes(_parquet(judged.failing))
    refused = {"accepted": False, "rows_passed": 0, "rows_quarantined": rows, "reason": reason}
    return replace(made, **refused, failing_rows=judged.failing_rows, sample_digest=sample, reasons=judged.reasons)


def ruling(
    source: DataSource,
    decided: TypeDecision,
    opened: OpenedFile,
    base: Sequence[str],
    now: float | None,
    keys: Callable[[], pl.DataFrame | None] = lambda: None,
    batch: BatchHistory | None = None,
    referenced: Callable[[], ReferencedValues | None] = lambda: None,
) -> tuple[ContractRuling, DroppedRows | NotDropped, str]:
    """What becomes of a file beside accepted ones with the columns ``base``; which rows of a refused one may be dropped, so that
    the others are accepted; and a value for which it is refused."""
    from noria.data import judge_contract, judge_dropped_rows  # Polars: loaded once a table is to be read

    whole = judge_dropped_rows.NotDropped()
    refusals = table_types.refusals(source, decided, opened, base)
    if refusals:
        return judge_contract.refuse_file(opened.table, [(text, None) for text in refusals]), whole, ""
    table, misfits = formats.fit_columns(opened, decided.type, source.csv)
    if misfits:
        refused = judge_contract.refuse_file(opened.table, [(one.text, one.rows) for one in misfits])
        return refused, whole, table_types.examples(misfits)

    def held(contract: Contract, table: pl.DataFrame) -> ContractRuling:
        return judge_contract.judge(
            contract, table, now=now, known_keys=keys(), referenced=referenced(), apart=rule_process.apart
        )

    contract = source.contract or Contract()
    found = held(contract, table)
    if batch is not None and found.verdict.passed:
        from noria.data import anomalies  # NumPy: only a file beside others needs it

        found = anomalies.hold(contract, table, found, batch)
    told = judge_contract.add_warnings(found, table_types.schema_warnings(source, decided, opened, base))
    return told, judge_dropped_rows.judge(contract, table, found, held, source.name), ""


def alone(model: Model, table: pl.DataFrame) -> list[str]:
    """Of each input that predicts the label alone, a sentence."""
    from noria.models import judge_leakage as judge  # NumPy and Polars: loaded once a table is to be read

    inputs = model.inputs or tuple(n for n in table.columns if n not in (model.label, model.key, model.event_time))
    return [one.words(model.label) for one in judge.judge_inputs(table, inputs, model.label, model.task)]


def _how_to_read(error: DataError) -> str:
    """What noria.yaml may say of the file, where that would help."""
    return f" ({error.hint.rstrip('.')})" if isinstance(error, DialectError) and error.hint else ""


def _unreadable(arrival: Arrival, judged_by: str, message: str) -> Delivery:
    return Delivery(
        names.new_id("delivery"), arrival.dataset, arrival.name, arrival.digest, 0, 0, 0, False, message, contract=judged_by
    )


def _record(
    context: PipelineContext,
    arrival: Arrival,
    delivery: Delivery,
    accepted: Callable[[], None] = lambda: None,
    size_bytes: int = 0,
) -> Delivery:
    """Record a delivery and its event. ``accepted`` is called, and ``size_bytes`` are of the file, where it was accepted."""
    made_from = arrival.digest if delivery.kept_digest else None
    origin = None if delivery.kept_digest else arrival.origin
    pin = FilePin(arrival.name, delivery.file_digest, size_bytes, delivery.rows_passed, origin, made_from)
    verb = "accepted" if delivery.accepted else "quarantined"
    with context.ledger.transaction():
        context.check_lease()
        DataStore.of(context).deliver(delivery, pin if delivery.accepted else None)
        if delivery.accepted:
            accepted()
        if arrival.mark:
            seen = arrival.mark if delivery.accepted else refusal(arrival.mark, delivery.contract)
            StatIndex.of(context).put(f"data:{arrival.dataset}", {arrival.name: StatEntry(seen, arrival.digest)})
        context.event(
            f"data.{verb}",
            delivery.id,
            f"{arrival.name} {verb}: {delivery.reason}",
            dataset=arrival.dataset,
            digest=arrival.digest,
            rows_in=delivery.rows_in,
            rows_passed=delivery.rows_passed,
            rows_quarantined=delivery.rows_quarantined,
            **({"kept": delivery.kept_digest} if delivery.kept_digest else {}),
        )
    if delivery.example:  # a value of a row is told to whoever looks, and stands in no event
        context.progress(f"  {arrival.name}: {delivery.example}")
    return delivery


def _blob_path(context: PipelineContext, arrival: Arrival) -> Path:
    """The blob under a name that keeps its suffix: readers go by it."""
    return context.named_blob(arrival.digest, arrival.name)


def _known_keys(context: PipelineContext, source: DataSource, decided: TypeDecision, arrival: Arrival) -> pl.DataFrame | None:
    """The keys of the accepted files, less an earlier version of this one."""
    if not unique_keys.hold_over_files(source):
        return None
    return unique_keys.read_keys(source, decided.type, retyped.files_beside(context, source, arrival.name))


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def code(context: PipelineContext, run: StartedRun) -> Verdict:
    """What can be sealed, then the project's own tests; what passed once for the same code and environment is not run again."""
    bad = sealable_code.bad_links_of(context, run) if run.project.model is not None else ""
    if bad:
        return combine((Reason("check.links", f"{bad}. {sealable_code.CURE}", Outcome.FAIL),))
    command = run.project.checks.code
    if not command:
        return Verdict(Outcome.PASS, (Reason("check.none", "no code check is set"),))
    record = steps.perform(context, run, orders.code_check(run, command))
    if record.state is StepState.FAILED:
        return combine((Reason("check.code", f"`{command}` failed ({record.reason.text})", Outcome.FAIL),))
    again = " before, for the same code" if record.state is StepState.REUSED else ""
    return combine((Reason("check.code", f"`{command}` passed{again}"),))
