"""Deliveries, accepted files and snapshots of datasets."""

from __future__ import annotations

import builtins
import time
from dataclasses import replace

import msgspec

from noria import names
from noria.domain.data import Delivery, FilePin, Snapshot
from noria.errors import NotFoundError, StoreError
from noria.store.connection import Database
from noria.store.rows import Table


class DataStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._deliveries = Table(database, "deliveries", Delivery)

    def seen(self, project: str, dataset: str, name: str, digest: str, contract: str | None = None) -> Delivery | None:
        """The judgement that stands on exactly these bytes under this name.

        None when they are new; when they were accepted once and another version took their place, or they were withdrawn;
        or when another contract than ``contract`` (its digest) refused them: then they arrive again.
        """
        where = "project = ? AND dataset = ? AND name = ? AND digest = ? ORDER BY at DESC, id DESC"
        found = self._deliveries.one(where, project, dataset, name, digest)
        if found is None:
            return None
        if not found.accepted:
            return found if contract is None or found.contract == contract else None
        return found if self._stands(project, dataset, name, digest) else None

    def _stands(self, project: str, dataset: str, name: str, digest: str) -> bool:
        sql = "SELECT digest FROM files WHERE project = ? AND dataset = ? AND name = ? AND digest = ?"
        return self._database.row(sql, (project, dataset, name, digest)) is not None

    def deliver(self, project: str, delivery: Delivery, pin: FilePin | None) -> None:
        """Record a judgement; an accepted file takes the place of an earlier one of its name.

        Raises StoreError when rows are unaccounted for, or when the file of an accepted delivery is missing.
        """
        if delivery.rows_in != delivery.rows_passed + delivery.rows_quarantined:
            raise StoreError(f"{delivery.name}: rows in are not rows passed and quarantined; nothing was recorded")
        if delivery.accepted != (pin is not None):
            raise StoreError(f"{delivery.name}: a delivery is accepted with its file, or refused without; nothing was recorded")
        stamped = replace(delivery, at=delivery.at or time.time())
        with self._database.transaction():
            self._deliveries.insert(stamped, project=project)
            if pin is not None:
                self._database.execute(
                    "INSERT INTO files (project, dataset, name, digest, size_bytes, rows) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (project, dataset, name) DO UPDATE SET "
                    "digest = excluded.digest, size_bytes = excluded.size_bytes, rows = excluded.rows",
                    (project, delivery.dataset, pin.name, pin.digest, pin.size_bytes, pin.rows),
                )

    def withdraw(self, project: str, dataset: str, name: str) -> None:
        """Take an accepted file out of the versions to come, by a person's decision. Raises NotFoundError."""
        sql = "DELETE FROM files WHERE project = ? AND dataset = ? AND name = ?"
        if not self._database.execute(sql, (project, dataset, name)):
            raise NotFoundError(f"{dataset} has no accepted file {name}")

    def current(self, project: str, dataset: str) -> Snapshot:
        """The accepted files as of now, by name; recorded when it is a new version."""
        rows = self._database.rows(
            "SELECT name, digest, size_bytes, rows FROM files WHERE project = ? AND dataset = ? ORDER BY name", (project, dataset)
        )
        pins = tuple(FilePin(r["name"], r["digest"], r["size_bytes"], r["rows"]) for r in rows)
        found = Snapshot(dataset, manifest_digest(dataset, pins), pins)
        if pins:
            self.put_snapshot(project, found)
        return found

    def put_snapshot(self, project: str, snapshot: Snapshot) -> None:
        """Record a version of a dataset; an equal one stays as it is."""
        self._database.execute(
            "INSERT INTO snapshots (project, digest, dataset, files, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (project, snapshot.digest, snapshot.dataset, msgspec.json.encode(snapshot.files).decode(), time.time()),
        )

    def snapshot(self, digest: str) -> Snapshot:
        """Raises NotFoundError."""
        row = self._database.row("SELECT dataset, digest, files FROM snapshots WHERE digest = ?", (digest,))
        if row is None:
            raise NotFoundError(f"there is no snapshot {names.short(digest)}")
        return Snapshot(row["dataset"], row["digest"], msgspec.json.decode(row["files"], type=tuple[FilePin, ...]))

    def latest_snapshot(self, project: str, dataset: str) -> Snapshot | None:
        """The newest version of a dataset."""
        row = self._database.row(
            "SELECT digest FROM snapshots WHERE project = ? AND dataset = ? ORDER BY at DESC LIMIT 1", (project, dataset)
        )
        return self.snapshot(row["digest"]) if row else None

    def deliveries(self, project: str, limit: int = 50, dataset: str | None = None) -> builtins.list[Delivery]:
        """Newest first."""
        if dataset is None:
            return self._deliveries.many("project = ? ORDER BY at DESC, id DESC LIMIT ?", project, limit)
        return self._deliveries.many("project = ? AND dataset = ? ORDER BY at DESC, id DESC LIMIT ?", project, dataset, limit)

    def quarantined_rows(self, project: str) -> int:
        """Rows in quarantine, over all deliveries."""
        row = self._database.row("SELECT sum(rows_quarantined) AS n FROM deliveries WHERE project = ?", (project,))
        return int((row["n"] if row else 0) or 0)


def manifest_digest(dataset: str, pins: tuple[FilePin, ...]) -> str:
    """The identity of a version: its dataset, and the name and content of each file."""
    return names.digest_bytes(msgspec.json.encode([dataset, [[p.name, p.digest] for p in pins]]))
