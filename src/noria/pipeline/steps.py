"""One step: decide from content whether it must run, have it run, remember what came out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.data import refetch
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, StepError, StoppedError
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline import judge_staleness
from noria.pipeline.context import PinnedRun, PipelineContext, StartedRun
from noria.pipeline.executors.reading import besides
from noria.pipeline.executors.task import Resources, StepEnd, StepTask
from noria.pipeline.judge_staleness import StalenessDecision, StepFacts
from noria.pipeline.run import StepRecord, StepState
from noria.pipeline.run_store import StepStore

RETRY_S = (0.5, 2.0, 10.0, 60.0)  # pauses between attempts; the last one goes on


class StepOrder(msgspec.Struct, frozen=True):
    """A step that may have to run: what it depends on, and the task that makes it."""

    name: str
    facts: StepFacts
    task: StepTask
    retries: int = 0
    frozen: bool = False
    always: bool = False


def model_order(
    run: StartedRun,
    facts: StepFacts,
    name: str,
    target: str,
    job: Mapping[str, Any],
    inputs: Mapping[str, str],
    outs: Mapping[str, str],
    cpus: int | None = None,
    timeout_s: float | None = None,
) -> StepOrder:
    """A step in which Noria works with the project's code on its model. It has the memory that the model may use, and the model's
    time unless ``timeout_s`` says another."""
    model = run.project.model
    assert model is not None, "who orders it has looked"
    task = StepTask(
        f"{run.run_id}/{name}",
        run.tree_id,
        target=target,
        job=job,
        roots=run.roots,
        inputs=inputs,
        outs=outs,
        resources=Resources(cpus, model.memory_bytes, model.timeout_s if timeout_s is None else timeout_s),
    )
    return StepOrder(name, facts, task)


class StepOutput(msgspec.Struct, frozen=True):
    """What a step left: files by name, and the facts it reported."""

    files: dict[str, str]  # name -> blob digest
    result: dict[str, Any]


def output(context: PipelineContext, record: StepRecord) -> StepOutput:
    """The manifest of a finished step. Raises CorruptBlobError when it was damaged on disk."""
    assert record.output is not None, "only a finished step has an output"
    return msgspec.json.decode(context.blobs.read(record.output), type=StepOutput)


def perform(context: PipelineContext, run: StartedRun, order: StepOrder) -> StepRecord:
    """Run the step unless an equal one is remembered; the record says why. Never raises for the project's own failures."""
    record = reuse_step(context, run, order)
    return record if record is not None else make(context, run, order)


def reuse_step(context: PipelineContext, run: StartedRun, order: StepOrder) -> StepRecord | None:
    """The record of a step that need not run, noted on the run; None when it must."""
    context.check_lease()
    return _reuse_record(context, run, order, *consider(context, order))


def _reuse_record(
    context: PipelineContext, run: StartedRun, order: StepOrder, decision: StalenessDecision, found: StepRecord | None
) -> StepRecord | None:
    if decision.run or found is None:
        return None
    log = found.log if found.log is not None and context.blobs.exists(found.log) else None  # it may be gone before its result
    record = replace(
        found, name=order.name, state=StepState.REUSED, reason=decision.reason, seconds=0.0, user_s=0.0, cpu_s=0.0, log=log
    )
    run.records.append(record)
    return record


def consider(context: PipelineContext, order: StepOrder) -> tuple[StalenessDecision, StepRecord | None]:
    """Whether the step must run, why, and the result to take when it need not."""
    before = StepStore.of(context).latest(order.name)
    if order.frozen and context.reuse and before is not None and whole(context, before[0]):
        return StalenessDecision(False, Reason("step.frozen", "frozen: keeps its result")), before[0]
    if order.always and context.reuse:
        return StalenessDecision(True, Reason("step.always", "runs every time")), None
    earlier = msgspec.convert(before[1], StepFacts) if before else None
    facts = having_read(context, order, earlier.read if earlier else ())
    found = StepStore.of(context).get(judge_staleness.key(facts)) if context.reuse else None
    if found is None and earlier is not None and context.reuse:  # on another branch it may have opened other files
        for paths in StepStore.of(context).read_by(order.name):
            found = found or StepStore.of(context).get(judge_staleness.key(having_read(context, order, paths)))
    return judge_staleness.decide(facts, earlier, cached=found is not None and whole(context, found)), found


def having_read(context: PipelineContext, order: StepOrder, paths: Iterable[str]) -> StepFacts:
    """The facts with the files that the step opens while it runs, as they are now; its modules are among the facts already."""
    paths = besides(paths, order.facts.files, order.task.roots)
    if not paths:
        return order.facts
    tree = context.places.tree(order.task.tree)
    return replace(order.facts, read={path: _digest(context, tree, path) for path in paths})


