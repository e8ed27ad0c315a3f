"""What a step logs while it runs: metrics over time, artifacts, a note, tags.

    from noria import track

    track.metric("loss", 0.31, step=5)
    track.metrics({"loss": 0.29, "auc": 0.81}, step=6)
    track.artifact("confusion.png")
    track.note("the learning rate was halved")
    track.tag("baseline")

Inside a step the variable NORIA_TRACK names a file; each call appends its lines to it by one write, so that several threads and
processes may log at once. Elsewhere the calls check their arguments and do nothing. `docs/experiments.md` tells the format for
steps in other languages.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, SupportsFloat

VARIABLE = "NORIA_TRACK"
NAME_LIMIT = 200  # characters of a metric's or tag's name
NOTE_LIMIT = 10_000  # characters
LINE_LIMIT = 1 << 16  # bytes of one line
METRIC_LIMIT = 10_000  # metrics of a step
POINT_LIMIT = 1_000_000  # points of a step that are kept
LISTED = 10_000  # artifacts and tags of a step
TOLD = 5  # lines that could not be read and are told one by one

_open: tuple[str, int] | None = None  # path and descriptor of the file that was written to last


def metric(name: str, value: SupportsFloat, step: SupportsFloat | None = None) -> None:
    """Log one point of a metric. ``step`` is its place on the x axis (epoch, batch); None counts the points from 0.

    Raises TypeError when value or step is no number, ValueError when one is not finite or the name is not one short line.
    """
    _append(_point(name, value, step))


def metrics(values: Mapping[str, SupportsFloat], step: SupportsFloat | None = None) -> None:
    """Log one point of each metric, by one write. Raises as ``metric`` does; then none of them is logged."""
    _append(*[_point(name, value, step) for name, value in values.items()])


def artifact(path: str | os.PathLike[str]) -> None:
    """Keep a file with the run, as it is when the step ends. Raises ValueError when there is no such file."""
    place = os.path.abspath(os.fspath(path))
    if os.path.isdir(place):
        raise ValueError(f"{os.fspath(path)!r} is a folder: log the files inside it one by one")
    if not os.path.isfile(place):
        raise ValueError(f"there is no file {os.fspath(path)!r} to keep as an artifact")
    _append({"artifact": place})


def note(text: str) -> None:
    """Add a line to the run's note. Raises TypeError for anything but text, ValueError for more than 10,000 characters."""
    if not isinstance(text, str):
        raise TypeError(f"a note is text, not {type(text).__name__}")
    if len(text) > NOTE_LIMIT:
        raise ValueError(f"a note has at most {NOTE_LIMIT:,} characters, this one has {len(text):,}")
    _append({"note": text})


def tag(*names: str) -> None:
    """Tag the run. Raises TypeError or ValueError for a name that is not one short line of text."""
    _append({"tags": [_name(name, "tag") for name in names]})


def _point(name: str, value: SupportsFloat, step: SupportsFloat | None) -> dict[str, Any]:
    known = _name(name, "metric")
    x = None if step is None else _number(step, f"the step of metric {name!r}")
    return {"m": known, "v": _number(value, f"metric {name!r}"), "x": x}


def _name(name: object, what: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} is text, not {type(name).__name__}")
    if not name.strip() or not name.isprintable():
        raise ValueError(f"the name of a {what} is one line of printable text, not {name[:NAME_LIMIT]!r}")
    if len(name) > NAME_LIMIT:
        raise ValueError(f"the name of a {what} has at most {NAME_LIMIT} characters: {name[:40]!r}...")
    return name


def _number(value: Any, what: str) -> float:
    """A finite float; also from NumPy's and other libraries' scalars, which are no Python numbers but convert to one."""
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool | str | bytes) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{what} must be a number, not {type(value).__name__}: {str(value)[:60]!r}")
    try:
        found = float(value)
    except OverflowError:
        raise ValueError(f"{what} is larger than a float can be") from None
    except (TypeError, ValueError, RuntimeError) as error:  # an array of several values, a tensor that is not at hand
        raise TypeError(f"{what} must be one number, not {type(value).__name__}: {error}") from None
    if not math.isfinite(found):
        raise ValueError(f"{what} is {found}: only finite numbers can be kept and compared")
    return found


def _append(*entries: dict[str, Any]) -> None:
    """One write for all lines: the kernel appends it whole."""
    path = os.environ.get(VARIABLE)
    if not path or not entries:
        return
    now = time.time()
    data = "".join(json.dumps({**entry, "t": now}) + "\n" for entry in entries).encode()
    written = os.write(_descriptor(path), data)
    if written < len(data):
        raise OSError(f"the disk is full: only {written} of {len(data)} bytes were logged to {path}")


