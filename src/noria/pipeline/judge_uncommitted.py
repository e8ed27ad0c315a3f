"""Which of the changes in a working tree make it another one than its commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from keyword import iskeyword
from pathlib import PurePosixPath

import msgspec

IMPORTED = frozenset({".py", ".so", ".pyd"})
MARKS = ("pyvenv.cfg", "conda-meta/history")  # files by which the folder of a virtual environment is known


class UncommittedChange(msgspec.Struct, frozen=True):
    """A file that differs from the commit; a repository inside ends with a slash. Paths begin at the project's folder."""

    path: str
    tracked: bool


def that_count(changes: Iterable[UncommittedChange], read: Collection[str]) -> list[UncommittedChange]:
    """Changed files that Git tracks, and others that the code can import or a step reads (``read``: files and folders).

    What else lies around (a log, an export, a notebook, a virtual environment) changes nothing of what is built.
    """
    found = list(changes)
    environments = {change.path.removesuffix(mark) for change in found for mark in MARKS if change.path.endswith(f"/{mark}")}
    return [change for change in found if change.tracked or _matters(change.path, read, environments)]


def _matters(path: str, read: Collection[str], environments: Collection[str]) -> bool:
    place = PurePosixPath(path)
    above = [parent.as_posix() for parent in place.parents][:-1]
    if any(f"{parent}/" in environments for parent in above):
        return False
    return any(one in read for one in (place.as_posix(), *above)) or _importable(place, whole=path.endswith("/"))


def _importable(place: PurePosixPath, *, whole: bool) -> bool:
    """Whether an import can name it: each part is an identifier. Of a repository inside, the folder is looked at."""
    parts = place.parts if whole else (*place.parts[:-1], place.name.partition(".")[0])
    return (whole or place.suffix in IMPORTED) and all(part.isidentifier() and not iskeyword(part) for part in parts)


def advice(changes: Collection[UncommittedChange]) -> str:
    """What to do so that a run may become a release; without changes there is no commit yet."""
    if not changes:
        return "Commit the code (git init, git add, git commit), and run again."
    logs = [change.path for change in changes if change.tracked and change.path.endswith(".log")]
    if logs and len(logs) == len(changes):
        return f"A log is not code: remove it from Git (git rm --cached {logs[0]}), let Git ignore it, and run again."
    if all(change.tracked for change in changes):
        return "Commit the change (git add, git commit), or undo it (git restore), and run again."
    return "Commit the change (git add, git commit), or let Git ignore the new file, and run again."
