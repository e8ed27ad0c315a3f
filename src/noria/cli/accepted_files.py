"""What was accepted of a dataset, for `noria check`: a file is held against it as the turn would hold it."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from noria.cli.context import Home
from noria.config import DataSource, Project
from noria.data import files, referenced_rows, retyped, unique_keys
from noria.data.batch_facts import HISTORY_MOST, BatchHistory, PastBatch, ReadColumn
from noria.data.batch_store import BatchStore
from noria.data.formats import DatasetFile
from noria.data.quarantine_store import QuarantineStore
from noria.data.store import DataStore
from noria.data.table import FileLooks, TableType
from noria.storage.blobs import BlobStore
from noria.storage.clock import ClockStore

if TYPE_CHECKING:
    import polars as pl

    from noria.data.referenced_values import ReferencedColumn
    from noria.data.snapshot import FilePin
    from noria.kernel.contract import ColumnReference


class AcceptedFiles:
    """The files that turns accepted, and the good ones that this check looked at so far."""

    def __init__(self, home: Home, project: Project, source: DataSource, kind: TableType) -> None:
        self.home, self.project, self.source, self.kind = home, project.name, source, kind
        named = [one.key for other in project.data.values() for one in other.references if one.dataset == source.name]
        rules = source.contract.columns if source.contract is not None else ()
        named += [rule.name for rule in rules if rule.shift_most is not None]
        self._wanted = tuple(dict.fromkeys(named))  # columns that rows of datasets refer to, or whose distribution is compared
        self._values: dict[str, dict[str, pl.Series | None]] | None = None  # of those, by file and column
        self._pins: dict[str, FilePin] = {}  # of those that turns accepted
        self._released: dict[tuple[str, str], str] = {}  # name and digest of a file that a person released -> by whom
        self._discarded: dict[tuple[str, str], str] = {}  # the same of files that a person discarded
        self._now: float | None = None  # project clock; None without a ledger
        self._keys: dict[str, pl.DataFrame | None] | None = None
        if home.ledger_file.is_file():
            with home.ledger_to_read() as ledger:
                self._pins = DataStore(ledger, self.project).accepted_files(source.name)
                irregular = QuarantineStore(ledger, self.project).irregular_files()
                self._released = {(d.name, d.digest): made.actor for d, made in irregular if made is not None}
                self._discarded = QuarantineStore(ledger, self.project).discarded_files(source.name)
                self._now = ClockStore(ledger, self.project).now()

    def has(self, name: str, path: Path) -> bool:
        """Whether a turn accepted the file as it is: then none judges it again."""
        return name in self._pins and self._pins[name].arrived_as == files.digest(path)

    def released_by(self, name: str) -> str:
        """Who released the file that the dataset holds under this name; nothing when nobody had to."""
        return self._released.get((name, self._pins[name].digest), "") if name in self._pins else ""

    def discarded_by(self, name: str, path: Path) -> str:
        """Who discarded the file as it is, so that no turn judges it again; nothing when nobody did."""
        known = any(discarded == name for discarded, _ in self._discarded)
        return self._discarded.get((name, files.digest(path)), "") if known else ""

    def now(self) -> float:
        return time.time() if self._now is None else self._now

    def batch(self, name: str) -> BatchHistory:
        """The history beside which a file is judged."""
        return BatchHistory(lambda: self._history(name), lambda: self._columns_beside(name))

    def _columns_beside(self, name: str) -> dict[str, ReadColumn]:
        return {other: values.get for other, values in self._read_values().items() if other != name}

    def _history(self, name: str) -> list[PastBatch]:
        if not self.home.ledger_file.is_file():
            return []
        with self.home.ledger_to_read() as ledger:
            return BatchStore(ledger, self.project).history(self.source.name, name, HISTORY_MOST)

    def add(self, name: str, path: Path, good: pl.Series | None = None) -> None:
        """A good file, or the good rows of one: the next ones may not repeat its keys, may refer to it, are compared with it."""
        if self._wanted:
            values = self._values_of(DatasetFile(name, path))
            kept = {column: found if found is None or good is None else found.filter(good) for column, found in values.items()}
            self._read_values()[name] = kept
        if unique_keys.hold_over_files(self.source):
            keys = unique_keys.read_keys(self.source, self.kind, [DatasetFile(name, path)])
            self._read_keys()[name] = keys if keys is None or good is None else keys.filter(good)

    def keys_beside(self, name: str) -> pl.DataFrame | None:
        """The keys that a file may not repeat: those of all others."""
        if not unique_keys.hold_over_files(self.source):
            return None
        others = [keys for other, keys in self._read_keys().items() if other != name and keys is not None]
        if not others:
            return None
        import polars as pl

        return pl.concat(others, how="vertical_relaxed")

    def referenced_column(self, one: ColumnReference, beside: str = "") -> ReferencedColumn:
        """What a reference to this dataset may name: the values of all files, but for the one called ``beside``."""
        others = [values for name, values in self._read_values().items() if name != beside]
        return referenced_rows.of_parts(one, [values[one.key] for values in others])

    def _read_values(self) -> dict[str, dict[str, pl.Series | None]]:
        if self._values is None:
            with self._accepted() as parts:
                self._values = {part.name: self._values_of(part) for part in parts}
        return self._values

    def _values_of(self, part: DatasetFile) -> dict[str, pl.Series | None]:
        return {column: referenced_rows.file_values(self.source, self.kind, part, column) for column in self._wanted}

    def looks_beside(self, name: str, columns: Collection[str]) -> list[FileLooks]:
        """What these columns look like in the files that turns accepted, but for this one."""
        with self._accepted() as parts:
            return list(retyped.of_files(self.source, (part for part in parts if part.name != name), columns))

    @contextlib.contextmanager
    def _accepted(self) -> Iterator[Iterator[DatasetFile]]:
        """The files that turns accepted, each behind a link whose suffix readers go by."""
        blobs = BlobStore(self.home.state / "blobs")
        with tempfile.TemporaryDirectory(prefix="noria-check-") as folder:
            yield (
                _link(name, blobs.path(pin.digest), Path(folder, str(at))) for at, (name, pin) in enumerate(self._pins.items())
            )

    def _read_keys(self) -> dict[str, pl.DataFrame | None]:
        if self._keys is None:
            with self._accepted() as parts:
                self._keys = {part.name: unique_keys.read_keys(self.source, self.kind, [part]) for part in parts}
        return self._keys


def _link(name: str, blob: Path, beginning: Path) -> DatasetFile:
    link = beginning.with_name(f"{beginning.name}-{Path(name).name}")
    link.symlink_to(blob)
    return DatasetFile(name, link)
