"""One step: decide from content whether it must run, run it in a process of its own, remember what came out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from noria import names
from noria.adapters import environment, source_code
from noria.adapters.executors.local import Done, Work
from noria.config import Step
from noria.decide import plan
from noria.decide.plan import StepFacts
from noria.domain.run import StepRecord, StepState
from noria.domain.verdict import Outcome, Reason
from noria.errors import StepError, StoppedError
from noria.stages.line import Line, Sheet, child_environment

OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Order:
    """A step that may have to run: what it depends on, and the work that makes it."""

    name: str
    target: str  # function inside noria that runs in the step process
    facts: StepFacts
    job: dict[str, Any]
    timeout_s: float
    memory_bytes: int | None = None
    paths: tuple[Path, ...] = ()
    cwd: Path | None = None
    outs: Mapping[str, str] = field(default_factory=dict)  # name in the manifest -> path inside the step's folder


@dataclass(frozen=True, slots=True)
class Output:
    """What a step left: files by name, and the facts it reported."""

    files: dict[str, str]  # name -> blob digest
    result: dict[str, Any]


def output(line: Line, record: StepRecord) -> Output:
    """The manifest of a finished step. Raises CorruptBlobError when it was damaged on disk."""
    assert record.output is not None, "only a finished step has an output"
    return msgspec.json.decode(line.blobs.read(record.output), type=Output)


def perform(line: Line, sheet: Sheet, order: Order) -> StepRecord:
    """Run the step unless an equal one is remembered; the record says why. Never raises for the project's own failures."""
    line.check_lease()
    key = plan.key(order.facts)
    remembered = line.ledger.steps.get(line.name, key) if line.reuse else None
    before = line.ledger.steps.latest(line.name, order.name)
    earlier = msgspec.convert(before[1], StepFacts) if before else None
    decision = plan.decide(order.facts, earlier, cached=remembered is not None and _whole(line, remembered))
    if remembered is not None and not decision.run:
        record = StepRecord(order.name, StepState.REUSED, decision.reason, key, remembered.output)
    else:
        line.progress(f"{order.name}: {decision.reason.text}")
        record = _run(line, sheet, order, key, decision.reason)
    sheet.records.append(record)
    return record


def _whole(line: Line, record: StepRecord) -> bool:
    """Whether every blob of a remembered result is still there."""
    if record.output is None or not line.blobs.exists(record.output):
        return False
    return all(line.blobs.exists(digest) for digest in output(line, record).files.values())


def _run(line: Line, sheet: Sheet, order: Order, key: str, reason: Reason) -> StepRecord:
    line.executor.warm()  # there is work: what it will need next is started ahead
    folder = line.folder(sheet.run_id) / order.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work = Work(
        target=order.target,
        job={**order.job, "folder": str(folder)},
        cwd=order.cwd or sheet.tree,
        paths=order.paths or sheet.code_paths,
        env=child_environment(),
        timeout_s=order.timeout_s,
        memory_bytes=order.memory_bytes,
        log=folder / "step.log",
    )
    done = line.executor.submit(work).wait()
    if done.kind == "cancelled":
        raise StoppedError(f"stopped while {order.name} was running; the turn goes on when Noria is started again")
    log = line.blobs.put_file(work.log) if work.log.is_file() else None
    if not done.ok:
        return _failed(order, key, done, log)
    record = StepRecord(
        name=order.name,
        state=StepState.RAN,
        reason=reason,
        key=key,
        output=_keep(line, order, folder, done),
        seconds=done.seconds,
        user_s=done.user_s,
        peak_rss_mb=done.peak_rss_mb,
        log=log,
    )
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.steps.put(line.name, record, msgspec.to_builtins(order.facts))
    return record


def _keep(line: Line, order: Order, folder: Path, done: Done) -> str:
    kept = {name: line.blobs.put_file(folder / path) for name, path in order.outs.items() if (folder / path).is_file()}
    return line.blobs.put_bytes(msgspec.json.encode(Output(kept, done.result or {}), order="sorted"))


