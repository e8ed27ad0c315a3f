"""What is printed: in any encoding, to a reader that may end."""

from __future__ import annotations

import os
import subprocess
import sys

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
