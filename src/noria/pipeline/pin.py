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
from noria.config import DataSource, GitWatch, Project
from noria.config.loading import FILE
from noria.data import served_predictions, table_types
from noria.data.arrivals import take_in
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import ConfigError, DataError
from noria.kernel.pins import Pins
from noria.kernel.trigger import TriggerKind
from noria.pipeline import checkout, environment, git, judge_uncommitted
from noria.pipeline.context import PinnedRun, PipelineContext, StartedRun
from noria.pipeline.judge_uncommitted import UncommittedChange
from noria.pipeline.places import walk
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore

MAIN = "main"  # the branch that is followed where noria.yaml names none
SHOWN = 5  # branches that are named
WORD = re.compile(r"[^\s;&|<>()'\"`$]+")  # of a command, as far as it may be a path
SOURCE_LIMIT = 4 << 20  # bytes; a larger file is no source
SUBMODULE = "`git submodule update --init` in the project's folder brings it, before the commit is built"


def pin(context: PipelineContext, turn: Turn) -> StartedRun:
    """Fix the commit and check it out. A turn that was interrupted gets the same commit and run again."""
    here = config.load(context.home)
    recorded = TurnStore.of(context).recorded(turn.id, "pin") or TurnStore.of(context).record(
        turn.id, "pin", _choose(context, turn, here)
    )
    commit, dirty = recorded["commit"], recorded["dirty"]
    tree = tree_of(context, commit, dirty, here)
    project = here if tree == context.home else config.load(tree)
    judged = context.contracts(context, project)
    run = StartedRun(turn, str(recorded["run_id"]), judged, tree, commit, dirty, environment.record())
    run.proposed = project if judged is not project else None
    run.by_hand = bool(recorded["by_hand"])
    run.arrivals = tuple(take_in(context, judged, patient=recorded["by_hand"]))
    return run


def tree_of(context: PipelineContext, commit: str | None, dirty: str | None, here: Project) -> Path:
    """The home itself, or a clean checkout. Raises ConfigError when the commit has no noria.yaml."""
    if dirty or not commit:
        return context.home
    folder = context.state / "worktrees" / commit
    tell = context.progress if folder.is_dir() else partial(context.event, "code.incomplete", commit)
    tree = checkout.worktree(repository(context, here), commit, folder)
    for path in checkout.absent(folder):
        tell(f"commit {commit[:10]}: its submodule {path} is not on this machine, so its folder is empty; {SUBMODULE}")
    if not (tree / "noria.yaml").is_file():
        raise ConfigError(
            f"commit {commit[:10]} has no noria.yaml", where="noria.yaml", hint="Commit it, or write one with `noria init`."
        )
    return tree


def _choose(context: PipelineContext, turn: Turn, here: Project) -> dict[str, object]:
    triggers = TriggerStore.of(context).of_turn(turn.id)
    by_hand = any(t.detail.get("tree") == "home" for t in triggers)
    commit, dirty = stands(context, here, by_hand=by_hand)
    return {"commit": commit, "dirty": dirty, "run_id": names.new_id("run"), "by_hand": by_hand}


def stands(context: PipelineContext, here: Project, *, by_hand: bool) -> tuple[str | None, str | None]:
    """The commit that a run is of, and the digest of what differs from it in the home; the latter only for one by hand.

    Raises ConfigError when nothing is committed yet.
    """
    watch = here.git
    place = repository(context, here)
    if not git.is_repo(place):
        return None, _content(context, here)
    own = by_hand and watch.repository is None  # another repository's work tree is not ours to take
    commit = git.head(place) if own else watched_head(place, watch)[0]
    if commit is None:
        raise ConfigError("nothing is committed yet", where=str(place), hint="git add -A && git commit")
    return commit, git.digest_of(context.home, changes(context.home, here)) if own else None


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


def _content(context: PipelineContext, project: Project) -> str:
    """What stands for the commit of a folder without Git: the digest of its files, but for data and what steps leave."""
    found: dict[str, str] = {}
    for path in _without_git(context.home, project):
        found |= context.places.digests(context.home, path)
    context.places.flush()
    return f"not a Git repository: {names.digest_bytes(msgspec.json.encode(found, order='sorted'))}"


