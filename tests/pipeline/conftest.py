"""What the tests of the pipeline share."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from git_fixtures import repo  # noqa: F401
from place import InnerPlace, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "home").mkdir()
    return Place(tmp_path / "home")


@pytest.fixture
def inner_place(tmp_path: Path) -> InnerPlace:
    """Its commands run in this process: for what a command does, where its processes are not the point."""
    (tmp_path / "home").mkdir()
    return InnerPlace(tmp_path / "home")


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Place], Place]:
    """A copy of a project that was made once for many tests: each may do with it what it wants."""

    def copy(made: Place) -> Place:
        shutil.copytree(made.home, tmp_path / "home", symlinks=True)
        return type(made)(tmp_path / "home")

    return copy


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition, at most half a minute."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.02)

    return wait
