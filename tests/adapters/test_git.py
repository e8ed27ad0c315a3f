"""Git: against real repositories."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noria.adapters import git
from noria.errors import NoriaError, NotFoundError


def run(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "sub").mkdir(parents=True)
    run(folder, "init", "-q")
    (folder / "noria.yaml").write_text("project: p\n")
    (folder / "sub" / "noria.yaml").write_text("project: sub\n")
    (folder / ".gitattributes").write_text("noria.yaml export-ignore\n")
    (folder / ".gitignore").write_text("data/\n")
    commit(folder, "first commit")
    return folder


def commit(folder: Path, message: str) -> str:
    run(folder, "add", "-A")
    run(folder, "commit", "-q", "-m", message)
    return run(folder, "rev-parse", "HEAD")


def test_many_who_want_a_worktree_at_once_each_find_it_whole(repo: Path, tmp_path: Path) -> None:
    newest = run(repo, "rev-parse", "HEAD")
    wanted = {".gitattributes", ".gitignore", "noria.yaml", "sub/noria.yaml"}
    for turn in range(6):
        target = tmp_path / "trees" / f"{turn}.{newest}"

        def find(_: int, target: Path = target) -> set[str]:
            tree = git.worktree(repo, newest, target)
            return {p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()}

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(find, range(6))) == [wanted] * 6
        assert [p.name for p in target.parent.iterdir() if p.name.startswith(".")] == []


def test_head_and_commit_info(repo: Path, tmp_path: Path) -> None:
    newest = run(repo, "rev-parse", "HEAD")
    assert git.is_repo(repo)
    assert git.is_repo(repo / "sub")
    assert git.head(repo) == git.head(repo, "main") == newest
    assert git.head(repo, "nowhere") is None
    info = git.commit_info(repo, newest)
    assert (info.subject, info.author) == ("first commit", "Anna")
    with pytest.raises(NotFoundError):
        git.commit_info(repo, "0" * 40)
    empty = tmp_path / "empty"
    empty.mkdir()
    run(empty, "init", "-q")
    assert git.head(empty) is None


def test_a_clean_tree_has_no_digest_and_each_change_has_its_own(repo: Path) -> None:
    (repo / "data").mkdir()
    (repo / "data" / "ignored.csv").write_text("a\n")
    (repo / ".noria").mkdir()
    (repo / ".noria" / "ledger.db").write_text("state")
    assert git.dirty_digest(repo) is None
    (repo / "new.py").write_text("x = 1\n")
    first = git.dirty_digest(repo)
    (repo / "new.py").write_text("x = 2\n")
    second = git.dirty_digest(repo)
    assert git.dirty_digest(repo, ignore=["*.py"]) is None
    (repo / "noria.yaml").unlink()
    third = git.dirty_digest(repo)
    assert len({first, second, third, None}) == 4
    assert git.dirty_digest(repo) == third
    assert sorted(git.dirty_names(repo)) == ["new.py", "noria.yaml"]
    assert git.dirty_names(repo, ignore=["*.py"]) == ["noria.yaml"]


def test_a_worktree_is_the_commit_and_nothing_else(repo: Path, tmp_path: Path) -> None:
    old = run(repo, "rev-parse", "HEAD")
    (repo / "noria.yaml").write_text("project: newer\n")
    new = commit(repo, "second")
    (repo / "noria.yaml").write_text("project: dirty\n")
    before = run(repo, "status", "--porcelain")
    tree = git.worktree(repo, old, tmp_path / "trees" / old)
    assert (tree / "noria.yaml").read_text() == "project: p\n"  # although export-ignore is set
    assert (git.worktree(repo, new, tmp_path / "trees" / new) / "noria.yaml").read_text() == "project: newer\n"
    assert not (tree / ".git").exists()
    assert run(repo, "status", "--porcelain") == before
    assert sorted(p.name for p in (tmp_path / "trees").iterdir()) == sorted([old, new])
    (tree / "mark").write_text("")
    assert (git.worktree(repo, old, tree) / "mark").exists()  # found there, not made again
    assert git.show(repo, old, "noria.yaml") == b"project: p\n"
    assert git.show(repo, old, "missing") is None


def test_a_project_in_a_folder_of_a_repository(repo: Path, tmp_path: Path) -> None:
    newest = git.head(repo / "sub")
    assert newest is not None
    tree = git.worktree(repo / "sub", newest, tmp_path / "tree")
    assert [p.name for p in tree.iterdir()] == ["noria.yaml"]
    assert (tree / "noria.yaml").read_text() == "project: sub\n"
    assert git.show(repo / "sub", newest, "noria.yaml") == b"project: sub\n"
    (repo / "elsewhere.py").write_text("")
    assert git.dirty_digest(repo / "sub") is None


def test_an_unknown_commit_leaves_nothing(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        git.worktree(repo, "0" * 40, tmp_path / "trees" / "x")
    assert list((tmp_path / "trees").iterdir()) == []


def test_a_mirror_follows_its_origin(repo: Path, tmp_path: Path) -> None:
    mirror = git.fetch(str(repo), tmp_path / "state" / "repository")
    assert git.is_repo(mirror)
    assert git.head(mirror, "main") == git.head(repo)
    newest = commit_change(repo)
    assert git.head(git.fetch(str(repo), mirror), "main") == newest
    assert (git.worktree(mirror, newest, tmp_path / "tree") / "more.py").exists()
    assert git.show(mirror, newest, "more.py") == b"1\n"


def commit_change(repo: Path) -> str:
    (repo / "more.py").write_text("1\n")
    return commit(repo, "more")


def test_a_repository_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoriaError, match="`git clone` failed"):
        git.fetch(str(tmp_path / "nowhere"), tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()


def test_a_hooks_variables_do_not_mislead(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    newest = git.head(repo)
    assert newest is not None
    assert (git.worktree(repo, newest, tmp_path / "tree") / "noria.yaml").exists()