def sources(home: Path, project: Project) -> list[str]:
    """The files and links in a home that are the code: what Git tracks there, and what makes it another than its commit.

    Where there is no Git, all but data, what steps leave, and what is too large for a source.
    """
    if not git.is_repo(home):
        return list(_without_git(home, project))
    found = set(git.list_files(home, own_outs(project), others=False))
    for change in changes(home, project):
        inner = git.list_files(home / change.path) if change.path.endswith("/") else []
        found |= {change.path + name for name in inner} if inner else {change.path}
    return sorted(found)


def _without_git(home: Path, project: Project) -> Iterator[str]:
    others = [out for step in project.steps.values() for out in step.outs]
    others += [source.source for source in project.data.values() if source.source]
    for path in walk(home):
        other = any(path == one or fnmatch(path, one) or path.startswith(f"{one}/") for one in others)
        if not other and (home / path).stat().st_size <= SOURCE_LIMIT:
            yield path


def watched_head(repo: Path, watch: GitWatch) -> tuple[str | None, str]:
    """The newest commit of the watched branch, and that branch's name; None when nothing is committed yet.

    A project that names no branch follows main, or what is checked out where there is no main.
    Raises ConfigError when the branch that it names is not there: then nothing is built.
    """
    named = watch.branch or MAIN
    commit = git.head(repo, named)
    if commit is not None:
        return commit, named
    if watch.branch is None:
        return git.head(repo), git.current_branch(repo) or "what is checked out"
    known = git.branches(repo)
    if not known:
        return None, named
    raise ConfigError(
        f"there is no branch {named!r} to follow",
        where="noria.yaml: git.branch",
        hint=f"It has: {', '.join(known[:SHOWN])}. The champion keeps serving; nothing is built until the branch exists.",
    )


def repository(context: PipelineContext, here: Project | None = None) -> Path:
    """The Git repository whose branch is watched: the home, or a local mirror of a remote one."""
    watch = (here or config.load(context.home)).git
    place = origin(context, here)
    return place if watch.repository is None else git.fetch(watch.repository, place, watch.every_s)


def origin(context: PipelineContext, here: Project | None = None) -> Path:
    """Where that repository is on this machine, as it was fetched last."""
    watch = (here or config.load(context.home)).git
    return context.home if watch.repository is None else context.state / "repository"


def snapshots(context: PipelineContext, run: StartedRun) -> dict[str, str]:
    """Dataset -> digest of its accepted files, as of now; a dataset without any is an error."""
    found = {}
    for source in run.project.data.values():
        if served_predictions.is_log(source.source):
            found[source.name] = _of_the_log(context, run.turn.id, source)
            continue
        head = DataStore.of(context).head(source.name)
        if not head.files:
            raise DataError(
                f"dataset {source.name} has no accepted file",
                where=source.shown,
                hint="Put a file there (renamed into place), or correct `source` in noria.yaml; "
                "`noria status` shows what was quarantined and why.",
            )
        found[source.name] = head.digest
    return found


def fix(context: PipelineContext, run: StartedRun) -> PinnedRun:
    """The run with its identity: everything that can change its result, as digests. Raises DataError without any data."""
    params = names.digest_bytes(msgspec.json.encode(run.project.params, order="sorted"))
    known = {name: value for name, value in run.environment.items() if name not in environment.NOT_IDENTITY}
    context.blobs.put_bytes(json.dumps(known, sort_keys=True).encode())  # what the digest stands for, to be compared later
    pins = Pins(
        commit=run.commit,
        dirty=run.dirty,
        snapshots=snapshots(context, run),
        params=params,
        config=run.project.digest,
        environment=environment.digest(run.environment),
    )
    kinds = {name: table_types.of(context, source) for name, source in run.project.data.items()}
    return run.pinned(pins, {name: kind for name, kind in kinds.items() if kind is not None})


def _of_the_log(context: PipelineContext, turn_id: str, source: DataSource) -> str:
    """The version of a log that this turn trains on; fixed at first asking."""
    turns, stage = TurnStore.of(context), f"served.{source.name}"
    fixed = turns.recorded(turn_id, stage)
    kinds = {trigger.kind for trigger in TriggerStore.of(context).of_turn(turn_id)}
    anew = bool(kinds & {TriggerKind.BREACH, TriggerKind.SCHEDULE})
    newest = served_predictions.snapshot(context, source, str(fixed["digest"]) if fixed else None, anew=anew)
    turns.record(turn_id, stage, {"digest": newest.digest})
    return newest.digest
