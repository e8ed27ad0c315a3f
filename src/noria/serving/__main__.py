"""`python -m noria.serving --state DIR --environment NAME=HOST:PORT ...`: the server tree."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import logs
from noria.kernel.access import MAX_BODY_BYTES, MAX_ROWS, UNGUARDED, Access
from noria.kernel.error_table import row_of
from noria.kernel.errors import NoriaError
from noria.kernel.names import is_name
from noria.kernel.policy import RECORD_ALL, LogPolicy
from noria.kernel.workers import MOST, TWO, Workers
from noria.serving.stderr import survive_full_disk
from noria.serving.supervisor import Options, main, sole

_log = logs.get_logger("noria.serving")


def _environment(text: str) -> tuple[str, tuple[str, int]]:
    name, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    if not is_name(name) or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT, like production=127.0.0.1:8000")
    return name, (host.strip("[]"), int(port))


def _access(text: str) -> Access:
    try:
        return msgspec.json.decode(text, type=Access)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} does not describe the access rules: {error}") from error


def _recording(text: str) -> LogPolicy:
    try:
        return msgspec.json.decode(text, type=LogPolicy)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} does not describe the prediction log: {error}") from error


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _workers(text: str) -> Workers:
    try:
        return Workers.of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 to {MOST} nor a range like 1:4") from None


def parse(arguments: list[str]) -> tuple[Options, int | None, int | None]:
    """Parses the options, the pipe on which the start is reported, and the pipe whose other end keeps this process alive."""
    parser = argparse.ArgumentParser(prog="python -m noria.serving", description="Noria's model server.")
    parser.add_argument("--state", type=Path, required=True, help="the state folder, .noria of a project")
    parser.add_argument("--environment", type=_environment, action="append", required=True, metavar="NAME=HOST:PORT")
    parser.add_argument("--workers", type=_workers, default=TWO, metavar="N|MIN:MAX", help="processes of each environment")
    parser.add_argument("--max-body", type=_positive, default=MAX_BODY_BYTES, help="bytes of a request")
    parser.add_argument("--max-rows", type=_positive, default=MAX_ROWS, help="records of a request")
    parser.add_argument("--access", type=_access, default=UNGUARDED, metavar="JSON", help="keys, host names, rate, access log")
    parser.add_argument("--recording", type=_recording, default=RECORD_ALL, metavar="JSON", help="what the log holds")
    parser.add_argument("--log", type=Path, help="the file that standard error goes to: it is kept from growing")
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--leash-fd", type=int, help=argparse.SUPPRESS)
    found = parser.parse_args(arguments)
    state, places = found.state.resolve(), dict(found.environment)
    options = Options(state, places, found.workers, found.max_body, found.max_rows, found.access, found.recording, found.log)
    return options, found.ready_fd, found.leash_fd


def end_with(leash: int) -> None:
    """Ends this process, as SIGTERM does, when the other end of a pipe is closed."""

    def wait() -> None:
        try:
            os.read(leash, 1)
        finally:  # who cannot hear that it was let go must not go on for ever
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="leash", daemon=True).start()


class Starter:
    """The process that started this server and reads on a pipe how the start goes."""

    def __init__(self, ready_fd: int | None) -> None:
        self._fd = ready_fd

    def say(self, facts: dict[str, Any]) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):  # it is gone or no longer waits; this server continues
                os.write(self._fd, json.dumps(facts).encode() + b"\n")

    def say_last(self, facts: dict[str, Any]) -> None:
        self.say(facts)
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None


def run(arguments: list[str]) -> int:
    options, ready_fd, leash_fd = parse(arguments)
    if leash_fd is not None:
        end_with(leash_fd)
    survive_full_disk()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):  # already the leader of a session
        os.setsid()
    starter = Starter(ready_fd)
    try:
        logs.demand_settings()
        with sole(options.state):
            asyncio.run(main(options, starter.say_last, beat=starter.say))
    except NoriaError as error:
        _log.error(str(error), extra=logs.facts(error=type(error).__name__, exit_code=row_of(type(error)).exit_code))
        starter.say_last({"error": error.message, "hint": error.hint, "kind": type(error).__name__})
        return row_of(type(error)).exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
