"""`noria releases`: every release, newest first; one as a file that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import ago, emit, json_option, number, pairs, plural, table
from noria.evaluation.records import gated_first
from noria.kernel import names
from noria.releases.release import Release
from noria.serving.rollout_records import Route
from noria.views.status import release_facts

if TYPE_CHECKING:
    from noria.releases.export import ExportFacts


@click.group(invoke_without_command=True)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@json_option
@click.pass_context
def command(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List the releases, newest first.

    \b
    Example:  noria releases
              noria releases export v3 --into v3.noria.tar

    JSON keys: releases [{version, digest, form, commit, created_at, metrics, barred, run_id, turn_id, serves [ENVIRONMENT]}].
    """
    if ctx.invoked_subcommand is None:
        _list(limit, as_json)


@pass_home
def _list(home: Home, limit: int, as_json: bool) -> None:
    project = home.project_name()
    with closing(home.existing_ledger()) as ledger:
        releases = ledger.releases.list(project)[:limit]
        routes = [route for route in ledger.routes.all() if route.project == project]
    document = {"releases": [release_facts(r) | {"serves": serves(r, routes)} for r in releases]}
    emit(as_json, document, lambda: render(releases, routes, home.gated()))


@command.command("export")
@click.argument("release")
@click.option("--into", type=click.Path(path_type=Path), help="The file to write; RELEASE.noria.tar here when not named.")
@click.option("--without-data", is_flag=True, help="Leave the datasets out: it can be served, and not be reproduced.")
@json_option
@pass_home
def export(home: Home, release: str, into: Path | None, without_data: bool, as_json: bool) -> None:
    """Write RELEASE to one signed file: bundle, code, data, environment record. `noria reproduce FILE` builds it again anywhere.

    \b
    Example:  noria releases export v3
              noria releases export v3 --into v3.noria.tar --without-data

    JSON keys: file, size_bytes, release, project, digest, commit, key, snapshots {dataset: digest}, left_out, lock.
    """
    from noria.engine import assembly
    from noria.releases import export as exporting

    context = assembly.assemble(home.path, actor=actor(), progress=(lambda _: None) if as_json else _tell)
    try:
        found = context.ledger.releases.get(context.name, release)
        target = (into or Path(f"{found.version}.noria.tar")).resolve()
        facts = exporting.export(context, found, target, with_data=not without_data)
        text = f"{found.version} exported to {target.name}{' without its data' if without_data else ''}"
        context.event("release.exported", found.version, text, key=facts.key, data=not without_data)
    finally:
        context.executor.close()
    _emit(facts, target, as_json)


@command.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="The public key (signing.pub) that it must be signed with.")
@json_option
def verify(file: Path, key: Path | None, as_json: bool) -> None:
    """Read an exported FILE to its end: signature, digests, nothing missing, nothing else in it. Nothing of it runs.

    \b
    Example:  noria releases verify v3.noria.tar --key signing.pub

    JSON keys: as of `noria releases export`.
    """
    from noria.cli.reproduce import public_keys
    from noria.releases import export as exporting

    facts = exporting.inspect(file, public_keys(key) if key is not None else (), (lambda _: None) if as_json else _tell)
    _emit(facts, file.resolve(), as_json)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _emit(facts: ExportFacts, path: Path, as_json: bool) -> None:
    document: dict[str, Any] = {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "release": facts.release.version,
        "project": facts.release.project,
        "digest": facts.release.digest,
        "commit": facts.release.commit,
        "key": facts.key,
        "snapshots": facts.snapshots,
        "left_out": list(facts.left_out),
        "lock": facts.lock,
    }
    size = f"{document['size_bytes'] / 1e6:,.1f} MB"
    data = ", ".join(facts.snapshots) or ("none: it can be served, not reproduced" if facts.left_out else "none")
    what = f"{facts.release.version} of {facts.release.project}, {facts.release.form}, {plural(len(facts.pieces), 'file')}"
    items = [("file", f"{path} ({size})"), ("release", what), ("data", data), ("signed with", facts.key)]
    emit(as_json, document, lambda: pairs(items))


def serves(release: Release, routes: list[Route]) -> list[str]:
    """The environments that this release serves."""
    return [route.environment for route in routes if route.champion == release.digest]


def render(releases: list[Release], routes: list[Route], gated: Sequence[str] = ()) -> str:
    """One line a release."""
    if not releases:
        return "no release yet; next: noria run"
    rows = [
        (r.version, ago(r.created_at), names.short(r.digest), r.form, (r.commit or "–")[:10], _state(r, routes, gated))
        for r in releases
    ]
    return table(("release", "sealed", "digest", "form", "commit", "what"), rows)


def _state(release: Release, routes: list[Route], gated: Sequence[str]) -> str:
    where = serves(release, routes)
    if where:
        barred = f"; barred: {release.barred}" if release.barred else ""
        return f"serves {', '.join(where)}" + (" (imported, not gated)" if release.imported else "") + barred
    if release.imported and not release.barred:
        return "imported, not gated"
    metrics = ", ".join(f"{name} {number(release.metrics[name])}" for name in gated_first(release.metrics, gated)[:2])
    return f"barred: {release.barred}" if release.barred else metrics
