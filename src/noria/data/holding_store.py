"""What a project holds of data: versions and their files, what was delivered, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from noria.data import manifests
from noria.data.snapshot import Delivery, FilePin, SnapshotFacts
from noria.kernel.errors import NotFoundError
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable, parse_json

AT_ONCE = 64  # chunks that are read in one statement
SNAPSHOT = "dataset, digest, file_count, row_count, size_bytes, at"


class HoldingStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._deliveries = StructTable(ledger.database, "deliveries", Delivery)

    # --- versions and their files

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

    def standing(self) -> Iterator[tuple[str, FilePin]]:
        """Dataset and file, of every accepted file as of now."""
        sql = "SELECT dataset, name, digest, size_bytes, rows, origin FROM files WHERE project = ? ORDER BY dataset, name"
        for row in self._database.each(sql, (self.project,)):
            yield row["dataset"], FilePin(*tuple(row)[1:])

    def holding(self, blobs: Set[str]) -> set[str]:
        """The versions that hold any of these blobs."""
        hit = set()
        for row in self._database.each("SELECT key, files FROM chunks WHERE project = ?", (self.project,)):
            if any(pin.digest in blobs for pin in manifests.unpack(row["files"])):
                hit.add(row["key"])
        found = set()
        for row in self._database.each("SELECT digest, files, chunks FROM snapshots WHERE project = ?", (self.project,)):
            keys = parse_json(row["chunks"], kind=list[str]) if row["chunks"] else []
            old = parse_json(row["files"], kind=list[FilePin]) if row["files"] else []
            if not hit.isdisjoint(keys) or any(pin.digest in blobs for pin in old):
                found.add(str(row["digest"]))
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
        found.update((dataset, pin) for dataset, pin in self.standing() if pin.name == name)
        known = {pin.digest for _, pin in found}
        sql = "SELECT DISTINCT dataset, digest FROM deliveries WHERE project = ? AND name = ? AND digest <> ''"
        rows = self._database.rows(sql, (self.project, name))
        return found | {(row["dataset"], FilePin(name, row["digest"], 0, 0)) for row in rows if row["digest"] not in known}

    # --- what was refused

    def refused(self, dataset: str | None, limit: int) -> list[tuple[Delivery, bool]]:
        """What was refused, newest first, each with whether a later version of the file was accepted."""
        where = "project = ? AND accepted = 0 AND dataset = COALESCE(?, dataset) ORDER BY at DESC, id DESC LIMIT ?"
        later = "SELECT 1 FROM deliveries WHERE project = ? AND dataset = ? AND name = ? AND accepted = 1 AND at > ? LIMIT 1"
        found = self._deliveries.many(where, self.project, dataset, limit)
        return [(d, self._database.row(later, (self.project, d.dataset, d.name, d.at)) is not None) for d in found]

    def delivery(self, beginning: str) -> Delivery:
        """The delivery whose id begins so. Raises NotFoundError when there is none, or more than one."""
        found = self._deliveries.many(
            "project = ? AND id >= ? AND id < ? ORDER BY id LIMIT 2", self.project, beginning, f"{beginning}\U0010ffff"
        )
        if len(found) > 1:
            raise NotFoundError(f"{beginning} may be any of several deliveries", hint="Give more characters.")
        if not found:
            raise NotFoundError(f"there is no delivery {beginning}", hint="`noria data quarantine` lists what was refused.")
        return found[0]

    def samples(self, since: float) -> Iterator[Delivery]:
        """What was refused since then."""
        yield from self._deliveries.many("project = ? AND accepted = 0 AND at >= ?", self.project, since)

    def samples_of(self, digests: Set[str]) -> set[str]:
        """The samples of failing rows that were taken of files with these bytes, in any project."""
        rows = self._database.each("SELECT digest, sample_digest FROM deliveries WHERE sample_digest IS NOT NULL")
        return {str(row["sample_digest"]) for row in rows if row["digest"] in digests}
