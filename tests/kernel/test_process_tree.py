"""A process and all that it started, beside psutil: who belongs to it, how much it holds, and what is left when it ended."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from noria.kernel import descriptors
from noria.kernel.process_tree import ProcessTree, descendants

NESTED = "sh -c 'sleep 60 & echo ready; wait' & wait"  # a shell, a shell within, and a sleep within that


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sh", "-c", NESTED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        yield process
        for one in family:
            if one.is_running():
                one.kill()


def test_descendants_are_those_that_the_system_tells(tree: subprocess.Popen[bytes]) -> None:
    expected = {process.pid for process in psutil.Process(tree.pid).children(recursive=True)}
    assert len(expected) == 2
    assert {process.pid for process in descendants(tree.pid)} == expected
    assert expected < {process.pid for process in descendants(os.getpid())}


def test_a_process_that_ended_has_none(tree: subprocess.Popen[bytes]) -> None:
    for child in descendants(tree.pid):
        child.kill()
    tree.wait(60)
    assert descendants(tree.pid) == []
    assert ProcessTree(tree.pid, 1).judge() is None


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (None, None),
        (1 << 40, None),
        (1, ("memory", "used more than 0 MB of memory")),
        (1 << 16, ("memory", "used more than 0 MB of memory")),
    ],
)
def test_all_of_them_together_are_judged(
    tree: subprocess.Popen[bytes], limit: int | None, verdict: tuple[str, str] | None
) -> None:
    watched = ProcessTree(tree.pid, limit)
    assert watched.judge() == verdict
    alone = psutil.Process(tree.pid).memory_info().rss
    assert watched.peak_bytes > 0
    assert len(watched.known) == 2
    if limit is None:
        assert watched.peak_bytes > alone


@pytest.mark.skipif(descriptors.limit() <= 1100, reason="this machine allows no descriptor above 1,024")
def test_a_descriptor_above_a_thousand_is_waited_for() -> None:
    """`select.select` refuses it, and a server with a thousand connections has no others."""
    reading, writing = os.pipe()
    high = 1050
    os.dup2(reading, high)
    try:
        with pytest.raises(ValueError, match="out of range"):
            select.select([high], [], [], 0)
        assert not descriptors.readable(high, 0.0)
        os.write(writing, b"x")
        assert descriptors.readable(high, 10.0)
        os.read(high, 1)
        os.close(writing)
        assert descriptors.readable(high, 10.0), "the other end hung up: a read tells so at once"
    finally:
        os.close(high)
        os.close(reading)


def test_files_keep_descriptors_whatever_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (16, 255, 256, 257, 1024, 65_536):
        monkeypatch.setattr(descriptors, "limit", lambda limit=limit: limit)
        found = descriptors.for_connections()
        assert limit / 2 - 1 <= found < limit
        assert limit - found >= min(limit / 2, descriptors.KEPT)
