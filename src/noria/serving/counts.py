"""Counters in a memory-mapped file that an environment's workers share.

Each worker owns one slot and is its only writer; anyone sums over the slots. A ``kill -9`` of a worker loses nothing, its
successor counts on in the same slot, and any worker can answer for all of them. A slot has a block for each project, and one for
requests of no project; the projects' names are at the end of the file.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import mmap
import os
from bisect import bisect_left
from pathlib import Path

from noria.kernel.errors import DiskFullError, ServingError
from noria.serving.route import Route
from noria.serving.tallies import Tally

PROJECTS = 32  # blocks: the first is nobody's, and that of projects beyond
SLOTS = 64  # the most workers an environment can have
REVISIONS = 128  # route revisions that are remembered; older ones make room
PROBED = 8  # places that a revision may be counted at
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

CODES = (200, 202, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 431, 500, 503, 507)
VARIANTS = ("champion", "candidate", "fallback", "pinned")
SHADOWED = ("scored", "failed", "dropped")  # the outcomes of requests that the other release was to score

_CODE = {code: index for index, code in enumerate(CODES)}
_VARIANT = {name: len(CODES) + index for index, name in enumerate(VARIANTS)}
_FEEDBACK = len(CODES) + len(VARIANTS)
_ROWS = _FEEDBACK + 1
_BUCKET = _ROWS + 1
_SUM_US = _BUCKET + len(BUCKETS_S) + 1
_FULL = _SUM_US + 1
_UNSAMPLED = _FULL + 1
_OUTSIDE = _UNSAMPLED + 1
_UNANSWERED = _OUTSIDE + 1
_DELETED = _UNANSWERED + 1
_SHADOW = _DELETED + 1
_BLOCK = _SHADOW + len(SHADOWED)  # cells of a project
_AT_WORK = PROJECTS * _BLOCK  # calls of a compiled candidate, or of the release before, that have begun and not ended
_RING = _AT_WORK + 1  # where the revisions begin
_ENTRY = 8  # the route's key, requests, errors, slow of the champion and of the candidate, and pairs that both failed
_WIDTH = _RING + REVISIONS * _ENTRY
_NAMES = SLOTS * _WIDTH * 8  # bytes before the names
_NAME_BYTES = 64
SIZE_BYTES = _NAMES + PROJECTS * _NAME_BYTES
VERSION = 8  # of this layout; part of the file's name


def counts_path(state: Path, environment: str) -> Path:
    """``.noria/serving/production.counts8``."""
    return state / "serving" / f"{environment}.counts{VERSION}"


def is_on_probation(route: Route) -> bool:
    """Whether the champion is on probation: it is counted as the candidate then, and the release before as the champion."""
    return route.candidate is None and route.other is not None


def create(path: Path) -> None:
    """Creates the file with all its blocks: a write into a mapped hole of a full disk would kill the process.

    Raises DiskFullError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, SIZE_BYTES)
        os.posix_fallocate(handle, 0, SIZE_BYTES)
    except OSError as error:
        raise DiskFullError(f"no room for {SIZE_BYTES} bytes of counters: {error.strerror}", where=str(path)) from error
    finally:
        os.close(handle)


