"""Local sources: the walk finds what a glob finds, in order, and says what it does not take."""

from __future__ import annotations

import glob
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from noria.config import DataSource
from noria.data import sources
from noria.data.sources import FoundFile, local


def look(source: str, home: Path, **more: str) -> list[FoundFile]:
    return list(sources.connect(DataSource("d", source, **more), home).list_files())  # type: ignore[arg-type]


def names(source: str, home: Path, **more: str) -> list[str]:
    return [found.name for found in look(source, home, **more)]


def plant(home: Path, *paths: str) -> None:
    for path in paths:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("x")


def test_sources_are_found_in_order_without_temporary_files(tmp_path: Path) -> None:
    plant(tmp_path / "data", "b.parquet", "a.parquet", ".hidden.parquet", "c.parquet.tmp", "d.part", "sub/e.parquet", "x.csv")
    plant(tmp_path / "data", "a.parquet~", "sub/notes.txt")
    assert names("data/*.parquet", tmp_path) == ["data/a.parquet", "data/b.parquet"]
    assert names("data/**/*.parquet", tmp_path) == ["data/a.parquet", "data/b.parquet", "data/sub/e.parquet"]
    assert names("data/x.csv", tmp_path) == ["data/x.csv"]
    assert names("./data//x.csv", tmp_path) == ["data/x.csv"]
    assert names("data", tmp_path) == ["data/a.parquet", "data/b.parquet", "data/x.csv"]
    everything = ("a.parquet", "b.parquet", "sub/e.parquet", "sub/notes.txt", "x.csv")
    assert names("data", tmp_path, format="files") == [f"data/{name}" for name in everything]
    assert names((tmp_path / "data" / "x.csv").as_uri(), tmp_path / "other") == [(tmp_path / "data" / "x.csv").as_posix()]
    assert names(str(tmp_path / "data" / "*.csv"), tmp_path) == ["data/x.csv"]
    (tmp_path / "home").mkdir()
    assert names("../data/*.csv", tmp_path / "home") == ["../data/x.csv"]
    for nothing in ("data/missing.csv", "missing/*.csv", "data/x.csv/*.csv", "data/.hidden.parquet"):
        assert names(nothing, tmp_path) == [], nothing


PIECE = st.sampled_from(["a", "b.csv", "ab", "a-b", "a.b", ".h", "é", "[x]"])
PART = st.sampled_from(["a", "*", "**", "*.csv", "a*", "?", "[ab]*", ".h", ".*", "*b", "é"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=st.lists(st.lists(PIECE, min_size=1, max_size=4), min_size=1, max_size=8),
    parts=st.lists(PART, min_size=1, max_size=4),
)
@example(paths=[["a", "a"], ["a-b"], ["ab"]], parts=["**"])
@example(paths=[["a", "b.csv"], ["b.csv"]], parts=["**", "**", "*.csv"])
def test_the_walk_finds_what_a_glob_finds(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]], parts: list[str]
) -> None:
    home = tmp_path_factory.mktemp("glob")
    for path in paths:
        place = home.joinpath(*path)
        if not any(parent.is_file() for parent in place.parents) and not place.is_dir():
            plant(home, "/".join(path))
    pattern = "/".join(parts)
    if not glob.has_magic(pattern):
        return
    known = {os.path.relpath(p, home) for p in glob.glob(str(home / pattern), recursive=True) if os.path.isfile(p)}
    wanted = sorted(name for name in known if not local.is_unfinished(os.path.basename(name)))
    assert names(pattern, home) == wanted


def test_links_are_followed_inside_the_project_and_told_when_they_leave(tmp_path: Path) -> None:
    home = tmp_path / "home"
    plant(tmp_path, "secret/passwd.csv", "big/z.csv")
    plant(home, "data/a.csv", "kept/b.csv")
    (home / "data" / "out.csv").symlink_to(tmp_path / "secret" / "passwd.csv")
    (home / "data" / "folder").symlink_to(tmp_path / "secret")
    (home / "data" / "round").symlink_to(home / "data")
    (home / "data" / "in.csv").symlink_to(home / "kept" / "b.csv")
    (home / "data" / "kept").symlink_to(home / "kept")
    (home / "data" / "nothing.csv").symlink_to(home / "gone.csv")
    (home / "far").symlink_to(tmp_path / "big")
    found = {each.name: each.problem for each in look("data/**/*.csv", home)}
    assert [name for name, problem in found.items() if not problem] == ["data/a.csv", "data/in.csv", "data/kept/b.csv"]
    assert found["data/out.csv"] == f"is a link that leads out of the project, to {tmp_path}/secret/passwd.csv"
    assert "leads out of the project" in found["data/folder"]
    assert len(found) == 5
    assert names("far/*.csv", home) == ["far/z.csv"], "the source's own folder may be a link"
    assert names("data/out.csv", home) == ["data/out.csv"], "and so may the file it names"


