"""The command line's frame: lazy commands, errors in words, exit codes, and output for people and programs."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from noria import __version__
from noria.cli import COMMANDS, commands, execute, output, up
from noria.cli.context import Home
from noria.cli.crash import CRASHES_KEPT
from noria.kernel.error_table import row_of
from noria.kernel.errors import NoriaError, RefusedError, UsageError
from noria.views.runtime_status import identity, running_daemon

HEAVY = ("polars", "numpy", "sklearn", "onnxruntime", "scipy", "pyarrow", "starlette")
OURS = ["init", "status", "runs", "show", "releases", "predict", "feedback", "audit", "doctor"]


def noria(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from noria.cli import execute; c = execute(sys.argv[1:]); print(*sys.modules, file=sys.stderr); sys.exit(c)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NORIA_HOME", raising=False)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "noria.yaml").write_text("project: hello   # its name\ndata: {}\n")
    return folder


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch):
    """Make `noria status` raise what the test wants."""

    def set_error(error: BaseException) -> None:
        @click.command()
        @output.json_option
        def command(as_json: bool) -> None:
            raise error

        monkeypatch.setattr(importlib.import_module("noria.cli.status"), "command", command)

    return set_error


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["status"], ["status", "--json"]])
def test_quick_commands_load_nothing_heavy(home: Path, arguments: list[str]) -> None:
    done = noria(*arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & set(HEAVY)


def test_help_lists_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.partition("Commands:")[2].splitlines() if line.strip()]
    assert [words[0] for words in lines] == list(commands())
    assert list(commands()) == [
        "init",
        "demo",
        "check",
        "run",
        "up",
        "status",
        "runs",
        "show",
        "diff",
        "report",
        "releases",
        "release",
        "policy",
        "rollout",
        "approve",
        "promote",
        "rollback",
        "trigger",
        "clock",
        "reproduce",
        "serve",
        "predict",
        "feedback",
        "predictions",
        "data",
        "gc",
        "audit",
        "doctor",
    ]


@pytest.mark.parametrize("name", OURS)
def test_every_command_has_help_with_an_example_and_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        path = [name] if leaf is command else [name, leaf.name]
        assert execute([*path, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Example:" in text
        assert f"noria {' '.join(path)}" in text
        assert "--json" in text
        assert "JSON" in text.replace("--json      Print one JSON", "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out == f"noria {__version__}\n"


def test_an_error_says_what_where_and_what_next(home: Path, breaks, capsys: pytest.CaptureFixture[str]) -> None:
    breaks(RefusedError("v3 is barred", where="v3", hint="`noria show v3` says why."))
    assert execute(["-C", str(home), "status"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: v3: v3 is barred\n  `noria show v3` says why.\n"


def test_an_error_in_json_is_one_document_on_standard_output(home: Path, breaks, capsys: pytest.CaptureFixture[str]) -> None:
    breaks(RefusedError("v3 is barred", where="v3", hint="why"))
    assert execute(["-C", str(home), "status", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": {"kind": "RefusedError", "message": "v3 is barred", "where": "v3", "hint": "why", "exit_code": 1}
    }
    assert captured.err == ""


def test_wrong_usage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", str(home), "stauts"]) == 2
    assert "stauts" in capsys.readouterr().err
    assert execute(["-C", str(home), "runs", "--limit", "many", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_130(home: Path, breaks, error: BaseException) -> None:
    breaks(error)
    assert execute(["-C", str(home), "status"]) == 130


def test_a_defect_is_one_sentence_and_a_file(
    home: Path, breaks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    breaks(ZeroDivisionError("deep inside"))
    assert execute(["status"]) == 4
    err = capsys.readouterr().err
    assert "Traceback (most" not in err
    (written,) = (home / ".noria" / "crashes").glob("*.txt")
    assert str(written) in err
    assert "deep inside" in written.read_text()
    for _ in range(30):
        execute(["status"])
    assert len(list((home / ".noria" / "crashes").iterdir())) == CRASHES_KEPT


def test_a_reader_that_leaves_early_hears_no_trace(home: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", "from noria.cli import main; main()", "--help"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.stderr == ""


READS_AHEAD = """
import threading, time
import pyarrow as pa, pyarrow.csv as csv
from noria import cli

class Rows:
    closed = False
    def __init__(self): self.pieces, self.reading = [b"1,2\\n" * 250] * 4, threading.Event()
    def read(self, count):
        if self.pieces: return self.pieces.pop()
        self.reading.set()
        while True: time.sleep(0.0001)
    def readable(self): return True
    def close(self): pass

def execute(arguments):
    rows = Rows()
    kept.append(csv.open_csv(pa.PythonFile(rows, "r"), csv.ReadOptions(block_size=1000)))
    assert rows.reading.wait(60)
    print("said")
    return 3

