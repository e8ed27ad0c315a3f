"""Versions of datasets that a person pinned, and files whose bytes a person erased."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from noria.data.snapshot import ErasedFile
from noria.kernel.errors import NotFoundError, RefusedError
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable


class PinnedVersion(msgspec.Struct, frozen=True):
    """A version of a dataset that is kept for ever, under a name."""

    project: str
    name: str
    digest: str
    actor: str
    at: float


class PinStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._pinned = StructTable(ledger.database, "pinned", PinnedVersion, key=("project", "name"))

    def pin(self, name: str, digest: str, actor: str) -> bool:
        """Keep a snapshot under a name; False when it is so already. Raises RefusedError when the name is another one's."""
        with self._database.transaction():
            known = self._pinned.one("project = ? AND name = ?", self.project, name)
            if known is not None and known.digest != digest:
                raise RefusedError(f"{name} is pinned to another snapshot", hint=f"First: noria data unpin {name}")
            if known is None:
                self._pinned.insert(PinnedVersion(self.project, name, digest, actor, time.time()))
        return known is None

    def unpin(self, name: str) -> str:
        """Let a pinned snapshot go; its digest. Raises NotFoundError."""
        with self._database.transaction():
            known = self._pinned.one("project = ? AND name = ?", self.project, name)
            if known is None:
                raise NotFoundError(f"there is no pin {name}", hint="`noria data log` shows the pins.")
            self._database.execute("DELETE FROM pinned WHERE project = ? AND name = ?", (self.project, name))
        return known.digest

    def pins(self) -> list[PinnedVersion]:
        """What is pinned, by name."""
        return self._pinned.many("project = ? ORDER BY name", self.project)


def note_erased(ledger: Ledger, files: Sequence[ErasedFile]) -> None:
    """Note that these bytes were taken away."""
    table = StructTable(ledger.database, "erased", ErasedFile, key=("project", "digest"))
    for file in files:
        table.insert(file, replace=True)
        ledger.database.execute("UPDATE deliveries SET example = '' WHERE digest = ?", (file.digest,))
        ledger.database.execute("DELETE FROM batch_facts WHERE digest = ?", (file.digest,))


def erased_files(ledger: Ledger) -> dict[str, ErasedFile]:
    """Digest -> what was erased, in any project: blobs belong to all of them. The same bytes may have arrived again."""
    return {one.digest: one for one in StructTable(ledger.database, "erased", ErasedFile).many("TRUE")}
