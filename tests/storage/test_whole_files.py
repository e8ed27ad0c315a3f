"""A small file is the old one or the new one, whatever ends the writer, and a secret is its owner's from the first byte on."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from noria import daemon
from noria.kernel import names
from noria.kernel.errors import DiskFullError, StoreError
from noria.serving import recorder
from noria.storage import disk

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child does nothing but write, and is killed
STEPS = ("fsync", "replace", "link", "sync_path")


def _killed(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, path: Path, content: bytes, replace: bool) -> int:
    """Write in a process that is killed as it comes to one of the steps; its exit code: 0 where it never came there."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        disk.write_whole(path, content, 0o600, replace=replace)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("replace", [True, False])
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, replace: bool
) -> None:
    path = tmp_path / "secret"
    if replace:
        disk.write_whole(path, b"old", 0o600)
    owner = disk if step == "sync_path" else os
    code = _killed(monkeypatch, owner, step, path, b"new" * 1000, replace)
    skipped = step == ("link" if replace else "replace")
    assert code == (0 if skipped else -signal.SIGKILL)
    new = skipped or step == "sync_path"
    assert (path.read_bytes() if path.exists() else None) == (b"new" * 1000 if new else b"old" if replace else None)
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}


def test_a_failed_writer_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk.write_whole(path, b"old")
    with pytest.raises(FileExistsError):
        disk.write_whole(path, b"new", replace=False)
    with pytest.raises(TypeError), disk.whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_token_is_never_there_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was made first and filled later: killed between, an empty text was the token from then on."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(daemon.secrets, "token_urlsafe", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        daemon.token(tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
    made = daemon.token(tmp_path)
    assert len(made) == 32
    assert daemon.token(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["file.csv", "n" * 255])
def test_what_a_library_writes_by_name_is_there_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(TypeError), disk.whole_path(path, 0o600) as fresh:
        fresh.write_bytes("half")  # type: ignore[arg-type]
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {name: b"old"}
    with disk.whole_path(path, 0o600) as fresh:
        fresh.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    disk.write_whole(path, path.read_bytes() + b"er")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {name: b"newer"}
    with disk.whole_path(path) as fresh:
        fresh.symlink_to("elsewhere")
    assert os.readlink(path) == "elsewhere"
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_loss_of_power_may_take_only_what_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    disk.write_whole(tmp_path / "file", b"1", fleeting="it describes this process")
    assert synced == []
    disk.write_whole(tmp_path / "file", b"2")
    assert len(synced) == 2  # the bytes, and the name in the folder


# --- what a person reads


def _said(path: Path, content: bytes = b"new") -> StoreError:
    with pytest.raises(StoreError) as lasting:
        disk.write_whole(path, content)
    with pytest.raises(StoreError) as fleeting, disk.whole_path(path, 0o600) as fresh:
        fresh.write_bytes(content)
    assert str(lasting.value) == str(fleeting.value)
    assert str(lasting.value.where) == str(path)
    return lasting.value


@contextmanager
def _room_for(size_bytes: int) -> Iterator[None]:
    """How far this process's files may grow: what a full disk looks like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk.write_whole(path, b"old")
    with _room_for(100):
        said = _said(path, b"new" * 100_000)  # more than the file's buffer takes, and what is left in it is refused once more
    assert isinstance(said, DiskFullError)
    assert said.message == "the disk is full: nothing was kept"
    assert said.hint == "Free some space; nothing is half written. Then try again."
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(path: Path, *_: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refused)  # tests run as root, whom no folder refuses
    said = _said(tmp_path / "file")
    assert said.message == f"cannot be written: {os.strerror(number)}"
    assert said.hint == disk.UNWRITABLE


def test_a_folder_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "file" / "below").mkdir(parents=True)
    said = _said(tmp_path / "file")
    assert (said.message, said.hint) == (
        "cannot be written: a folder has this name",
        "Move it away, or choose another name.",
    )
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileExistsError):
        disk.write_whole(tmp_path / "file", b"new", replace=False)


@pytest.mark.parametrize("above", ["missing", "file"])
def test_no_folder_says_so(tmp_path: Path, above: str) -> None:
    (tmp_path / "file").touch()
    said = _said(tmp_path / above / "name")
    assert said.message == f"cannot be written: there is no folder {tmp_path / above}"
    assert said.hint == "Make it, or choose another place."


def test_a_name_that_is_too_long_says_so(tmp_path: Path) -> None:
    assert _said(tmp_path / ("n" * 256)).message == "cannot be written: File name too long"
    assert list(tmp_path.iterdir()) == []


def test_secrets_in_whose_place_a_folder_stands_say_so(tmp_path: Path) -> None:
    for name in ("token", recorder.SECRET):
        (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=r"/token: the control API's token cannot be read: Is a directory"):
        daemon.token(tmp_path)
    with pytest.raises(StoreError, match=r"/log\.key: the secret of the log cannot be read: Is a directory"):
        recorder.secret(tmp_path)


# --- what a kill leaves


def _leave(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    """The name of what a writer leaves that is killed as it is about to name its file."""
    assert _killed(monkeypatch, os, "replace", path, b"half", True) == -signal.SIGKILL
    (left,) = [one.name for one in path.parent.iterdir() if disk.UNFINISHED.fullmatch(one.name)]
    return left


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"file", ".hidden", f".file.{names.new_id('p')}", f"file.{names.new_id('w')}"}
    for name in kept:
        (tmp_path / name).touch()
    left = _leave(monkeypatch, tmp_path / "file")
    assert left not in kept
    disk.clear_unfinished(tmp_path, tmp_path / "no folder", tmp_path / "file")
    assert {one.name for one in tmp_path.iterdir()} == kept


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    """In another process, too: a lock is asked, no clock."""
    with disk.whole_file(tmp_path / "file") as file:
        file.write(b"whole")
        clearing = (
            "import sys; from pathlib import Path; from noria.storage import disk; disk.clear_unfinished(Path(sys.argv[1]))"
        )
        subprocess.run([sys.executable, "-c", clearing, str(tmp_path)], check=True)
        disk.clear_unfinished(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_what_is_cleared_before_it_could_be_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, early = fcntl.flock, [tmp_path]

    def locked(handle: int, how: int) -> None:
        if early and how == fcntl.LOCK_EX:
            disk.clear_unfinished(early.pop())
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", locked)
    disk.write_whole(tmp_path / "file", b"whole")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"whole"}
    assert early == []


def test_a_file_system_without_locks_is_written_and_never_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with disk.whole_file(tmp_path / "file") as file:
        disk.clear_unfinished(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("sink", [pl.LazyFrame.sink_csv, pl.LazyFrame.sink_parquet])
def test_a_library_that_meets_a_full_disk_is_understood(tmp_path: Path, sink: Callable[[pl.LazyFrame, Path], None]) -> None:
    """Polars has the system's number in its text alone, in errors of several kinds: that was told as a defect of Noria."""
    rows = pl.LazyFrame({"id": [f"p{number}" for number in range(100_000)]})
    with pytest.raises(DiskFullError) as told, disk.whole_path(tmp_path / "rows", 0o600) as fresh, _room_for(10_000):
        sink(rows, fresh)
    assert str(told.value.where) == str(tmp_path / "rows")
    assert list(tmp_path.iterdir()) == []
