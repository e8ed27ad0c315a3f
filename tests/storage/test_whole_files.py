"""A small file is the old one or the new one, whatever ends the writer, and a secret is its owner's from the first byte on."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from noria import daemon
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
