"""What must be kept, as the ledger knows it: who needs which blobs, what a person pinned, and what was erased."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import msgspec

from noria.data import manifests
from noria.data.snapshot import Delivery, ErasedFile, FilePin, SnapshotFacts
from noria.kernel.errors import NotFoundError, RefusedError
from noria.kernel.pins import Pins
from noria.pipeline.run import Run, StepRecord
from noria.storage.connection import Database
from noria.storage.rows import StructTable, parsed

AT_ONCE = 64  # chunks that are read in one statement
SNAPSHOT = "dataset, digest, file_count, row_count, size_bytes, at"


class PinnedVersion(msgspec.Struct, frozen=True):
    """A version of a dataset that is kept for ever, under a name."""

    project: str
    name: str
    digest: str
    actor: str
    at: float


class RememberedResult(msgspec.Struct, frozen=True):
    """A remembered result of a step."""

    project: str
    key: str
    name: str
    at: float
    record: StepRecord
    inputs: dict[str, str] = {}  # dataset, step or file -> digest


class KeepStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._pinned = StructTable(database, "pinned", PinnedVersion, key=("project", "name"))
        self._erased = StructTable(database, "erased", ErasedFile, key=("project", "digest"))
        self._runs = StructTable(database, "runs", Run)
        self._deliveries = StructTable(database, "deliveries", Delivery)

    # --- what a person decided

    def pin(self, project: str, name: str, digest: str, actor: str) -> bool:
        """Keep a snapshot under a name; False when it is so already. Raises RefusedError when the name is another one's."""
        with self._database.transaction():
            known = self._pinned.one("project = ? AND name = ?", project, name)
            if known is not None and known.digest != digest:
                raise RefusedError(f"{name} is pinned to another snapshot", hint=f"First: noria data unpin {name}")
            if known is None:
                self._pinned.insert(PinnedVersion(project, name, digest, actor, time.time()))
        return known is None

    def unpin(self, project: str, name: str) -> str:
        """Let a pinned snapshot go; its digest. Raises NotFoundError."""
        with self._database.transaction():
            known = self._pinned.one("project = ? AND name = ?", project, name)
            if known is None:
                raise NotFoundError(f"nothing is pinned as {name}", hint="`noria data log` shows what is.")
            self._database.execute("DELETE FROM pinned WHERE project = ? AND name = ?", (project, name))
        return known.digest

    def pins(self, project: str | None = None) -> list[PinnedVersion]:
        """What is pinned, by name; of all projects when none is named."""
        return self._pinned.many("project = COALESCE(?, project) ORDER BY project, name", project)

    def erase(self, files: Sequence[ErasedFile]) -> None:
        """Note that these bytes were taken away."""
        for file in files:
            self._erased.insert(file, replace=True)
            self._database.execute("UPDATE deliveries SET example = '' WHERE digest = ?", (file.digest,))

    def erased(self) -> dict[str, ErasedFile]:
        """Digest -> what was erased, in any project: blobs belong to all of them. The same bytes may have arrived again."""
        return {one.digest: one for one in self._erased.many("TRUE")}

    def collected_before(self, project: str) -> float:
        """Runs that ended before this may have lost their files to a collection; 0 when there was none."""
        row = self._database.row("SELECT before FROM collected WHERE project = ?", (project,))
        return float(row["before"]) if row else 0.0

    def note_collection(self, project: str, before: float) -> None:
        """Remember how far a collection went; the farthest one counts."""
        self._database.execute(
            "INSERT INTO collected (project, before) VALUES (?, ?) "
            "ON CONFLICT (project) DO UPDATE SET before = max(before, excluded.before)",
            (project, before),
        )

    # --- snapshots and their files

    def datasets(self, project: str) -> list[str]:
        """Every dataset that has, or had, a file."""
        sql = "SELECT dataset FROM snapshots WHERE project = ? UNION SELECT dataset FROM files WHERE project = ? ORDER BY 1"
        return [str(name) for (name,) in self._database.rows(sql, (project, project))]

    def snapshots(self, project: str) -> list[SnapshotFacts]:
        """Every version that is known, newest first."""
        sql = f"SELECT {SNAPSHOT} FROM snapshots WHERE project = ? ORDER BY at DESC, digest"  # noqa: S608  # columns are ours
        return [SnapshotFacts(*row) for row in self._database.rows(sql, (project,))]

    def contents(self, project: str, digests: Iterable[str]) -> Iterator[FilePin]:
        """The files of these versions; what several share is read once. Versions that are not known are passed over."""
        wanted = set(digests)
        keys: dict[str, None] = {}
        for row in self._database.each("SELECT digest, files, chunks FROM snapshots WHERE project = ?", (project,)):
            if row["digest"] not in wanted:
                continue
            if row["chunks"]:
                keys |= dict.fromkeys(parsed(row["chunks"], kind=list[str]))
            else:  # of before migration 0005
                yield from parsed(row["files"], kind=list[FilePin])
        ordered = list(keys)
        for start in range(0, len(ordered), AT_ONCE):
            part = ordered[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows = self._database.rows(f"SELECT files FROM chunks WHERE project = ? AND key IN ({marks})", (project, *part))  # noqa: S608  # columns are ours
            for (files,) in rows:
                yield from manifests.unpack(files)

    def standing(self, project: str) -> Iterator[tuple[str, FilePin]]:
        """Dataset and file, of every accepted file as of now."""
        sql = "SELECT dataset, name, digest, size_bytes, rows, origin FROM files WHERE project = ? ORDER BY dataset, name"
        for row in self._database.each(sql, (project,)):
            yield row["dataset"], FilePin(*tuple(row)[1:])

    def holding(self, project: str, blobs: Set[str]) -> set[str]:
        """The versions that hold any of these blobs."""
        hit = set()
        for row in self._database.each("SELECT key, files FROM chunks WHERE project = ?", (project,)):
            if any(pin.digest in blobs for pin in manifests.unpack(row["files"])):
                hit.add(row["key"])
        found = set()
        for row in self._database.each("SELECT digest, files, chunks FROM snapshots WHERE project = ?", (project,)):
            keys = parsed(row["chunks"], kind=list[str]) if row["chunks"] else []
            old = parsed(row["files"], kind=list[FilePin]) if row["files"] else []
            if not hit.isdisjoint(keys) or any(pin.digest in blobs for pin in old):
                found.add(str(row["digest"]))
        return found

    def contents_of(self, project: str, name: str) -> set[tuple[str, FilePin]]:
        """Dataset and content of every version of the file of that name, refused ones too; size 0 where it is not known."""
        found: set[tuple[str, FilePin]] = set()
        chunks: dict[str, FilePin] = {}
        for row in self._database.each("SELECT key, files FROM chunks WHERE project = ?", (project,)):
            for pin in manifests.unpack(row["files"]):
                if pin.name == name:
                    chunks[row["key"]] = pin
        for row in self._database.each("SELECT dataset, files, chunks FROM snapshots WHERE project = ?", (project,)):
            keys = parsed(row["chunks"], kind=list[str]) if row["chunks"] else []
            old = parsed(row["files"], kind=list[FilePin]) if row["files"] else []
            pins = [*(chunks[key] for key in keys if key in chunks), *(pin for pin in old if pin.name == name)]
            found.update((row["dataset"], pin) for pin in pins)
        found.update((dataset, pin) for dataset, pin in self.standing(project) if pin.name == name)
        known = {pin.digest for _, pin in found}
        sql = "SELECT DISTINCT dataset, digest FROM deliveries WHERE project = ? AND name = ? AND digest <> ''"
        rows = self._database.rows(sql, (project, name))
        return found | {(row["dataset"], FilePin(name, row["digest"], 0, 0)) for row in rows if row["digest"] not in known}

    def released(self, project: str) -> dict[str, dict[str, str]]:
        """Release -> dataset -> the snapshot that its run used."""
        sql = (
            "SELECT releases.version, runs.pins FROM releases JOIN runs ON runs.id = releases.run_id "
            "WHERE releases.project = ? ORDER BY releases.number"
        )
        return {
            row["version"]: parsed(row["pins"], kind=Pins, strict=False).snapshots for row in self._database.rows(sql, (project,))
        }

    # --- runs and results

    def runs(self, project: str, since: float) -> Iterator[Run]:
        """Runs that ended since then, and those of releases, one at a time."""
        sql = (
            "SELECT * FROM runs WHERE project = ? AND (COALESCE(ended_at, started_at) >= ? "
            "OR id IN (SELECT run_id FROM releases WHERE releases.project = runs.project))"
        )
        for row in self._database.each(sql, (project, since)):
            yield self._runs.read(row)

    def results(self, project: str) -> Iterator[RememberedResult]:
        """Every remembered result of a step, one at a time."""
        for row in self._database.each("SELECT key, name, at, record, facts FROM steps WHERE project = ?", (project,)):
            record = parsed(row["record"], kind=StepRecord, strict=False)
            facts: Mapping[str, Any] = parsed(row["facts"])
            yield RememberedResult(project, row["key"], row["name"], row["at"], record, dict(facts.get("inputs", {})))

    def forget_results(self, project: str, keys: Iterable[str]) -> int:
        """Take results out of the ledger; how many went."""
        return self._database.execute_many(
            "DELETE FROM steps WHERE project = ? AND key = ?", [(project, key) for key in sorted(keys)]
        )

    # --- quarantine

    def refused(self, project: str, dataset: str | None, limit: int) -> list[tuple[Delivery, bool]]:
        """What was refused, newest first, each with whether a later version of the file was accepted."""
        where = "project = ? AND accepted = 0 AND dataset = COALESCE(?, dataset) ORDER BY at DESC, id DESC LIMIT ?"
        later = "SELECT 1 FROM deliveries WHERE project = ? AND dataset = ? AND name = ? AND accepted = 1 AND at > ? LIMIT 1"
        found = self._deliveries.many(where, project, dataset, limit)
        return [(d, self._database.row(later, (project, d.dataset, d.name, d.at)) is not None) for d in found]

    def delivery(self, project: str, beginning: str) -> Delivery:
        """The delivery whose id begins so. Raises NotFoundError when there is none, or more than one."""
        found = self._deliveries.many(
            "project = ? AND id >= ? AND id < ? ORDER BY id LIMIT 2", project, beginning, f"{beginning}\U0010ffff"
        )
        if len(found) > 1:
            raise NotFoundError(f"{beginning} may be any of several deliveries", hint="Give more characters.")
        if not found:
            raise NotFoundError(f"there is no delivery {beginning}", hint="`noria data quarantine` lists what was refused.")
        return found[0]

    def samples(self, project: str, since: float) -> Iterator[Delivery]:
        """What was refused since then."""
        yield from self._deliveries.many("project = ? AND accepted = 0 AND at >= ?", project, since)

    def samples_of(self, digests: Set[str]) -> set[str]:
        """The samples of failing rows that were taken of files with these bytes, in any project."""
        rows = self._database.each("SELECT digest, sample_digest FROM deliveries WHERE sample_digest IS NOT NULL")
        return {str(row["sample_digest"]) for row in rows if row["digest"] in digests}

    # --- the stat index

    def trees(self, project: str) -> list[str]:
        """Every tree that has marks, by its path."""
        rows = self._database.rows("SELECT DISTINCT place FROM marks WHERE project = ? AND place LIKE 'tree:%'", (project,))
        return [str(place).removeprefix("tree:") for (place,) in rows]

    def forget_tree(self, project: str, tree: str) -> int:
        """Drop the marks of a tree that is gone; how many there were."""
        return self._database.execute("DELETE FROM marks WHERE project = ? AND place = ?", (project, f"tree:{tree}"))