def _failed(order: Order, key: str, done: Done, log: str | None) -> StepRecord:
    text = done.error or "failed without a word"
    tail = done.log_tail.strip()
    if done.kind == "raised":  # the text says what and where; the traceback is in the log
        tail = tail.partition("Traceback (most recent call last):")[0].strip()
    reason = Reason(f"step.{done.kind}", text if not tail else f"{text}\n{tail}", Outcome.FAIL)
    return StepRecord(order.name, StepState.FAILED, reason, key, None, done.seconds, done.user_s, done.peak_rss_mb, log)


def code_check(sheet: Sheet, command: str) -> Order:
    """The project's tests as a step: stale when any tracked file of the commit may have changed."""
    code = sheet.dirty or sheet.commit or ""
    facts = StepFacts(
        code=code, files={}, inputs={}, params={}, command=command, environment=environment.digest(sheet.environment)
    )
    return Order("checks.code", "noria.stages.work.step:run", facts, {"cmd": command, "outs": []}, sheet.project.checks.timeout_s)


def user_step(line: Line, sheet: Sheet, step: Step, done: Mapping[str, StepRecord]) -> Order:
    """One step of the project: a function wired by name, or a command."""
    assert sheet.pins is not None, "pins are fixed before steps run"
    inputs = {name: _input_digest(sheet, name, done) for name in step.deps}
    params = _params(sheet, step)
    files = source_code.imports_closure(sheet.code_paths, step.call.partition(":")[0]) if step.call else {}
    facts = StepFacts(
        code=names.digest_bytes(json.dumps([step.call, files], sort_keys=True).encode()),
        files=files if step.call else {"commit": sheet.commit or sheet.dirty or ""},
        inputs=inputs,
        params={k: names.digest_bytes(msgspec.json.encode(v, order="sorted")) for k, v in params.items()},
        command=step.cmd,
        environment=environment.digest(sheet.environment),
    )
    arguments = {name: argument(line, sheet, name, done) for name in step.deps}
    arguments |= {name: {"kind": "value", "value": value} for name, value in params.items()}
    job = {"call": step.call, "cmd": step.cmd, "arguments": arguments, "outs": list(step.outs)}
    return Order(step.name, "noria.stages.work.step:run", facts, job, step.timeout_s, step.memory_bytes, outs={OUTPUT: OUTPUT})


def _params(sheet: Sheet, step: Step) -> dict[str, object]:
    """The parameters a step reads: its section of params.yaml first, then top-level names, as far as it asks for them."""
    section = sheet.project.params.get(step.name, {})
    own = section if isinstance(section, dict) else {}
    wanted = set(step.params)
    return {
        name: own.get(name, sheet.project.params.get(name))
        for name in sorted(wanted)
        if name in own or name in sheet.project.params
    }


def _input_digest(sheet: Sheet, name: str, done: Mapping[str, StepRecord]) -> str:
    assert sheet.pins is not None
    if name in done:
        return done[name].output or ""
    return sheet.pins.snapshots[name]


def argument(line: Line, sheet: Sheet, name: str, done: Mapping[str, StepRecord]) -> dict[str, Any]:
    """How a step process gets a dataset or another step's result: as files it reads."""
    if name in done:
        made = output(line, done[name])
        suffix = ".arrow" if made.result.get("format") == "arrow" else ".json"
        path = named_blob(line, made.files[OUTPUT], f"{name}{suffix}")
        return {"kind": "output", "path": str(path), "format": made.result.get("format", "arrow")}
    assert sheet.pins is not None
    snapshot = line.ledger.data.snapshot(sheet.pins.snapshots[name])
    return {"kind": "table", "files": [str(named_blob(line, pin.digest, pin.name)) for pin in snapshot.files]}


def named_blob(line: Line, digest: str, name: str) -> Path:
    """A link to a verified blob under a name whose suffix tells the format."""
    target = line.blobs.path(digest)
    link = line.state / "work" / "named" / f"{digest[:32]}{''.join(Path(name).suffixes[-2:]) or '.bin'}"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(f".{link.name}.{os.getpid()}.{names.new_id('l')}")
        fresh.symlink_to(target)
        fresh.replace(link)
    return link


def demand(record: StepRecord) -> StepRecord:
    """The record, or StepError when the step failed."""
    if record.state is StepState.FAILED:
        raise StepError(record.reason.text, where=f"step {record.name}")
    return record
