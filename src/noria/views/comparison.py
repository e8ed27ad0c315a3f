"""Compare: resolves two names to runs, gathers their records, and judges what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from noria.data.snapshot import Snapshot
from noria.data.store import DataStore
from noria.evaluation.judge_compare import CodeFile, ComparedSide, RunDifference, compare
from noria.evaluation.store import EvaluationStore, read_evaluation
from noria.kernel import names
from noria.kernel.errors import AmbiguousError, NoriaError, NotFoundError, UsageError
from noria.pipeline import environment, git
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.run import Run, flat
from noria.pipeline.run_store import RunStore
from noria.pipeline.series_store import SeriesStore
from noria.pipeline.turn_record import REPEATS, Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.evidence import Evaluation
from noria.releases.release import Release
from noria.releases.store import PREFIX, ReleaseStore
from noria.serving.route_store import RouteStore
from noria.storage.blobs import BlobStore
from noria.storage.ledger import Ledger
from noria.views.turn_reference import find_turn

T = TypeVar("T")
LATEST = "latest"
HINT = "Name a release (v3), a turn (12), a run (or the beginning of its id), an environment, or `latest`."


class Archive(msgspec.Struct, frozen=True):
    """The stores that hold a project's history."""

    ledger: Ledger
    blobs: BlobStore
    project: str
    home: Path  # a folder of the repository
    state: Path  # .noria


class NamedRun(msgspec.Struct, frozen=True):
    """A run by the name it was asked for, with the release that it became, if any."""

    name: str
    run: Run
    release: Release | None


def find(archive: Archive, ref: str) -> NamedRun:
    """What ``ref`` stands for. Raises NotFoundError; UsageError for a turn that never came to a run."""
    ledger, project = archive.ledger, archive.project
    if ref == LATEST:
        runs = RunStore(ledger, project).list()
        if not runs:
            raise NotFoundError("there is no run yet", hint="`noria run` runs a first turn.")
        newest = next((run for run in runs if _has_worked(archive, run)), runs[0])
        return _name_run(archive, newest, f"{newest.id} (latest)")
    turn = find_turn(ledger, project, ref)
    if turn is not None:
        return _of_turn(archive, turn)
    served = serving(archive, ref)
    if served is not None:
        return _of_release(archive, served, f"{served.version} (serves {ref})")
    if names.VERSION.fullmatch(ref) or PREFIX.fullmatch(ref):
        return _of_release(archive, ReleaseStore(ledger, project).get(ref))
    try:
        return _name_run(archive, RunStore(ledger, project).find(ref))
    except AmbiguousError:
        raise
    except NotFoundError as error:
        raise NotFoundError(error.message, hint=HINT) from error


def _has_worked(archive: Archive, run: Run) -> bool:
    """Whether the run did something itself: its turn found something new."""
    if run.outcome == TurnOutcome.NOTHING_CHANGED:
        return False
    return run.turn_id is None or TurnStore(archive.ledger, archive.project).recorded(run.turn_id, REPEATS) is None


def serving(archive: Archive, name: str) -> Release | None:
    """The release that serves an environment; None when there is no such environment or nothing serves it."""
    route = RouteStore(archive.ledger, archive.project).get(name) if names.is_name(name) else None
    return ReleaseStore(archive.ledger, archive.project).get(route.champion_version) if route is not None else None


def defaults(archive: Archive, first: str | None, second: str | None) -> tuple[NamedRun, NamedRun]:
    """The two sides: by default what serves, and the latest run. With one name: that, and what serves; where it serves itself,
    the latest run. Raises NotFoundError, UsageError."""
    if first is not None and second is not None:
        return find(archive, first), find(archive, second)
    champion = _champion(archive)
    if first is None:
        if champion is None:
            raise UsageError("nothing serves yet: name two runs to compare", hint=HINT)
        return champion, find(archive, LATEST)
    before = find(archive, first)
    if champion is None or champion.run.id == before.run.id:
        return before, find(archive, LATEST)
    return before, champion


def _champion(archive: Archive) -> NamedRun | None:
    """What serves the environment where quality counts most: production, or else the one that changed last."""
    routes = RouteStore(archive.ledger, archive.project).all()
    if not routes:
        return None
    chosen = max(routes, key=lambda r: (r.environment == "production", r.revision))
    return find(archive, chosen.environment)


