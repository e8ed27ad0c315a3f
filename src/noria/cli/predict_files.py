"""`noria predict --input`: scores whole files without the server."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.named_release import find_release, refuse_keys, teller
from noria.cli.output import ExitCode, emit, pairs, plural
from noria.cli.versions import at_work
from noria.delivery.batch import scoring
from noria.delivery.batch.rows import InputFile
from noria.delivery.batch.scoring import BatchResult
from noria.kernel.dialect import Dialect
from noria.kernel.errors import NoriaError, NotFoundError
from noria.serving.route_store import RouteStore


class ScoreOptions(msgspec.Struct, frozen=True):
    """What the options of `noria predict` say beside --input."""

    given: str
    output: Path
    environment: str | None
    release: str | None
    key: Path | None
    columns: tuple[str, ...] | None
    strict: bool
    restart: bool


def score(asked: ScoreOptions, as_json: bool) -> int:
    """Score the files, and say what came of it; the exit code."""
    keys = (asked.key,) if asked.key is not None else ()
    if asked.release is None:
        refuse_keys(keys)
    named = asked.release if asked.release is not None else _champion(asked.environment)
    lay = find_release(named, keys, as_json)
    try:
        order = scoring.BatchOrder(_sources(asked.given, as_json), asked.output, asked.columns, asked.strict, asked.restart)
        done = scoring.score(order, lay, teller(as_json))
    except KeyboardInterrupt:
        click.echo("stopped; the same command continues from here", err=True)
        raise
    emit(as_json, msgspec.to_builtins(done), lambda: _summary(done))
    return ExitCode.NO if done.rejected else ExitCode.PASSED


@pass_home
def _champion(home: Home, environment: str | None) -> str:
    """The version that serves. Raises NotFoundError."""
    name = home.environment(environment)
    with closing(home.existing_ledger()) as ledger:
        route = RouteStore(ledger, home.project_name()).get(name)
    if route is None or route.champion is None:
        raise NotFoundError(f"no release serves {name}", hint="Name one with --release; `noria releases` lists them.")
    return route.champion


def _sources(given: str, as_json: bool) -> tuple[InputFile, ...]:
    """Files of that name or pattern, else a dataset. Raises NotFoundError."""
    found = scoring.files(given, _dialect())
    if found:
        return found
    if any(c in given for c in "*?[/.") and "@" not in given:
        raise NotFoundError("there is no such file", where=given)
    return _dataset(given, as_json)


def _dialect() -> Dialect | None:
    """How text files are written in the project here, if there is one that says so."""
    start = click.get_current_context().find_root().obj or Path(".")
    try:
        return scoring.project_dialect(Home.find(start).project())
    except NoriaError:  # a release that was exported needs no project
        return None


@pass_home
def _dataset(home: Home, reference: str, as_json: bool) -> tuple[InputFile, ...]:
    with at_work(home, as_json) as context:
        return scoring.dataset(context, reference)


def _summary(done: BatchResult) -> str:
    speed = f"{done.rows_per_s:,.0f} rows/s"
    items: list[tuple[str, object]] = [
        ("output", f"{done.output}: {plural(done.rows, 'row')}, {speed}"),
        ("release", done.release),
    ]
    if done.resumed:
        items.append(("resumed", f"{plural(done.resumed, 'row')} were done before"))
    if done.rejected:
        items.append(("rejected", f"{plural(done.rejected, 'row')}, with their reasons in {done.rejected_file}"))
    return pairs(items)
