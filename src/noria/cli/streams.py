"""The streams that commands print to: no character and no reader that ends makes one fail.

Files, Git and other processes are read and written in UTF-8, whatever the locale says; only what is printed follows the locale.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import locale
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputStream(io.FileIO):
    """A stream that ends no command. Its reader may end, as `head` does, or its disk be full: what comes then is thrown away."""

    lost = False
    failure: OSError | None = None  # why, where it was not the reader's wish

    def write(self, content: ReadableBuffer) -> int:
        if not self.lost:
            try:
                return super().write(content)
            except BrokenPipeError:
                self.lost = True
            except OSError as error:
                self.lost, self.failure = True, error
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


def flush(stream: TextIO | None) -> None:
    """Hand on what was printed; a stream may be none, or closed."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def output_failure() -> OSError | None:
    """Why standard output lacks something of what was printed; None where it lacks nothing, or its reader ended."""
    flush(sys.stdout)
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, OutputStream) else None


def _patient(stream: TextIO) -> TextIO:
    try:
        raw = OutputStream(stream.fileno(), "wb", closefd=False)
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
