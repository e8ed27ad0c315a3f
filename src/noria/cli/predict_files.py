"""`noria predict --input`: whole files scored with the release that would serve, without the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.exported import find_export, public_keys
from noria.cli.output import ExitCode, emit, pairs, plural
from noria.cli.versions import at_work
from noria.delivery import standalone
from noria.delivery.batch import scoring
from noria.delivery.batch.rows import InputFile
from noria.delivery.batch.scoring import BatchResult
from noria.delivery.standalone import Lay
from noria.kernel.dialect import Dialect
from noria.kernel.errors import NoriaError, NotFoundError, UsageError
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore
from noria.storage.ledger import Ledger


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
    lay = _lay(asked.release, asked.key, asked.environment, as_json)
    try:
        order = scoring.BatchOrder(_sources(asked.given, as_json), asked.output, asked.columns, asked.strict, asked.restart)
        done = scoring.score(order, lay, _teller(as_json))
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from here", err=True)
        raise
    emit(as_json, msgspec.to_builtins(done), lambda: _summary(done))
    return ExitCode.NO if done.rejected else ExitCode.PASSED


def _lay(release: str | None, key: Path | None, environment: str | None, as_json: bool) -> Lay:
    """The release that is named, or the champion. Raises NotFoundError, UsageError."""
    path = find_export(release) or (Path(release) if "/" in release else None) if release is not None else None
    if path is not None:
        return standalone.from_file(path, public_keys(key) if key is not None else (), _teller(as_json))
    if key is not None:
        raise UsageError("--key is for an exported FILE: a release of this project is verified with its own key")
    return _from_store(release, environment)


@pass_home
def _from_store(home: Home, release: str | None, environment: str | None) -> Lay:
    with closing(home.existing_ledger()) as ledger:
        project = home.project_name()
        if release is None:
            release = _champion(home, ledger, project, environment)
        return standalone.from_store(home.state, ReleaseStore(ledger, project).get(release))


def _champion(home: Home, ledger: Ledger, project: str, environment: str | None) -> str:
    name = home.environment(environment)
    route = RouteStore(ledger, project).get(name)
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


def _teller(as_json: bool) -> Callable[[str], None]:
    return (lambda _: None) if as_json else (lambda text: click.echo(text, err=True))


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
