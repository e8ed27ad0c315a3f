"""A ledger in a folder that cannot be written: it is read, with all that its journal holds, and nothing is written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from noria.kernel.errors import DiskFullError, StoreError
from noria.storage import connection, disk, read_only
from noria.storage.ledger import Ledger
from noria.storage.locks import Locks


@pytest.fixture
def sealed_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything passes for a folder that cannot be written, and SQLite makes no file beside the ledger: root may always."""
    monkeypatch.setattr(connection, "cannot_write", lambda path: path.exists())
    opened = read_only._open

    def refusing(address: str, timeout_s: float) -> object:
        if address.endswith("?mode=ro") and not Path(address[5:].removesuffix("?mode=ro")).with_suffix(".db-shm").exists():
            raise read_only.sqlite3.OperationalError("unable to open database file")
        return opened(address, timeout_s)

    monkeypatch.setattr(read_only, "_open", refusing)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder with one event, which is in the journal alone."""
    folder = tmp_path / "state"
    with closing(Ledger.open(folder)) as ledger:
        ledger.events.append("p", "kind", "subject", "what happened", {}, actor="test")
        yield folder


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("journal", [True, False])
def test_a_copied_ledger_is_read_with_its_journal_or_without(
    state: Path, tmp_path: Path, journal: bool, request: pytest.FixtureRequest
) -> None:
    """Number 56: a backup that is mounted read-only is opened as it stands, and sees the newest event."""
    backup = tmp_path / "backup"
    backup.mkdir()
    if journal:
        shutil.copy(state / "ledger.db-wal", backup)
        shutil.copy(state / "ledger.db", backup)
    else:
        with closing(read_only.sqlite3.connect(state / "ledger.db")) as link:
            link.execute("VACUUM INTO ?", (str(backup / "ledger.db"),))
    (backup / ".gitignore").write_text("*\n")
    before = listing(backup)
    request.getfixturevalue("sealed_off")
    with closing(Ledger.open(backup)) as ledger:
        assert [event.text for event in ledger.events.tail("p")] == ["what happened"]
        with ledger.transaction():
            assert len(ledger.events.tail("p")) == 1
        with pytest.raises(StoreError, match="the state folder cannot be written") as told:
            ledger.events.append("p", "kind", "subject", "more", {}, actor="test")
        assert "NORIA_HOME" in str(told.value)
    assert listing(backup) == before


def test_a_ledger_of_an_earlier_version_says_what_to_do(state: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Number 56: it cannot be brought up to date where nothing can be written."""
    old = tmp_path / "old"
    old.mkdir()
    with closing(read_only.sqlite3.connect(state / "ledger.db")) as link:
        link.execute("VACUUM INTO ?", (str(old / "ledger.db"),))
    with closing(read_only.sqlite3.connect(old / "ledger.db")) as link:
        link.execute("PRAGMA user_version = 1")
    request.getfixturevalue("sealed_off")
    with pytest.raises(StoreError, match="cannot be brought to") as told:
        Ledger.open(old)
    assert "Copy the state folder" in str(told.value)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EROFS, StoreError), (errno.EACCES, StoreError), (errno.ENOSPC, DiskFullError)]
)
def test_a_state_folder_that_cannot_be_made_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    """Number 56: in words, with the way out, not as a defect of Noria."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, "no", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind):
        disk.make_state(tmp_path / "state")


def test_a_reader_locks_what_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 56: a lock that is not there yet does not keep a reader out."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with Locks(tmp_path / "locks").hold_shared("blobs"):
        assert listing(tmp_path) == []
