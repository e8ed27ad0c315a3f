"""What a person does with a file in quarantine: release it, so that it becomes part of its dataset as it is, or discard it."""

from __future__ import annotations

from noria.config import DataSource, Project
from noria.data import arrivals, files, formats, retyped, table_types, unique_keys
from noria.data.arrival import Arrival
from noria.data.formats import DatasetFile
from noria.data.kept_versions import erased_files
from noria.data.quarantine_store import QuarantinedDelivery, QuarantineDecision, QuarantineState, QuarantineStore
from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.data.table import TableType
from noria.data.table_store import TableStore
from noria.data.versions import BLOBS
from noria.kernel import names
from noria.kernel.errors import DataError, NotFoundError, RefusedError
from noria.kernel.words import plural
from noria.storage.context import StoreContext
from noria.storage.stat_index import StatEntry, StatIndex


def release(context: StoreContext, project: Project, reference: str, why: str) -> tuple[Delivery, Delivery]:
    """Let a refused file in as it is; its refused delivery, and the accepted one that this makes.

    The file takes the place of an earlier version of its name, and of its own good rows where others were dropped. Raises
    RefusedError when it was decided on before, a later version of it arrived, or it cannot be read as its dataset's table.
    """
    delivery = _open_delivery(context, reference).delivery
    source = project.data.get(delivery.dataset)
    if source is None:
        raise NotFoundError(f"noria.yaml has no dataset {delivery.dataset!r} any more", hint="Add it again first.")
    with context.locks.hold_shared(BLOBS):
        rows, kind = _read_as_part(context, source, delivery)
        size_bytes = context.blobs.verified_size(delivery.digest)
        reason = f"released from quarantine by {context.actor}: {why}"
        made = Delivery(
            id=names.new_id("delivery"),
            dataset=delivery.dataset,
            name=delivery.name,
            digest=delivery.digest,
            rows_in=rows,
            rows_passed=rows,
            rows_quarantined=0,
            accepted=True,
            reason=reason,
            contract=arrivals.judge_digest(source),
        )
        origin = delivery.name if source.pin == "version" else None
        pin = FilePin(delivery.name, delivery.digest, size_bytes, rows, origin)
        with context.ledger.transaction():
            _open_delivery(context, delivery.id)  # nobody decided meanwhile
            DataStore.of(context).deliver(made, pin)
            table_types.keep(context, source, kind)
            _decide(context, delivery, QuarantineState.RELEASED, why, made.id)
            text = f"{delivery.name} {reason}"
            facts = {"dataset": delivery.dataset, "digest": delivery.digest, "rows": rows}
            context.event("data.released", delivery.id, text, **facts, accepted_as=made.id)
            counts = {"rows_in": rows, "rows_passed": rows, "rows_quarantined": 0}
            context.event("data.accepted", made.id, f"{delivery.name} accepted: {reason}", **facts, **counts)
    return delivery, made


def discard(context: StoreContext, reference: str, why: str) -> Delivery:
    """Say that what was refused will not come again: its rows go with the next collection, and the same bytes are not judged
    again, whatever its contract says. Raises RefusedError when it was decided on before, or a later version of it arrived."""
    with context.ledger.transaction():
        delivery = _open_delivery(context, reference).delivery
        _decide(context, delivery, QuarantineState.DISCARDED, why)
        text = f"{delivery.name} discarded by {context.actor}: {why}"
        context.event("data.discarded", delivery.id, text, dataset=delivery.dataset, digest=delivery.digest)
    return delivery


def _decide(context: StoreContext, delivery: Delivery, outcome: QuarantineState, why: str, accepted_as: str = "") -> None:
    QuarantineStore.of(context).decide(
        QuarantineDecision(context.name, delivery.id, outcome, context.actor, why, accepted_as=accepted_as)
    )
    mark = StatIndex.of(context).get(f"data:{delivery.dataset}", delivery.name)
    if mark is not None and mark.digest == delivery.digest:  # the file counts as judged, whatever becomes of its contract
        seen = arrivals.judged_mark(mark.seen)
        StatIndex.of(context).put(f"data:{delivery.dataset}", {delivery.name: StatEntry(seen, mark.digest)})


def _open_delivery(context: StoreContext, reference: str) -> QuarantinedDelivery:
    """The delivery, as long as a person may decide on it."""
    store = QuarantineStore.of(context)
    found = store.stand(store.delivery(reference))
    name, listed = found.delivery.name, "`noria data quarantine` lists what waits for a decision."
    if found.decision is not None:
        raise RefusedError(f"{name} is already {found.state} by {found.decision.actor}: {found.decision.why}", hint=listed)
    if found.delivery.accepted and not found.delivery.rows_quarantined:
        raise RefusedError(f"{name} was accepted: nothing of it is in quarantine", hint=listed)
    if found.state is QuarantineState.CORRECTED:
        raise RefusedError(f"a later version of {name} was accepted", hint=listed)
    if found.state is QuarantineState.JUDGED_AGAIN:
        raise RefusedError(f"a later delivery of {name} is in quarantine", hint=f"Decide on that one. {listed}")
    return found


def _read_as_part(context: StoreContext, source: DataSource, delivery: Delivery) -> tuple[int, TableType]:
    """The rows of the file, and the table's type with it. Raises RefusedError when no step could read it with the others."""
    name = delivery.name
    hint = "Repair the file: it is judged again when it changes, or when its contract does."
    if not delivery.digest or source.opaque:
        raise RefusedError(f"{name} cannot be released: {delivery.reason}", hint=hint)
    if not context.blobs.exists(delivery.digest):
        erased = delivery.digest in erased_files(context.ledger)
        why = "it was erased" if erased else "its bytes are no longer in the store"
        raise RefusedError(
            f"{name} cannot be released: {why}", hint="Refused files are stored for as long as `noria gc --keep` says."
        )
    blob = context.named_blob(delivery.digest, name)
    try:
        opened = files.open_table(blob, name, source.csv)
        arrival = Arrival(delivery.dataset, name, delivery.digest, 0)
        decided = retyped.for_arrival(context, source, table_types.decide(context, source, [arrival]), opened)
        before = TableStore.of(context).get(source.name)
        base = TableType() if before is None or DataStore.of(context).is_only_file(source.name, name) else before.type
        problems = table_types.refusals(source, decided, opened, tuple(base.columns))
        problems += [] if problems else [one.text for one in formats.fit_columns(opened, decided.type, source.csv)[1]]
        if not problems and unique_keys.hold_over_files(source):
            unique_keys.read_keys(source, decided.type, [DatasetFile(name, blob)])
    except DataError as error:
        problems = [error.message]
    if problems:
        text = f"{name} cannot be read as a part of {source.name}, whoever releases it: {'; '.join(problems)}"
        raise RefusedError(text, hint=hint)
    return opened.table.height, table_types.accepted_type(decided, base, opened.table.columns)


def words(found: QuarantinedDelivery) -> str:
    """Where a delivery stands, in words."""
    if found.decision is not None:
        return f"{found.state} by {found.decision.actor}"
    if found.state is QuarantineState.ROWS_DROPPED:
        return f"{plural(found.delivery.rows_quarantined, 'row')} dropped"
    return "corrected since" if found.state is QuarantineState.CORRECTED else str(found.state)
