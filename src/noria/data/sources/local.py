"""Files on this machine: a path, a folder, a glob or a file:// address."""

from __future__ import annotations

import os
import shutil
import stat as modes
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from noria.config import DataSource
from noria.data import formats
from noria.data.sources.found import FoundFile
from noria.data.sources.pattern import DEEP, Pattern, States, split

TICK_NS = 20_000_000  # files are stamped by a clock of the kernel that ticks every 1 to 10 ms
COARSE_TICK_NS = 2_000_000_000  # of file systems that keep whole seconds
UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")

Entry = tuple[str, str, bool]  # its name for people, with a '/' behind a folder's; its name; whether it is a link


def is_unfinished(name: str) -> bool:
    """Whether a file's name says that it is hidden, or still being written."""
    return name.startswith(".") or name.endswith(UNFINISHED)


def mark(stat: os.stat_result) -> str:
    """Size, times and inode: a write changes the times, a rename over the file its inode, and nobody sets the change time."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"


def is_settled(path: Path, settle_s: float) -> bool:
    """Whether a file has arrived whole: renamed into place, or unchanged in size and time for ``settle_s`` seconds.

    A write sets a file's change time (ctime) and its modification time (mtime) alike; a rename sets the change time alone.
    A file that changed later than it was written was therefore moved here, or given its old times at the end of a copy.
    Where both fall into one tick of the kernel's clock, the file waits. So does one that changed within the present tick: a
    further write could leave its times, and so its mark, as they are. Raises FileNotFoundError.
    """
    return not is_unfinished(path.name) and _rests(path.stat(), settle_s)


def _rests(stat: os.stat_result, settle_s: float) -> bool:
    now_ns = time.time_ns()
    tick_ns = COARSE_TICK_NS if stat.st_ctime_ns % 1_000_000_000 == 0 else TICK_NS
    if abs(now_ns - stat.st_ctime_ns) <= tick_ns:
        return False
    if stat.st_size > 0 and stat.st_ctime_ns > stat.st_mtime_ns:
        return True
    quiet_ns = now_ns - (stat.st_mtime_ns if stat.st_mtime_ns <= now_ns else stat.st_ctime_ns)
    return quiet_ns >= settle_s * 1e9


class LocalWalk:
    """One walk over the tree; folders are read in the order of names, so that no more than one stands in memory at once.

    A folder is taken with the tables in it; one of opaque files with everything below it.
    """

    def __init__(self, dataset: DataSource, home: Path, _: object = None) -> None:
        self._home = str(home)
        self._base, parts = split(self._home, _path(dataset.source))
        folder = not parts and os.path.isdir(self._base)
        self._tables_only = folder and not dataset.opaque
        self._pattern = Pattern(((DEEP,) if dataset.opaque else ("*",)) if folder else parts) if folder or parts else None
        self._roots = (os.path.realpath(self._home), os.path.realpath(self._base))

    def list_files(self) -> Iterator[FoundFile]:
        prefix = _name(self._base, self._home)
        if self._pattern is None:
            yield from self._single(prefix)
        elif os.path.isdir(self._base):
            yield from self._walk(self._base, f"{prefix.rstrip('/')}/" if prefix else "", self._pattern, self._pattern.start)

    def has_settled(self, found: FoundFile, settle_s: float) -> bool:
        stat = os.stat(_place(found))
        return mark(stat) == found.mark and _rests(stat, settle_s)

    def problem(self, found: FoundFile) -> str:
        if found.problem or os.access(_place(found), os.R_OK) or not os.path.exists(_place(found)):
            return found.problem
        return "cannot be read: permission denied"

    def fetch(self, found: FoundFile, target: Path) -> None:
        shutil.copyfile(_place(found), target)

    def is_unchanged(self, found: FoundFile) -> bool:
        try:
            return mark(os.stat(_place(found))) == found.mark
        except OSError:
            return False

    def _single(self, name: str) -> Iterator[FoundFile]:
        """The file that the source names; where it leads, as a link, is its owner's choice."""
        found = self._file(self._base, *_legible(name))
        if found is not None and not is_unfinished(os.path.basename(self._base)):
            yield found

    def _walk(self, folder: str, prefix: str, pattern: Pattern, states: States) -> Iterator[FoundFile]:
        try:
            entries = _entries(folder)
        except PermissionError:
            yield _unreadable_file(prefix.rstrip("/"), folder, "is a folder that cannot be read: permission denied")
            return
        except OSError:  # it vanished, or is no folder any more
            return
        matches = pattern.matcher(states)
        for shown, name, link in entries:
            path = f"{folder}/{name}"
            if shown[-1] == "/":
                below = pattern.enter(states, name)
                if below and not (link and _circles(path, folder)):
                    yield from self._refuse_link_out(path, prefix + shown[:-1], link) or self._walk(
                        path, prefix + shown, pattern, below
                    )
            elif (
                matches is not None and matches(name) and not is_unfinished(name) and (not self._tables_only or formats.of(name))
            ):
                refused = self._refuse_link_out(path, prefix + shown, link)
                found = refused[0] if refused else self._file(path, prefix + shown, "" if shown is name else _BYTES)
                if found is not None:
                    yield found

    def _refuse_link_out(self, path: str, name: str, link: bool) -> tuple[FoundFile, ...]:
        to = self._target_outside(path) if link else ""
        return (_unreadable_file(name, path, f"is a link that leads out of the project, to {to}"),) if to else ()

    def _file(self, path: str, name: str, problem: str) -> FoundFile | None:
        try:
            stat = os.stat(path)
        except OSError:  # it vanished, or is a link to nothing: it has not arrived
            return None
        return FoundFile(name, stat.st_size, mark(stat), path, problem) if modes.S_ISREG(stat.st_mode) else None

    def _target_outside(self, path: str) -> str:
        """Where a link leads, if that lies neither under the project's home nor under the source's own folder."""
        real = os.path.realpath(path)
        inside = any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in self._roots)
        return "" if inside or not os.path.exists(real) else _legible(real)[0]


