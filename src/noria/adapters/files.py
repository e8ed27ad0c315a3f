"""Data files: which there are, whether they have arrived, and what is in them."""

from __future__ import annotations

import fnmatch
import glob
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl
from blake3 import blake3
from watchfiles import Change, watch

from noria.errors import DataError

__all__ = ["Path", "Watcher", "digest", "read_table", "read_tables", "resolve", "settled"]

UNFINISHED = (".*", "*.tmp", "*.part", "*.partial", "*.crdownload", "*.swp", "*~")
PRUNED = frozenset({"__pycache__", "node_modules", "venv"})  # and every folder whose name begins with a dot
FOLDER_LIMIT = 2000  # folders that are watched; changes beyond them are found by the poll
POLL_S = 1.0  # where the system cannot watch
CHUNK_BYTES = 1 << 20
MAGIC = {".parquet": b"PAR1", ".arrow": b"ARROW1"}


def resolve(source: str, home: Path) -> list[tuple[str, Path]]:
    """Name and path of every file of a source, sorted by name; temporary files are left out.

    ``source`` is a path, a folder, a glob (``**`` crosses folders) or a file:// address; relative ones are under ``home``.
    The name is relative to ``home`` with '/' where the file lies there, else the absolute path.
    """
    pattern = _local(source)
    base = home / pattern
    if base.is_dir():
        paths = [path for path in base.iterdir() if _format(path) in _READERS]
    elif glob.has_magic(pattern):
        paths = [Path(found) for found in glob.glob(str(base), recursive=True)]
    else:
        paths = [base]
    files = [path for path in paths if path.is_file() and not _unfinished(path.name)]
    return sorted((_name(path, home), path) for path in files)


def settled(path: Path, settle_s: float) -> bool:
    """Whether a file has arrived whole: renamed into place, or unchanged in size and time for ``settle_s`` seconds.

    A write sets a file's change time (ctime) and its modification time (mtime) alike; a rename sets the change time alone.
    A file that changed later than it was written was therefore moved here, or given its old times at the end of a copy.
    Where both fall into one tick of the kernel's clock (up to 4 ms), the file waits. Raises FileNotFoundError.
    """
    if _unfinished(path.name):
        return False
    stat = path.stat()
    if stat.st_size > 0 and stat.st_ctime_ns > stat.st_mtime_ns:
        return True
    now = time.time()
    quiet = now - stat.st_mtime if stat.st_mtime <= now else now - stat.st_ctime
    return quiet >= settle_s


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


