"""What is printed: in any encoding, to a reader that may end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noria.cli import output

OPENED = "from noria.cli import output, streams\nstreams.open_streams()\n"


def printed(script: str, encoding: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", OPENED + script], env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=True
    )
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize(
    ("encoding", "due"), [("ascii", b"a ? ???"), ("latin-1", b"a ? \xe9??"), ("utf-8", "a \N{RIGHTWARDS ARROW} é東?".encode())]
)
def test_a_character_that_the_encoding_lacks_is_a_question_mark(encoding: str, due: bytes) -> None:
    """Number 57: and half of a character, as a file's name may hold it, too."""
    assert printed(r"print('a \u2192 \xe9\u6771\udc80')", encoding) == due + b"\n"


def test_a_document_for_programs_loses_no_character() -> None:
    """Number 57: JSON has its own way to write what an encoding lacks."""
    script = r"print(output.to_json({'a': '\u6771\U0001f600'}))"
    assert printed(script, "latin-1") == b'{\n  "a": "\\u6771\\ud83d\\ude00"\n}\n'
    assert printed(script, "utf-8") == '{\n  "a": "東\N{GRINNING FACE}"\n}\n'.encode()
    assert output.to_json({"a": "b"}) == '{\n  "a": "b"\n}'


def test_a_reader_that_ends_fails_nothing() -> None:
    """Number 59: `noria runs | head -1` ends with the verdict of the command."""
    script = "import sys\nfor _ in range(300):\n    print('x' * 1000, flush=True)\nsys.exit(3)\n"
    with subprocess.Popen(
        [sys.executable, "-c", OPENED + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("x")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 3


@pytest.mark.parametrize("arguments", [["--help"], ["--json", "status"], ["status", "--json"], ["status"], ["nosuch", "--json"]])
def test_a_full_disk_behind_standard_output_is_said(tmp_path: Path, arguments: list[str]) -> None:
    """The command does its work; then the exit code tells that its words are not all there."""
    (tmp_path / "noria.yaml").write_text("project: p\ndata: {}\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "noria", *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last) == (
        4,
        "error: standard output could not be written, and lacks a part: No space left on device",
    )
    assert "Traceback" not in done.stderr
    assert "inside Noria" not in done.stderr


def test_a_full_disk_behind_standard_error_changes_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "noria", "gc", "--keep", "x"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_not_there_fails_nothing(closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m noria --version {closed}'], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
