"""Files at an address that fsspec knows: s3, gs, http, sftp, memory and many more (the extra ``remote``)."""

from __future__ import annotations

import glob
import itertools
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from blake3 import blake3

from noria.config import DataSource
from noria.data import formats
from noria.data.sources.found import FoundFile
from noria.data.sources.local import is_unfinished
from noria.kernel.errors import DataError

SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"})  # an object appears whole
CACHING = WHOLE - {"memory"}  # their listings are remembered unless they are told not to
VERSIONS = ("ETag", "etag", "e_tag", "generation", "md5Hash", "Content-MD5", "content_md5", "sha", "blob_id", "checksum")
TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "modify", "updated", "created")
GONE = (404, 410)  # a web server's other refusals do not say that there is nothing
CHUNK_BYTES = 1 << 20

Facts = Mapping[str, Any]  # what a file system tells of an object


def matches(dataset: DataSource) -> bool:
    """Whether a source is an address of another machine."""
    scheme = SCHEME.match(dataset.source)
    return scheme is not None and scheme.group(1).lower() != "file"


class Remote:
    """A file, a folder or a glob at an address. Nothing that a file system remembers of an earlier look is believed."""

    def __init__(self, dataset: DataSource, _home: Path, _: object = None) -> None:
        self._dataset = dataset
        self._protocol = str(SCHEME.match(dataset.source).group(1)).lower()  # type: ignore[union-attr]  # it matched
        self._opened: tuple[Any, str] | None = None
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}  # name -> the address that the file system takes
        self._times: dict[str, float] = {}  # name -> when it was written, where that is told

    def list_files(self) -> Iterator[FoundFile]:
        with self._translate_errors(self._dataset.shown):
            fs, path = self._open()
            found = sorted(
                (self._make_found(fs, address, facts) for address, facts in self._facts(fs, path)), key=lambda f: f.name
            )
        for before, after in itertools.pairwise(found):
            if before.name == after.name:
                raise DataError(f"two files have the name {before.name}", where=self._dataset.shown)
        yield from found

    def has_settled(self, found: FoundFile, settle_s: float) -> bool:
        written = self._times.get(found.name)
        return self._protocol in WHOLE or written is None or time.time() - written >= settle_s

    def problem(self, found: FoundFile) -> str:
        return found.problem

    def fetch(self, found: FoundFile, target: Path) -> None:
        fs, _ = self._open()
        with self._translate_errors(found.name):
            fs.get_file(self._addresses[found.name], str(target))

    def is_unchanged(self, found: FoundFile) -> bool:
        fs, _ = self._open()
        address = self._addresses[found.name]
        try:
            with self._translate_errors(found.name):
                self._forget(fs)
                return self._mark(fs, address, fs.info(address)) == found.mark
        except FileNotFoundError:
            return False

    def _open(self) -> tuple[Any, str]:
        """The file system and the path in it. Raises DataError when a package is missing."""
        with self._lock:
            if self._opened is None:
                fsspec = self._fsspec()
                plain = {"use_listings_cache": False} if self._protocol in CACHING else {}
                try:
                    self._opened = fsspec.core.url_to_fs(
                        self._dataset.source, skip_instance_cache=True, **plain, **self._dataset.options
                    )
                except ImportError as error:
                    raise self._missing_package() from error
            return self._opened

    def _fsspec(self) -> Any:
        try:
            import fsspec
        except ImportError as error:
            message = f"reading {self._protocol}:// needs fsspec, which is not installed"
            raise DataError(message, where=self._dataset.shown, hint="pip install 'fsspec[http]'") from error
        return fsspec

    def _missing_package(self) -> DataError:
        """What to install, in fsspec's words: it knows who reads which address."""
        from fsspec.registry import known_implementations

        known = known_implementations.get(self._protocol, {})
        hint = "pip install s3fs 'fsspec[http]' brings s3 and http." if self._protocol in ("s3", "s3a", "http", "https") else None
        return DataError(
            f"reading {self._protocol}:// needs a package that is not installed",
            where=self._dataset.shown,
            hint=hint or str(known.get("err", "")) or None,
        )

    @contextmanager
    def _translate_errors(self, where: str) -> Iterator[None]:
        """Any error of any file system as one for people; none shows a secret. What is gone stays FileNotFoundError."""
        try:
            yield
        except (DataError, FileNotFoundError):
            raise
        except Exception as error:  # each file system raises its own
            text = (str(error).strip().splitlines() or [""])[0][:300]
            message = self._dataset.masked(f"{type(error).__name__}: {text}" if text else type(error).__name__)
            raise DataError(f"cannot be read: {message}", where=where, hint=_REACH) from error

    def _facts(self, fs: Any, path: str) -> Iterator[tuple[str, Facts]]:
        """The files that the source names; nothing when there is none."""
        self._forget(fs)
        everything = fs.glob(path, detail=True) if self._is_glob(path) else self._list_folder(fs, path)
        for address, facts in everything.items():
            if facts.get("type", "file") == "file" and not _is_hidden(address, path):
                yield address, facts

    def _is_glob(self, path: str) -> bool:
        return "*" in path if self._protocol in ("http", "https") else glob.has_magic(path)  # a '?' begins a web query

    def _list_folder(self, fs: Any, path: str) -> dict[str, Facts]:
        try:
            facts = fs.info(path)
        except FileNotFoundError as error:
            if getattr(error.__cause__, "status", None) not in GONE and self._protocol in ("http", "https"):
                raise ConnectionError(f"no answer ({type(error.__cause__).__name__})") from error
            return {}
        if facts.get("type") != "directory":
            return {path: facts}
        below = fs.find(path, maxdepth=None if self._dataset.opaque else 1, detail=True)
        return {at: facts for at, facts in below.items() if self._dataset.opaque or formats.of(at) is not None}

    def _make_found(self, fs: Any, address: str, facts: Facts) -> FoundFile:
        if not any(facts.get(key) for key in (*VERSIONS, *TIMES)):
            facts = {**facts, **fs.info(address)}  # a listing may tell less than the object itself
        name = self._name(fs, address)
        self._addresses[name] = address
        written = _write_time(facts)
        if isinstance(written, float):
            self._times[name] = written
        return FoundFile(name, int(facts.get("size") or facts.get("Size") or 0), self._mark(fs, address, facts))

    def _name(self, fs: Any, address: str) -> str:
        """The address without user, password, query and secrets."""
        parts = urlsplit(address if SCHEME.match(address) else f"{self._protocol}://{address.lstrip('/')}")
        return self._dataset.masked(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))

    def _mark(self, fs: Any, address: str, facts: Facts) -> str:
        """The version that the store tells; else size and time; else the content itself, which must be read to be known."""
        size = facts.get("size") or facts.get("Size") or 0
        version = next((str(facts[key]) for key in VERSIONS if facts.get(key)), "")
        if version and not version.startswith("W/"):  # a weak tag may stay while bytes change
            return f"{size}:{version}"
        written = _write_time(facts)
        return f"{size}:{version}:{written}" if written is not None else f"content:{self._digest(fs, address)}"

    def _digest(self, fs: Any, address: str) -> str:
        hasher = blake3()
        with fs.open(address, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                hasher.update(chunk)
        return hasher.hexdigest()

    def _forget(self, fs: Any) -> None:
        if self._protocol not in CACHING:
            fs.invalidate_cache()


def _write_time(facts: Facts) -> float | str | None:
    """When an object was written: seconds since 1970, or as the store says it."""
    told = next((facts[key] for key in TIMES if facts.get(key)), None)
    if isinstance(told, datetime):
        return told.replace(tzinfo=told.tzinfo or UTC).timestamp()
    return float(told) if isinstance(told, int | float) else None if told is None else str(told)


def _is_hidden(address: str, pattern: str) -> bool:
    """Whether a name below the fixed beginning of the pattern is hidden, or the file is still being written."""
    fixed = pattern.split("*")[0].rpartition("/")[0]
    below = address[len(fixed) :].strip("/") if address.startswith(fixed) else address.rpartition("/")[2]
    return any(part.startswith(".") for part in below.split("/")) or is_unfinished(address.rpartition("/")[2])


_REACH = "Check the address, the credentials and the network; `noria check` tries again."
