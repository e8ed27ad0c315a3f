"""`noria releases`: every release, newest first."""

from __future__ import annotations

from contextlib import closing

import click

from noria import names
from noria.cli.context import Home, pass_home
from noria.cli.output import ago, emit, json_option, number, table
from noria.console.view import release_facts
from noria.domain.release import Release
from noria.domain.rollout import Route


@click.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@json_option
@pass_home
def command(home: Home, limit: int, as_json: bool) -> None:
    """List the releases, newest first.

    \b
    Example:  noria releases

    JSON keys: releases [{version, digest, form, commit, created_at, metrics, barred, run_id, turn_id, serves [ENVIRONMENT]}].
    """
    project = home.project_name()
    with closing(home.existing_ledger()) as ledger:
        releases = ledger.releases.list(project)[:limit]
        routes = [route for route in ledger.routes.all() if route.project == project]
    document = {"releases": [release_facts(r) | {"serves": serves(r, routes)} for r in releases]}
    emit(as_json, document, lambda: render(releases, routes))


def serves(release: Release, routes: list[Route]) -> list[str]:
    """The environments that this release serves."""
    return [route.environment for route in routes if route.champion == release.digest]


def render(releases: list[Release], routes: list[Route]) -> str:
    """One line a release."""
    if not releases:
        return "no release yet; next: noria run"
    rows = [
        (r.version, ago(r.created_at), names.short(r.digest), r.form, (r.commit or "–")[:10], _state(r, routes)) for r in releases
    ]
    return table(("release", "sealed", "digest", "form", "commit", "what"), rows)


def _state(release: Release, routes: list[Route]) -> str:
    where = serves(release, routes)
    if where:
        return f"serves {', '.join(where)}"
    metrics = ", ".join(f"{name} {number(value)}" for name, value in list(release.metrics.items())[:2])
    return f"barred: {release.barred}" if release.barred else metrics
