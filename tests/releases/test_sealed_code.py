"""The code of a release: what Git says the commit holds, whatever lies in the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from noria import config
from noria.delivery.context import DeliveryContext
from noria.kernel.errors import RefusedError, StepError
from noria.pipeline import pin, sealable_code
from noria.pipeline.context import StartedRun
from noria.pipeline.places import Places
from noria.pipeline.turn_record import Turn
from noria.storage.ledger import Ledger

GIT = ["git", "-c", "user.name=Anna", "-c", "user.email=anna@example.org"]
PROJECT = """\
project: p
data: {points: "data/*.csv"}
steps: {note: {cmd: "true", outs: [note.txt, made]}}
"""


class World:
    """A repository, with the project in it or in a folder of it."""

    def __init__(self, top: Path, below: str = "") -> None:
        self.top, self.home = top, top / below
        self.home.mkdir(parents=True, exist_ok=True)
        self.put("noria.yaml", PROJECT)
        self.put("work.py", "x = 1\n")
        self.put("data/points.csv", "id\n1\n")
        self.put(".gitignore", ".noria\ndata\nmade\n*.tmp\n")

    def put(self, name: str, text: str) -> None:
        (self.home / name).parent.mkdir(parents=True, exist_ok=True)
        (self.home / name).write_text(text)

    def commit(self) -> None:
        if not (self.top / ".git").exists():
            subprocess.run([*GIT, "init", "-q", "-b", "main"], cwd=self.top, check=True)
        subprocess.run([*GIT, "add", "-A"], cwd=self.top, check=True)
        subprocess.run([*GIT, "commit", "-qm", "work"], cwd=self.top, check=True)

    def pinned_run(self, *, by_hand: bool = False) -> tuple[DeliveryContext, StartedRun]:
        state = self.home / ".noria"
        ledger = Ledger.open(state)
        none = cast(Any, None)
        places = Places("p", self.home, state, ledger, none)
        line = DeliveryContext("p", self.home, state, ledger, none, none, executor=none, places=places, server=none, driver=none)
        project = config.load(self.home)
        commit, dirty = pin.stands(line, project, by_hand=by_hand)
        tree = pin.tree_of(line, commit, dirty, project)
        return line, StartedRun(Turn("t", "p", 1, (), "push", 0.0), "run-1", project, tree, commit, dirty, {})


def sealed(context: DeliveryContext, pinned_run: StartedRun, target: Path) -> dict[str, str]:
    sealable_code.lay_out(context, pinned_run, target)
    found = [path for path in target.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {p.relative_to(target).as_posix(): os.readlink(p) if p.is_symlink() else p.read_text() for p in found}


@pytest.mark.parametrize("below", ["", "models/delays"])
def test_what_steps_left_and_changed_in_the_checkout_is_not_sealed(tmp_path: Path, below: str) -> None:
    """Number 1: ignored tables, new files and changed ones stay behind; the commit's files come from Git."""
    world = World(tmp_path / "repo", below)
    (world.home / "tool").symlink_to("work.py")
    world.commit()
    line, pinned_run = world.pinned_run()
    for name in ("made/rows.csv", "note.txt", "left.tmp", "new.py", ".pytest_cache/x", "work.py"):
        (pinned_run.tree / name).parent.mkdir(exist_ok=True)
        (pinned_run.tree / name).write_text("1,Zebra\n")
    (pinned_run.tree / "noria.yaml").unlink()
    found = sealed(line, pinned_run, tmp_path / "code")
    assert found.keys() == {"noria.yaml", "work.py", ".gitignore", "tool"}
    assert (found["work.py"], found["tool"]) == ("x = 1\n", "work.py")
    assert not (tmp_path / "code" / ".git").exists()


