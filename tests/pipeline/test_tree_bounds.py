"""What a step leaves stays inside the project: paths through links, and files that a step reads besides its modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.kernel.errors import StepError
from noria.pipeline.executors.reading import besides
from noria.pipeline.tree_bounds import demand_inside


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "data" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (made / "out").symlink_to(tmp_path / "outside")
    (made / "data" / "up").symlink_to("../..")
    (made / "inner").symlink_to("data")
    (made / "through").symlink_to("out")
    (made / "file").symlink_to(tmp_path / "outside" / "file")
    return made


@pytest.mark.parametrize("path", ["a.txt", "data/a.txt", "data/deep/new/a.txt", "inner/deep/a.txt", "new/folder/a.txt", "file"])
def test_paths_inside_pass_also_through_links_that_stay(tree: Path, path: str) -> None:
    demand_inside(tree, [path])


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("out/a.txt", "out"),
        ("out/deep/er/a.txt", "out"),
        ("data/up/a.txt", "data/up"),
        ("through/a.txt", "through"),
        ("inner/up/a.txt", "inner"),
    ],
)
def test_a_link_that_leaves_is_named(tree: Path, path: str, link: str) -> None:
    with pytest.raises(StepError) as told:
        demand_inside(tree, ["data/a.txt", path])
    assert told.value.where == link
    assert told.value.message.startswith("is a link that leads out of the project, to ")
    assert told.value.hint.startswith("Make it a folder of the project, and commit that")


@pytest.mark.parametrize(
    ("read", "modules", "roots", "left"),
    [
        (["a.py", "b.json"], ["a.py"], ["."], ["b.json"]),
        (["src/a.py", "a.py"], ["a.py"], ["src"], ["a.py"]),
        (["src/a.py", "a.py"], ["a.py"], ["src", "."], []),
        (["lib/x.txt"], [], ["."], ["lib/x.txt"]),
        ([], ["a.py"], ["."], []),
    ],
)
def test_what_a_step_read_besides_its_modules(read: list[str], modules: list[str], roots: list[str], left: list[str]) -> None:
    assert besides(read, modules, roots) == left