def _digest(context: PipelineContext, tree: Path, path: str) -> str:
    try:
        return context.places.digests(tree, path).get(path, "")
    except StepError:  # it is not there, or not a file of the project: its coming is a change
        return ""


def make(context: PipelineContext, run: StartedRun, order: StepOrder) -> StepRecord:
    """Run the step. Of runs that reach the same step at the same time one makes it, the others wait for its result."""
    key = judge_staleness.key(order.facts)
    told: list[bool] = []

    def waiting() -> None:
        context.check_lease()
        if not told:
            told.append(True)
            context.progress(f"{order.name}: another run is making the same result: waiting for it")

    with context.locks.hold("step", f"{context.name}/{key}", waiting):
        decision, found = consider(context, order)
        ready = _reuse_record(context, run, order, decision, found)  # another run may have made it since it was asked for
        if ready is not None:
            return ready
        context.progress(f"{order.name}: {decision.reason.text}")
        record = _run(context, run, order, decision.reason)
    run.records.append(record)
    return record


def whole(context: PipelineContext, record: StepRecord) -> bool:
    """Whether every blob of a remembered result is still there."""
    if record.output is None or not context.blobs.exists(record.output):
        return False
    return all(context.blobs.exists(digest) for digest in output(context, record).files.values())


def thrown_away(context: PipelineContext, error: CorruptBlobError) -> bool:
    """Whether the damaged blob was a step's, which can make it again: then it is no more. Data is for a person to put back."""
    digest = PurePosixPath(error.where or "").name
    if names.DIGEST.fullmatch(digest) is None or DataStore.of(context).has_arrived(digest):
        return False
    context.blobs.discard(digest)
    context.event("blob.damaged", digest, f"blob {names.short(digest)} of a step was damaged: it is made again")
    return True


def _run(context: PipelineContext, run: StartedRun, order: StepOrder, reason: Reason) -> StepRecord:
    if order.task.target is not None:
        context.executor.warm()  # there is work: what it will need next is started ahead
    if isinstance(run, PinnedRun):
        refetch.bring(context, run.project, run.pins.snapshots.values(), order.task.inputs.values())
    attempt = 1
    while True:
        done = _attempt(context, run, order.task)
        if done.ok or attempt > order.retries:
            break
        context.progress(f"{order.name}: {done.error}; attempt {attempt + 1} of {order.retries + 1}")
        _pause(context, RETRY_S[min(attempt, len(RETRY_S)) - 1])
        attempt += 1
    usage = done.usage
    facts = having_read(context, order, done.read)
    record = StepRecord(
        name=order.name,
        state=StepState.RAN,
        reason=reason,
        key=judge_staleness.key(facts),
        seconds=usage.seconds,
        user_s=usage.user_s,
        peak_rss_mb=usage.peak_rss_mb,
        log=done.log,
        cpu_s=usage.cpu_s,
        read_mb=usage.read_mb,
        written_mb=usage.written_mb,
        attempts=attempt,
        tracked=done.tracked,
        artifacts=dict(done.artifacts),
    )
    if not done.ok:
        return replace(record, state=StepState.FAILED, reason=_failure(done))
    manifest = msgspec.json.encode(StepOutput(dict(done.files), dict(done.result)), order="sorted")
    record = replace(record, output=context.blobs.put_bytes(manifest, lasting=False))
    with context.ledger.transaction():
        context.check_lease()
        StepStore.of(context).put(record, msgspec.to_builtins(facts))
    return record


def _attempt(context: PipelineContext, run: StartedRun, task: StepTask) -> StepEnd:
    handle = context.executor.submit(task)
    run.under_way[task.id] = handle
    try:
        done = handle.wait()
    finally:
        run.under_way.pop(task.id, None)
    if done.kind == "cancelled":
        step = task.id.partition("/")[2]
        raise StoppedError(f"stopped while {step} was running; the turn is rerun when Noria starts again")
    return done


def _pause(context: PipelineContext, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        context.check_lease()
        time.sleep(0.05)


def _failure(done: StepEnd) -> Reason:
    """What a step printed is in its log alone: what is said here is kept for ever."""
    return Reason(f"step.{done.kind}", done.error or "failed without a message", Outcome.FAIL)


def demand(record: StepRecord) -> StepRecord:
    """The record, or StepError when the step failed."""
    if record.state is StepState.FAILED:
        raise StepError(record.reason.text, where=f"step {record.name}")
    return record


def by_name(records: list[StepRecord]) -> Mapping[str, StepRecord]:
    """The records of a sheet by step."""
    return {record.name: record for record in records}