def difference(archive: Archive, before: NamedRun, after: NamedRun) -> RunDifference:
    """Everything that differs between two runs. What no longer exists is reported as unknown, never guessed."""
    a, b = side(archive, before), side(archive, after)
    records = None
    if a.environment is not None and b.environment is not None:
        records = environment.differences(a.environment, b.environment)
    return compare(a, b, _code(archive, before.run, after.run), records)


def side(archive: Archive, named: NamedRun) -> ComparedSide:
    """What is recorded about a run."""
    run, release = named.run, named.release
    bundle = archive.state / "releases" / release.digest if release is not None else None
    params = run.params or _evidence(bundle, "params")
    facts = _evidence(bundle, "evaluation")
    return ComparedSide(
        name=named.name,
        run=run,
        release=release.version if release else None,
        params=flat(params) if params is not None else None,
        evaluation=read_evaluation(facts) if facts else _turn_evaluation(archive, run),
        snapshots={name: _snapshot(archive, digest) for name, digest in run.pins.snapshots.items()},
        environment=_evidence(bundle, "environment") or _kept_document(archive, run.pins.environment),
        series=SeriesStore(archive.ledger, archive.project).of_run(run.id),
        steps={
            name: msgspec.convert(f, StepFacts) for name, f in RunStore(archive.ledger, archive.project).step_facts(run).items()
        },
    )


def _of_turn(archive: Archive, turn: Turn) -> NamedRun:
    if turn.run_id is None:
        raise UsageError(f"turn {turn.number} has no run to compare: it ended before ({turn.outcome})", hint=HINT)
    return _name_run(archive, RunStore(archive.ledger, archive.project).get(turn.run_id), f"turn {turn.number}")


def _of_release(archive: Archive, release: Release, name: str | None = None) -> NamedRun:
    return NamedRun(name or release.version, RunStore(archive.ledger, archive.project).get(release.run_id), release)


def _name_run(archive: Archive, run: Run, name: str | None = None) -> NamedRun:
    made = next((r for r in ReleaseStore(archive.ledger, archive.project).list() if r.run_id == run.id), None)
    return NamedRun(name or run.id, run, made)


def _evidence(bundle: Path | None, name: str) -> Any:
    """A document of a release's bundle; None without a release, or where it was erased or torn."""
    if bundle is None:
        return None
    try:
        return msgspec.json.decode((bundle / "evidence" / f"{name}.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def sealed_evidence(archive: Archive, named: NamedRun, name: str, kind: type[T] | Any = Any) -> T | Any:
    """A document of the release's bundle; None where the run became none, or it was erased or torn, or is no ``kind``."""
    if named.release is None:
        return None
    found = _evidence(archive.state / "releases" / named.release.digest, name)
    try:
        return msgspec.convert(found, kind) if found is not None else None
    except msgspec.ValidationError:
        return None


def _turn_evaluation(archive: Archive, run: Run) -> Evaluation | None:
    """The evaluation of a run that became no release, where its turn measured a candidate."""
    found = EvaluationStore(archive.ledger, archive.project).of_turn(run.turn_id) if run.turn_id else None
    return found.evaluation if found is not None else None


def _kept_document(archive: Archive, digest: str) -> dict[str, Any] | None:
    """A JSON document that is kept as a blob under the digest that the pins name."""
    if not names.DIGEST.fullmatch(digest) or not archive.blobs.exists(digest):
        return None
    try:
        found = msgspec.json.decode(archive.blobs.read(digest))
    except (NoriaError, msgspec.DecodeError):
        return None
    return found if isinstance(found, dict) else None


def _snapshot(archive: Archive, digest: str) -> Snapshot | None:
    try:
        return DataStore(archive.ledger, archive.project).snapshot(digest)
    except NotFoundError:
        return None


def _code(archive: Archive, before: Run, after: Run) -> list[CodeFile] | None:
    """What differs between the commits, from the repository or the mirror that holds both."""
    a, b = before.pins.commit, after.pins.commit
    if a is None or b is None:
        return None
    if a == b:
        return []
    for place in (archive.home, archive.state / "repository"):
        found = git.changed_files(place, a, b) if place.is_dir() and git.is_repo(place) else None
        if found is not None:
            return [CodeFile(*file) for file in found]
    return None
