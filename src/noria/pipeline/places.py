"""Where trees, blobs and scratch folders are on this machine, and which files of a tree hold which content."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from noria.config.steps import folders_of
from noria.kernel import names
from noria.kernel.errors import StepError
from noria.pipeline import checkout
from noria.pipeline.tree_bounds import demand_inside
from noria.storage.blobs import BlobStore
from noria.storage.ledger import Ledger
from noria.storage.stat_index import StatEntry, StatIndex

TICK_S = 0.02  # a file that changed this shortly before it was hashed may change again within the same tick of its clock
WATCHED = 20_000  # files of a tree that are looked at for what a command left besides its outs
PRUNED = frozenset({"__pycache__", "node_modules", "venv"})  # and every folder whose name begins with a dot


class _Index(msgspec.Struct):
    """The marks of one tree."""

    marks: dict[str, StatEntry]
    fresh: dict[str, StatEntry] = {}  # not yet in the ledger


class Places:
    """One machine's workspace (``pipeline.executors.task.Workspace``) for one project."""

    def __init__(self, project: str, home: Path, state: Path, ledger: Ledger, blobs: BlobStore) -> None:
        self.home = home
        self._project, self._state, self._ledger, self._blobs = project, state, ledger, blobs
        self._indexes: dict[Path, _Index] = {}
        self._lock = threading.RLock()

    def tree(self, identity: str) -> Path:
        """The folder of ``home:DIGEST``, ``commit:ID``, ``release:DIGEST`` or ``run:ID``."""
        kind, _, rest = identity.partition(":")
        if kind == "home":
            return self.home
        folders = {"commit": "worktrees", "release": "releases", "run": "work"}
        found = self._state / folders[kind] / rest
        if kind == "commit":
            return checkout.project_in(found)
        return found / "bundle" if kind == "run" else found

    def scratch(self, task_id: str) -> Path:
        """An empty folder of this step alone."""
        folder = self._state / "work" / task_id
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def link(self, digest: str, target: Path) -> None:
        """A link to a verified blob; its name's suffix tells the format."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._blobs.lend(digest, target)

    def keep(self, files: Sequence[Path]) -> list[str]:
        """The digests of files that are kept from now on, in their order."""
        kept = dict(self._blobs.put_files(files, lasting=False))  # steps can make them again
        gone = next((path for path in files if path not in kept), None)
        if gone is not None:
            raise StepError("disappeared before it was stored", where=str(gone))
        return [kept[path] for path in files]

    def place(self, tree: Path, files: Mapping[str, str]) -> None:
        """Make blobs the files of a tree, as writable copies; a file that holds the content already is left alone.

        Raises StepError where a folder on the way is a link that leaves the tree.
        """
        demand_inside(tree, files)
        for path, digest in files.items():
            if self._known_digest(tree, path) != digest:
                self._blobs.materialise(digest, tree / path)
                self.learn(tree, {path: digest})

    def learn(self, tree: Path, files: Mapping[str, str]) -> None:
        """Note the content of files that nobody writes to any more."""
        index = self._index(tree)
        for path, digest in files.items():
            try:
                mark = StatEntry(stat_fingerprint(os.stat(tree / path)), digest)
            except FileNotFoundError:
                continue
            with self._lock:
                index.marks[path] = index.fresh[path] = mark

    def digests(self, tree: Path, path: str) -> dict[str, str]:
        """Path -> digest of the file ``path`` of a tree, or of every file below it when it is a folder.

        Raises StepError when it is not there, cannot be read, is a link out of the tree, or changes while it is read.
        """
        place, root = tree / path, tree.resolve()
        found = list(walk(tree, path)) if place.is_dir() else [path]
        for each in {path, *(inner for inner in found if (tree / inner).is_symlink())}:
            if not (tree / each).resolve().is_relative_to(root):
                raise StepError("is a link that leads out of the project", where=each, hint="Copy the file into the project.")
        return {inner: self._digest(tree, inner) for inner in found}

    def is_unchanged(self, tree: Path, path: str) -> bool:
        """Whether a file is as it was left or read last."""
        return self._known_digest(tree, path) is not None

    def is_intact(self, tree: Path, outs: Sequence[str]) -> bool:
        """Whether every one of these files and folders is there, and each file in them as it was left."""
        index, within = self._index(tree), frozenset(outs)
        inside = {path for path in index.marks if path in within or any(folder in within for folder in folders_of(path))}
        if any(self._known_digest(tree, path) is None for path in inside):
            return False
        return all((tree / out).exists() and (out in inside or (tree / out).is_dir()) for out in outs)

    def flush(self) -> None:
        """Keep what was learned for the next process."""
        with self._lock:
            for tree, index in self._indexes.items():
                if index.fresh:
                    StatIndex(self._ledger, self._project).put(f"tree:{tree}", index.fresh)
                    index.fresh = {}

    def _known_digest(self, tree: Path, path: str) -> str | None:
        """The digest of a file whose outside is as it was when it was hashed."""
        mark = self._index(tree).marks.get(path)
        if mark is None:
            return None
        try:
            return mark.digest if mark.seen == stat_fingerprint(os.stat(tree / path)) else None
        except OSError:
            return None

    def _digest(self, tree: Path, path: str) -> str:
        known = self._known_digest(tree, path)
        if known is not None:
            return known
        place = tree / path
        try:
            before = os.stat(place)
            if not stat.S_ISREG(before.st_mode):
                raise StepError("is not a regular file", where=path)
            began = time.time()
            digest = names.digest_file(place)
            after = os.stat(place)
        except FileNotFoundError:
            raise StepError("is not there", where=path) from None
        except OSError as error:
            raise StepError(f"cannot be read: {error.strerror}", where=path) from error
        if stat_fingerprint(before) != stat_fingerprint(after):
            raise StepError("changed while it was read", where=path, hint="Run again when it is completely written.")
        if began - max(before.st_mtime, before.st_ctime) > TICK_S:
            self.learn(tree, {path: digest})
        return digest

    def _index(self, tree: Path) -> _Index:
        with self._lock:
            if tree not in self._indexes:
                self._indexes[tree] = _Index(StatIndex(self._ledger, self._project).all(f"tree:{tree}"))
            return self._indexes[tree]


def stat_fingerprint(facts: os.stat_result) -> str:
    """A file from outside: it changes whenever the content may have."""
    return f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}:{facts.st_ino}"


def walk(tree: Path, below: str = "") -> Iterator[str]:
    """Paths, relative to a tree, of the files below one of its folders, in an order that does not depend on the disk.

    Hidden and generated folders are left out.
    """
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        with os.scandir(f"{tree}/{folder}") as entries:
            found = sorted(entries, key=_name)
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if _is_walked(entry.name):
                    waiting.append(path)
            elif entry.is_file():
                yield path


def listing(tree: Path) -> dict[str, tuple[int, int]] | None:
    """Size and time of every file of a tree; None when there are too many to look at after each command."""
    found: dict[str, tuple[int, int]] = {}
    waiting = [""]
    while waiting and len(found) <= WATCHED:
        folder = waiting.pop()
        with os.scandir(f"{tree}/{folder}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if _is_walked(entry.name):
                        waiting.append(f"{folder}{entry.name}/")
                elif entry.is_file():
                    with contextlib.suppress(FileNotFoundError):
                        facts = entry.stat()
                        found[folder + entry.name] = (facts.st_size, facts.st_mtime_ns)
    return found if len(found) <= WATCHED else None


def _is_walked(folder: str) -> bool:
    return not folder.startswith(".") and folder not in PRUNED


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
