"""One small project, released as v1, and a fresh copy of it for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import Small, until

_made: dict[str, Small] = {}  # conftests of several folders share it: a session trains it once


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The project with v1 in production; not to be changed."""
    if "released" not in _made:
        project = Small.make(tmp_path_factory.mktemp("small") / "project")
        ran = project.run()
        assert ran.code == 0, ran
        assert ran.facts["release"] == "v1"
        with project.up():  # meets the first commit, once, so that no test waits for it
            until(lambda: project.ledger("SELECT 1 FROM turns WHERE number = 2 AND outcome = 'nothing changed'"), "turn 2")
        _made["released"] = project
    return _made["released"]


@pytest.fixture
def small(released: Small, tmp_path: Path) -> Small:
    """A copy of the released project, its store with it."""
    return released.copy(tmp_path / "project")