def test_of_a_tree_with_changes_what_git_tracks_and_names_is_sealed(tmp_path: Path) -> None:
    """Number 1: an untracked module can be imported; what Git ignores and what steps leave is no code."""
    world = World(tmp_path / "repo")
    world.commit()
    world.put("more.py", "y = 2\n")
    world.put("work.py", "x = 3\n")
    world.put("note.txt", "left by a step")
    world.put("made/rows.csv", "1,Zebra\n")
    world.put("scratch/rows.csv", "1,Zebra\n")  # nobody added it, no step reads it
    line, sheet = world.pinned_run(by_hand=True)
    found = sealed(line, sheet, tmp_path / "code")
    assert found.keys() == {"noria.yaml", "work.py", "more.py", ".gitignore"}
    assert found["work.py"] == "x = 3\n"


def test_without_git_neither_data_nor_what_steps_leave_is_sealed(tmp_path: Path) -> None:
    """Number 1: a folder without Git has code and data, too."""
    world = World(tmp_path / "folder")
    world.put("made/rows.csv", "1,Zebra\n")
    line, sheet = world.pinned_run()
    assert sealed(line, sheet, tmp_path / "code").keys() == {"noria.yaml", "work.py", ".gitignore"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", ".noria/../../x", "loop"])
def test_a_link_that_leaves_or_goes_round_is_refused_by_name(tmp_path: Path, target: str) -> None:
    """Number 45: the key of the installation and /etc/passwd travelled with the release."""
    world = World(tmp_path / "repo")
    (world.home / "loop").symlink_to(target)
    world.commit()
    line, pinned_run = world.pinned_run()
    with pytest.raises(RefusedError, match=f"loop is a link that leads to {target}"):
        sealable_code.lay_out(line, pinned_run, tmp_path / "code")
    assert sealable_code.bad_links(world.home, pinned_run.project).startswith(f"loop is a link that leads to {target}")
    assert sealable_code.bad_links_of(line, pinned_run) == sealable_code.bad_links(world.home, pinned_run.project)


def test_a_link_that_nobody_added_to_git_is_the_person_s_own(tmp_path: Path) -> None:
    """Number 45: data that lies elsewhere, behind a link that Git does not know, is no reason to refuse the code."""
    world = World(tmp_path / "repo")
    world.commit()
    (world.home / "elsewhere").symlink_to("/etc")
    world.put("work.py", "x = 3\n")
    line, pinned_run = world.pinned_run(by_hand=True)
    assert sealable_code.bad_links(world.home, pinned_run.project) == ""
    assert sealed(line, pinned_run, tmp_path / "code").keys() == {"noria.yaml", "work.py", ".gitignore"}


def test_a_link_that_leads_nowhere_stays_one(tmp_path: Path) -> None:
    """Number 45: a dangling link ended each turn in "something broke"."""
    world = World(tmp_path / "repo")
    (world.home / "latest").symlink_to("data/none.csv")
    (world.home / "here").symlink_to(".")
    world.commit()
    line, pinned_run = world.pinned_run()
    assert sealed(line, pinned_run, tmp_path / "code").items() >= {("latest", "data/none.csv"), ("here", ".")}
    assert sealable_code.bad_links(world.home, pinned_run.project) == sealable_code.bad_links_of(line, pinned_run) == ""


def test_a_link_in_an_out_of_a_step_cannot_bring_in_a_file_from_elsewhere(tmp_path: Path) -> None:
    """Number 45: only the out itself was looked at, not what lies in its folder."""
    world = World(tmp_path / "repo")
    world.commit()
    context, _sheet = world.pinned_run()
    world.put("made/rows.csv", "1\n")
    (world.home / "made/inside").symlink_to("rows.csv")
    assert context.places.digests(world.home, "made").keys() == {"made/rows.csv", "made/inside"}
    (world.home / "made/key").symlink_to("/etc/hostname")
    with pytest.raises(StepError, match="is a link that leads out of the project") as raised:
        context.places.digests(world.home, "made")
    assert raised.value.where == "made/key"


def test_a_name_that_no_export_can_hold_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "repo")
    world.put("a\\b.txt", "x")
    world.commit()
    line, sheet = world.pinned_run()
    with pytest.raises(RefusedError, match="cannot be one"):
        sealable_code.lay_out(line, sheet, tmp_path / "code")
