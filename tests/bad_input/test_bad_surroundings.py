"""Addresses taken, a second daemon, commits that cannot be turned: the words, and what goes on undisturbed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from small_project import ASK, CONFIG, Small, alive, post, server_pids, surroundings, until


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("option", ["--serve", "--console"])
def test_a_port_in_use_is_named_and_nothing_is_left_running(small: Small, taken: str, option: str) -> None:
    ran = small.noria("up", "--json", option, taken)
    assert ran.code == 4, ran
    assert taken in ran.error
    assert "port" in ran.error
    until(lambda: not any(map(alive, server_pids(small))), "no server is left")


def test_a_console_that_cannot_open_leaves_an_adopted_server_alone(small: Small, taken: str) -> None:
    """Production answers from before: a daemon that fails to start is no reason to end it."""
    with small.up().ready() as before:
        before.kill()
        (pid,) = server_pids(small)
        address = small.noria("status", "--json").facts["addresses"]["production"]
        ran = small.noria("up", "--json", "--console", taken)
        assert ran.code == 4, ran
        assert taken in ran.error
        assert alive(pid)
        assert post(address, "/predict", ASK)[0] == 200


def test_a_second_daemon_is_refused_and_names_the_first(small: Small) -> None:
    with small.up().ready() as first:
        ran = small.noria("up", "--json")
        assert ran.code == 4, ran
        assert f"process {first.process.pid}" in ran.error
        assert "noria status" in ran.error
        assert first.process.poll() is None
        status = small.noria("status", "--json").facts
        assert status["daemon"] is True
        assert post(status["addresses"]["production"], "/predict", ASK)[1]["release"] == "v1"


def test_commits_that_cannot_be_turned_end_with_words_and_the_daemon_goes_on(small: Small) -> None:
    """A commit without noria.yaml, one with a broken one, and a good one after them; the home keeps its own noria.yaml."""
    with small.up().ready() as up:
        address = small.noria("status", "--json").facts["addresses"]["production"]
        commit_beside(small, "rm", None)
        turn = ended(small, 3)
        assert turn["outcome"] == "check failed"
        assert "no noria.yaml" in turn["reason"]
        assert "noria init" in turn["reason"]
        commit_beside(small, "typo", CONFIG.replace("gates:", "gatse:"))
        turn = ended(small, 4)
        assert turn["outcome"] == "check failed"
        assert "gatse" in turn["reason"]
        assert "gates" in turn["reason"]
        assert "noria.yaml:15" in turn["reason"]
        assert post(address, "/predict", ASK)[1]["release"] == "v1"
        commit_beside(small, "good", CONFIG.replace("0.6", "0.61"))
        turn = ended(small, 5)
        assert turn["outcome"] in ("nothing changed", "promoted"), turn
        assert up.process.poll() is None
        assert "Traceback" not in up.output


def ended(small: Small, number: int) -> dict[str, str]:
    def found() -> dict[str, str] | None:
        held = small.ledger("SELECT outcome, reason FROM turns WHERE number = ? AND outcome <> 'running'", number)
        return dict(zip(("outcome", "reason"), held[0], strict=True)) if held else None

    return until(found, f"turn {number} has ended")


def commit_beside(small: Small, subject: str, config: str | None) -> None:
    """A commit to main as somebody else's push makes it: the files in the home stay as they are."""

    def git(*arguments: str, text: str | None = None) -> str:
        env = surroundings(GIT_INDEX_FILE=str(small.home / ".git" / "beside"))
        done = subprocess.run(
            ["git", *arguments], cwd=small.home, env=env, input=text, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout.strip()

    git("read-tree", "HEAD")
    if config is None:
        git("rm", "-q", "--cached", "noria.yaml")
    else:
        blob = git("hash-object", "-w", "--stdin", text=config)
        git("update-index", "--add", "--cacheinfo", f"100644,{blob},noria.yaml")
    commit = git("commit-tree", git("write-tree"), "-p", "HEAD", "-m", subject)
    git("update-ref", "refs/heads/main", commit)


def test_a_store_of_a_later_version_and_a_damaged_one_say_so(small: Small) -> None:
    (small.state / "ledger.db").write_bytes(b"this is no database" * 100)
    for extra in ("ledger.db-wal", "ledger.db-shm"):
        (small.state / extra).unlink(missing_ok=True)
    for command in (["status"], ["run"], ["up"]):
        done = subprocess.run(
            [sys.executable, "-m", "noria", *command, "--json"],
            cwd=small.home, env=surroundings(), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 4, done
        error = json.loads(done.stdout)["error"]
        assert "ledger" in json.dumps(error)
        assert "inside Noria" not in error["message"]