kept, cli.execute = [], execute
cli.main()
"""


def test_a_thread_of_a_library_does_not_change_how_a_command_ends() -> None:
    """`check` of a refused file ended with 134 now and then: Arrow read ahead while the interpreter was taken down."""
    done = subprocess.run([sys.executable, "-c", READS_AHEAD], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")


def test_status_before_anything_happened(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", str(home), "status"]) == 0
    assert "no turn yet; next: noria run" in capsys.readouterr().out
    assert execute(["-C", str(home), "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["project"] == "hello"
    assert (document["daemon"], document["server"], document["addresses"], document["turns"]) == (False, False, {}, [])
    assert not (home / ".noria").exists()  # a look changes nothing


@pytest.mark.parametrize("arguments", [["runs"], ["releases"], ["show", "v1"], ["audit", "verify"], ["audit", "log"]])
def test_nothing_to_show_yet(home: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", str(home), *arguments]) == 2
    assert "noria run" in capsys.readouterr().err


def test_home_is_found_from_below_and_missed_clearly(home: Path, tmp_path: Path) -> None:
    below = home / "a" / "b"
    below.mkdir(parents=True)
    assert Home.find(below).path == home.resolve()
    with pytest.raises(UsageError, match=r"no noria\.yaml") as caught:
        Home.find(tmp_path)
    assert "noria init" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("project: one\n", "one"),
        ("# x\ngoal: y\nproject: 'two'\n", "two"),
        ('project: "three-3"  # c\n', "three-3"),
        ("project:   four_4\r\n", "four_4"),
    ],
)
def test_the_name_is_read_cheaply(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "noria.yaml").write_text(text)
    assert Home(tmp_path).project_name() == name


def test_state_lies_where_noria_home_says(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Home(home).state == home / ".noria"
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "elsewhere"))
    assert Home(home).state == tmp_path / "elsewhere"


def test_a_dead_daemon_is_no_daemon(home: Path) -> None:
    state = home / ".noria"
    state.mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (state / "daemon.json").write_text(json.dumps({"pid": ended.pid, "console": "http://127.0.0.1:1"}))
    assert running_daemon(state) is None
    (state / "daemon.json").write_text(json.dumps({"pid": os.getpid(), "console": "http://127.0.0.1:1"}))
    assert running_daemon(state).console == "http://127.0.0.1:1"
    (state / "daemon.json").write_text("{torn")
    assert running_daemon(state) is None


def test_a_copied_folder_is_not_the_original(tmp_path: Path) -> None:
    """Number 32: its daemon.json is of the daemon of the folder that it was copied from."""
    state = tmp_path / "state"
    state.mkdir()
    facts = {"pid": os.getpid(), "folder": identity(state), "console": "http://127.0.0.1:1"}
    (state / "daemon.json").write_text(json.dumps(facts))
    assert running_daemon(state) is not None
    shutil.copytree(state, tmp_path / "copy")
    assert running_daemon(tmp_path / "copy") is None
    state.rename(tmp_path / "moved")
    assert running_daemon(tmp_path / "moved") is not None


def test_texts_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in output.plain("a\x1b[31mb\x07\nc")
    assert "\x1b" not in output.table(("x", "y"), [("\x1b]0;title\x07", "\r\x1b[2K")]).splitlines()[1]  # the heading is styled
    assert output.plain("one\ntwo", lines=True) == "one\ntwo"


def test_a_table_in_a_pipe_has_one_line_a_row() -> None:
    lines = output.table(("no", "why"), [(1, "long " * 60), (22, "short")]).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("22  short")


def test_a_table_on_a_terminal_wraps_its_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setattr(output, "terminal_width", lambda: 80)
    lines = [click.unstyle(line) for line in output.table(("no", "why"), [(1, "word " * 60)]).splitlines()]
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("    word") for line in lines[2:])


def test_doctor_finds_a_readable_token(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = home / ".noria"
    state.mkdir()
    (state / "token").write_text("secret")
    (state / "token").chmod(0o644)
    assert execute(["-C", str(home), "doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    token = next(c for c in document["checks"] if c["name"] == "token")
    assert token["state"] == "fail"
    assert "chmod 600" in token["advice"]
    (state / "token").chmod(stat.S_IRUSR | stat.S_IWUSR)
    execute(["-C", str(home), "doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert next(c for c in document["checks"] if c["name"] == "token")["state"] == "ok"
    assert {"python", "git", "disk", "state", "server", "daemon"} <= {c["name"] for c in document["checks"]}


def test_doctor_finds_a_broken_ledger(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = home / ".noria"
    state.mkdir()
    (state / "ledger.db").write_bytes(b"this is no database, and never was one" * 50)
    assert execute(["-C", str(home), "doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert next(c for c in document["checks"] if c["name"] == "ledger")["state"] == "fail"


def test_every_error_has_its_exit_code(home: Path, breaks) -> None:
    def family(kind: type[NoriaError]) -> list[type[NoriaError]]:
        return [kind, *(k for sub in kind.__subclasses__() for k in family(sub))]

    for kind in family(NoriaError):
        if kind.__module__ == "noria.kernel.errors":
            breaks(kind("x"))
            assert execute(["-C", str(home), "status"]) == row_of(kind).exit_code


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:x", ":65536", ":²", ":" + "9" * 5000])
def test_an_address_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        up.address(text)
