"""`noria data verify`: finds blobs that are damaged or missing, and what needs them."""

from __future__ import annotations

from typing import Any

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import ExitCode, emit, json_option, plural
from noria.cli.versions import at_work
from noria.kernel.words import size
from noria.trust import verification
from noria.trust.judge_retention import BlobKind
from noria.trust.verification import DamagedBlob, VerificationReport


@click.command()
@json_option
@pass_home
def verify(home: Home, as_json: bool) -> int:
    """Verify every blob that is needed, and the bundle of each release. Exit code 1 when something is lost.

    A damaged blob is reported with the snapshots, releases and steps that need it, moved to .noria/damaged/, and restored if its
    bytes still exist in the source, in a bundle, or in the project's folder. The next run that needs a lost result of a step
    makes it again.

    \b
    Example:  noria data verify

    JSON keys: ok, blobs, size_bytes, findings [{digest, state (damaged, missing), files [{dataset, name}], snapshots, releases,
    steps, runs, pinned, cure, where, text}], bundles {release: why it is not whole}.
    """
    home.existing_ledger().close()  # says so where nothing has happened yet
    with at_work(home, as_json) as context:
        found = verification.verify(context)
    emit(as_json, lambda: _verified_facts(found), lambda: _render_verified(found))
    return ExitCode.PASSED if found.ok else ExitCode.NO


def _verified_facts(found: VerificationReport) -> dict[str, Any]:
    findings = [_finding_facts(finding) for finding in found.findings]
    counts = {"blobs": found.blobs, "size_bytes": found.size_bytes}
    return {"ok": found.ok, **counts, "findings": findings, "bundles": found.bundles}


def _finding_facts(finding: DamagedBlob) -> dict[str, Any]:
    uses = finding.uses
    return {
        "digest": finding.digest,
        "state": str(finding.state),
        "files": [{"dataset": dataset, "name": name} for dataset, name in sorted(uses.data)],
        "snapshots": sorted(uses.snapshots),
        "releases": uses.of(BlobKind.RELEASE),
        "steps": uses.of(BlobKind.STEP),
        "runs": uses.of(BlobKind.RUN),
        "pinned": uses.of(BlobKind.PINNED),
        "cure": str(finding.cure),
        "where": finding.where,
        "text": finding.text,
    }


def _render_verified(found: VerificationReport) -> str:
    head = f"{plural(found.blobs, 'blob')} needed, {size(found.size_bytes)} whole"
    if found.ok and not found.findings:
        return f"{head}: nothing is damaged, nothing is missing"
    bundles = [f"{version}: {why}" for version, why in found.bundles.items()]
    return "\n".join([head, *(finding.text for finding in found.findings), *bundles])
