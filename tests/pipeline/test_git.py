"""Git: against real repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_repository import begin, commit, run

from noria.kernel.errors import NoriaError, NotFoundError
from noria.pipeline import checkout, git


def dirty_digest(repo: Path, *ignore: str) -> str | None:
    return git.digest_of(repo, git.changes(repo, ignore))


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
    assert git.branches(empty) == []


def test_a_tag_that_is_named_like_the_branch_does_not_hide_it(repo: Path) -> None:
    """Number 55: full reference names are asked for, so that the branch is the branch."""
    run(repo, "switch", "-q", "-c", "release")
    old = run(repo, "rev-parse", "HEAD")
    run(repo, "tag", "release")
    newest = commit_change(repo)
    assert newest != old
    assert git.head(repo, "release") == newest
    assert git.head(repo, "refs/heads/release") == newest
    run(repo, "tag", "v1")
    assert git.head(repo, "v1") is None, "a tag is no branch"
    assert sorted(git.branches(repo)) == ["main", "release"]
    assert git.current_branch(repo) == "release"


def test_a_branch_of_the_remote_is_one_too(repo: Path, tmp_path: Path) -> None:
    """Number 55: a clone that has no branch of its own, as continuous integration makes it."""
    run(tmp_path, "clone", "-q", str(repo), "copy")
    copy = tmp_path / "copy"
    run(copy, "switch", "-q", "--detach")
    run(copy, "branch", "-D", "main")
    assert git.head(copy, "origin/main") == git.head(repo)
    assert git.head(copy, "main") is None
    assert git.current_branch(copy) is None
    assert git.branches(copy) == ["origin/main"]


def test_a_repository_of_somebody_else_is_named_so(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 55: "dubious ownership" is no empty repository; the words tell how to trust it."""
    monkeypatch.setattr(git, "_KEPT", git._KEPT | {"GIT_TEST_ASSUME_DIFFERENT_OWNER"})
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for ask in (git.head, git.changes, lambda folder: git.commit_info(folder, "HEAD")):
        with pytest.raises(NoriaError, match="belongs to another user") as told:
            ask(repo)
        assert f"git config --global --add safe.directory {repo}" in str(told.value)


def test_a_broken_branch_is_an_error_and_not_a_missing_one(repo: Path) -> None:
    """Number 55: what Git cannot tell is said in its words."""
    (repo / ".git" / "refs" / "heads" / "bad").write_text("no commit\n")
    with pytest.raises(NoriaError, match="Git cannot resolve refs/heads/bad"):
        git.head(repo, "bad")


def test_history_is_known_or_not(repo: Path, tmp_path: Path) -> None:
    """Number 55: in a shallow clone, what came before is not known to be missing."""
    old = run(repo, "rev-parse", "HEAD")
    new = commit_change(repo)
    assert (git.contains(repo, new, old), git.contains(repo, old, new)) == (True, False)
    assert git.contains(repo, new, "0" * 40) is None
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    assert git.contains(tmp_path / "shallow", new, old) is None


def test_what_changes_in_a_repository_inside_changes_the_digest(repo: Path, tmp_path: Path) -> None:
    """Number 55: a submodule with other content is another tree."""
    begin(tmp_path / "lib", helper_py="x = 1\n")
    run(repo, "submodule", "--quiet", "add", str(tmp_path / "lib"), "lib")
    commit(repo, "with lib")
    assert dirty_digest(repo) is None
    digests = set()
    for text in ("x = 2\n", "x = 3\n"):
        (repo / "lib" / "helper.py").write_text(text)
        digests.add(dirty_digest(repo))
    assert len(digests | {None}) == 3


def test_a_clean_tree_has_no_digest_and_each_change_has_its_own(repo: Path) -> None:
    (repo / "data").mkdir()
    (repo / "data" / "ignored.csv").write_text("a\n")
    (repo / ".noria").mkdir()
    (repo / ".noria" / "ledger.db").write_text("state")
    assert dirty_digest(repo) is None
    (repo / "new.py").write_text("x = 1\n")
    first = dirty_digest(repo)
    (repo / "new.py").write_text("x = 2\n")
    second = dirty_digest(repo)
    assert dirty_digest(repo, "*.py") is None
    (repo / "noria.yaml").unlink()
    third = dirty_digest(repo)
    assert len({first, second, third, None}) == 4
    assert dirty_digest(repo) == third
    assert [(c.path, c.tracked) for c in git.changes(repo)] == [("new.py", False), ("noria.yaml", True)]
    assert [c.path for c in git.changes(repo, ["*.py"])] == ["noria.yaml"]


def test_a_mirror_follows_its_origin(repo: Path, tmp_path: Path) -> None:
    mirror = git.fetch(str(repo), tmp_path / "state" / "repository")
    assert git.is_repo(mirror)
    assert git.head(mirror, "main") == git.head(repo)
    newest = commit_change(repo)
    assert git.head(git.fetch(str(repo), mirror), "main") == newest
    assert (checkout.worktree(mirror, newest, tmp_path / "tree") / "more.py").exists()
    assert git.show(mirror, newest, "more.py") == b"1\n"


def test_a_mirror_follows_a_renamed_main_branch_and_a_new_address(repo: Path, tmp_path: Path) -> None:
    """Number 55: a repository that was renamed or moved is followed, not the one that it was."""
    mirror = git.fetch(str(repo), tmp_path / "state" / "repository")
    run(repo, "branch", "-m", "main", "trunk")
    newest = commit_change(repo)
    git.fetch(str(repo), mirror)
    assert git.head(mirror, "main") is None
    assert git.head(mirror) == newest
    assert git.current_branch(mirror) == "trunk"
    other = begin(tmp_path / "other", noria_yaml="project: other\n")
    git.fetch(str(other), mirror)
    assert git.head(mirror, "main") == git.head(other)
    assert git.head(mirror, "trunk") is None


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
    assert (checkout.worktree(repo, newest, tmp_path / "tree") / "noria.yaml").exists()
