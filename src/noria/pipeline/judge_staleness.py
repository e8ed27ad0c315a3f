"""Must a step run? Decided from content: digests of all it depends on, never from times of files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from noria.kernel import names
from noria.kernel.pins import Pins
from noria.kernel.verdict import Reason

NAMED = 3  # changed things that a reason names; the rest is counted


class StepFacts(msgspec.Struct, frozen=True):
    """Everything a step's result depends on, as digests."""

    code: str  # of what runs
    files: dict[str, str] = {}  # source file -> digest
    inputs: dict[str, str] = {}  # dataset or earlier step -> digest
    params: dict[str, str] = {}  # parameter -> digest of its canonical JSON
    command: str | None = None
    environment: str = ""
    read: dict[str, str] = {}  # file that it opened while it ran -> digest; "" for one not there
    tables: dict[str, str] = {}  # dataset -> digest of the types by which its files are read


class StalenessDecision(msgspec.Struct, frozen=True):
    run: bool
    reason: Reason


def key(facts: StepFacts) -> str:
    """The identity of a step's result: equal facts, equal key."""
    later = ("read", "tables")  # without them keys are as they were made before there were such
    known = {name: getattr(facts, name) for name in StepFacts.__struct_fields__ if name not in later or getattr(facts, name)}
    return names.digest_bytes(json.dumps(known, sort_keys=True, separators=(",", ":")).encode())


def decide(now: StepFacts, before: StepFacts | None, *, cached: bool) -> StalenessDecision:
    """Whether to run, and why. ``before`` are the facts of the step's latest success; ``cached``: a whole result for exactly
    these facts is at hand (possibly an older one than ``before``)."""
    if cached and before == now:
        return StalenessDecision(False, Reason("step.unchanged", "unchanged"))
    if cached:
        return StalenessDecision(False, Reason("step.remembered", "the result of an equal run is used"))
    if before is None:
        return StalenessDecision(True, Reason("step.never_ran", "never ran"))
    if before == now:
        return StalenessDecision(True, Reason("step.result_gone", "its result is gone"))
    found = tuple(changes(now, before))
    return StalenessDecision(True, Reason(found[0].code, "; ".join(r.text for r in found)))


def changes(now: StepFacts, before: StepFacts) -> Iterator[Reason]:
    """What differs, the likeliest cause first. At least one reason when the facts differ."""
    if now.files != before.files:
        yield Reason("step.code_changed", f"code changed: {_change_text(now.files, before.files)}")
    elif now.code != before.code:
        yield Reason("step.code_changed", "code changed")
    if now.inputs != before.inputs:
        yield Reason("step.input_changed", f"input changed: {_change_text(now.inputs, before.inputs)}")
    if now.read != before.read:
        yield Reason("step.file_changed", f"file changed: {_change_text(now.read, before.read)}")
    if now.tables != before.tables and now.inputs == before.inputs:
        yield Reason("step.input_changed", f"types of input changed: {_change_text(now.tables, before.tables)}")
    if now.params != before.params:
        yield Reason("step.parameter_changed", f"parameter changed: {_change_text(now.params, before.params)}")
    if now.command != before.command:
        yield Reason("step.command_changed", "command changed")
    if now.environment != before.environment:
        yield Reason("step.environment_changed", "environment changed")


def _change_text(now: Mapping[str, str], before: Mapping[str, str]) -> str:
    different = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    words = [f"{name}{_came_or_went(name, now, before)}" for name in different[:NAMED]]
    more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
    return ", ".join(words) + more


def _came_or_went(name: str, now: Mapping[str, str], before: Mapping[str, str]) -> str:
    if name not in before:
        return " (new)"
    return " (gone)" if name not in now else ""


def same_work(pins: Pins, earlier: Pins | None) -> Reason | None:
    """A reason when nothing at all differs from an earlier run; None when there is work to do."""
    if earlier is None or pins.identity() != earlier.identity():
        return None
    return Reason("plan.nothing_changed", "nothing changed: same commit, data, parameters and environment")
