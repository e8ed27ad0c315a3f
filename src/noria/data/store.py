"""Deliveries, accepted files and snapshots of datasets."""

from __future__ import annotations

import builtins
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence, Set

import msgspec
from msgspec.structs import replace

from noria.data import manifests
from noria.data.manifests import ManifestChunk, Span
from noria.data.snapshot import Delivery, FilePin, Snapshot, SnapshotDifference, SnapshotFacts
from noria.kernel import names
from noria.kernel.errors import NotFoundError, StoreError
from noria.storage.bound_store import BoundStore
from noria.storage.connection import Value
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable, parse_json

AT_ONCE = 64  # chunks that are read in one statement
NAMED = 5  # snapshots that an ambiguous beginning names
FACTS = "dataset, digest, file_count, row_count, size_bytes, at"
PIN = "name, digest, size_bytes, rows, origin, made_from"


class DataStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._deliveries = StructTable(ledger.database, "deliveries", Delivery)

    def find_judgement(self, dataset: str, name: str, digest: str, contracts: Sequence[str] = ()) -> Delivery | None:
        """The judgement that stands on exactly these bytes under this name.

        None when they are new; when they were accepted once and another version took their place, or they were withdrawn;
        or when another contract than one of ``contracts`` (digests) refused them: then they arrive again.
        """
        where = "project = ? AND dataset = ? AND name = ? AND digest = ? ORDER BY at DESC, id DESC"
        found = self._deliveries.one(where, self.project, dataset, name, digest)
        if found is None:
            return None
        if not found.accepted:
            asked = not contracts or found.contract in contracts or self._is_discarded(found.id)
            return found if asked else None
        return found if self._is_standing(dataset, name, found.file_digest) else None

    def _is_discarded(self, delivery: str) -> bool:
        sql = "SELECT 1 FROM quarantine_decisions WHERE project = ? AND delivery = ? AND outcome = 'discarded'"
        return self._database.row(sql, (self.project, delivery)) is not None

    def _is_standing(self, dataset: str, name: str, digest: str) -> bool:
        sql = "SELECT digest FROM files WHERE project = ? AND dataset = ? AND name = ? AND digest = ?"
        return self._database.row(sql, (self.project, dataset, name, digest)) is not None

    def deliver(self, delivery: Delivery, pin: FilePin | None) -> None:
        """Record a judgement; an accepted file takes the place of an earlier one of its name.

        Raises StoreError when rows are unaccounted for, or when the file of an accepted delivery is missing.
        """
        self.deliver_many([(delivery, pin)])

    def deliver_many(self, judged: Sequence[tuple[Delivery, FilePin | None]]) -> None:
        """Record judgements in their order, all or none; accepted files take the places of earlier ones of their names.

        Raises StoreError when rows are unaccounted for, or when the file of an accepted delivery is missing.
        """
        for delivery, pin in judged:
            _demand_whole(delivery, pin)
        now = time.time()
        stamped = [delivery if delivery.at else replace(delivery, at=now) for delivery, _ in judged]
        accepted = [(delivery.dataset, pin) for delivery, pin in judged if pin is not None]
        with self._database.transaction():
            self._deliveries.insert_many(stamped, project=self.project)
            self._database.execute_many(
                f"INSERT INTO files (project, dataset, {PIN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608  # columns are ours
                "ON CONFLICT (project, dataset, name) DO UPDATE SET digest = excluded.digest, "
                "size_bytes = excluded.size_bytes, rows = excluded.rows, origin = excluded.origin, "
                "made_from = excluded.made_from",
                [(self.project, dataset, *_pin_values(pin)) for dataset, pin in accepted],
            )
            self._touch([(dataset, pin.name) for dataset, pin in accepted])

    def withdraw(self, dataset: str, name: str) -> None:
        """Take an accepted file out of the versions to come, by a person's decision. Raises NotFoundError."""
        sql = "DELETE FROM files WHERE project = ? AND dataset = ? AND name = ?"
        with self._database.transaction():
            if not self._database.execute(sql, (self.project, dataset, name)):
                raise NotFoundError(f"{dataset} has no accepted file {name}")
            self._touch([(dataset, name)])

    def _touch(self, touched: Sequence[tuple[str, str]]) -> None:
        sql = "INSERT INTO touched (project, dataset, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._database.execute_many(sql, [(self.project, dataset, name) for dataset, name in touched])

    def accepted_files(self, dataset: str) -> dict[str, FilePin]:
        """The accepted files as of now, by name. All of them in memory: `head` is for those who need the version alone."""
        return {pin.name: pin for pin in self._files(dataset, ("", None))}

    def _files(self, dataset: str, span: Span) -> Iterator[FilePin]:
        """Accepted files in the order of names."""
        sql = f"SELECT {PIN} FROM files WHERE project = ? AND dataset = ? AND name >= ?"  # noqa: S608  # columns are ours
        values: builtins.list[Value] = [self.project, dataset, span[0]]
        if span[1] is not None:
            sql, values = f"{sql} AND name < ?", [*values, span[1]]
        for row in self._database.each(f"{sql} ORDER BY name", values):
            yield FilePin(*row)

    def current(self, dataset: str) -> Snapshot:
        """The accepted files as of now, by name; recorded when it is a new version."""
        head = self.head(dataset)
        return self.snapshot(head.digest) if head.files else Snapshot(dataset, head.digest, ())

    def head(self, dataset: str) -> SnapshotFacts:
        """The version that the accepted files make now; recorded when it is a new one.

        Costs what changed since it was last asked, however many files there are.
        """
        sql = "SELECT 1 FROM touched WHERE project = ? AND dataset = ? LIMIT 1"
        if self._database.row(sql, (self.project, dataset)) is None:
            known = self._database.row(
                f"SELECT {_of('s', FACTS)} FROM heads AS h JOIN snapshots AS s ON s.project = h.project AND s.digest = h.digest "  # noqa: S608  # columns are ours
                "WHERE h.project = ? AND h.dataset = ?",
                (self.project, dataset),
            )
            if known is not None:
                return SnapshotFacts(*known)
        with self._database.transaction():
            return self._update_head(dataset)

    def _update_head(self, dataset: str) -> SnapshotFacts:
        """Make the chunks anew that lie around what was touched; those of all files when there is no head yet."""
        row = self._database.row("SELECT chunks FROM heads WHERE project = ? AND dataset = ?", (self.project, dataset))
        chunks = parse_json(row["chunks"], kind=builtins.list[tuple[str, str, str, int, int, int]]) if row else []
        before = [ManifestChunk(*facts) for facts in chunks]
        names_touched = self._database.each("SELECT name FROM touched WHERE project = ? AND dataset = ?", (self.project, dataset))
        stale = manifests.spans(before, (name for (name,) in names_touched)) if before else [(0, 0, ("", None))]
        after: builtins.list[ManifestChunk] = []
        done = 0
        for begin, end, span in stale:
            after += before[done:begin]
            after += self._put_chunks(self._files(dataset, span))
            done = end
        after += before[done:]
        self._database.execute("DELETE FROM touched WHERE project = ? AND dataset = ?", (self.project, dataset))
        return self._put_head(dataset, after)

    def _put_head(self, dataset: str, chunks: Sequence[ManifestChunk]) -> SnapshotFacts:
        digest = manifests.digest(dataset, chunks)
        kept = [(c.first, c.key, c.identity, c.files, c.rows, c.size_bytes) for c in chunks]
        self._database.execute(
            "INSERT INTO heads (project, dataset, digest, chunks) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (project, dataset) DO UPDATE SET digest = excluded.digest, chunks = excluded.chunks",
            (self.project, dataset, digest, msgspec.json.encode(kept).decode()),
        )
        if not chunks:
            return SnapshotFacts(dataset, digest, 0, 0, 0, 0.0)
        return self._put_facts(dataset, digest, chunks)

    def _put_chunks(self, pins: Iterable[FilePin]) -> builtins.list[ManifestChunk]:
        """Keep sorted entries; one chunk of them is in memory at a time."""
        chunks = []
        for part in manifests.split(pins):
            chunk, content = manifests.pack(part)
            self._database.execute(
                "INSERT INTO chunks (project, key, files) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (self.project, chunk.key, content.decode()),
            )
            chunks.append(chunk)
        return chunks

    def _put_facts(self, dataset: str, digest: str, chunks: Sequence[ManifestChunk]) -> SnapshotFacts:
        """Record a version. An equal one keeps its time; what is known of its files (rows, origins) is as of now."""
        facts = SnapshotFacts(
            dataset,
            digest,
            sum(c.files for c in chunks),
            sum(c.rows for c in chunks),
            sum(c.size_bytes for c in chunks),
            time.time(),
        )
        keys = msgspec.json.encode([c.key for c in chunks]).decode()
        self._database.execute(
            f"INSERT INTO snapshots (project, {FACTS}, files, chunks) VALUES (?, ?, ?, ?, ?, ?, ?, '', ?) "  # noqa: S608  # columns are ours
            "ON CONFLICT (project, digest) DO UPDATE SET files = '', chunks = excluded.chunks, file_count = excluded.file_count, "
            "row_count = excluded.row_count, size_bytes = excluded.size_bytes",
            (self.project, dataset, digest, facts.files, facts.rows, facts.size_bytes, facts.at, keys),
        )
        row = self._database.row("SELECT at FROM snapshots WHERE project = ? AND digest = ?", (self.project, digest))
        assert row is not None, "it was just written"
        return replace(facts, at=row["at"])

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Record a version of a dataset under its digest, whatever that was made of; an equal one keeps its time."""
        with self._database.transaction():
            chunks = self._put_chunks(sorted(snapshot.files, key=lambda pin: pin.name))
            self._put_facts(snapshot.dataset, snapshot.digest, chunks)

    def snapshot(self, digest: str) -> Snapshot:
        """Raises NotFoundError."""
        row = self._row(digest)
        return Snapshot(row["dataset"], row["digest"], tuple(self._entries(row)))

    def files_of(self, digest: str) -> Iterator[FilePin]:
        """The files of a version in the order of names, a few chunks in memory at a time. Raises NotFoundError."""
        yield from self._entries(self._row(digest))

    def facts(self, digest: str) -> SnapshotFacts:
        """A version without its manifest. Raises NotFoundError."""
        return _facts(self._row(digest))

    def _row(self, digest: str) -> sqlite3.Row:
        row = self._database.row("SELECT * FROM snapshots WHERE digest = ?", (digest,))
        if row is None:
            raise NotFoundError(f"there is no snapshot {names.short(digest)}", hint="`noria data log` lists them.")
        return row

    def _entries(self, row: sqlite3.Row, leave_out: Set[str] = frozenset()) -> Iterator[FilePin]:
        """The entries of a version, but for those of some chunks."""
        if not row["chunks"]:  # of before migration 0005
            yield from parse_json(row["files"], kind=builtins.list[FilePin])
            return
        keys = parse_json(row["chunks"], kind=builtins.list[str])
        yield from DataStore(self.ledger, row["project"])._unpack_chunks([key for key in keys if key not in leave_out])

    def _unpack_chunks(self, keys: Sequence[str]) -> Iterator[FilePin]:
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            sql = f"SELECT key, files FROM chunks WHERE project = ? AND key IN ({marks})"  # noqa: S608  # columns are ours
            rows = self._database.rows(sql, (self.project, *part))
            found = {row["key"]: row["files"] for row in rows}
            for key in part:
                if key not in found:
                    raise StoreError(f"the ledger lost chunk {names.short(key)} of a manifest", hint="Restore the ledger.")
                yield from manifests.unpack(found[key])

    def difference(self, before: str, after: str) -> SnapshotDifference:
        """What lies between two versions; chunks that they share are not read. Raises NotFoundError."""
        sides = (self._row(before), self._row(after))
        shared = _keys(sides[0]) & _keys(sides[1])
        old, new = ({pin.name: pin for pin in self._entries(row, shared)} for row in sides)
        return SnapshotDifference(
            added=tuple(pin for name, pin in new.items() if name not in old),
            removed=tuple(pin for name, pin in old.items() if name not in new),
            changed=tuple((old[name], pin) for name, pin in new.items() if name in old and old[name].digest != pin.digest),
        )

    def history(self, dataset: str | None = None, limit: int = 50) -> builtins.list[SnapshotFacts]:
        """Versions without their manifests, newest first."""
        where, values = ("", (self.project, limit)) if dataset is None else (" AND dataset = ?", (self.project, dataset, limit))
        sql = f"SELECT {FACTS} FROM snapshots WHERE project = ?{where} ORDER BY at DESC, digest LIMIT ?"  # noqa: S608  # columns are ours
        return [SnapshotFacts(*row) for row in self._database.rows(sql, values)]

    def find_snapshot(self, beginning: str) -> SnapshotFacts:
        """The version whose digest begins so. Raises NotFoundError when there is none, or more than one."""
        sql = f"SELECT {FACTS} FROM snapshots WHERE project = ? AND digest >= ? AND digest < ? ORDER BY digest LIMIT ?"  # noqa: S608  # columns are ours
        found = [SnapshotFacts(*row) for row in self._database.rows(sql, (self.project, beginning, f"{beginning}g", NAMED + 1))]
        if len(found) > 1:
            named = ", ".join(names.short(facts.digest) for facts in found[:NAMED]) + (
                " and others" if len(found) > NAMED else ""
            )
            raise NotFoundError(f"{beginning} may be any of {named}", hint="Give more digits.")
        if not found:
            raise NotFoundError(f"there is no snapshot {beginning}", hint="`noria data log` lists them.")
        return found[0]

    def forget(self, digests: Iterable[str]) -> int:
        """Take versions out of the ledger, and the chunks that no other one shares; how many went.

        The newest version of a dataset stays, whoever asks: it is the dataset.
        """
        with self._database.transaction():
            gone = self._database.execute_many(
                "DELETE FROM snapshots WHERE project = ? AND digest = ? "
                "AND digest NOT IN (SELECT digest FROM heads WHERE heads.project = snapshots.project)",
                [(self.project, digest) for digest in digests],
            )
            if gone:
                self._drop_chunks()
        return gone

    def _drop_chunks(self) -> None:
        used: set[str] = set()
        for (kept,) in self._database.rows("SELECT chunks FROM snapshots WHERE project = ? AND chunks <> ''", (self.project,)):
            used.update(parse_json(kept))
        for (kept,) in self._database.rows("SELECT chunks FROM heads WHERE project = ?", (self.project,)):
            used.update(chunk[1] for chunk in parse_json(kept))
        stored = [key for (key,) in self._database.rows("SELECT key FROM chunks WHERE project = ?", (self.project,))]
        unused = [(self.project, key) for key in stored if key not in used]
        self._database.execute_many("DELETE FROM chunks WHERE project = ? AND key = ?", unused)

    def latest_snapshot(self, dataset: str) -> Snapshot | None:
        """The newest version of a dataset."""
        row = self._database.row(
            "SELECT digest FROM snapshots WHERE project = ? AND dataset = ? ORDER BY at DESC LIMIT 1", (self.project, dataset)
        )
        return self.snapshot(row["digest"]) if row else None

    def deliveries(self, limit: int = 50, dataset: str | None = None) -> builtins.list[Delivery]:
        """Newest first."""
        if dataset is None:
            return self._deliveries.many("project = ? ORDER BY at DESC, id DESC LIMIT ?", self.project, limit)
        return self._deliveries.many(
            "project = ? AND dataset = ? ORDER BY at DESC, id DESC LIMIT ?", self.project, dataset, limit
        )

    def each_delivery(self) -> Iterator[Delivery]:
        """Every file that was ever judged, one at a time."""
        rows = self._database.each("SELECT * FROM deliveries WHERE project = ?", (self.project,))
        return (self._deliveries.read(row) for row in rows)

    def files_without_delivery(self) -> builtins.list[tuple[str, str]]:
        """The dataset and the name of each file that counts as accepted, and whose content no delivery brought."""
        brought = (
            "SELECT 1 FROM deliveries AS d WHERE d.project = f.project AND d.dataset = f.dataset AND d.name = f.name "
            "AND f.digest = CASE d.kept_digest WHEN '' THEN d.digest ELSE d.kept_digest END AND d.accepted"
        )
        sql = f"SELECT dataset, name FROM files AS f WHERE project = ? AND NOT EXISTS ({brought}) ORDER BY dataset, name"  # noqa: S608  # the text is ours
        return [(row["dataset"], row["name"]) for row in self._database.rows(sql, (self.project,))]

    def is_only_file(self, dataset: str, name: str) -> bool:
        """Whether no other file is accepted than this one, if it is."""
        sql = "SELECT 1 FROM files WHERE project = ? AND dataset = ? AND name <> ? LIMIT 1"
        return self._database.row(sql, (self.project, dataset, name)) is None

    def has_arrived(self, digest: str) -> bool:
        """Whether these bytes ever arrived as a file of a dataset, in any project."""
        return self._database.row("SELECT 1 FROM deliveries WHERE digest = ?", (digest,)) is not None

    def delivered_names(self, dataset: str) -> set[str]:
        """The names of all files that were ever judged."""
        sql = "SELECT DISTINCT name FROM deliveries WHERE project = ? AND dataset = ?"
        return {str(name) for (name,) in self._database.each(sql, (self.project, dataset))}

    def quarantined_rows(self) -> int:
        """Rows in quarantine, over all deliveries of which no person has decided."""
        decided = "SELECT delivery FROM quarantine_decisions WHERE project = ?"
        sql = f"SELECT sum(rows_quarantined) AS n FROM deliveries WHERE project = ? AND id NOT IN ({decided})"  # noqa: S608  # the text is ours
        row = self._database.row(sql, (self.project, self.project))
        return int((row["n"] if row else 0) or 0)


def manifest_digest(dataset: str, pins: tuple[FilePin, ...]) -> str:
    """The identity of a version: its dataset, and the name and content of each file."""
    ordered = sorted(pins, key=lambda pin: pin.name)
    return manifests.digest(dataset, (manifests.pack(part)[0] for part in manifests.split(ordered)))


def _demand_whole(delivery: Delivery, pin: FilePin | None) -> None:
    if delivery.rows_in != delivery.rows_passed + delivery.rows_quarantined:
        raise StoreError(f"{delivery.name}: rows in are not rows passed and quarantined; nothing was recorded")
    if delivery.accepted != (pin is not None):
        raise StoreError(f"{delivery.name}: a delivery is accepted with its file, or refused without; nothing was recorded")
    if pin is not None and pin.digest != delivery.file_digest:
        raise StoreError(f"{delivery.name}: the file to be accepted is not the one that was judged; nothing was recorded")


def _pin_values(pin: FilePin) -> tuple[Value, ...]:
    return (pin.name, pin.digest, pin.size_bytes, pin.rows, pin.origin, pin.made_from)


def _facts(row: sqlite3.Row) -> SnapshotFacts:
    return SnapshotFacts(*(row[column] for column in FACTS.split(", ")))


def _keys(row: sqlite3.Row) -> set[str]:
    """The chunks of a version; none of one from before there were chunks."""
    return set(parse_json(row["chunks"], kind=builtins.list[str])) if row["chunks"] else set()


def _of(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))