_BYTES = "has a name that is not UTF-8 text: rename it"


def _entries(folder: str) -> list[Entry]:
    """The names in a folder, in the order in which the files below it have theirs: 'a-b' before 'a/b' before 'ab'."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            link = entry.is_symlink()
            shown, _ = _legible(entry.name)
            found.append((f"{shown}/" if entry.is_dir() else shown, entry.name, link))
    found.sort()
    return found


def _legible(name: str) -> tuple[str, str]:
    """A name as text, and what is wrong with it: bytes that are no UTF-8 are shown as ``\\xe9``."""
    if name.isascii():
        return name, ""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace"), _BYTES
    return name, ""


def _unreadable_file(name: str, path: str, problem: str) -> FoundFile:
    try:
        return FoundFile(name, 0, mark(os.lstat(path)), path, problem)
    except OSError:
        return FoundFile(name, 0, "", path, problem)


def _circles(path: str, folder: str) -> bool:
    """Whether a link leads to a folder that it lies in."""
    return f"{os.path.realpath(folder)}/".startswith(f"{os.path.realpath(path)}/")


def _path(source: str) -> str:
    """The path of a source: of a file:// address, or with the person's own folder for ``~``."""
    return unquote(urlsplit(source).path) if source.startswith("file://") else os.path.expanduser(source)


def _name(path: str, home: str) -> str:
    """Relative to the home where it lies there, else the real absolute path; nothing for the home itself."""
    plain = Path(path).as_posix()
    if plain == home:
        return ""
    return plain[len(home) + 1 :] if plain.startswith(f"{home}/") else os.path.realpath(path)


def _place(found: FoundFile) -> str:
    assert found.path is not None, "a local file has a path"
    return found.path
