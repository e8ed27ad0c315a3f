"""`noria releases`: every release, newest first; one as a file that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import click

from noria.cli.context import Home, pass_home
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import ago, emit, json_option, number, table
from noria.evaluation.records import sort_gated_first
from noria.kernel import names
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.views.status import release_facts

OTHERS = {
    "export": ("noria.cli.releases_export:export", "Write RELEASE to one signed file, with its data or without."),
    "verify": ("noria.cli.releases_export:verify", "Read an exported FILE to its end; nothing of it runs."),
}


@click.group(cls=LazyGroup, lazy=OTHERS, invoke_without_command=True)
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
        releases = ReleaseStore(ledger, project).list()[:limit]
        routes = RouteStore(ledger, project).all()
    document = {"releases": [release_facts(r) | {"serves": serves(r, routes)} for r in releases]}
    emit(as_json, document, lambda: render(releases, routes, home.gated()))


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
    metrics = ", ".join(f"{name} {number(release.metrics[name])}" for name in sort_gated_first(release.metrics, gated)[:2])
    return f"barred: {release.barred}" if release.barred else metrics
