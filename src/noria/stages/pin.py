"""Pin: fix the commit, take in what arrived, and from then on a run has an identity."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from noria import config, names
from noria.adapters import environment, files, git
from noria.config import DataSource, Project
from noria.domain.data import Snapshot
from noria.domain.run import Pins
from noria.domain.turn import Turn
from noria.errors import ConfigError, DataError
from noria.stages import served
from noria.stages.line import Arrival, Line, Sheet


def pin(line: Line, turn: Turn) -> Sheet:
    """Fix the commit and check it out. A turn that was interrupted gets the same commit and run again."""
    recorded = line.ledger.turns.recorded(turn.id, "pin") or line.ledger.turns.record(turn.id, "pin", _choose(line, turn))
    commit, dirty = recorded["commit"], recorded["dirty"]
    tree = (
        line.home if dirty or not commit else git.worktree(repository(line), str(commit), line.state / "worktrees" / str(commit))
    )
    if not (tree / "noria.yaml").is_file():
        raise ConfigError(
            f"commit {str(commit)[:10]} has no noria.yaml", where="noria.yaml", hint="Commit it, or write one with `noria init`."
        )
    project = config.load(tree)
    sheet = Sheet(turn, str(recorded["run_id"]), project, tree, commit, dirty, environment.record())
    sheet.arrivals = tuple(take_in(line, project, patient=recorded["by_hand"]))
    return sheet


def _choose(line: Line, turn: Turn) -> dict[str, object]:
    triggers = line.ledger.triggers.of_turn(turn.id)
    by_hand = any(t.detail.get("tree") == "home" for t in triggers)
    watch = config.load(line.home).git
    origin = repository(line)
    if not git.is_repo(origin):
        return {"commit": None, "dirty": "not a Git repository", "run_id": names.new_id("run"), "by_hand": by_hand}
    here = by_hand and watch.repository is None  # another repository's work tree is not ours to take
    commit = git.head(origin) if here else head(origin, watch.branch)
    if commit is None:
        raise ConfigError("nothing is committed yet", where=str(origin), hint="git add -A && git commit")
    dirty = git.dirty_digest(line.home) if here else None
    return {"commit": commit, "dirty": dirty, "run_id": names.new_id("run"), "by_hand": by_hand}


def head(origin: Path, branch: str) -> str | None:
    """The newest commit of the watched branch; of what is checked out where there is no such branch."""
    return git.head(origin, branch) or git.head(origin)


def repository(line: Line) -> Path:
    """The Git repository whose branch is watched: the home, or a local mirror of a remote one."""
    watch = config.load(line.home).git
    if watch.repository is None:
        return line.home
    return git.fetch(watch.repository, line.state / "repository")


def take_in(line: Line, project: Project, *, patient: bool = False) -> list[Arrival]:
    """Copy every file that no delivery has judged yet into the blob store.

    ``patient``: wait for files that were written a moment ago, as a person expects who copied one and typed `noria run`.
    """
    arrivals = []
    for source in project.data.values():
        if served.is_log(source.source):
            continue
        arrivals += _arrivals(line, source, patient)
    return arrivals


def _arrivals(line: Line, source: DataSource, patient: bool) -> list[Arrival]:
    found = []
    for name, path in files.resolve(source.source, line.home):
        try:
            if not (_waited(path, source.settle_s) if patient else files.settled(path, source.settle_s)):
                continue
            digest = files.digest(path)
            if line.ledger.data.seen(line.name, source.name, name, digest, judged_by(source)) is None:
                found.append(Arrival(source.name, name, line.blobs.put_file(path), path.stat().st_size))
        except FileNotFoundError:
            continue  # vanished between the listing and the copy: it has not arrived
    return found


def judged_by(source: DataSource) -> str:
    """The digest of the contract that judges a source's files."""
    return source.contract.digest if source.contract else ""


def _waited(path: Path, settle_s: float) -> bool:
    """Whether the file settles soon; one that keeps changing is still being written."""
    deadline = time.monotonic() + 2 * settle_s
    while not (settled := files.settled(path, settle_s)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return settled


def snapshots(line: Line, sheet: Sheet) -> dict[str, Snapshot]:
    """The accepted files of every dataset, as of now; a dataset without any is an error."""
    found = {}
    for source in sheet.project.data.values():
        if served.is_log(source.source):
            found[source.name] = served.snapshot(line, sheet, source)
            continue
        snapshot = line.ledger.data.current(line.name, source.name)
        if not snapshot.files:
            raise DataError(
                f"dataset {source.name} has no accepted file",
                where=source.source,
                hint="Put a file there (renamed into place), or correct `source` in noria.yaml; "
                "`noria status` shows what was quarantined and why.",
            )
        found[source.name] = snapshot
    return found


def fix(line: Line, sheet: Sheet) -> Pins:
    """The identity of the run: everything that can change its result, as digests."""
    params = names.digest_bytes(msgspec.json.encode(sheet.project.params, order="sorted"))
    sheet.pins = Pins(
        commit=sheet.commit,
        dirty=sheet.dirty,
        snapshots={name: snapshot.digest for name, snapshot in snapshots(line, sheet).items()},
        params=params,
        config=sheet.project.digest,
        environment=environment.digest(sheet.environment),
    )
    return sheet.pins
