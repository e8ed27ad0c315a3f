"""The command line's last resort: a defect in Noria becomes one sentence, and its traceback a file."""

from __future__ import annotations

import tempfile
import time
import traceback
from pathlib import Path

from noria import __version__
from noria.cli.context import Home
from noria.kernel.errors import NoriaError
from noria.storage.disk import unwritable

CRASHES_KEPT = 20  # traceback files under the state folder


def unexpected(error: BaseException, arguments: list[str]) -> NoriaError:
    """Returns the sentence for a defect in Noria, after writing its traceback to a file if any folder can be written."""
    told = unwritable(error)
    if told is not None:
        return told
    message = f"an internal error in Noria ({type(error).__name__})"
    try:
        path = _write_crash(error, arguments)
    except OSError as failure:
        return NoriaError(f"{message}, and its traceback could not be written: {failure}")
    return NoriaError(message, hint=f"The traceback is in {path}; please report it and attach that file.")


def _write_crash(error: BaseException, arguments: list[str]) -> Path:
    folder = _crash_folder(_start(arguments))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = _otherwise()
        folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.txt"))[: -CRASHES_KEPT + 1]:
        old.unlink(missing_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}.txt"
    command = arguments[0] if arguments else ""  # more could hold a row of data
    text = f"noria {__version__}, command {command}\n\n" + "".join(traceback.format_exception(error))
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _start(arguments: list[str]) -> Path:
    """The folder that ``-C`` names, read without click, which may itself be what crashed."""
    return Path(arguments[1]) if arguments[:1] == ["-C"] and len(arguments) > 1 else Path(".")


def _crash_folder(start: Path) -> Path:
    try:
        return Home.find(start).state / "crashes"
    except NoriaError:
        return _otherwise()


def _otherwise() -> Path:
    """Where tracebacks go when there is no state folder that can be written."""
    return Path(tempfile.gettempdir()) / "noria-crashes"