class CandidateMark:
    """A mark in shared memory around each call of a candidate: it is still there when the call ends the process."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview, at: int) -> None:
        self._cells = cells
        self._at = at

    def __enter__(self) -> None:
        self._cells[self._at] += 1

    def __exit__(self, *exc: object) -> None:
        self._cells[self._at] -= 1

    def reopen(self, cells: memoryview) -> None:
        """Go on in another file, which holds the same."""
        self._cells = cells

    def take(self) -> int:
        """The calls that a process which ended had begun; the mark is wiped."""
        begun, self._cells[self._at] = int(self._cells[self._at]), 0
        return begun


class SharedCounters:
    """All slots of one environment; ``slot`` is the one this process writes (None: it only reads).

    `of` a project counts for that one, and tells what was counted for it; this one counts for nobody, and tells of all.
    """

    def __init__(self, path: Path, slot: int | None = None) -> None:
        self._path = path
        self._project: int | None = None  # its block
        self._views: dict[str, SharedCounters] = {}
        try:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), SIZE_BYTES)
        except (OSError, ValueError) as error:
            raise ServingError(f"the counters cannot be opened: {error}", where=str(path)) from error
        self._cells = memoryview(self._map).cast("q")
        self._reads = slot is None
        self._slot = 0 if slot is None else slot * _WIDTH
        self._base = self._slot  # of the block that is counted in
        self.at_work = CandidateMark(self._cells, self._slot + _AT_WORK)

    def of(self, project: str) -> SharedCounters:
        """Returns the counters of one project."""
        found = self._views.get(project)
        if found is None:
            found = self._views[project] = copy.copy(self)
            found._project = self._block_of(project)
            found._base = self._slot + found._project * _BLOCK
        return found

    def projects(self) -> list[str]:
        """Those that were counted for, and last "", where nobody's are."""
        return [*filter(None, self._names()[1:]), ""]

    def _names(self) -> list[str]:
        table = self._map[_NAMES:]
        return [table[at : at + _NAME_BYTES].rstrip(b"\0").decode() for at in range(0, len(table), _NAME_BYTES)]

    def _block_of(self, project: str) -> int:
        """The block of a project, which it is given where it has none; nobody's where none is left."""
        name = project.encode()[:_NAME_BYTES]
        with self._path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two workers may meet a project at the same moment
            names = self._names()
            if not project or project in names:
                return names.index(project)
            if "" not in names[1:]:
                return 0
            block = names.index("", 1)
            at = _NAMES + block * _NAME_BYTES
            self._map[at : at + len(name)] = name
            return block

    def reopen(self, path: Path) -> None:
        """Go on in a new file, where the old one was deleted: a writer with what its slot holds, a reader with all of it.

        Raises ServingError.
        """
        fresh = SharedCounters(path)
        if self._reads:
            fresh._map[:] = self._map[:]
        else:
            fresh._cells[self._slot : self._slot + _WIDTH] = self._cells[self._slot : self._slot + _WIDTH]
        for view in (self, *self._views.values()):
            view._map, view._cells = fresh._map, fresh._cells
        self.at_work.reopen(fresh._cells)

    def close(self) -> None:
        self._cells.release()
        with contextlib.suppress(BufferError):
            self._map.close()

    # -- writing, in this process's slot

    def count_answer(self, code: int) -> None:
        self._cells[self._base + _CODE.get(code, _CODE[500])] += 1

    def count_prediction(self, variant: str, rows: int, seconds: float) -> None:
        cells, base = self._cells, self._base
        cells[base + _VARIANT[variant]] += 1
        cells[base + _ROWS] += rows
        cells[base + _BUCKET + bisect_left(BUCKETS_S, seconds)] += 1
        cells[base + _SUM_US] += int(seconds * 1e6)

    def count_labels(self, rows: int) -> None:
        self._cells[self._base + _FEEDBACK] += rows

    def count_not_recorded(self, rows: int, *, sampled: bool) -> None:
        """Predictions that were answered and are not in the log: left out of the sample, or the disk was full."""
        self._cells[self._base + (_UNSAMPLED if sampled else _FULL)] += rows

    def count_outside(self, rows: int) -> None:
        """Answered rows with a value that training never saw the like of."""
        self._cells[self._base + _OUTSIDE] += rows

    def count_unanswered(self, rows: int) -> None:
        """Rows of well-formed requests that no release could answer."""
        self._cells[self._base + _UNANSWERED] += rows

    def count_deleted_log(self) -> None:
        """A segment of the prediction log was deleted while it was written."""
        self._cells[self._base + _DELETED] += 1

    def count_shadow(self, result: str) -> None:
        """One request that another release was to score too: scored, failed, or dropped (not scored, or not written down)."""
        self._cells[self._base + _SHADOW + SHADOWED.index(result)] += 1

    def count_arm(self, key: int, candidate: bool, error: bool, slow: bool) -> None:
        """One request of one arm, counted under the `Route.tally_key` of the route that assigned it."""
        cells = self._cells
        at = self._slot + _RING + ((key + (key >> 24)) % REVISIONS) * _ENTRY
        if cells[at] != key:
            at = self._entry(key)
        at += 4 if candidate else 1
        cells[at] += 1
        cells[at + 1] += error
        cells[at + 2] += slow

    def count_both_failed(self, key: int) -> None:
        """Of a pair that was just counted as an error of either arm."""
        at = self._slot + _RING + ((key + (key >> 24)) % REVISIONS) * _ENTRY
        self._cells[(at if self._cells[at] == key else self._entry(key)) + _ENTRY - 1] += 1

    def _entry(self, key: int) -> int:
        """Where a key is counted that is not at its first place: projects may share that. Old revisions make room."""
        cells = self._cells
        places = [self._slot + offset for offset in _places(key)]
        for at in places:
            if cells[at] == key:
                return at
        at = min(places, key=lambda place: (cells[place] != 0, cells[place] >> 24 != key >> 24, cells[place] & 0xFFFFFF))
        for i in range(_ENTRY):
            cells[at + i] = 0
        cells[at] = key
        return at

    # -- reading, over all slots

    def tallies(self) -> dict[int, tuple[Tally, Tally]]:
        """`Route.tally_key` -> (champion, candidate)."""
        sums: dict[int, list[int]] = {}
        cells = self._cells
        for slot in range(SLOTS):
            for entry in range(REVISIONS):
                at = slot * _WIDTH + _RING + entry * _ENTRY
                if cells[at]:
                    total = sums.setdefault(cells[at], [0] * (_ENTRY - 1))
                    total[:] = [a + b for a, b in zip(total, cells[at + 1 : at + _ENTRY], strict=True)]
        return {revision: (Tally(*s[:3]), Tally(*s[3:])) for revision, s in sorted(sums.items())}

    def tallies_of(self, key: int) -> tuple[Tally, Tally]:
        """What is counted under one `Route.tally_key`: champion, candidate."""
        cells, sums = self._cells, [0] * (_ENTRY - 1)
        for slot in range(SLOTS):
            for offset in _places(key):
                at = slot * _WIDTH + offset
                if cells[at] == key:
                    sums = [a + b for a, b in zip(sums, cells[at + 1 : at + _ENTRY], strict=True)]
        return Tally(*sums[:3]), Tally(*sums[3:])

    def total(self, index: int) -> int:
        blocks = [i for i, name in enumerate(self._names()) if name or not i] if self._project is None else [self._project]
        return sum(self._cells[slot * _WIDTH + block * _BLOCK + index] for block in blocks for slot in range(SLOTS))

    def codes(self) -> dict[int, int]:
        return {code: self.total(index) for code, index in _CODE.items()}

    def variants(self) -> dict[str, int]:
        return {name: self.total(index) for name, index in _VARIANT.items()}

    def rows(self) -> int:
        return self.total(_ROWS)

    def rows_outside(self) -> int:
        return self.total(_OUTSIDE)

    def rows_unanswered(self) -> int:
        return self.total(_UNANSWERED)

    def logs_deleted(self) -> int:
        return self.total(_DELETED)

    def feedback(self) -> int:
        return self.total(_FEEDBACK)

    def dropped(self) -> dict[str, int]:
        """Answered predictions that are not in the log, by reason."""
        return {"full": self.total(_FULL), "sample": self.total(_UNSAMPLED)}

    def shadows(self) -> dict[str, int]:
        """Requests that another release was to score too, by what became of it."""
        return {result: self.total(_SHADOW + i) for i, result in enumerate(SHADOWED)}

    def histogram(self) -> tuple[list[int], float]:
        """Counts per bucket (the last is beyond the last bound), and the sum in seconds."""
        return [self.total(_BUCKET + i) for i in range(len(BUCKETS_S) + 1)], self.total(_SUM_US) / 1e6


def _places(key: int) -> list[int]:
    """Where in a slot a key may be counted."""
    first = (key + (key >> 24)) % REVISIONS
    return [_RING + ((first + step) % REVISIONS) * _ENTRY for step in range(PROBED)]
