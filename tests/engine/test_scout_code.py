"""The watcher and the code: which branch is followed, and what is said when it moves in ways that people did not mean."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from noria import config
from noria.delivery.context import DeliveryContext
from noria.engine import assembly, plan, turn_runner
from noria.engine.trigger_watcher import TriggerWatcher
from noria.kernel.errors import ConfigError
from noria.pipeline import pin
from noria.pipeline.context import StartedRun
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.serving.route import Route
from noria.serving.route_store import RouteStore

YAML = "project: p\nsteps: {one: {cmd: 'cat word.txt > out.txt', deps: [word.txt], outs: [out.txt]}}\n"


def git(home: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org"]
    return subprocess.run(["git", *identity, *arguments], cwd=home, check=True, capture_output=True, text=True).stdout.strip()


def commit(home: Path, word: str) -> str:
    (home / "word.txt").write_text(f"{word}\n")
    git(home, "add", "-A")
    git(home, "commit", "-q", "-m", word)
    return git(home, "rev-parse", "HEAD")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "noria.yaml").write_text(YAML)
    (folder / ".gitignore").write_text("/.noria/\n/out.txt\n")
    commit(folder, "first")
    return folder


@pytest.fixture
def context(home: Path) -> Iterator[DeliveryContext]:
    made = assembly.assemble(home)
    yield made
    made.executor.close()
    made.ledger.close()


def told(context: DeliveryContext, kind: str) -> list[str]:
    return [event.text for event in context.ledger.events.tail(context.name) if event.kind == kind]


def follow(home: Path, branch: str) -> None:
    (home / "noria.yaml").write_text(YAML + f"git: {{branch: {branch}}}\n")


def test_a_branch_that_goes_back_is_told_and_so_is_one_that_was_rewritten(home: Path, context: DeliveryContext) -> None:
    """Number 55: a reset or a force push starts a turn that says so, each time anew, also after a restart."""
    first, watcher = git(home, "rev-parse", "HEAD"), TriggerWatcher(context)
    second = commit(home, "second")
    assert watcher.look() == 1
    git(home, "reset", "-q", "--hard", first)
    assert watcher.look() == 1
    assert watcher.look() == 0
    assert TriggerWatcher(context).look() == 0
    git(home, "reset", "-q", "--hard", second)
    assert TriggerWatcher(context).look() == 1
    git(home, "reset", "-q", "--hard", first)
    assert TriggerWatcher(context).look() == 1
    other = commit(home, "other")
    git(home, "reset", "-q", "--hard", second)
    assert watcher.look() == 1
    git(home, "reset", "-q", "--hard", other)
    assert watcher.look() == 1
    seen = [text.removeprefix("push: ") for text in told(context, "trigger.seen")]
    assert seen[0] == f"commit {second[:10]}: second"
    assert (
        seen[1] == f"commit {first[:10]}: first (the branch went back to it: it no longer holds {second[:10]}, its former head)"
    )
    assert seen[2] == f"commit {second[:10]}: second"
    assert "went back" in seen[3]
    assert seen[5] == (
        f"commit {other[:10]}: other (the branch was rewritten, or another one is followed: "
        f"it no longer holds {second[:10]}, its former head)"
    )


def test_a_branch_that_is_not_there_builds_nothing_and_is_said_once(home: Path, context: DeliveryContext) -> None:
    """Number 55: no other branch is built in its place; a turn that is asked for says what is missing."""
    follow(home, "production")
    commit(home, "second")
    watcher = TriggerWatcher(context)
    assert [watcher.look(), watcher.look(), watcher.look()] == [0, 0, 0]
    (said,) = told(context, "code.unreadable")
    assert "there is no branch 'production' to follow" in said
    assert "It has: main." in said
    with pytest.raises(ConfigError, match="no branch 'production'"):
        pin.stands(context, config.load(home), by_hand=False)
    git(home, "branch", "production")
    assert TriggerWatcher(context).look() == 1


def test_a_project_that_names_no_branch_follows_what_is_checked_out(home: Path, context: DeliveryContext) -> None:
    """Number 55: a renamed branch is followed under its new name, which is said."""
    watcher = TriggerWatcher(context)
    assert watcher.look() == 1
    git(home, "branch", "-m", "main", "trunk")
    newest = commit(home, "second")
    assert watcher.look() == 1
    assert told(context, "code.followed") == ["there is no branch main: trunk is followed"]
    assert pin.stands(context, config.load(home), by_hand=False)[0] == newest


def test_a_tag_that_is_named_like_the_branch_hides_nothing(home: Path, context: DeliveryContext) -> None:
    """Number 55: the commits of the branch are taken, not that of the tag."""
    watcher = TriggerWatcher(context)
    watcher.look()
    git(home, "tag", "main")
    newest = commit(home, "second")
    assert watcher.look() == 1
    assert f"commit {newest[:10]}: second" in told(context, "trigger.seen")[-1]


def test_a_repository_from_afar_that_cannot_be_read_is_said_once_and_data_is_looked_at_as_ever(
    home: Path, context: DeliveryContext, tmp_path: Path
) -> None:
    """Number 55: the loop does not end in trouble at each round."""
    (home / "data").mkdir()
    (home / "data" / "a.csv").write_text("x\n1\n")
    (home / "noria.yaml").write_text(
        YAML + f"data: {{rows: {{source: data/*.csv, settle: 50ms}}}}\ngit: {{repository: {tmp_path}/nowhere}}\n"
    )
    watcher = TriggerWatcher(context)
    deadline = time.monotonic() + 120
    while not watcher.look():
        assert time.monotonic() < deadline, told(context, "project.unreadable")
    (said,) = told(context, "code.unreadable")
    assert "`git clone` failed" in said


def test_work_that_was_promoted_once_names_what_serves_instead(context: DeliveryContext) -> None:
    """Number 55: a branch that went back to an older commit does not pass for one that serves its release."""
    worked = Turn("turn-1", context.name, 1, (), "", 0.0, release="v1", outcome=TurnOutcome.PROMOTED)
    sheet = StartedRun(worked, "run-1", config.load(context.home), context.home, "c" * 40, None, {})
    route = Route(context.name, "production", 0, "1" * 64, "v1")
    RouteStore.of(context).put(route)
    assert plan._instead(context, sheet, worked) == ""
    RouteStore.of(context).put(replace(route, champion="2" * 64, champion_version="v2"))
    said = plan._instead(context, sheet, worked)
    assert said == "; production serves v2 now: `noria promote v1 --environment production` returns to v1"
    RouteStore.of(context).put(
        replace(route, champion="2" * 64, champion_version="v2", candidate="1" * 64, candidate_version="v1")
    )
    assert plan._instead(context, sheet, worked) == ""


def test_a_step_sees_the_commit_and_not_the_users_repository(
    home: Path, context: DeliveryContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Number 14: Git inside a step, called from a hook of the user's too, stands on the commit that is built."""
    asks = "git rev-parse HEAD --show-toplevel > out.txt; git status --porcelain -uno >> out.txt; git commit -qm m --allow-empty"
    (home / "noria.yaml").write_text(f"project: p\nsteps: {{one: {{cmd: {asks!r}, outs: [out.txt]}}}}\n")
    newest = commit(home, "asks")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Anna")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "anna@example.org")
    ended = turn_runner.turn_by_hand(context, "asks")
    assert ended.outcome == "done", ended.reason
    assert (home / "out.txt").read_text().split() == [newest, str(context.state / "worktrees" / newest)]
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert git(home, "rev-parse", "HEAD") == newest


def test_what_lies_around_makes_no_dirty_tree_and_git_adds_no_state(home: Path, context: DeliveryContext) -> None:
    """Number 12: Noria's own outputs and a virtual environment are no change; a new module and a new rule are."""
    (home / "noria.yaml").write_text(YAML.replace("word.txt > out.txt", "word.txt rules.txt > out.txt"))
    (home / ".gitignore").write_text("/out.txt\n")  # a project that `noria init` did not make
    commit(home, "second")
    (context.state / "signing.key").write_text("secret\n")
    for name in ("train.log", "venv/pyvenv.cfg", "venv/lib/x.py", "noria-serve/releases/1/code/model.py", "p-v1.noria.tar"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("1\n")
    project = config.load(home)
    assert pin.changes(home, project) == []
    assert pin.stands(context, project, by_hand=True)[1] is None
    (home / "rules.txt").write_text("1\n")
    (home / "extra.py").write_text("x = 1\n")
    assert [change.path for change in pin.changes(home, project)] == ["extra.py", "rules.txt"]
    git(home, "add", "-A")
    assert not any(name.startswith(".noria") for name in git(home, "ls-files").splitlines())
