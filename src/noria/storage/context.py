"""What every room works with: where one project's state is kept, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from noria.storage.blobs import BlobStore
from noria.storage.disk import whole_path
from noria.storage.ledger import Ledger
from noria.storage.locks import Locks

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody reads."""


class StoreContext(msgspec.Struct, frozen=True):
    """The stores of one project. ``check_lease`` raises when this engine lost its job."""

    name: str  # the project's name in the ledger
    home: Path  # where Noria was started: relative data sources resolve here
    state: Path  # .noria
    ledger: Ledger
    blobs: BlobStore
    locks: Locks
    actor: str = "engine"
    progress: Progress = silent
    check_lease: Callable[[], None] = lambda: None

    def event(self, kind: str, subject: str, text: str, **facts: object) -> None:
        """Append to the audit log and tell whoever watches."""
        self.ledger.events.append(self.name, kind, subject, text, facts, actor=self.actor)
        self.progress(text)

    def folder(self, run_id: str) -> Path:
        """The scratch folder of a run."""
        path = self.state / "work" / run_id
        path.mkdir(parents=True, exist_ok=True)
        return path

    def bundle(self, digest: str) -> Path:
        """Where a release's bundle is unpacked."""
        return self.state / "releases" / digest

    def named_blob(self, digest: str, name: str) -> Path:
        """A link to a verified blob under a name whose suffix tells the format."""
        target = self.blobs.path(digest)
        link = self.state / "work" / "named" / f"{digest[:32]}{''.join(Path(name).suffixes[-2:]) or '.bin'}"
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            with whole_path(link) as fresh:
                fresh.symlink_to(target)
        return link
