"""Release: an immutable, signed bundle of code, data, parameters, environment, model and evidence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from noria.kernel import names
from noria.kernel.errors import RefusedError
from noria.kernel.verdict import Outcome, Verdict
from noria.models import weights
from noria.models.golden import GOLDEN
from noria.pipeline import judge_uncommitted, pin
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.judge_uncommitted import UncommittedChange
from noria.pipeline.run import Pins
from noria.releases import bundle_verifier, code, signing
from noria.releases import judge_release as policy
from noria.releases.evidence import Evaluation
from noria.releases.packaging import Package, model_file, serving_facts
from noria.releases.release import Release

if TYPE_CHECKING:
    from noria.releases.evidence import Reference

NAMED = 3  # so many changed files are named


def sealed_by(line: PipelineContext, sheet: PinnedRun) -> Release | None:
    """The release that this very turn sealed before it was interrupted; the sheet gets the pins it was sealed with."""
    found = next((r for r in line.ledger.releases.list(line.name) if r.turn_id == sheet.turn.id), None)
    if found is not None:
        manifest = msgspec.json.decode((line.bundle(found.digest) / "manifest.json").read_bytes())
        sheet.pins = msgspec.convert(manifest["pins"], Pins)
    return found


def refused(sheet: PinnedRun) -> str:
    """Why this run may not become a release, and what to do next; empty when it may."""
    assert sheet.pins is not None
    allowed = policy.may_release(sheet.pins)
    if allowed.outcome is Outcome.PASS:
        return ""
    changed = pin.changes(sheet.tree, sheet.project) if sheet.commit is not None and sheet.pins.dirty is not None else []
    return f"{allowed.sentence()}{_which(changed)}\n  {judge_uncommitted.advice(changed)}"


def _which(changed: Sequence[UncommittedChange]) -> str:
    """`` (model.py, table.py and 3 more)``: what differs now; empty where nothing does any more, or there is no commit."""
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    named = [os.fsencode(change.path).decode(errors="backslashreplace") for change in changed[:NAMED]]
    return f" ({', '.join(named)}{more})" if changed else ""


def release(
    line: PipelineContext, sheet: PinnedRun, package: Package, measured: tuple[Evaluation, Reference], verdict: Verdict
) -> Release:
    """Seal the bundle and give it the next version. Wholly there or not at all: the folder is renamed into place
    before the one transaction that makes it a release."""
    assert sheet.pins is not None
    refusal = refused(sheet)
    if refusal:
        raise RefusedError(refusal)
    folder = _assemble(line, sheet, package, measured, verdict)
    digest = names.digest_file(folder / "manifest.json")
    _place(folder, line.bundle(digest))
    with line.ledger.transaction():
        line.check_lease()
        sealed = line.ledger.releases.seal(
            line.name,
            digest,
            sheet.run_id,
            sheet.turn.id,
            package.form,
            sheet.commit,
            {name: m.value for name, m in measured[0].metrics.items()},
            policy.pins_identity(sheet.pins),
        )
        text = f"{sealed.version} sealed: {sealed.form}, {names.short(digest)}, commit {(sheet.commit or '')[:10]}"
        line.event("release.sealed", sealed.version, text, digest=digest, run=sheet.run_id)
    return sealed


def _assemble(
    line: PipelineContext, sheet: PinnedRun, package: Package, measured: tuple[Evaluation, Reference], verdict: Verdict
) -> Path:
    folder = line.folder(sheet.run_id) / "sealed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in (model_file(package.form), model_file(package.form) + weights.SUFFIX, GOLDEN):
        if (package.folder / name).exists():
            shutil.copyfile(package.folder / name, folder / name)
    code.seal(line, sheet, folder / bundle_verifier.CODE)  # anew, also where it was evaluated: what was left there is not sealed
    evidence = folder / "evidence"
    evidence.mkdir()
    for name, facts in _evidence(line, sheet, package, measured, verdict).items():
        (evidence / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
    manifest = serving_facts(sheet, package.form, package.trained, package.packaged) | {
        "run": sheet.run_id,
        "pins": msgspec.to_builtins(sheet.pins),
        **bundle_verifier.listing(folder),
    }
    content = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sig").write_bytes(signing.sign(line.state, content))
    _sync(folder)
    return folder


def _evidence(
    line: PipelineContext, sheet: PinnedRun, package: Package, measured: tuple[Evaluation, Reference], verdict: Verdict
) -> dict[str, Any]:
    assert sheet.pins is not None
    snapshots = {name: line.ledger.data.snapshot(digest) for name, digest in sheet.pins.snapshots.items()}
    trained = dict(package.trained)
    return {
        "evaluation": measured[0],
        "reference": measured[1],
        "gate": verdict,
        "parity": package.packaged,
        "environment": sheet.environment,
        "params": sheet.params_used,
        "data": snapshots,
        "tables": sheet.tables,
        "profile": trained.pop("profile", None),
        "training": trained,
        "steps": sheet.records,
    }


def _sync(folder: Path) -> None:
    """Everything on disk before the rename makes it visible."""
    for path, entry in bundle_verifier.contents(folder):
        if not entry.is_symlink():
            with (folder / path).open("rb") as file:
                os.fsync(file.fileno())


def _place(folder: Path, target: Path) -> None:
    if target.is_dir():
        return  # the same bundle was sealed before: a turn that resumes
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    parent = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
