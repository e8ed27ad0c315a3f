"""What a project holds of data: versions and their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from noria.data import manifests
from noria.data.snapshot import FilePin, SnapshotFacts
from noria.storage.bound_store import BoundStore
from noria.storage.rows import parse_json

AT_ONCE = 64  # chunks that are read in one statement
SNAPSHOT = "dataset, digest, file_count, row_count, size_bytes, at"


class HoldingStore(BoundStore):
    def datasets(self) -> list[str]:
        """Every dataset that has, or had, a file."""
        sql = "SELECT dataset FROM snapshots WHERE project = ? UNION SELECT dataset FROM files WHERE project = ? ORDER BY 1"
        return [str(name) for (name,) in self._database.rows(sql, (self.project, self.project))]

    def snapshots(self) -> list[SnapshotFacts]:
        """Every version that is known, newest first."""
        sql = f"SELECT {SNAPSHOT} FROM snapshots WHERE project = ? ORDER BY at DESC, digest"  # noqa: S608  # columns are ours
        return [SnapshotFacts(*row) for row in self._database.rows(sql, (self.project,))]

    def contents(self, digests: Iterable[str]) -> Iterator[FilePin]:
        """The files of these versions; what several share is read once. Versions that are not known are passed over."""
        wanted = set(digests)
        keys: dict[str, None] = {}
        for row in self._database.each("SELECT digest, files, chunks FROM snapshots WHERE project = ?", (self.project,)):
            if row["digest"] not in wanted:
                continue
            if row["chunks"]:
                keys |= dict.fromkeys(parse_json(row["chunks"], kind=list[str]))
            else:  # of before migration 0005
                yield from parse_json(row["files"], kind=list[FilePin])
        ordered = list(keys)
        for start in range(0, len(ordered), AT_ONCE):
            part = ordered[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows = self._database.rows(f"SELECT files FROM chunks WHERE project = ? AND key IN ({marks})", (self.project, *part))  # noqa: S608  # columns are ours
            for (files,) in rows:
                yield from manifests.unpack(files)

    def accepted_files(self) -> Iterator[tuple[str, FilePin]]:
        """Dataset and file, of every accepted file as of now."""
        columns = "dataset, name, digest, size_bytes, rows, origin, made_from"
        sql = f"SELECT {columns} FROM files WHERE project = ? ORDER BY dataset, name"  # noqa: S608  # columns are ours
        for row in self._database.each(sql, (self.project,)):
            yield row["dataset"], FilePin(*tuple(row)[1:])

    def snapshots_holding(self, blobs: Set[str]) -> set[str]:
        """The versions that hold any of these blobs."""
        return set(self.pins_in_snapshots(blobs))

    def pins_in_snapshots(self, blobs: Set[str]) -> dict[str, list[FilePin]]:
        """Of each version that holds any of these blobs, their entries."""
        hit: dict[str, list[FilePin]] = {}
        for row in self._database.each("SELECT key, files FROM chunks WHERE project = ?", (self.project,)):
            pins = [pin for pin in manifests.unpack(row["files"]) if pin.digest in blobs]
            if pins:
                hit[row["key"]] = pins
        found: dict[str, list[FilePin]] = {}
        for row in self._database.each("SELECT digest, files, chunks FROM snapshots WHERE project = ?", (self.project,)):
            keys = parse_json(row["chunks"], kind=list[str]) if row["chunks"] else []
            old = parse_json(row["files"], kind=list[FilePin]) if row["files"] else []
            pins = [pin for key in keys for pin in hit.get(key, ())] + [pin for pin in old if pin.digest in blobs]
            if pins:
                found[str(row["digest"])] = pins
        return found

    def contents_of(self, name: str) -> set[tuple[str, FilePin]]:
        """Dataset and content of every version of the file of that name, refused ones too; size 0 where it is not known."""
        found: set[tuple[str, FilePin]] = set()
        chunks: dict[str, FilePin] = {}
        for row in self._database.each("SELECT key, files FROM chunks WHERE project = ?", (self.project,)):
            for pin in manifests.unpack(row["files"]):
                if pin.name == name:
                    chunks[row["key"]] = pin
        for row in self._database.each("SELECT dataset, files, chunks FROM snapshots WHERE project = ?", (self.project,)):
            keys = parse_json(row["chunks"], kind=list[str]) if row["chunks"] else []
            old = parse_json(row["files"], kind=list[FilePin]) if row["files"] else []
            pins = [*(chunks[key] for key in keys if key in chunks), *(pin for pin in old if pin.name == name)]
            found.update((row["dataset"], pin) for pin in pins)
        found.update((dataset, pin) for dataset, pin in self.accepted_files() if pin.name == name)
        known = {pin.digest for _, pin in found}
        sql = "SELECT DISTINCT dataset, digest FROM deliveries WHERE project = ? AND name = ? AND digest <> ''"
        rows = self._database.rows(sql, (self.project, name))
        return found | {(row["dataset"], FilePin(name, row["digest"], 0, 0)) for row in rows if row["digest"] not in known}
