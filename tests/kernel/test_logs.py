"""What long-running processes say: levels, text and JSON lines, and bad settings in words."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noria.cli import execute
from noria.delivery import standalone
from noria.kernel import logs
from noria.kernel.errors import UsageError
from noria.serving.supervisor import Options
from noria.serving.worker_pool import WorkerPool


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., logging.Logger]]:
    """A logger as a process that just began has it, under the settings given."""
    root = logging.getLogger("noria")
    kept = (root.handlers[:], root.level, root.propagate)

    def begin(**settings: str) -> logging.Logger:
        for name in (logs.LEVEL, logs.FORM):
            monkeypatch.delenv(name, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        root.handlers.clear()
        return logs.get_logger("noria.serving")

    yield begin
    root.handlers[:], root.propagate = kept[0], kept[2]
    root.setLevel(kept[1])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_text_lines_name_the_room_and_begin_at_info(fresh: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log = fresh()
    log.debug("not this")
    log.info("worker 0 is ready", extra=logs.facts(slot=0))
    assert capsys.readouterr().err == "noria.serving: worker 0 is ready\n"


@pytest.mark.parametrize(
    ("level", "written"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1), ("ERROR", 1), (" info ", 3), ("", 3)]
)
def test_a_level_is_where_messages_begin(level: str, written: int, fresh: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log = fresh(NORIA_LOG=level)
    for say in (log.debug, log.info, log.warning, log.error):
        say("one")
    assert len(capsys.readouterr().err.splitlines()) == written


def test_a_json_line_has_the_facts_as_fields(fresh: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log = fresh(NORIA_LOG_FORMAT="json")
    log.warning("two\nlines, 100 %", extra=logs.facts(slot=3, file=Path("a") / "b", share=0.5, pid="not this", name="any"))
    (line,) = lines(capsys)
    assert list(line)[:5] == ["at", "level", "logger", "pid", "message"]
    assert (line["level"], line["logger"], line["pid"]) == ("warning", "noria.serving", os.getpid())
    assert line["message"] == "two\nlines, 100 %"
    assert (line["slot"], line["file"], line["share"], line["name"]) == (3, "a/b", 0.5, "any")
    assert line["at"].endswith("+00:00")


def test_an_error_brings_its_trace(fresh: Any, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        caught = error
    fresh(NORIA_LOG_FORMAT="json").error("it broke", exc_info=caught)
    (line,) = lines(capsys)
    assert "KeyError: 'x'" in line["trace"]
    fresh().error("it broke", exc_info=caught)
    told = capsys.readouterr().err
    assert told.startswith("noria.serving: it broke\nTraceback")
    assert "KeyError: 'x'" in told


def test_text_that_is_none_is_escaped(fresh: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fresh(NORIA_LOG_FORMAT="json").error("file \udcff", extra=logs.facts(file="\udcff", share=float("nan")))
    (line,) = lines(capsys)
    assert (line["message"], line["file"], line["share"]) == ("file \\udcff", "\\udcff", None)


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_taken_out(
    form: str, tmp_path: Path, fresh: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "_masked", str)
    logs.hide(lambda text: text.replace("s3cret", "${KEY}"))
    log = fresh(NORIA_LOG_FORMAT=form)
    try:
        raise OSError("at http://s3cret@host")
    except OSError as error:
        log.error(f"cannot be read: {error}", exc_info=error, extra=logs.facts(address="http://s3cret@host"))
        logs.outlive(log, tmp_path / "daemon.log", "watcher", error)
    told = capsys.readouterr().err
    kept = (tmp_path / "daemon.log").read_text()
    assert "Traceback" in kept
    assert "s3cret" not in told + kept
    assert "http://${KEY}@host" in told


def test_a_stream_that_takes_nothing_ends_nothing(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fresh()
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log.error("x" * 100_000)
        monkeypatch.setattr(sys, "stderr", None)
        log.error("nobody hears")
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("name", "words"), [("NORIA_LOG", "debug, info, warning or error"), ("NORIA_LOG_FORMAT", "text or json")]
)
def test_a_bad_word_is_refused_in_words(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "loud")
    with pytest.raises(UsageError) as error:
        logs.demand_settings()
    assert str(error.value) == f"{name} must be {words}, got 'loud'"


@pytest.mark.parametrize("command", ["up", "run"])
def test_commands_that_run_on_refuse_a_bad_word(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noria.yaml").write_text("project: hello\ndata: {}\n")
    monkeypatch.setenv("NORIA_LOG", "loud")
    assert execute(["-C", str(tmp_path), command]) == 2
    assert "NORIA_LOG must be debug, info, warning or error, got 'loud'" in capsys.readouterr().err


def test_a_release_alone_is_not_served_with_a_bad_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_LOG", "loud")
    with pytest.raises(UsageError, match="NORIA_LOG must be"):
        standalone.serve(Options(tmp_path / "state", {"production": ("127.0.0.1", 0)}), [], lambda laid, address: None)
    assert not (tmp_path / "state").exists()


def test_a_server_refuses_a_bad_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "noria.serving", "--state", str(tmp_path), "--environment", "production=127.0.0.1:0"]
    done = subprocess.run(
        command, env={**os.environ, "NORIA_LOG_FORMAT": "xml"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "NORIA_LOG_FORMAT must be text or json, got 'xml'" in done.stderr


def test_what_a_server_complains_of_has_its_fields(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "noria.serving",
            "--state",
            str(tmp_path),
            "--environment",
            f"production=127.0.0.1:{port}",
        ]
        environment = {**os.environ, "NORIA_LOG_FORMAT": "json"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    (line,) = [json.loads(text) for text in done.stderr.splitlines()]
    assert (line["level"], line["logger"], line["error"], line["exit_code"]) == ("error", "noria.serving", "PortInUseError", 4)
    assert f"127.0.0.1:{port} cannot be listened on" in line["message"]


def test_a_worker_that_ends_is_told_with_slot_pid_and_code(fresh: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fresh(NORIA_LOG_FORMAT="json")
    pool: Any = SimpleNamespace(_on_end=lambda slot, code, loading: None)
    WorkerPool._tell_end(pool, 2, SimpleNamespace(process=SimpleNamespace(pid=77), loading=None), -9)  # type: ignore[arg-type]
    (line,) = lines(capsys)
    assert (line["level"], line["logger"], line["slot"], line["worker_pid"], line["code"]) == (
        "warning",
        "noria.serving",
        2,
        77,
        -9,
    )
    assert line["message"] == "worker 2 (pid 77) ended with -9"


def test_help_and_status_import_no_logging(tmp_path: Path) -> None:
    (tmp_path / "noria.yaml").write_text("project: hello\ndata: {}\n")
    code = "import sys; from noria.cli import execute; execute(sys.argv[1:]); sys.exit('logging' in sys.modules)"
    for arguments in (["--help"], ["-C", str(tmp_path), "status"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, timeout=60, check=False)
        assert done.returncode == 0
