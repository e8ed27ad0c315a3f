"""Locks between real processes, and log files of bounded size that several processes append to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.storage.locks import Locks
from noria.storage.rotating_files import RotatingFile, rotate_inherited

HOLDER = """
import sys
from pathlib import Path
from noria.storage.locks import Locks
with getattr(Locks(Path(sys.argv[1])), sys.argv[2])(*sys.argv[3:], *([lambda: None] if sys.argv[2] == "hold_exclusive" else [])):
    print("held", flush=True)
    sys.stdin.read()
"""


class BusyError(Exception):
    """Raised instead of waiting."""


def give_up() -> None:
    raise BusyError


@contextmanager
def another_process(folder: Path, *lock: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that holds a lock until its standard input ends."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder, *lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == b"held\n"
        yield held
        held.kill()


def test_one_holds_a_name_and_all_let_go_when_they_die(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with another_process(tmp_path, "hold", "step", "name") as holder:
        with pytest.raises(BusyError), locks.hold("step", "name", give_up):
            pass
        with locks.hold("step", "other", give_up), locks.hold("turn", "name", give_up):
            pass
        holder.kill()
        holder.wait(60)
        with locks.hold("step", "name", give_up):
            pass


def test_users_are_many_and_who_is_alone_is_alone(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with another_process(tmp_path, "hold_shared", "blobs"):
        with locks.hold_shared("blobs", give_up):
            pass
        with pytest.raises(BusyError), locks.hold_exclusive("blobs", give_up):
            pass
    with another_process(tmp_path, "hold_exclusive", "blobs"):
        with pytest.raises(BusyError), locks.hold_shared("blobs", give_up):
            pass
        with pytest.raises(BusyError), locks.hold_exclusive("blobs", give_up):
            pass
        with locks.hold_shared("others", give_up):
            pass
    with locks.hold_exclusive("blobs", give_up):
        pass


def test_a_lock_leaves_no_file_and_an_error_inside_frees_it(tmp_path: Path) -> None:
    locks = Locks(tmp_path / "locks")
    with pytest.raises(ZeroDivisionError), locks.hold("a", "n"):
        raise ZeroDivisionError
    assert list((tmp_path / "locks").iterdir()) == []
    with locks.hold("a", "../../etc/passwd\0"):
        assert [path.parent for path in (tmp_path / "locks").iterdir()] == [tmp_path / "locks"]
    with locks.hold_shared("a"):
        pass
    with locks.hold("a", "n", give_up):
        pass


def test_threads_take_turns(tmp_path: Path) -> None:
    """Each adds one to a file without any other guard: none is lost."""
    counter = tmp_path / "count"
    counter.write_text("0")

    def work() -> None:
        for _ in range(5):
            with Locks(tmp_path / "locks").hold("count", "x"):
                counter.write_text(str(int(counter.read_text()) + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert counter.read_text() == "20"


def test_who_waits_is_asked_again_and_again(tmp_path: Path) -> None:
    locks, asked = Locks(tmp_path), []
    with another_process(tmp_path, "hold", "a", "n") as holder:

        def waiting() -> None:
            asked.append(time.monotonic())
            if len(asked) == 3:
                holder.kill()

        with locks.hold("a", "n", waiting):
            pass
    assert len(asked) >= 3


def lines_of(path: Path) -> list[bytes]:
    """All that is left, the oldest first."""
    files = [path.with_name(f"{path.name}.{number}") for number in range(9, 0, -1)]
    return b"".join(file.read_bytes() for file in [*files, path] if file.exists()).splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(sizes=st.lists(st.integers(1, 60), max_size=60), limit=st.integers(10, 100), kept=st.integers(1, 4))
def test_no_line_is_torn_and_the_newest_stay(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, kept: int
) -> None:
    path = tmp_path_factory.mktemp("r") / "a.log"
    file = RotatingFile(path, limit, kept)
    written = [b"%d:" % number + b"x" * size for number, size in enumerate(sizes)]
    for line in written:
        file.append(line + b"\n")
    file.close()
    left = lines_of(path)
    assert left == written[len(written) - len(left) :], "the newest lines, whole and in their order"
    assert len(list(path.parent.iterdir())) <= kept + 1
    for each in path.parent.iterdir():
        assert each.stat().st_size <= max(limit, max((len(line) + 1 for line in written), default=0))
    if sum(len(line) + 1 for line in written) <= limit:
        assert left == written


WRITER = """
import sys
from pathlib import Path
from noria.storage.rotating_files import RotatingFile
file = RotatingFile(Path(sys.argv[1]), 2000, 50)
for number in range(60):
    file.append(b"%d %d %s\\n" % (int(sys.argv[2]), number, b"x" * 40))
file.close()
"""


def test_several_processes_append_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(writer)]) for writer in range(3)]
    assert [process.wait(120) for process in writers] == [0, 0, 0]
    files = [path, *(path.with_name(f"a.log.{number}") for number in range(1, 51))]
    lines = b"".join(file.read_bytes() for file in files if file.exists()).splitlines()
    assert sorted(tuple(map(int, line.split()[:2])) for line in lines) == [(w, n) for w in range(3) for n in range(60)]
    line = 50  # who found room, and writes when others have filled it, goes beyond the limit by a line
    assert all(file.stat().st_size <= 2000 + 2 * line for file in files if file.exists())


@pytest.mark.parametrize("vanish", [lambda path: path.unlink(), lambda path: path.rename(path.with_name("moved"))])
def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path, vanish: Callable[[Path], object]) -> None:
    path = tmp_path / "logs" / "a.log"
    file = RotatingFile(path)
    file.append(b"one\n")
    vanish(path)
    file.append(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("size", "moved"), [(0, False), (100, False), (101, True)])
def test_a_file_that_others_hold_open_is_copied_and_emptied(tmp_path: Path, size: int, moved: bool) -> None:
    path = tmp_path / "err.log"
    path.write_bytes(b"x" * size)
    with path.open("ab", buffering=0) as held:
        for number in (3, 2, 1):
            path.with_name(f"err.log.{number}").write_text(str(number))
        rotate_inherited(path, 100, 3)
        held.write(b"later")
    assert path.read_bytes() == (b"later" if moved else b"x" * size + b"later")
    found = [path.with_name(f"err.log.{number}").read_text() for number in (1, 2, 3)]
    assert found == (["x" * size, "1", "2"] if moved else ["1", "2", "3"])
    assert len(os.listdir(tmp_path)) == 4
