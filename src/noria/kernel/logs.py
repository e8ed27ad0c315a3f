"""What long-running processes say: one line for each message on standard error, as text for people or as JSON for programs.

``NORIA_LOG`` is the level from which on messages are written, ``NORIA_LOG_FORMAT`` their form. The ledger's events are no part of
this: they are the audit log, and are kept whatever is chosen here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel.errors import UsageError

ROOT = "noria"
LEVEL, FORM = "NORIA_LOG", "NORIA_LOG_FORMAT"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMS = ("text", "json")


_masked: Callable[[str], str] = str  # takes secrets out of a text


class TextLines(logging.Formatter):
    """``noria.serving: worker 0 (pid 4711) ended with -9``, and the traceback of an error below it."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _masked(super().format(record))


class JsonLines(logging.Formatter):
    """One object a line: ``at``, ``level``, ``logger``, ``pid``, ``message``, the message's facts, an error's ``trace``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": _clean(record.getMessage()),
        }
        for name, value in getattr(record, "facts", {}).items():
            line.setdefault(name, _clean(value) if isinstance(value, str) else value)
        if record.exc_info:
            line["trace"] = _clean(self.formatException(record.exc_info))
        return msgspec.json.encode(line, enc_hook=str).decode()


class StandardError(logging.Handler):
    """Writes each line in one piece. A full disk or a closed stream loses the line, and ends nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr  # as it is now: a process may change it
        if stream is None:
            return
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except (OSError, ValueError):  # full, or closed
            return
        except Exception:  # noqa: BLE001  a message that cannot be written must not end what it tells of
            self.handleError(record)


def get_logger(room: str) -> logging.Logger:
    """The logger of a room, such as ``noria.serving``. The first one sets up how lines look in this process."""
    root = logging.getLogger(ROOT)
    if not root.handlers:
        _set_up(root)
    return logging.getLogger(room)


def facts(**known: object) -> dict[str, Any]:
    """What a message is about, for ``extra=``: fields of its JSON line. They may have any name but those of the line itself."""
    return {"facts": known}


def demand_settings() -> None:
    """Raises UsageError where NORIA_LOG or NORIA_LOG_FORMAT is none of the words they take. Processes call it as they begin."""
    for name, words in ((LEVEL, tuple(LEVELS)), (FORM, FORMS)):
        if _setting(name) not in ("", *words):
            raise UsageError(f"{name} must be {', '.join(words[:-1])} or {words[-1]}, got {os.environ[name]!r}")


def outlive(log: logging.Logger, file: Path, what: str, error: BaseException) -> None:
    """Tell of a defect that this process outlives: its traceback goes to a file for people and into JSON. Never raises."""
    trace = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError), file.open("a", encoding="utf-8", errors="backslashreplace") as kept:
        kept.write(_masked(f"{datetime.now(UTC).isoformat(timespec='seconds')} {what}\n{trace}"))
    log.error(f"{what}: {type(error).__name__}: {error}", extra=facts(what=what, error=type(error).__name__, trace=trace))


def hide(masked: Callable[[str], str]) -> None:
    """Take the project's secrets out of what this process says from here on."""
    global _masked
    _masked = masked


def take_all() -> None:
    """Write what libraries warn of in the same form: for processes that run no code of the project's own."""
    root = logging.getLogger()
    if not any(isinstance(handler, StandardError) for handler in root.handlers):
        root.addHandler(_handler())


def _set_up(root: logging.Logger) -> None:
    """A word that is not known counts as none: `demand_settings` refuses it where a person can read that."""
    root.addHandler(_handler())
    root.setLevel(LEVELS.get(_setting(LEVEL), logging.INFO))
    root.propagate = False  # code of the project may set up logging of its own: nothing is said twice


def _handler() -> logging.Handler:
    handler = StandardError()
    handler.setFormatter(JsonLines() if _setting(FORM) == "json" else TextLines())
    return handler


def _setting(name: str) -> str:
    return os.environ.get(name, "").strip().lower()


def _clean(text: str) -> str:
    """Without secrets. Names of files may hold bytes that are no text: they are written as escapes."""
    return _masked(text).encode("utf-8", "backslashreplace").decode()
