"""Runs a replay in a separate process group with a time limit; nothing of it is left behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel.descriptors import readable
from noria.kernel.errors import ServingError
from noria.kernel.words import lasting
from noria.serving.client import PARENT
from noria.serving.judge_crash import is_crash
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.replay_result import CANDIDATE, Replayed, ReplayOrder

MODULE = "noria.serving.replay"
ERRORS = "errors.txt"
SHOWN_LINES = 3  # of the process's last output, when it failed


class _Heard:
    """What the process has reported so far."""

    def __init__(self) -> None:
        self._rest = b""
        self.turn = ""
        self.partial = Replayed()
        self.facts: Replayed | None = None
        self.error: str | None = None

    def hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"{"):
                self.turn = line.decode(errors="replace")
                continue
            said: dict[str, Any] = msgspec.json.decode(line)
            if "partial" in said:
                self.partial = msgspec.convert(said["partial"], Replayed)
            elif "facts" in said:
                self.facts = msgspec.convert(said["facts"], Replayed)
            else:
                self.error = str(said["error"])


def replay(
    state: Path,
    project: str,
    environment: str,
    champion: str,
    candidate: str,
    requests: int,
    deadline_ms: float,
    slow_ms: float,
    timeout_s: float = 60.0,
    command: Sequence[str] = (sys.executable, "-m", MODULE),
    out_of_memory: OutOfMemory | None = None,
) -> Replayed:
    """Ask the release ``candidate`` (a digest) the newest logged requests beside ``champion``.

    A candidate that hangs, does not load or ends the process is a finding. Raises ServingError when the replay itself fails, also
    because of the champion or because the process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="noria-replay-") as scratch:
        place, seed = str(state.resolve()), int(candidate[:8], 16)
        order = ReplayOrder(
            place, project, environment, champion, candidate, requests, deadline_ms, slow_ms, timeout_s, scratch, seed
        )
        heard, kernel = _Heard(), out_of_memory or OutOfMemory()
        code = _run(order, command, Path(scratch), heard)
        if heard.facts is not None:
            return heard.facts
        heard.partial = replace(heard.partial, wanted=heard.partial.wanted or requests)
        starved = code == -signal.SIGKILL and kernel.take_kill()
        return _without_facts(heard, code, Path(scratch) / ERRORS, timeout_s, starved=starved)


def _run(order: ReplayOrder, command: Sequence[str], scratch: Path, heard: _Heard) -> int | None:
    """The process's exit code; None when its time was up. Raises ServingError when it cannot be started."""
    ours, theirs = os.pipe()
    try:
        with (scratch / ERRORS).open("wb") as sink:
            process = subprocess.Popen(
                [*command, str(theirs)],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                pass_fds=(theirs,),
                start_new_session=True,
                env=os.environ | {PARENT: str(os.getpid())},
            )
    except OSError as error:
        os.close(ours)
        raise ServingError(f"the replay cannot be started: {error}") from error
    finally:
        os.close(theirs)
    try:
        _give(process, msgspec.json.encode(order))
        return _listen(ours, process, time.monotonic() + order.timeout_s, heard)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # hosts that outlive it, too
        process.wait()


def _give(process: subprocess.Popen[bytes], order: bytes) -> None:
    """An order fits into a pipe, so that this does not wait."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(order)


def _listen(pipe: int, process: subprocess.Popen[bytes], until: float, heard: _Heard) -> int | None:
    """Until it has said all, or ended, or time is up."""
    while heard.facts is None and heard.error is None:
        ready = readable(pipe, max(0.0, until - time.monotonic()))
        if not ready:
            return None
        data = os.read(pipe, 65536)
        if not data:
            break
        heard.hear(data)
    try:
        return process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _without_facts(heard: _Heard, code: int | None, errors: Path, timeout_s: float, *, starved: bool) -> Replayed:
    """What an end without facts says of the candidate. Raises ServingError when it says nothing of it."""
    if heard.error is not None:
        raise ServingError(f"logged requests cannot be replayed: {heard.error}")
    at_candidate = heard.turn == CANDIDATE
    if code is None and at_candidate:
        return replace(heard.partial, timed_out=True)
    if code is None:
        raise ServingError(
            f"the replay of logged requests did not end within {lasting(timeout_s)}", where=heard.turn or "starting"
        )
    how = f"{_ending(code)}{' because memory ran out' if starved else ''}"
    if at_candidate and is_crash(code, starved):
        return replace(heard.partial, failed=f"it ended the process that loaded and asked it: {how}")
    raise ServingError(f"the replay of logged requests ended by {how}", hint=_last_words(errors))


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _last_words(path: Path) -> str | None:
    lines = path.read_text(errors="replace").strip().splitlines()[-SHOWN_LINES:]
    return "\n  ".join(lines) or None