def _descriptor(path: str) -> int:
    """The file, opened once; a child that was forked shares it, which is sound where every write appends.

    A former file stays open when the variable changes: another thread may be writing to it.
    """
    global _open
    found = _open
    if found is None or found[0] != path:
        found = _open = (path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return found[1]


class Tracked(NamedTuple):  # no Struct: the project's own process imports this file, and msgspec takes it 10 ms
    """What a step logged. ``said`` tells in sentences what was left out: lines that say nothing, points that were thinned."""

    series: dict[str, list[tuple[float, float]]]  # metric -> (x, value), in the order logged
    artifacts: list[str]  # paths as logged, each once
    note: str = ""
    tags: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def read(path: Path) -> Tracked:
    """What a step left in its file; nothing where there is none. A last line without its end was torn, and is left out.

    Memory is bounded: at most 1,000,000 points of 10,000 metrics are kept. Beyond that the longest series lose every second
    point, as often as needed; each keeps its first and its last.
    """
    import msgspec  # three times the speed of json; a step's own process never comes here

    reader = _LineReader(msgspec.json.Decoder().decode, msgspec.DecodeError)
    try:
        with path.open("rb") as file:
            for number, line in _lines(file):
                reader.take(number, line)
    except FileNotFoundError:
        return Tracked({}, [])
    return reader.result()


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Numbered whole lines; None for one that is longer than any call writes."""
    number = 0
    while line := file.readline(LINE_LIMIT + 1):
        number += 1
        if line.endswith(b"\n"):
            yield number, line
            continue
        while part := file.readline(LINE_LIMIT):
            if part.endswith(b"\n"):
                yield number, None
                break


class _Series:
    """Points of one metric, thinned to every ``stride``-th when there are too many."""

    __slots__ = ("last", "points", "seen", "stride")

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self.seen, self.stride = 0, 1
        self.last = (0.0, 0.0)

    def add(self, x: float | None, value: float) -> int:
        """The number of points kept of this one: 0 or 1."""
        self.last = (float(self.seen) if x is None else x, value)
        kept = self.seen % self.stride == 0
        if kept:
            self.points.append(self.last)
        self.seen += 1
        return int(kept)

    def halve(self) -> int:
        """Keep every second point; how many went."""
        before = len(self.points)
        self.points = self.points[::2]
        self.stride *= 2
        return before - len(self.points)

    def whole(self) -> list[tuple[float, float]]:
        return self.points if (self.seen - 1) % self.stride == 0 else [*self.points, self.last]


class _LineReader:
    """Gathers what the lines say, within bounds."""

    def __init__(self, decode: Any, refused: type[Exception]) -> None:
        self._decode, self._refused = decode, refused
        self._series: dict[str, _Series] = {}
        self._artifacts: dict[str, None] = {}
        self._tags: dict[str, None] = {}
        self._notes: list[str] = []
        self._note_length = 0
        self._kept = 0
        self._bad: list[str] = []
        self._bad_count = 0
        self._dropped: set[str] = set()

    def take(self, number: int, line: bytes | None) -> None:
        if line is None:
            return self._refuse(number, f"has more than {LINE_LIMIT:,} bytes")
        try:
            entry = self._decode(line)
        except (self._refused, RecursionError):
            return self._refuse(number, "is not JSON")
        if not isinstance(entry, dict):
            return self._refuse(number, "is not a JSON object")
        try:
            self._one(entry)
        except (TypeError, ValueError) as error:
            self._refuse(number, f"was left out: {error}")
        return None

    def _one(self, entry: dict[str, Any]) -> None:
        if "m" in entry:
            value, x = entry.get("v"), entry.get("x")
            self._point(entry["m"], None if x is None else _number(x, "x"), _number(value, "v"))
        elif "artifact" in entry:
            self._list(self._artifacts, _artifact(entry["artifact"]), "artifacts")
        elif "note" in entry:
            self._write(entry["note"])
        elif "tags" in entry:
            if not isinstance(entry["tags"], list):
                raise TypeError("tags must be a list")
            for name in entry["tags"]:
                self._list(self._tags, _name(name, "tag"), "tags")
        else:
            raise ValueError("it has none of the keys m, artifact, note and tags")

    def _point(self, name: object, x: float | None, value: float) -> None:
        series = self._series.get(name) if isinstance(name, str) else None
        if series is None:
            known = _name(name, "metric")
            if len(self._series) >= METRIC_LIMIT:
                self._dropped.add(f"more than {METRIC_LIMIT:,} metrics: the rest was left out")
                return
            series = self._series[known] = _Series()
        self._kept += series.add(x, value)
        if self._kept > POINT_LIMIT:
            self._kept -= self._thin()

    def _thin(self) -> int:
        """Halve the longest series, and those about as long; how many points went."""
        longest = max(len(s.points) for s in self._series.values())
        return sum(s.halve() for s in self._series.values() if 2 * len(s.points) > longest)

    def _list(self, into: dict[str, None], name: str, what: str) -> None:
        if len(into) >= LISTED and name not in into:
            self._dropped.add(f"more than {LISTED:,} {what}: the rest was left out")
            return
        into[name] = None

    def _write(self, text: object) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a note is text, not {type(text).__name__}")
        if self._note_length + len(text) > NOTE_LIMIT:
            self._dropped.add(f"the note has more than {NOTE_LIMIT:,} characters: the rest was left out")
            text = text[: max(0, NOTE_LIMIT - self._note_length)]
        if text:
            self._notes.append(text)
            self._note_length += len(text) + 1

    def _refuse(self, number: int, why: str) -> None:
        self._bad_count += 1
        if len(self._bad) < TOLD:
            self._bad.append(f"line {number} {why}")

    def result(self) -> Tracked:
        more = [f"{self._bad_count - TOLD:,} more lines could not be read"] if self._bad_count > TOLD else []
        thinned = [f"{name}: of {s.seen:,} points one in {s.stride} was kept" for name, s in self._series.items() if s.stride > 1]
        return Tracked(
            {name: s.whole() for name, s in self._series.items()},
            list(self._artifacts),
            "\n".join(self._notes),
            tuple(self._tags),
            (*self._bad, *more, *sorted(self._dropped), *thinned),
        )


def _artifact(path: object) -> str:
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("artifact must be a path")
    return path
