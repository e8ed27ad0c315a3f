"""Pin: fix the commit, take in what arrived, and from then on a run has an identity."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec

from noria import config
from noria.config import GitWatch, Project
from noria.config.loading import FILE
from noria.data import served_predictions, table_types
from noria.data.arrivals import take_in
from noria.kernel import names
from noria.kernel.errors import ConfigError, DataError
from noria.pipeline import checkout, environment, git, judge_uncommitted
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.judge_uncommitted import UncommittedChange
from noria.pipeline.places import walk
from noria.pipeline.run import Pins
from noria.pipeline.turn_record import Turn

MAIN = "main"  # the branch that is followed where noria.yaml names none
SHOWN = 5  # branches that are named
WORD = re.compile(r"[^\s;&|<>()'\"`$]+")  # of a command, as far as it may be a path
SOURCE_LIMIT = 4 << 20  # bytes; a larger file is no source
SUBMODULE = "`git submodule update --init` in the project's folder brings it, before the commit is built"


def pin(line: PipelineContext, turn: Turn) -> PinnedRun:
    """Fix the commit and check it out. A turn that was interrupted gets the same commit and run again."""
    here = config.load(line.home)
    recorded = line.ledger.turns.recorded(turn.id, "pin") or line.ledger.turns.record(turn.id, "pin", _choose(line, turn, here))
    commit, dirty = recorded["commit"], recorded["dirty"]
    tree = tree_of(line, commit, dirty, here)
    project = here if tree == line.home else config.load(tree)
    sheet = PinnedRun(turn, str(recorded["run_id"]), project, tree, commit, dirty, environment.record())
    sheet.by_hand = bool(recorded["by_hand"])
    sheet.arrivals = tuple(take_in(line, project, patient=recorded["by_hand"]))
    return sheet


def tree_of(line: PipelineContext, commit: str | None, dirty: str | None, here: Project) -> Path:
    """The home itself, or a clean checkout. Raises ConfigError when the commit has no noria.yaml."""
    if dirty or not commit:
        return line.home
    folder = line.state / "worktrees" / commit
    tell = line.progress if folder.is_dir() else partial(line.event, "code.incomplete", commit)
    tree = checkout.worktree(repository(line, here), commit, folder)
    for path in checkout.absent(folder):
        tell(f"commit {commit[:10]}: its submodule {path} is not on this machine, so that its folder is empty; {SUBMODULE}")
    if not (tree / "noria.yaml").is_file():
        raise ConfigError(
            f"commit {commit[:10]} has no noria.yaml", where="noria.yaml", hint="Commit it, or write one with `noria init`."
        )
    return tree


def _choose(line: PipelineContext, turn: Turn, here: Project) -> dict[str, object]:
    triggers = line.ledger.triggers.of_turn(turn.id)
    by_hand = any(t.detail.get("tree") == "home" for t in triggers)
    commit, dirty = stands(line, here, by_hand=by_hand)
    return {"commit": commit, "dirty": dirty, "run_id": names.new_id("run"), "by_hand": by_hand}


def stands(line: PipelineContext, here: Project, *, by_hand: bool) -> tuple[str | None, str | None]:
    """The commit that a run is of, and the digest of what differs from it in the home; the latter only for one by hand.

    Raises ConfigError when nothing is committed yet.
    """
    watch = here.git
    place = repository(line, here)
    if not git.is_repo(place):
        return None, _content(line, here)
    own = by_hand and watch.repository is None  # another repository's work tree is not ours to take
    commit = git.head(place) if own else watched(place, watch)[0]
    if commit is None:
        raise ConfigError("nothing is committed yet", where=str(place), hint="git add -A && git commit")
    return commit, git.digest_of(line.home, changes(line.home, here)) if own else None


def changes(home: Path, project: Project) -> list[UncommittedChange]:
    """What makes the folder another tree than its commit."""
    return judge_uncommitted.that_count(git.changes(home, own_outs(project)), _read(project))


def _read(project: Project) -> frozenset[str]:
    """Files and folders that Noria or a step reads: the configuration, what steps depend on, and what commands name."""
    found = {FILE, project.params_file or "", *(source.contract_file or "" for source in project.data.values())}
    commands = [(".", project.checks.code or ""), *((step.directory, step.cmd or "") for step in project.steps.values())]
    for folder, command in commands:
        found |= {PurePosixPath(folder, word).as_posix() for word in WORD.findall(command)}
    return frozenset(found.union(*(step.files for step in project.steps.values())) - {"", "."})


def own_outs(project: Project) -> list[str]:
    """What steps leave in the home, as patterns of paths: it is no change of the code."""
    return [p for step in project.steps.values() for out in step.outs for p in (out, f"{out}/**")]


def _content(line: PipelineContext, project: Project) -> str:
    """What stands for the commit of a folder without Git: the digest of its files, but for data and what steps leave."""
    found: dict[str, str] = {}
    for path in _without_git(line.home, project):
        found |= line.places.digests(line.home, path)
    line.places.flush()
    return f"not a Git repository: {names.digest_bytes(msgspec.json.encode(found, order='sorted'))}"


def sources(home: Path, project: Project) -> list[str]:
    """The files and links in a home that are the code: what Git tracks there, and what makes it another than its commit.

    Where there is no Git, all but data, what steps leave, and what is too large for a source.
    """
    if not git.is_repo(home):
        return list(_without_git(home, project))
    found = set(git.listed(home, own_outs(project), others=False))
    for change in changes(home, project):
        inner = git.listed(home / change.path) if change.path.endswith("/") else []
        found |= {change.path + name for name in inner} if inner else {change.path}
    return sorted(found)


def _without_git(home: Path, project: Project) -> Iterator[str]:
    others = [out for step in project.steps.values() for out in step.outs]
    others += [source.source for source in project.data.values() if source.source]
    for path in walk(home):
        other = any(path == one or fnmatch(path, one) or path.startswith(f"{one}/") for one in others)
        if not other and (home / path).stat().st_size <= SOURCE_LIMIT:
            yield path


def watched(repo: Path, watch: GitWatch) -> tuple[str | None, str]:
    """The newest commit of the watched branch, and that branch's name; None when nothing is committed yet.

    A project that names no branch follows main, or what is checked out where there is no main.
    Raises ConfigError when the branch that it names is not there: then nothing is built.
    """
    named = watch.branch or MAIN
    commit = git.head(repo, named)
    if commit is not None:
        return commit, named
    if watch.branch is None:
        return git.head(repo), git.checked_out(repo) or "what is checked out"
    known = git.branches(repo)
    if not known:
        return None, named
    raise ConfigError(
        f"there is no branch {named!r} to follow",
        where="noria.yaml: git.branch",
        hint=f"It has: {', '.join(known[:SHOWN])}. What serves goes on serving; nothing is built until the branch is there.",
    )


def repository(line: PipelineContext, here: Project | None = None) -> Path:
    """The Git repository whose branch is watched: the home, or a local mirror of a remote one."""
    watch = (here or config.load(line.home)).git
    place = origin(line, here)
    return place if watch.repository is None else git.fetch(watch.repository, place, watch.every_s)


def origin(line: PipelineContext, here: Project | None = None) -> Path:
    """Where that repository is on this machine, as it was fetched last."""
    watch = (here or config.load(line.home)).git
    return line.home if watch.repository is None else line.state / "repository"


def snapshots(line: PipelineContext, sheet: PinnedRun) -> dict[str, str]:
    """Dataset -> digest of its accepted files, as of now; a dataset without any is an error."""
    found = {}
    for source in sheet.project.data.values():
        if served_predictions.is_log(source.source):
            found[source.name] = served_predictions.snapshot(line, sheet.turn.id, source).digest
            continue
        head = line.ledger.data.head(line.name, source.name)
        if not head.files:
            raise DataError(
                f"dataset {source.name} has no accepted file",
                where=source.shown,
                hint="Put a file there (renamed into place), or correct `source` in noria.yaml; "
                "`noria status` shows what was quarantined and why.",
            )
        found[source.name] = head.digest
    return found


def fix(line: PipelineContext, sheet: PinnedRun) -> Pins:
    """The identity of the run: everything that can change its result, as digests."""
    params = names.digest_bytes(msgspec.json.encode(sheet.project.params, order="sorted"))
    known = {name: value for name, value in sheet.environment.items() if name not in environment.NOT_IDENTITY}
    line.blobs.put_bytes(json.dumps(known, sort_keys=True).encode())  # what the digest stands for, to be compared later
    sheet.pins = Pins(
        commit=sheet.commit,
        dirty=sheet.dirty,
        snapshots=snapshots(line, sheet),
        params=params,
        config=sheet.project.digest,
        environment=environment.digest(sheet.environment),
    )
    sheet.tables = {
        name: kind for name, source in sheet.project.data.items() if (kind := table_types.of(line, source)) is not None
    }
    return sheet.pins
