"""The code of a release: the files of its commit, and nothing else.

They come from Git once more, not from the checkout in which tests, steps and training worked: whatever those left there, tables
with labels among it, would travel with the release, and whatever they changed would pass for the commit's. Of a tree that differs
from its commit they are what Git tracks there and what makes it differ; nothing that Git ignores.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from noria.config import Project
from noria.kernel.errors import DataError, RefusedError
from noria.kernel.judge_links import judge_links
from noria.pipeline import checkout, git, pin
from noria.pipeline.context import PipelineContext, StartedRun
from noria.storage.disk import contents
from noria.storage.file_names import safe_path

NAMED = 3  # links that an error names
CURE = "A release holds its own code only: commit what the link leads to, or let Git ignore the link."


def lay_out(context: PipelineContext, run: StartedRun, target: Path) -> None:
    """Lay the code out in ``target``, which is new. Raises RefusedError for links that leave it."""
    if run.sealed is not None:
        shutil.copytree(run.sealed, target, symlinks=True)
    elif run.dirty or not run.commit:
        _copy(run.tree, _of_home(run.tree, run.project), target)
    else:
        checkout.lay_out(pin.origin(context, run.project), run.commit, target)
    demand_names(path for path, _ in contents(target))
    bad = _bad_links_text(judge_links(links_in(target)))
    if bad:
        raise RefusedError(bad, hint=CURE)


def links_in(folder: Path) -> dict[str, str]:
    """Path -> target of every symbolic link in a folder."""
    return {path: os.readlink(folder / path) for path, entry in contents(folder) if entry.is_symlink()}


def bad_links(home: Path, project: Project) -> str:
    """Which links of the code as it stands in a home may not be sealed, and why; empty where all may."""
    return _bad_links_text(judge_links(_links(home, _of_home(home, project))))


def bad_links_of(context: PipelineContext, run: StartedRun) -> str:
    """The same of the code that a run is of."""
    if run.dirty or not run.commit:
        return bad_links(run.tree, run.project)
    committed = git.committed_files(pin.origin(context, run.project), run.commit) or ()
    return _bad_links_text(judge_links(_links(run.tree, committed)))


def _of_home(home: Path, project: Project) -> list[str]:
    """The code as it stands in a home. A link that leads elsewhere is part of it only if it was added to Git: others, to data
    perhaps, are the person's own."""
    paths = pin.sources(home, project)
    bad = judge_links(_links(home, paths))
    tracked = git.list_files(home, others=False) if bad and git.is_repo(home) else paths
    return [path for path in paths if path not in bad or path in tracked]


def _links(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    return {path: os.readlink(folder / path) for path in paths if (folder / path).is_symlink()}


def _bad_links_text(bad: dict[str, str]) -> str:
    told = "; ".join(f"{path} is a link that {why}" for path, why in list(bad.items())[:NAMED])
    return f"{told}; and {len(bad) - NAMED:,} more" if len(bad) > NAMED else told


def demand_names(paths: Iterable[str]) -> None:
    """Raise RefusedError for a file whose name no export could hold."""
    for path in paths:
        try:
            safe_path(path)
        except DataError as error:
            raise RefusedError(f"the code {error.message}", hint="Rename it: releases go to other machines.") from error


def _copy(tree: Path, paths: Iterable[str], target: Path) -> None:
    """Files and links as they are; one that is gone meanwhile is left out."""
    target.mkdir()
    for path in paths:
        source, place = tree / path, target / path
        if not os.path.lexists(source) or (source.is_dir() and not source.is_symlink()):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, place, follow_symlinks=False)
