"""One step: decide from content whether it must run, have it run, remember what came out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.data import refetch
from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, StepError, StoppedError
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline import judge_staleness
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.executors.reading import besides
from noria.pipeline.executors.task import StepEnd, StepTask
from noria.pipeline.judge_staleness import StalenessDecision, StepFacts
from noria.pipeline.run import StepRecord, StepState

RETRY_S = (0.5, 2.0, 10.0, 60.0)  # pauses between attempts; the last one goes on


class StepOrder(msgspec.Struct, frozen=True):
    """A step that may have to run: what it depends on, and the task that makes it."""

    name: str
    facts: StepFacts
    task: StepTask
    retries: int = 0
    frozen: bool = False
    always: bool = False


class StepOutput(msgspec.Struct, frozen=True):
    """What a step left: files by name, and the facts it reported."""

    files: dict[str, str]  # name -> blob digest
    result: dict[str, Any]


def output(line: PipelineContext, record: StepRecord) -> StepOutput:
    """The manifest of a finished step. Raises CorruptBlobError when it was damaged on disk."""
    assert record.output is not None, "only a finished step has an output"
    return msgspec.json.decode(line.blobs.read(record.output), type=StepOutput)


def perform(line: PipelineContext, sheet: PinnedRun, order: StepOrder) -> StepRecord:
    """Run the step unless an equal one is remembered; the record says why. Never raises for the project's own failures."""
    record = remembered(line, sheet, order)
    return record if record is not None else make(line, sheet, order)


def remembered(line: PipelineContext, sheet: PinnedRun, order: StepOrder) -> StepRecord | None:
    """The record of a step that need not run, noted on the sheet; None when it must."""
    line.check_lease()
    return _taken(line, sheet, order, *consider(line, order))


def _taken(
    line: PipelineContext, sheet: PinnedRun, order: StepOrder, decision: StalenessDecision, found: StepRecord | None
) -> StepRecord | None:
    if decision.run or found is None:
        return None
    log = found.log if found.log is not None and line.blobs.exists(found.log) else None  # it may be gone before its result
    record = replace(
        found, name=order.name, state=StepState.REUSED, reason=decision.reason, seconds=0.0, user_s=0.0, cpu_s=0.0, log=log
    )
    sheet.records.append(record)
    return record


def consider(line: PipelineContext, order: StepOrder) -> tuple[StalenessDecision, StepRecord | None]:
    """Whether the step must run, why, and the result to take when it need not."""
    before = line.ledger.steps.latest(line.name, order.name)
    if order.frozen and line.reuse and before is not None and whole(line, before[0]):
        return StalenessDecision(False, Reason("step.frozen", "frozen: keeps the result it has")), before[0]
    if order.always and line.reuse:
        return StalenessDecision(True, Reason("step.always", "runs every time")), None
    earlier = msgspec.convert(before[1], StepFacts) if before else None
    facts = having_read(line, order, earlier.read if earlier else ())
    found = line.ledger.steps.get(line.name, judge_staleness.key(facts)) if line.reuse else None
    if found is None and earlier is not None and line.reuse:  # on another branch it may have opened other files
        for paths in line.ledger.steps.read_by(line.name, order.name):
            found = found or line.ledger.steps.get(line.name, judge_staleness.key(having_read(line, order, paths)))
    return judge_staleness.decide(facts, earlier, cached=found is not None and whole(line, found)), found


def having_read(line: PipelineContext, order: StepOrder, paths: Iterable[str]) -> StepFacts:
    """The facts with the files that the step opens while it runs, as they are now; its modules are among the facts already."""
    paths = besides(paths, order.facts.files, order.task.roots)
    if not paths:
        return order.facts
    tree = line.places.tree(order.task.tree)
    return replace(order.facts, read={path: _digest(line, tree, path) for path in paths})


def _digest(line: PipelineContext, tree: Path, path: str) -> str:
    try:
        return line.places.digests(tree, path).get(path, "")
    except StepError:  # it is not there, or not a file of the project: its coming is a change
        return ""


def make(line: PipelineContext, sheet: PinnedRun, order: StepOrder) -> StepRecord:
    """Run the step. Of runs that reach the same step at the same time one makes it, the others wait for its result."""
    key = judge_staleness.key(order.facts)
    told: list[bool] = []

    def waiting() -> None:
        line.check_lease()
        if not told:
            told.append(True)
            line.progress(f"{order.name}: another run is making the same: waiting for it")

    with line.locks.held("step", f"{line.name}/{key}", waiting):
        decision, found = consider(line, order)
        ready = _taken(line, sheet, order, decision, found)  # another run may have made it since it was asked for
        if ready is not None:
            return ready
        line.progress(f"{order.name}: {decision.reason.text}")
        record = _run(line, sheet, order, decision.reason)
    sheet.records.append(record)
    return record


def whole(line: PipelineContext, record: StepRecord) -> bool:
    """Whether every blob of a remembered result is still there."""
    if record.output is None or not line.blobs.exists(record.output):
        return False
    return all(line.blobs.exists(digest) for digest in output(line, record).files.values())


def thrown_away(line: PipelineContext, error: CorruptBlobError) -> bool:
    """Whether the damaged blob was a step's, which can make it again: then it is no more. Data is for a person to put back."""
    digest = PurePosixPath(error.where or "").name
    if names.DIGEST.fullmatch(digest) is None or line.ledger.data.holds(digest):
        return False
    line.blobs.discard(digest)
    line.event("blob.damaged", digest, f"blob {names.short(digest)} of a step was damaged: it is made again")
    return True


def _run(line: PipelineContext, sheet: PinnedRun, order: StepOrder, reason: Reason) -> StepRecord:
    if order.task.target is not None:
        line.executor.warm()  # there is work: what it will need next is started ahead
    if sheet.pins is not None:
        refetch.bring(line, sheet.project, sheet.pins.snapshots.values(), order.task.inputs.values())
    attempt = 1
    while True:
        done = _attempt(line, sheet, order.task)
        if done.ok or attempt > order.retries:
            break
        line.progress(f"{order.name}: {done.error}; attempt {attempt + 1} of {order.retries + 1}")
        _pause(line, RETRY_S[min(attempt, len(RETRY_S)) - 1])
        attempt += 1
    usage = done.usage
    facts = having_read(line, order, done.read)
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
    record = replace(record, output=line.blobs.put_bytes(manifest, lasting=False))
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.steps.put(line.name, record, msgspec.to_builtins(facts))
    return record


def _attempt(line: PipelineContext, sheet: PinnedRun, task: StepTask) -> StepEnd:
    handle = line.executor.submit(task)
    sheet.under_way[task.id] = handle
    try:
        done = handle.wait()
    finally:
        sheet.under_way.pop(task.id, None)
    if done.kind == "cancelled":
        step = task.id.partition("/")[2]
        raise StoppedError(f"stopped while {step} was running; the turn goes on when Noria is started again")
    return done


def _pause(line: PipelineContext, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        line.check_lease()
        time.sleep(0.05)


def _failure(done: StepEnd) -> Reason:
    """What a step printed is in its log alone: what is said here is kept for ever."""
    return Reason(f"step.{done.kind}", done.error or "failed without a word", Outcome.FAIL)


def demand(record: StepRecord) -> StepRecord:
    """The record, or StepError when the step failed."""
    if record.state is StepState.FAILED:
        raise StepError(record.reason.text, where=f"step {record.name}")
    return record


def by_name(records: list[StepRecord]) -> Mapping[str, StepRecord]:
    """The records of a sheet by step."""
    return {record.name: record for record in records}