def test_names_in_any_alphabet_and_names_that_are_no_text(tmp_path: Path) -> None:
    plant(tmp_path, "data/数据.csv", "data/Ελλάδα/é\u0301.csv", "data/new\nline.csv", "data/😀.csv")
    odd = os.fsencode(tmp_path / "data") + b"/caf\xe9.csv"
    with open(odd, "w") as file:
        file.write("x")
    found = look("data/**/*.csv", tmp_path)
    assert [each.name for each in found] == sorted(each.name for each in found)
    assert {each.name for each in found if not each.problem} == {
        "data/数据.csv", "data/Ελλάδα/é\u0301.csv", "data/new\nline.csv", "data/😀.csv"
    }  # fmt: skip
    refused = next(each for each in found if each.problem)
    assert refused.name == "data/caf\\xe9.csv"
    assert "not UTF-8" in refused.problem


def test_special_files_are_none_of_the_data(tmp_path: Path) -> None:
    plant(tmp_path, "data/a.csv")
    os.mkfifo(tmp_path / "data" / "pipe.csv")
    assert names("data/*.csv", tmp_path) == ["data/a.csv"]


def test_the_mark_changes_with_every_way_to_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x")
    stat = path.stat()

    def mark() -> str:
        return look("a.csv", tmp_path)[0].mark

    seen = [mark()]
    for change in (
        lambda: path.write_text("y"),
        lambda: (path.write_text("z"), os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))),  # old times set back
        lambda: ((tmp_path / "n").write_text("w"), (tmp_path / "n").rename(path)),
    ):
        time.sleep(0.02)  # beyond a tick of the kernel's clock
        change()
        assert mark() not in seen
        seen.append(mark())


def test_a_mark_within_the_present_tick_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    source = sources.connect(DataSource("d", "*.csv"), tmp_path)
    settled_at_once = 0
    for _ in range(50):
        path.write_text("x")
        found = next(iter(source.list_files()))
        now = time.time_ns()
        if source.has_settled(found, 0):
            settled_at_once += now - path.stat().st_ctime_ns < local.TICK_NS // 2
    assert settled_at_once == 0
    begun = time.monotonic()
    while not source.has_settled(found, 0):
        assert time.monotonic() - begun < 30
    path.write_text("longer")
    assert not source.has_settled(found, 0), "it changed since it was found"
    assert not source.is_unchanged(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    check_unreadable(tmp_path)


def check_unreadable(home: Path) -> None:
    plant(home, "data/a.csv", "data/shut/b.csv")
    (home / "data" / "a.csv").chmod(0)
    (home / "data" / "shut").chmod(0)
    source = sources.connect(DataSource("d", "data/**/*.csv"), home)
    told = {each.name: source.problem(each) for each in source.list_files()}
    (home / "data" / "shut").chmod(0o755)
    assert told == {
        "data/a.csv": "cannot be read: permission denied",
        "data/shut": "is a folder that cannot be read: permission denied",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_what_cannot_be_read_is_told_to_another_user() -> None:
    import multiprocessing
    import tempfile

    home = Path(tempfile.mkdtemp(prefix="noria-unreadable-"))
    home.chmod(0o777)
    child = multiprocessing.get_context("spawn").Process(target=_as_nobody, args=(home,))
    child.start()
    child.join(60)
    import shutil

    shutil.rmtree(home)
    assert child.exitcode == 0


def _as_nobody(home: Path) -> None:
    os.setgid(65534)
    os.setuid(65534)
    check_unreadable(home)


def test_names_with_brackets_are_names(tmp_path: Path) -> None:
    """Number 25: the home is no part of the pattern, and neither is what is there under that very name."""
    home = tmp_path / "[team] *churn?"
    plant(home, "data/a.csv", "sales [2024].csv", "q[1]/x.csv", "q[1]/y.txt", "q1/x.csv")
    assert names("data/*.csv", home) == ["data/a.csv"]
    assert names("data", home) == ["data/a.csv"]
    assert names("**/*.csv", home) == ["data/a.csv", "q1/x.csv", "q[1]/x.csv", "sales [2024].csv"]
    assert names("sales [2024].csv", home) == ["sales [2024].csv"]
    assert names("sales [[]2024].csv", home) == ["sales [2024].csv"]
    assert names("q[1]/*.csv", home) == ["q[1]/x.csv"]
    assert names("q[0-9]/*.csv", home) == ["q1/x.csv"]
    assert names(str(home / "data" / "*.csv"), tmp_path / "other") == [(home / "data/a.csv").as_posix()]
    assert names((home / "sales [2024].csv").as_uri(), tmp_path / "other") == [(home / "sales [2024].csv").as_posix()]
    from noria.delivery.batch import scoring

    assert [one.name for one in scoring.files(str(home / "data" / "*.csv"))] == [str(home / "data/a.csv")]
