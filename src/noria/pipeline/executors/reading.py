"""Which files of the project a step process opened: what its result depends on besides the modules that it imports.

Python tells of each `open` (PEP 578). What a native library opens by itself (Polars' `read_csv` of a path), and what another
process reads, is not seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from noria.kernel.words import plural

LIMIT = 1000  # files; a step that reads more of its project reads data, which belongs in a dataset
OWN = frozenset({".git", ".noria", "__pycache__", "site-packages"})
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class OpenedFiles:
    """Notes what this process opens from now on. There is no way to take an audit hook away: for single-use processes."""

    def __init__(self, tree: Path) -> None:
        self._tree = os.path.realpath(tree)
        self._read: set[str] = set()
        self._written: set[str] = set()
        sys.addaudithook(self._note_event)

    def _note_event(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or len(self._read) > 10 * LIMIT:
            return
        path, _, flags = arguments
        if isinstance(path, str | bytes) and isinstance(flags, int):
            (self._written if flags & WRITES else self._read).add(os.path.abspath(os.fsdecode(path)))

    def opened_paths(self) -> list[str]:
        """Paths relative to the tree, sorted, of what was opened to be read and never to be written, there or not."""
        paths = {path for opened in self._read - self._written if (path := self._path_inside(opened)) is not None}
        if len(paths) > LIMIT:
            print(
                f"noria: reads {plural(len(paths), 'file')} of the project, of which {LIMIT:,} are watched: make them a dataset"
            )
        return sorted(paths)[:LIMIT]

    def _path_inside(self, opened: str) -> str | None:
        real = os.path.realpath(opened)
        if not real.startswith(f"{self._tree}{os.sep}") or os.path.isdir(real):
            return None
        path = os.path.relpath(real, self._tree).replace(os.sep, "/")
        return None if OWN.intersection(path.split("/")) or path.rpartition("/")[2].startswith("<") else path


def besides(read: Iterable[str], modules: Iterable[str], roots: Iterable[str]) -> list[str]:
    """The files read that are not among ``modules``, whose paths are relative to one of ``roots``."""
    known = {os.path.normpath(os.path.join(root, module)).replace(os.sep, "/") for root in roots for module in modules}
    return [path for path in read if path not in known]
