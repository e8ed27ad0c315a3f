"""Release: an immutable, signed bundle of code, data, parameters, environment, model and evidence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import RefusedError, StoreError
from noria.kernel.verdict import Outcome, Verdict
from noria.models import weights
from noria.models.further_tables import FOLDER
from noria.models.golden import GOLDEN
from noria.pipeline import judge_uncommitted, pin, sealable_code
from noria.pipeline.context import PinnedRun, PipelineContext, StartedRun
from noria.pipeline.judge_uncommitted import UncommittedChange
from noria.pipeline.run import StepRecord
from noria.releases import bundle
from noria.releases import judge_release as policy
from noria.releases.decision_store import AskedDecision, DecisionKind, DecisionStore
from noria.releases.evidence import Measured
from noria.releases.packaging import Package, model_file, serving_manifest
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.storage.disk import sync_below, sync_path

NAMED = 3  # so many changed files are named


def restore_sealed(context: PipelineContext, run: StartedRun, sealed: Release) -> PinnedRun:
    """Give a run that was interrupted after sealing back what was sealed of it: its pins, its steps and the parameters that a
    search found."""
    folder = context.bundle(sealed.digest)
    pins = bundle.read_manifest(folder, sealed.digest).pins
    if pins is None:
        raise StoreError("its manifest does not say what the release was made of", where=str(folder))
    pinned_run = run.pinned(pins, {})
    pinned_run.records = msgspec.json.decode((folder / "evidence" / "steps.json").read_bytes(), type=list[StepRecord])
    params = msgspec.json.decode((folder / "evidence" / "params.json").read_bytes())
    if pinned_run.project.model is not None and pinned_run.project.model.search is not None:
        pinned_run.found = {"params": params["train"], "algorithm": params["algorithm"]}
    return pinned_run


def release_refusal(pinned_run: PinnedRun) -> str:
    """Why this run may not become a release, and what to do next; empty when it may."""
    allowed = policy.may_release(pinned_run.pins)
    if allowed.outcome is Outcome.PASS:
        return ""
    changed = (
        pin.changes(pinned_run.tree, pinned_run.project)
        if pinned_run.commit is not None and pinned_run.pins.dirty is not None
        else []
    )
    return f"{allowed.sentence()}{_which(changed)}\n  {judge_uncommitted.advice(changed)}"


def _which(changed: Sequence[UncommittedChange]) -> str:
    """`` (model.py, table.py and 3 more)``: what differs now; empty where nothing does any more, or there is no commit."""
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    named = [os.fsencode(change.path).decode(errors="backslashreplace") for change in changed[:NAMED]]
    return f" ({', '.join(named)}{more})" if changed else ""


def release(
    context: PipelineContext,
    pinned_run: PinnedRun,
    package: Package,
    measured: Measured,
    verdict: Verdict,
    asks: Mapping[DecisionKind, AskedDecision] = MappingProxyType({}),
) -> Release:
    """Seal the bundle and give it the next version. Wholly there or not at all: the folder is renamed into place
    before the one transaction that makes it a release. ``asks``: what a person has to accept before it goes out."""
    refusal = release_refusal(pinned_run)
    if refusal:
        raise RefusedError(refusal)
    folder, digest = _assemble(context, pinned_run, package, measured, verdict)
    place(folder, context.bundle(digest))
    with context.ledger.transaction():
        context.check_lease()
        sealed = ReleaseStore.of(context).seal(
            digest,
            pinned_run.run_id,
            pinned_run.turn.id,
            package.form,
            pinned_run.commit,
            {name: m.value for name, m in measured.evaluation.metrics.items()},
            policy.pins_identity(pinned_run.pins),
        )
        text = f"{sealed.version} sealed: {sealed.form}, {names.short(digest)}, commit {(pinned_run.commit or '')[:10]}"
        context.event("release.sealed", sealed.version, text, digest=digest, run=pinned_run.run_id)
        for kind, asked in asks.items():
            DecisionStore.of(context).ask(sealed.version, kind, asked.text)
            if asked.actor:
                _accept(context, sealed.version, kind, asked)
    return sealed


def _accept(context: PipelineContext, version: str, kind: DecisionKind, asked: AskedDecision) -> None:
    """Records a decision that a person took before the release was sealed."""
    DecisionStore.of(context).accept(version, kind, asked.actor, asked.why)
    text = f"{asked.actor} accepted this of {version} before: {asked.why} ({asked.text})"
    facts = {"kinds": [str(kind)], "why": asked.why}
    context.ledger.events.append(context.name, "release.accepted", version, text, facts, actor=asked.actor)


def _assemble(
    context: PipelineContext, pinned_run: PinnedRun, package: Package, measured: Measured, verdict: Verdict
) -> tuple[Path, str]:
    folder = context.folder(pinned_run.run_id) / "sealed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in (model_file(package.form), model_file(package.form) + weights.SUFFIX, GOLDEN):
        if (package.folder / name).exists():
            shutil.copyfile(package.folder / name, folder / name)
    if (package.folder / FOLDER).exists():
        shutil.copytree(package.folder / FOLDER, folder / FOLDER)
    # anew, also where it was evaluated: what was left there is not sealed
    sealable_code.lay_out(context, pinned_run, folder / bundle.CODE)
    evidence = folder / "evidence"
    evidence.mkdir()
    for name, facts in _evidence(context, pinned_run, package, measured, verdict).items():
        (evidence / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
    manifest = serving_manifest(pinned_run, package.form, package.trained, package.packaged)
    manifest = replace(manifest, run=pinned_run.run_id, pins=pinned_run.pins)
    return folder, bundle.seal(folder, context.state, bundle.complete_manifest(folder, manifest))


def _evidence(
    context: PipelineContext, pinned_run: PinnedRun, package: Package, measured: Measured, verdict: Verdict
) -> dict[str, Any]:
    snapshots = {name: DataStore.of(context).snapshot(digest) for name, digest in pinned_run.pins.snapshots.items()}
    trained = dict(package.trained)
    return {
        "evaluation": measured.evaluation,
        "reference": measured.reference,
        "curves": measured.curves,
        "gate": verdict,
        "parity": package.packaged,
        "environment": pinned_run.environment,
        "params": pinned_run.params_used,
        "data": snapshots,
        "tables": pinned_run.tables,
        "profile": trained.pop("profile", None),
        "training": trained,
        "steps": pinned_run.records,
    }


def place(folder: Path, target: Path) -> None:
    """Everything on disk before the rename makes it visible."""
    if target.is_dir():
        return  # the same bundle was sealed before: a turn that resumes
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_below(folder)
    folder.rename(target)
    sync_path(target.parent)
