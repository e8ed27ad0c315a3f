"""The streams that commands print to: no character and no reader that ends makes one fail.

Files, Git and other processes are read and written in UTF-8, whatever the locale says; only what is printed follows the locale.
"""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class BrokenPipeStream(io.FileIO):
    """A stream whose reader may end, as `head` does: what comes then is thrown away."""

    lost = False

    def write(self, content: ReadableBuffer) -> int:
        if not self.lost:
            try:
                return super().write(content)
            except BrokenPipeError:
                self.lost = True
        return memoryview(content).nbytes


def speak_utf8() -> None:
    """Begin anew in Python's UTF-8 mode where the locale names another encoding; what this process starts inherits it."""
    if sys.flags.utf8_mode or _is_utf8(locale.getencoding()) or not sys.orig_argv[1:]:
        return
    os.environ["PYTHONUTF8"] = "1"
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this interpreter, as it was called
    except OSError:
        return  # no room for it: then as well as it goes


def open_streams() -> None:
    """Print in the encoding of the locale, with a question mark for what it lacks."""
    sys.stdout, sys.stderr = _patient(sys.stdout), _patient(sys.stderr)


def in_utf8() -> bool:
    """Whether standard output takes every character."""
    return _is_utf8(getattr(sys.stdout, "encoding", None) or "utf-8")


def _patient(stream: TextIO) -> TextIO:
    try:
        raw = BrokenPipeStream(stream.fileno(), "wb", closefd=False)
        stream.flush()
    except (OSError, ValueError, AttributeError):  # there is none, or a test's
        return stream
    named = locale.getencoding()
    if "PYTHONIOENCODING" in os.environ or _name(named) in ("ascii", ""):  # the C locale names ASCII, and means nothing by it
        named = stream.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), named, "replace", line_buffering=raw.isatty())


def _is_utf8(encoding: str) -> bool:
    return _name(encoding) == "utf-8"


def _name(encoding: str) -> str:
    """The name that Python gives an encoding; empty for one it does not know."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return ""