def read_table(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The table in a Parquet, CSV, TSV, NDJSON, JSON or Arrow file, by its suffix; only ``columns`` when they are named.

    Raises DataError when it is missing, empty, cut off, of another format, or lacks a column.
    """
    where = str(path)
    kind = _format(path)
    if kind not in _READERS:
        raise DataError(f"{path.suffix or 'a file without a suffix'} is not a table format", where=where, hint=_KNOWN)
    _sniff(path, kind)
    try:
        table = _READERS[kind](path)
    except FileNotFoundError:
        raise _vanished(where) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DataError(f"is not a readable {kind[1:]} file: {_first_line(error)}", where=where, hint=_BROKEN) from error
    return table if columns is None else _select(table, columns, where)


def read_tables(paths: Sequence[Path]) -> pl.DataFrame:
    """The files one below the other, in the given order; columns by name, types widened where they differ.

    Raises DataError when a file has other columns than the first.
    """
    tables = [read_table(path) for path in paths]
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if set(table.columns) != set(first.columns):
            lacking, extra = sorted(set(first.columns) - set(table.columns)), sorted(set(table.columns) - set(first.columns))
            words = [f"lacks {', '.join(lacking)}" if lacking else "", f"has {', '.join(extra)} besides" if extra else ""]
            raise DataError(f"{' and '.join(filter(None, words))}, compared with {paths[0].name}", where=str(path))
    try:
        return pl.concat([table.select(first.columns) for table in tables], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the files do not fit together: {_first_line(error)}", where=str(paths[0])) from error


class Watcher:
    """Sets ``changed`` soon after anything changes under ``roots``; clear it before you look.

    Git's branches are watched too, other folders that begin with a dot are not. It wakes a reader early and promises nothing:
    where the system cannot watch, ``changed`` is set every second.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.changed = threading.Event()
        self._roots = [root.resolve() for root in roots]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch(_folders(self._roots))
            except (OSError, RuntimeError):  # no watches left, or none on this system
                self._stop.wait(POLL_S)
            self.changed.set()

    def _watch(self, folders: list[Path]) -> None:
        """Until a folder appears or vanishes."""
        rounds = watch(
            *folders, watch_filter=_wanted, debounce=50, step=10, stop_event=self._stop, recursive=False, raise_interrupt=False
        )
        for changes in rounds:
            self.changed.set()
            if any(change is not Change.modified and _is_folder(path, folders) for change, path in changes):
                return


def _is_folder(path: str, folders: Sequence[Path]) -> bool:
    return os.path.isdir(path) or Path(path) in folders


def _wanted(_: Change, path: str) -> bool:
    parts = Path(path).parts
    return ".git" in parts or not _unfinished(parts[-1])


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


def _local(source: str) -> str:
    if source.startswith("file://"):
        return unquote(urlsplit(source).path)
    if "://" in source:
        raise DataError(
            f"{source.partition('://')[0]}:// cannot be read yet", where=source, hint="Use a path, a glob or file://."
        )
    return os.path.expanduser(source)


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else path.resolve().as_posix()


def _unfinished(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in UNFINISHED)


def _format(path: Path) -> str:
    """The suffix that tells the format: ``.csv`` for ``a.csv.gz`` and ``.parquet`` for ``a.pq``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return _SAME.get(last, last)


def _sniff(path: Path, kind: str) -> None:
    """Say in plain words what a library would say in its own."""
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
            file.seek(0 if len(begin) < 16 else -8, os.SEEK_END if len(begin) >= 16 else os.SEEK_SET)
            end = file.read(8)
    except FileNotFoundError:
        raise _vanished(str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if not begin:
        raise DataError(
            "is empty (0 bytes)", where=str(path), hint="Deliver it again, whole; rename it into place when it is complete."
        )
    magic = MAGIC.get(kind)
    if magic is not None and not begin.startswith(magic):
        raise DataError(
            f"is named {path.suffix} but is not a {kind[1:]} file", where=str(path), hint="Correct its name, or write it again."
        )
    if magic is not None and not end.endswith(magic):
        raise DataError(f"is cut off: the end of a {kind[1:]} file is missing", where=str(path), hint=_BROKEN)
    if magic is None and b"\0" in begin and path.suffix.lower() not in (".gz", ".zst"):
        raise DataError(f"is named {path.suffix} but is not text", where=str(path), hint="Correct its name, or write it again.")


def _select(table: pl.DataFrame, columns: Sequence[str], where: str) -> pl.DataFrame:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}; it has {', '.join(table.columns)}", where=where)
    return table.select(columns)


def _vanished(where: str) -> DataError:
    return DataError("is not there (any more)", where=where, hint="Deliver it again; rename it into place when it is complete.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _read_csv(path: Path, separator: str = ",") -> pl.DataFrame:
    return pl.read_csv(path, separator=separator, infer_schema_length=None, try_parse_dates=True, glob=False)


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": lambda path: pl.read_parquet(path, glob=False, hive_partitioning=False),
    ".csv": _read_csv,
    ".tsv": lambda path: _read_csv(path, "\t"),
    ".ndjson": lambda path: pl.read_ndjson(path.read_bytes(), infer_schema_length=None),
    ".json": lambda path: pl.read_json(path, infer_schema_length=None),
    ".arrow": lambda path: pl.scan_ipc(path, glob=False).collect(),
}
_SAME = {".pq": ".parquet", ".jsonl": ".ndjson", ".ipc": ".arrow", ".feather": ".arrow"}
_KNOWN = "Known: .parquet .csv .tsv .ndjson .jsonl .json .arrow .ipc .feather, and .csv.gz."
_BROKEN = "Deliver it again, whole; rename it into place when it is complete."
