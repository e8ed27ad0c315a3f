"""What tests of Git share."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_repository import commit, run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a project at its top and another in a folder."""
    folder = tmp_path / "repo"
    (folder / "sub").mkdir(parents=True)
    run(folder, "init", "-q")
    (folder / "noria.yaml").write_text("project: p\n")
    (folder / "sub" / "noria.yaml").write_text("project: sub\n")
    (folder / ".gitattributes").write_text("noria.yaml export-ignore\n")
    (folder / ".gitignore").write_text("data/\n")
    commit(folder, "first commit")
    return folder
