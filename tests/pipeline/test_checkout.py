"""Clean checkouts: what runs inside sees the commit, whatever the user's repository is like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from git_repository import begin, commit, run

from noria.kernel.errors import NotFoundError
from noria.pipeline import checkout, git


def tree_of(repo: Path, place: Path, commit: str | None = None) -> Path:
    wanted = commit or git.head(repo)
    assert wanted is not None
    return checkout.worktree(repo, wanted, place / "trees" / wanted)


def test_many_who_want_a_worktree_at_once_each_find_it_whole(repo: Path, tmp_path: Path) -> None:
    newest = run(repo, "rev-parse", "HEAD")
    wanted = {".gitattributes", ".gitignore", "noria.yaml", "sub/noria.yaml"}
    for turn in range(6):
        target = tmp_path / "trees" / f"{turn}.{newest}"

        def find(_: int, target: Path = target) -> set[str]:
            tree = checkout.worktree(repo, newest, target)
            return {
                p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file() and ".git" not in p.relative_to(tree).parts
            }

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(find, range(6))) == [wanted] * 6
        assert [p.name for p in target.parent.iterdir() if p.name.startswith(".")] == []


def test_a_worktree_is_the_commit_and_nothing_else(repo: Path, tmp_path: Path) -> None:
    old = run(repo, "rev-parse", "HEAD")
    (repo / "noria.yaml").write_text("project: newer\n")
    new = commit(repo, "second")
    (repo / "noria.yaml").write_text("project: dirty\n")
    before = run(repo, "status", "--porcelain")
    tree = checkout.worktree(repo, old, tmp_path / "trees" / old)
    assert (tree / "noria.yaml").read_text() == "project: p\n"  # although export-ignore is set
    assert (checkout.worktree(repo, new, tmp_path / "trees" / new) / "noria.yaml").read_text() == "project: newer\n"
    assert run(tree, "rev-parse", "HEAD") == old
    assert run(tree, "status", "--porcelain") == ""
    assert run(repo, "status", "--porcelain") == before
    assert sorted(p.name for p in (tmp_path / "trees").iterdir()) == sorted([old, new])
    (tree / "mark").write_text("")
    assert (checkout.worktree(repo, old, tree) / "mark").exists()  # found there, not made again
    assert git.show(repo, old, "noria.yaml") == b"project: p\n"
    assert git.show(repo, old, "missing") is None


def test_a_project_in_a_folder_of_a_repository(repo: Path, tmp_path: Path) -> None:
    newest = git.head(repo / "sub")
    assert newest is not None
    tree = checkout.worktree(repo / "sub", newest, tmp_path / "tree")
    assert [p.name for p in tree.iterdir()] == ["noria.yaml"]
    assert (tree / "noria.yaml").read_text() == "project: sub\n"
    assert git.show(repo / "sub", newest, "noria.yaml") == b"project: sub\n"
    (repo / "elsewhere.py").write_text("")
    assert git.changes(repo / "sub") == []


def test_an_unknown_commit_leaves_nothing(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        checkout.worktree(repo, "0" * 40, tmp_path / "trees" / "x")
    assert list((tmp_path / "trees").iterdir()) == []


def test_a_checkout_is_a_repository_that_stands_on_its_commit(repo: Path, tmp_path: Path) -> None:
    """Number 14: tools inside see the commit, its tags and its history, and change nothing of the user's repository."""
    old = run(repo, "rev-parse", "HEAD")
    run(repo, "tag", "v1.0")
    new = commit(repo, "second")
    run(repo, "tag", "v2.0")
    tree = tree_of(repo, repo / ".noria", old)
    assert run(tree, "rev-parse", "HEAD", "--show-toplevel").split() == [old, str(tree)]
    assert run(tree, "describe", "--tags") == "v1.0"
    assert run(tree, "log", "--format=%s") == "first commit"
    (tree / "made.txt").write_text("1\n")
    commit(tree, "in the checkout")
    run(tree, "tag", "mine")
    assert run(repo, "rev-parse", "HEAD") == new
    assert run(repo, "tag") == "v1.0\nv2.0"
    assert run(repo, "branch", "--format=%(refname)") == "refs/heads/main"
    assert run(repo, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize("folder", [".", "proj"])
def test_attributes_and_filters_hold_in_a_folder_too(tmp_path: Path, folder: str) -> None:
    """Number 14: the top folder's attributes reach a project in a folder below, as in the user's own working tree."""
    repo = tmp_path / "r"
    repo.mkdir()
    run(repo, "init", "-q")
    run(repo, "config", "filter.up.clean", "tr A-Z a-z")
    run(repo, "config", "filter.up.smudge", "tr a-z A-Z")
    (repo / ".gitattributes").write_text("*.dat filter=up\n*.txt text eol=crlf\n")
    home = repo / folder
    home.mkdir(exist_ok=True)
    (home / "w.dat").write_text("weights\n")
    (home / "a.txt").write_text("one\n")
    (repo / "beside.md").write_text("beside\n")
    commit(repo, "first")
    tree = tree_of(home, tmp_path)
    assert (tree / "w.dat").read_bytes() == b"WEIGHTS\n"
    assert (tree / "a.txt").read_bytes() == b"one\r\n"
    assert run(tree, "status", "--porcelain") == ""
    assert run(tree, "rev-parse", "--show-prefix").rstrip("/") == ("" if folder == "." else folder)
    top = Path(run(tree, "rev-parse", "--show-toplevel"))
    assert (top / "beside.md").exists() == (folder == ".")
    assert checkout.project_in(top) == tree


def test_a_checkout_of_before_is_the_project_itself(tmp_path: Path) -> None:
    """Number 14: state folders of earlier versions keep opening."""
    old = tmp_path / "trees" / ("c0ffee00" * 5)
    old.mkdir(parents=True)
    assert checkout.project_in(old) == old
    assert checkout.absent(old) == ()


def test_submodules_are_checked_out_where_they_are_on_this_machine(tmp_path: Path) -> None:
    """Number 55: as the commit names them, those inside submodules too; what is not there is told."""
    inner = begin(tmp_path / "inner", deep_py="deep = 1\n")
    lib = begin(tmp_path / "lib", helper_py="def factor(): return 7\n")
    run(lib, "submodule", "--quiet", "add", str(inner), "inner")
    commit(lib, "with inner")
    repo = begin(tmp_path / "repo", noria_yaml="project: p\n")
    run(repo, "submodule", "--quiet", "add", str(lib), "shared")
    run(repo, "submodule", "--quiet", "update", "--init", "--recursive")
    first = commit(repo, "with shared")
    (lib / "helper.py").write_text("def factor(): return 8\n")
    commit(lib, "eight")
    run(repo / "shared", "pull", "-q", "origin", "main")
    tree = tree_of(repo, tmp_path, first)
    assert (tree / "shared" / "helper.py").read_text() == "def factor(): return 7\n"
    assert (tree / "shared" / "inner" / "deep.py").read_text() == "deep = 1\n"
    assert run(tree, "status", "--porcelain") == ""
    assert checkout.absent(tree) == ()

    run(repo, "submodule", "--quiet", "deinit", "--force", "shared")  # Git keeps its objects
    assert (tree_of(repo, tmp_path / "kept", first) / "shared" / "helper.py").is_file()
    mirror = git.fetch(str(repo), tmp_path / "mirror")
    tree = tree_of(mirror, tmp_path / "afar", first)
    assert list((tree / "shared").iterdir()) == []
    assert checkout.absent(tree) == ("shared",)


def test_shallow_and_partial_clones_and_linked_worktrees(repo: Path, tmp_path: Path) -> None:
    """Number 55: their newest commit is checked out whole, and Git works inside."""
    for number in range(5):
        (repo / f"f{number}.txt").write_text(f"{number}\n")
    newest = commit(repo, "second")
    run(repo, "config", "uploadpack.allowFilter", "true")
    run(repo, "config", "uploadpack.allowAnySHA1InWant", "true")
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    run(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{repo}", "partial")
    run(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    for name in ("shallow", "partial", "linked"):
        tree = tree_of(tmp_path / name, tmp_path / f"of-{name}")
        assert (tree / "f4.txt").read_text() == "4\n"
        assert (tree / "sub" / "noria.yaml").is_file()
        assert run(tree, "log", "-1", "--format=%H") == newest
        assert run(tree, "status", "--porcelain") == ""
    assert len(run(tmp_path / "of-shallow" / "trees" / newest, "log", "--format=%H").splitlines()) == 1


def test_settings_of_the_user_do_not_lead_out_of_the_checkout(repo: Path, tmp_path: Path) -> None:
    """Number 14: a sparse, split or watched index, another working tree, objects of another hash."""
    for name, value in (("core.splitIndex", "true"), ("core.worktree", str(repo)), ("core.untrackedCache", "true")):
        run(repo, "config", name, value)
    run(repo, "sparse-checkout", "set", "sub")
    tree = tree_of(repo, tmp_path)
    assert sorted(p.name for p in tree.iterdir()) == [".git", ".gitattributes", ".gitignore", "noria.yaml", "sub"]
    assert run(tree, "rev-parse", "--show-toplevel") == str(tree)
    assert run(tree, "status", "--porcelain") == ""
    other = tmp_path / "other"
    other.mkdir()
    run(other, "init", "-q", "--object-format=sha256")
    commit(other, "first")
    assert run(tree_of(other, tmp_path / "of-other"), "log", "--format=%s") == "first"


def test_a_folder_whose_path_needs_quotes(tmp_path: Path) -> None:
    """Number 14: the path of the user's repository may hold any character."""
    repo = begin(tmp_path / 'a "b" \\c #d', proj__noria_yaml="project: p\n")
    tree = tree_of(repo / "proj", tmp_path)
    assert run(tree, "log", "--format=%s") == "first commit"
    assert run(tree, "status", "--porcelain") == ""


def test_a_project_folder_that_is_copied_keeps_its_checkouts(repo: Path, tmp_path: Path) -> None:
    """Number 14: a checkout finds its objects beside it, not where the folder was copied from."""
    newest = run(repo, "rev-parse", "HEAD")
    tree_of(repo, repo / ".noria", newest)
    repo.rename(tmp_path / "moved")
    tree = tmp_path / "moved" / ".noria" / "trees" / newest
    assert run(tree, "log", "--format=%s") == "first commit"
    assert run(tree, "status", "--porcelain") == ""


def test_what_is_sealed_holds_submodules_and_nothing_of_git(tmp_path: Path) -> None:
    """Number 55: the code of a release is that of the commit, its submodules' among it, of the project's folder alone."""
    lib = begin(tmp_path / "lib", helper_py="x = 1\n")
    repo = begin(tmp_path / "repo", proj__noria_yaml="project: p\n", beside_py="y = 1\n")
    run(repo, "submodule", "--quiet", "add", str(lib), "proj/shared")
    newest = commit(repo, "with shared")
    (tmp_path / "sealed").mkdir()
    checkout.lay_out(repo / "proj", newest, tmp_path / "sealed" / "code")
    found = [p.relative_to(tmp_path / "sealed").as_posix() for p in (tmp_path / "sealed").rglob("*") if p.is_file()]
    assert sorted(found) == ["code/noria.yaml", "code/shared/helper.py"]
