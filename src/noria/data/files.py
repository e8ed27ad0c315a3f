"""Data files on this machine: which there are, what is in them, and when they change."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from noria.data.formats import DatasetFile, open_table, read_table, read_tables
from noria.data.sources.local import is_settled, is_unfinished
from noria.kernel.background import Background
from noria.kernel.errors import DataError

__all__ = ["DatasetFile", "FileWatcher", "digest", "is_settled", "open_table", "read_table", "read_tables"]

PRUNED = frozenset({"__pycache__", "node_modules", "venv"})  # and every folder whose name begins with a dot
FOLDER_LIMIT = 2000  # folders that are watched; changes beyond them are found by the poll
POLL_S = 1.0  # where the system cannot watch
CHUNK_BYTES = 1 << 20


def digest(path: Path) -> str:
    """BLAKE3 of a file that others may still change: read, not mapped (a mapped file that is cut short kills the reader).

    Raises FileNotFoundError when it vanished, DataError when it cannot be read.
    """
    hasher = blake3()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                hasher.update(chunk)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return hasher.hexdigest()


class FileWatcher:
    """Sets ``changed`` soon after anything changes under ``roots``; clear it before you look.

    Git's branches are watched too, other folders that begin with a dot are not. It wakes a reader early and promises nothing:
    where the system cannot watch, ``changed`` is set every second.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.changed = threading.Event()
        self._roots = [root.resolve() for root in roots]
        self._thread = Background("watcher", self._look)
        self._stop = self._thread.stopping
        self._thread.start()

    def close(self) -> None:
        self._thread.stop()

    def _look(self) -> float:
        """Watch until folders come or go; the seconds until the next look."""
        wait = 0.0
        try:
            self._watch(_folders(self._roots))
        except BaseException:  # noqa: BLE001 - no watches left, none on this system, or the watcher panics: then it is polled
            wait = POLL_S
        finally:
            self.changed.set()
        return wait

    def _watch(self, folders: list[Path]) -> None:
        """Until a folder appears or vanishes."""
        from watchfiles import watch  # loaded by the daemon alone

        rounds = watch(
            *folders, watch_filter=_is_wanted, debounce=50, step=10, stop_event=self._stop, recursive=False, raise_interrupt=False
        )
        for changes in rounds:
            self.changed.set()
            if any(change.name != "modified" and _is_folder(path, folders) for change, path in changes):
                return


def _is_folder(path: str, folders: Sequence[Path]) -> bool:
    return os.path.isdir(path) or Path(path) in folders


def _is_wanted(_: object, path: str) -> bool:
    parts = Path(path).parts
    return ".git" in parts or not is_unfinished(parts[-1])


def _folders(roots: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for root in roots:
        for folder, below, _ in os.walk(root):
            below[:] = sorted(name for name in below if not name.startswith(".") and name not in PRUNED)
            found.append(Path(folder))
            if len(found) >= FOLDER_LIMIT:
                break
        found += [git for git in (root / ".git", root / ".git" / "refs" / "heads") if git.is_dir()]
    return found
