"""Steps on this machine: functions in warm, single-use interpreters, commands in a process group of their own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noria import track
from noria.pipeline.executors.limits import JobEnd, PoolWork
from noria.pipeline.executors.pool import Pool, PoolJob, surroundings
from noria.pipeline.executors.task import INPUT, StepEnd, StepTask, StepUsage, Workspace
from noria.pipeline.tree_bounds import demand_inside
from noria.storage.file_names import is_text

INPUTS = "in"  # of a step's folder
TRACKED = "track.jsonl"
WRONG_OUTS = "outs"


class LocalExecutor:
    """A pool of processes, and the trees and blobs they work on."""

    def __init__(self, pool: Pool, workspace: Workspace) -> None:
        self.pool = pool
        self.workspace = workspace
        self._environment = child_environment(pool.interpreter)

    def warm(self) -> None:
        self.pool.warm()

    def submit(self, task: StepTask) -> LocalRun:
        """Lay the inputs out and start the step. Raises CorruptBlobError or NotFoundError for an input that is not whole,
        StepError for an out that a link leads out of the tree."""
        folder = self.workspace.scratch(task.id)
        tree = self.workspace.tree(task.tree)
        for name, digest in task.inputs.items():
            self.workspace.link(digest, folder / INPUTS / name)
        if task.command is not None:
            self.workspace.place(tree, task.placed)
            _forget(tree, task.outs)
        return LocalRun(self.pool.submit(_work(task, tree, folder, self._environment)), task, tree, folder, self.workspace)

    def close(self) -> None:
        self.pool.close()


class LocalRun:
    """A step under way in the pool."""

    def __init__(self, job: PoolJob, task: StepTask, tree: Path, folder: Path, workspace: Workspace) -> None:
        self._job, self._task, self._tree, self._folder, self._workspace = job, task, tree, folder, workspace
        self._base = tree if task.command is not None else folder

    def cancel(self) -> None:
        self._job.cancel()

    def wait(self) -> StepEnd:
        done = self._job.wait()
        files, problem = self._find_outs() if done.ok else ({}, "")
        artifacts = self._artifacts()
        own = {path.name: path for path in (self._folder / "step.log", self._folder / TRACKED) if _has_content(path)}
        digests = iter(self._workspace.keep([*files.values(), *artifacts.values(), *own.values()]))
        kept, asked, logs = (dict(zip(names, digests, strict=False)) for names in (files, artifacts, own))
        kind, error = done.kind, done.error
        if problem:
            kind, error = WRONG_OUTS, problem
        return StepEnd(
            kind,
            error,
            (done.result or {}) if kind == "ok" else {},
            kept if kind == "ok" else {},
            _usage(done),
            logs.get("step.log"),
            logs.get(TRACKED),
            asked,
            done.read,
        )

    def _artifacts(self) -> dict[str, Path]:
        """The files that the step asked to keep, by their path in the tree, or by their name where they lie elsewhere."""
        if not _has_content(self._folder / TRACKED):
            return {}
        here = self._tree / self._task.directory
        paths = [here / path for path in track.read(self._folder / TRACKED).artifacts]
        found = {}
        for path in paths:
            if path.is_file():
                found[path.relative_to(self._tree).as_posix() if path.is_relative_to(self._tree) else path.name] = path
        return found

    def _find_outs(self) -> tuple[dict[str, Path], str]:
        """The files that the step left, by name, and what is wrong with its outs. A target may leave some of its outs only."""
        found: dict[str, Path] = {}
        base = os.path.realpath(self._base)
        for name, path in self._task.outs.items():
            place = self._base / path
            if not _within(base, place):
                return {}, f"wrote {path} as a link that leads out of the project"
            if place.is_dir():
                found |= {f"{name}/{inner}": place / inner for inner in _inside(place)}
            elif place.is_file():
                found[name] = place
            elif place.exists():
                return {}, f"wrote {path}, which is neither a file nor a folder"
            elif self._task.command is not None:
                return {}, f"succeeded but did not write {path}"
        away = next((path for path in found.values() if path.is_symlink() and not _within(base, path)), None)
        if away is not None:
            return {}, f"left {os.path.relpath(away, self._base)} as a link that leads out of the project"
        odd = next((name for name in found if not is_text(name)), None)
        if odd is not None:
            return {}, f"wrote a file whose name is not UTF-8: {os.fsencode(odd)!r}"
        return found, ""


def resolve(value: Any, folder: Path) -> Any:
    """A job with each ``input:NAME`` as the path of that input."""
    if isinstance(value, str):
        return str(folder / INPUTS / value.removeprefix(INPUT)) if value.startswith(INPUT) else value
    if isinstance(value, Mapping):
        return {key: resolve(inner, folder) for key, inner in value.items()}
    return [resolve(inner, folder) for inner in value] if isinstance(value, list | tuple) else value


def _work(task: StepTask, tree: Path, folder: Path, environment: Mapping[str, str]) -> PoolWork:
    limits = task.resources
    paths = tuple(tree / root for root in task.roots)
    env = {**environment, "NORIA_TRACK": str(folder / TRACKED), **_ceiling(task, tree), **_variables(task, folder)}
    if task.command is not None:  # an interpreter takes its paths from the job
        env["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *filter(None, [env.get("PYTHONPATH")])])
    return PoolWork(
        target=task.target,
        command=task.command,
        job={**resolve(dict(task.job), folder), "folder": str(folder)},
        cwd=tree / task.directory,
        paths=paths,
        env=env,
        timeout_s=limits.timeout_s,
        memory_bytes=limits.memory_bytes,
        cpus=limits.cpus,
        log=folder / "step.log",
    )


def _variables(task: StepTask, folder: Path) -> dict[str, str]:
    found = resolve(task.env, folder)
    return {name: value if isinstance(value, str) else os.pathsep.join(value) for name, value in found.items()}


def _ceiling(task: StepTask, tree: Path) -> dict[str, str]:
    """Where Git stops looking for a repository: a tree of Noria's lies inside the user's, and is not of it."""
    kind, _, identity = task.tree.partition(":")
    if kind == "home":
        return {}
    top = next((folder for folder in (tree, *tree.parents) if folder.name == identity), tree)
    return {"GIT_CEILING_DIRECTORIES": str(top.parent)}


def child_environment(interpreter: Path | None = None) -> dict[str, str]:
    """The environment of every step: its interpreter's programs first, no bytecode left in trees, equal hashes in every run."""
    own = interpreter or Path(sys.executable)
    path = os.pathsep.join([str(own.parent), os.environ.get("PATH", "")])
    return {**surroundings(own), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


def _usage(done: JobEnd) -> StepUsage:
    return StepUsage(done.seconds, done.user_s, done.cpu_s, done.peak_rss_mb, done.read_mb, done.written_mb)


def _forget(tree: Path, outs: Mapping[str, str]) -> None:
    """What an earlier run left must not pass for this one's; the folders that outs lie in are made. Raises StepError where a
    link on the way leads out of the tree: nothing is removed there."""
    demand_inside(tree, outs.values())
    for out in outs.values():
        place = tree / out
        if place.is_dir() and not place.is_symlink():
            for inner in list(_inside(place)):
                (place / inner).unlink()
        else:
            place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)


def _inside(folder: Path) -> Iterator[str]:
    """Paths of the files below a folder, sorted, relative to it."""
    for root, below, files in os.walk(folder):
        below.sort()
        for name in sorted(files):
            yield os.path.relpath(os.path.join(root, name), folder)


def _within(base: str, path: Path) -> bool:
    return os.path.commonpath([base, os.path.realpath(path)]) == base


def _has_content(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size > 0
    return False
