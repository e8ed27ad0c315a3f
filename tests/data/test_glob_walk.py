"""The glob that goes down a tree, beside the standard library's glob on the same tree; and what of a source is a pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.sources.pattern import Pattern, split

FILES = ("a.csv", "b.csv", "a/a.csv", "a/b.txt", "a/b/a.csv", "a/b/c/a.csv", "b/a/b.csv", "b/c.csv", "ab/a/b/a.csv", "c/[x].csv")
PARTS = st.sampled_from(
    ["*", "**", "a", "b", "?", "[ab]", "[!a]", "a*", "*.csv", "a.csv", "?.csv", "*b*", "c", "nothing", "[[]x].csv"]
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tree")
    for name in FILES:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


def walked(home: Path, pattern: Pattern) -> tuple[set[str], set[str]]:
    """The files that are found, and the folders that were gone into."""
    files, folders = set(), set()
    waiting = [(home, pattern.start)]
    while waiting:
        folder, states = waiting.pop()
        matches = pattern.matcher(states)
        for entry in os.scandir(folder):
            below = str(Path(entry.path).relative_to(home))
            if entry.is_dir():
                inner = pattern.enter(states, entry.name)
                if inner:
                    folders.add(below)
                    waiting.append((Path(entry.path), inner))
            elif matches is not None and matches(entry.name):
                files.add(below)
    return files, folders


@settings(max_examples=60)
@given(parts=st.lists(PARTS, min_size=1, max_size=5))
def test_files_are_those_that_glob_finds(tree: Path, parts: list[str]) -> None:
    found = glob.glob("/".join(parts), root_dir=tree, recursive=True)
    expected = {name for name in found if (tree / name).is_file() and not name.endswith("/")}
    files, folders = walked(tree, Pattern(tuple(parts)))
    assert files == expected
    if "**" not in parts:
        assert all(folder.count("/") < len(parts) - 1 for folder in folders), "no folder is read that lies too deep"


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("**/*.csv", {"seen/a.csv"}),
        (".hidden/*.csv", {".hidden/a.csv"}),
        (".h*/*.csv", {".hidden/a.csv"}),
        ("*/*.csv", {"seen/a.csv"}),
        ("**", {"seen/a.csv"}),
    ],
)
def test_a_hidden_folder_is_gone_into_where_a_part_begins_with_a_dot(tmp_path: Path, pattern: str, files: set[str]) -> None:
    for name in (".hidden/a.csv", "seen/a.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert walked(tmp_path, Pattern(tuple(pattern.split("/"))))[0] == files


@pytest.mark.parametrize(
    ("path", "place", "parts"),
    [
        ("data/*.csv", "data", ("*.csv",)),
        ("data/a.csv", "data/a.csv", ()),
        ("./data//x/**/a.csv", "./data/x", ("**", "a.csv")),
        ("sales [2024].csv", "sales [2024].csv", ()),
        ("sales [2025].csv", "", ("sales [2025].csv",)),
        ("*/a.csv", "", ("*", "a.csv")),
        ("what?/a*.csv", "what?", ("a*.csv",)),
    ],
)
def test_where_a_pattern_begins(tmp_path: Path, path: str, place: str, parts: tuple[str, ...]) -> None:
    """What is there under that very name is no pattern, nor is the folder that all lies in, whatever it is called."""
    home = tmp_path / "a [b] *"
    (home / "what?").mkdir(parents=True)
    (home / "sales [2024].csv").touch()
    assert split(str(home), path) == (os.path.join(str(home), place) if place else str(home), parts)


def test_an_absolute_pattern_begins_at_the_root(tmp_path: Path) -> None:
    assert split("/elsewhere", f"{tmp_path}/*.csv") == (str(tmp_path), ("*.csv",))
