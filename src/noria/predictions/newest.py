"""The newest predictions of a log, found from its end: a log of a year is not read for the last five hundred."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from noria.kernel.errors import StoreError
from noria.predictions import compacted
from noria.predictions.reader import segment_parts
from noria.predictions.records import Damage, Prediction, Record


class _Newest:
    """The newest of what it is shown, each id once."""

    def __init__(self, most: int, fit: Callable[[Prediction], bool]) -> None:
        self._most = most
        self._fit = fit
        self._heap: list[tuple[float, int, Prediction]] = []  # the oldest first
        self._ids: set[str] = set()
        self._count = itertools.count()

    def show(self, record: Record) -> None:
        if not isinstance(record, Prediction) or not self.wants(record.at):
            return
        if record.id in self._ids or not self._fit(record):
            return
        self._ids.add(record.id)
        entry = (record.at, next(self._count), record)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            self._ids.discard(heapq.heapreplace(self._heap, entry)[2].id)

    def wants(self, at: float) -> bool:
        """Whether a record of that moment would be kept."""
        return len(self._heap) < self._most or at > self._heap[0][0]

    def found(self) -> list[Prediction]:
        return [record for _, _, record in sorted(self._heap)]


def newest(folder: Path, project: str, most: int, fit: Callable[[Prediction], bool]) -> list[Prediction]:
    """The newest ``most`` predictions of a project in an environment's log that are fit, the oldest first.

    What cannot be read is passed over: it is no use here, and others count it.
    """
    kept = _Newest(most, fit)
    if most <= 0:
        return []
    for changed_at, path in sorted(_segments(folder), reverse=True):
        if not kept.wants(changed_at):
            break
        _show_segment(path, project, kept)
    with contextlib.suppress(StoreError):
        files = compacted.read(folder).files("prediction")  # last: a segment that was compacted meanwhile is in it now
        for file in sorted((f for f in files if f.project == project), key=lambda f: f.date, reverse=True):
            if not kept.wants(_end_of(file.date)):
                break
            _show_file(folder / file.path, kept, most)
    return kept.found()


def _segments(folder: Path) -> list[tuple[float, Path]]:
    """Each with the moment of its last write: nothing in it is newer."""
    found = []
    for path in folder.glob("*.plog"):
        with contextlib.suppress(FileNotFoundError):  # compacted meanwhile
            found.append((path.stat().st_mtime, path))
    return found


def _show_segment(path: Path, project: str, kept: _Newest) -> None:
    with contextlib.suppress(FileNotFoundError):  # compacted meanwhile
        for part in segment_parts(path, Damage(), project):
            for record in part.records:
                kept.show(record)


def _end_of(date: str) -> float:
    return (datetime.fromisoformat(date).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()


def _show_file(path: Path, kept: _Newest, most: int) -> None:
    """The last rows by time, ever further back as long as too few of them are fit."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from noria.predictions import tabular  # Arrow is loaded where something was compacted

    try:
        times = pq.read_table(path, columns=["at"], partitioning=None, use_threads=False).column("at")
        ranks = pc.sort_indices(times, sort_keys=[("", "descending")])
        for first in range(0, len(times), most):
            window = ranks[first : first + most]
            newest_at = times[window[0].as_py()].cast(pa.int64()).as_py() / 1e6
            if not kept.wants(newest_at):
                return
            low, high = times[window[-1].as_py()], times[window[0].as_py()]
            table = pq.read_table(path, filters=[("at", ">=", low), ("at", "<=", high)], partitioning=None, use_threads=False)
            for _, record in tabular.records_of(table):
                kept.show(record)
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return
