"""What a step prints, what its errors say, and what the environment holds: none of it is in what is kept for ever."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from noria.cli import execute
from noria.delivery.context import DeliveryContext
from noria.engine import assembly, turn_runner
from noria.engine.trigger_watcher import TriggerWatcher
from noria.kernel.errors import NoriaError
from noria.trust import references
from noria.trust.keep_store import KeepStore

SECRET = "tr0ub4dor-and-3"  # what must not be found
YAML = """
project: quiet
data: {rows: {source: "data/*.csv", settle: 50ms}}
steps: {one: {%s}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a.csv").write_text("a\n1\n")
    (folder / ".gitignore").write_text("/data/\n/out.txt\n")
    return folder


def lines(home: Path, yaml: str) -> Iterator[DeliveryContext]:
    (home / "noria.yaml").write_text(yaml)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        identity = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org"]
        subprocess.run(["git", *identity, *words], cwd=home, check=True)
    context = assembly.assemble(home)
    with closing(context.ledger), closing(context.executor):
        yield context


def kept(state: Path) -> bytes:
    """Everything that the ledger holds."""
    return b"".join(path.read_bytes() for path in state.glob("ledger.db*"))


@pytest.mark.parametrize(
    "what",
    [
        f'cmd: "echo {SECRET[:6]}; echo password={SECRET} >&2; exit 3", outs: [out.txt]',
        'call: "proj:raises"',
    ],
)
def test_what_a_failing_step_says_is_in_its_log_alone(home: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 53: events, turn, run and steps say what failed and where; the log says the rest, and the command shows it."""
    what = what.replace(SECRET, "$(cat secret.txt)")
    (home / "secret.txt").write_text(SECRET)
    read = "open('secret.txt').read()"
    (home / "proj.py").write_text(f"def raises(rows):\n    raise ValueError('no row for ' + {read})\n")
    for context in lines(home, YAML % what):
        ended = turn_runner.turn_by_hand(context, "test")
        assert ended.outcome == "step failed"
        assert SECRET.encode() not in kept(context.state)
    assert execute(["-C", str(home), "show", "1", "--log", "one"]) == 0
    assert SECRET in capsys.readouterr().out


def test_values_from_the_environment_stand_in_nothing_that_is_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 53: an address shows its variable, also in the words of Git."""
    monkeypatch.setenv("REPO_TOKEN", SECRET)
    yaml = YAML % 'cmd: "true > out.txt", outs: [out.txt]' + f"git: {{repository: '{tmp_path}/nowhere/${{REPO_TOKEN}}.git'}}\n"
    for context in lines(home, yaml):
        assert TriggerWatcher(context).look() in (0, 1)
        (told,) = [event for event in context.ledger.events.tail(context.name) if event.kind == "code.unreadable"]
        assert "${REPO_TOKEN}" in told.text
        assert turn_runner.turn_by_hand(context, "test").outcome == "error"
        assert SECRET.encode() not in kept(context.state)
    execute(["-C", str(home), "check"])
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


def test_an_address_in_words_of_git_is_without_its_user(home: Path) -> None:
    """Number 53: a token in the address of a repository is no part of the error."""
    from noria.pipeline import git

    with pytest.raises(NoriaError) as told:
        git.fetch(f"http://{SECRET}:x@127.0.0.1:9/p.git", home / "mirror")
    assert SECRET not in str(told.value)


def test_logs_go_with_their_runs_and_results_stay(home: Path) -> None:
    """Number 53: what steps printed has a retention, also where a result is kept for longer."""
    for context in lines(home, YAML % 'cmd: "echo hello > out.txt; echo printed", outs: [out.txt]'):
        ended = turn_runner.turn_by_hand(context, "test")
        (result,) = KeepStore.of(context).results()
        log = result.record.log
        assert log is not None
        assert log in references.gather(context, {context.name: 0.0}).blobs
        later = references.gather(context, {context.name: (ended.ended_at or 0) + 1e6})
        assert log not in later.blobs
        assert result.record.output in later.blobs
        context.blobs.discard(log)
        assert turn_runner.turn_by_hand(context, "again").outcome == "nothing changed"
