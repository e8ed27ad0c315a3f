"""`noria releases`: lists releases, newest first; exports one to a self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import click

from noria.cli.context import Home, pass_home
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import ago, emit, json_option, number, table
from noria.evaluation.records import sort_gated_first
from noria.kernel import names
from noria.releases.decision_store import DecisionStore, ReleaseDecision
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.views.status import release_facts

OTHERS = {
    "export": ("noria.cli.releases_export:export", "Export RELEASE to one signed file, with or without its data."),
    "verify": ("noria.cli.releases_export:verify", "Verify an exported FILE; nothing in it runs."),
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

    JSON keys: releases [{version, digest, form, commit, created_at, metrics, barred, run_id, turn_id, serves [ENVIRONMENT],
    decisions [what a person had to accept, and who did]}].
    """
    if ctx.invoked_subcommand is None:
        _list(limit, as_json)


@pass_home
def _list(home: Home, limit: int, as_json: bool) -> None:
    project = home.project_name()
    with closing(home.existing_ledger()) as ledger:
        releases = ReleaseStore(ledger, project).list()[:limit]
        routes = RouteStore(ledger, project).all()
        decisions = DecisionStore(ledger, project).list()
    document = {
        "releases": [release_facts(r) | {"serves": serves(r, routes), "decisions": decided(r, decisions)} for r in releases]
    }
    emit(as_json, document, lambda: render(releases, routes, home.gated(), decisions))


def decided(release: Release, decisions: Sequence[ReleaseDecision]) -> list[str]:
    """What a person had to accept about this release, and who did."""
    return [one.words for one in decisions if one.release == release.version]


def serves(release: Release, routes: list[Route]) -> list[str]:
    """The environments that this release serves."""
    return [route.environment for route in routes if route.champion == release.digest]


def render(
    releases: list[Release], routes: list[Route], gated: Sequence[str] = (), decisions: Sequence[ReleaseDecision] = ()
) -> str:
    """One line a release."""
    if not releases:
        return "no release yet; next: noria run"
    rows = [
        (
            r.version,
            ago(r.created_at),
            names.short(r.digest),
            r.form,
            (r.commit or "–")[:10],
            _state(r, routes, gated) + _decisions(r, decisions),
        )
        for r in releases
    ]
    return table(("release", "sealed", "digest", "form", "commit", "what"), rows)


def _decisions(release: Release, decisions: Sequence[ReleaseDecision]) -> str:
    return "".join(f"; {words}" for words in decided(release, decisions))


def _state(release: Release, routes: list[Route], gated: Sequence[str]) -> str:
    where = serves(release, routes)
    if where:
        barred = f"; barred: {release.barred}" if release.barred else ""
        return f"serves {', '.join(where)}" + (" (imported, not gated)" if release.imported else "") + barred
    if release.imported and not release.barred:
        return "imported, not gated"
    metrics = ", ".join(f"{name} {number(release.metrics[name])}" for name in sort_gated_first(release.metrics, gated)[:2])
    return f"barred: {release.barred}" if release.barred else metrics
