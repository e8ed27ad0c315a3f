"""Records predictions before they are answered.

No answer leaves that the log does not hold, unless the project's policy says so, which is counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import logs
from noria.kernel.errors import DiskFullError, NoriaError, StoreError
from noria.kernel.policy import RECORD_ALL, LogPolicy, WhenFull
from noria.predictions.records import ids_from
from noria.predictions.writer import Feedback, LogWriter, Prediction, Predictions
from noria.serving.counts import SharedCounters, is_on_probation
from noria.serving.protocol import FeedbackMessage, PredictionRequest
from noria.serving.route import Route
from noria.serving.router import RouterAnswer
from noria.storage.disk import FULL, write_whole

_log = logs.get_logger("noria.serving")

SECRET = "log.key"  # noqa: S105 - the name of the file
SECRET_BYTES = 32
DRAWN = 512  # ids


class Ids:
    """Prediction ids: ``p-0197a3c2e5f1-9c1b7e22d40a61f3-00``; sortable by time. Who was not given one cannot guess it: each
    request draws 64 bits, and only its own rows count on."""

    def __init__(self) -> None:
        self._drawn, self._next = "", 0  # many at a time: a call of the system for each would be felt

    def take(self, at: float, rows: int) -> list[str]:
        """Ids that count on from the first."""
        name = self.take_one(at)
        return [name] if rows == 1 else ids_from(name, rows)

    def take_one(self, at: float) -> str:
        """The first id of a request's rows."""
        place = self._next
        if place >= len(self._drawn):
            self._drawn, place = os.urandom(8 * DRAWN).hex(), 0
        self._next = place + 16
        return f"p-{int(at * 1000):012x}-{self._drawn[place : place + 16]}-00"


def moment() -> float:
    """Now, in seconds, as exact as it is kept in Parquet."""
    return int(time.time() * 1e6) / 1e6


class _Written(msgspec.Struct, frozen=True):
    """The rows of a request as they are to be recorded."""

    route: Route
    answered: RouterAnswer
    at: float
    ids: list[str]
    columns: Mapping[str, Sequence[Any]]
    outputs: list[dict[str, Any]]
    keys: list[str | None]
    times: list[str | None]

    @property
    def error(self) -> str | None:
        if self.answered.variant != "fallback":
            return None
        return "the release on probation failed" if is_on_probation(self.route) else "the candidate failed"

    def row(self, index: int, sample: float) -> Prediction:
        return Prediction(
            id=self.ids[index],
            at=self.at,
            project=self.route.project,
            release=self.answered.version,
            variant=self.answered.variant,
            rollout=self.route.rollout_id,
            inputs={name: values[index] for name, values in self.columns.items()},
            outputs=self.outputs[index],
            key=self.keys[index],
            event_time=self.times[index],
            latency_ms=self.answered.seconds * 1000,
            error=self.error,
            sample=sample,
        )

    def rows(self) -> Predictions:
        return Predictions(
            id=self.ids[0],
            rows=len(self.ids),
            at=self.at,
            project=self.route.project,
            release=self.answered.version,
            variant=self.answered.variant,
            rollout=self.route.rollout_id,
            inputs=dict(self.columns),
            outputs={name: [row[name] for row in self.outputs] for name in self.outputs[0]},
            latency_ms=self.answered.seconds * 1000,
            keys=self.keys if any(self.keys) else None,
            event_times=self.times if any(self.times) else None,
            error=self.error,
        )


class Recorder:
    """Writes predictions and labels through to the operating system. Every method may raise DiskFullError.

    ``secret`` keys the hashes of sampling and of redacted keys; it is the same in all processes of an installation.
    """

    def __init__(
        self, log: LogWriter, policy: LogPolicy = RECORD_ALL, counts: SharedCounters | None = None, secret: bytes = b""
    ) -> None:
        self._log = log
        self._policy = policy
        self._counts = counts
        self._secret = secret
        self._hidden = frozenset(policy.redact)
        self._below = int(policy.sample * 2**64)
        self.ids = Ids()

    @property
    def records_all(self) -> bool:
        """Whether everything is recorded as it is."""
        return self._policy.sample >= 1.0 and not self._hidden

    def record_predictions(
        self, route: Route, ask: PredictionRequest, answered: RouterAnswer, outputs: list[dict[str, Any]]
    ) -> list[str]:
        """Record each row, or of a sample those that are in it; returns the ids of all."""
        at = moment()
        ids = self.ids.take(at, len(outputs))
        columns, keys, times = ask.columns, ask.keys, ask.event_times
        if self._hidden:
            columns = {name: values for name, values in columns.items() if name not in self._hidden}
            keys, times = self._redact(ask, answered)
        written = _Written(route, answered, at, ids, columns, outputs, keys, times)
        if self._policy.sample < 1.0 and route.rollout_id is None and route.candidate is None:
            rows = [i for i, name in enumerate(ids) if self._is_sampled(ask.keys[i] or name)]
            records = [written.row(i, self._policy.sample) for i in rows]
            self._write_or_count(route.project, records, len(rows), len(ids) - len(rows))
        else:
            self.record_rows(written.row(0, 1.0) if len(ids) == 1 else written.rows(), len(ids))
        return ids

    def record_rows(self, record: Prediction | Predictions, rows: int) -> None:
        """Record the rows of one request as they are."""
        try:
            self._log.append(record)
        except (OSError, DiskFullError):
            self._write_or_count(record.project, [record], rows, 0)  # once more, to say or count what is wrong

    def record_each(self, records: Sequence[tuple[Prediction | Predictions, int]]) -> list[NoriaError | None]:
        """As `record_rows` for the records of several requests, in one write; what became of each."""
        if not records:
            return []
        first: list[NoriaError | None] = []
        try:
            self._log.append(*(record for record, _ in records))
            return [None] * len(records)
        except StoreError as error:
            if not isinstance(error, DiskFullError):  # told once, so somebody has to hear of it
                first = [error]
        except Exception:  # noqa: BLE001 - none is written: each by itself tells whose fault it is
            first = []
        return first + [self._record_alone(record, rows) for record, rows in records[len(first) :]]

    def _record_alone(self, record: Prediction | Predictions, rows: int) -> NoriaError | None:
        try:
            self.record_rows(record, rows)
        except NoriaError as error:
            return error
        return None

    def record_labels(self, project: str, said: list[FeedbackMessage], key: str | None = None) -> None:
        """Record labels, all of them; ``key``: the column that they may name instead of a prediction's id."""
        at = moment()
        hidden = key is not None and key in self._hidden
        keys = [self._hash(s.key) if hidden else s.key for s in said]
        self._write(*(Feedback(at=at, project=project, label=s.label, id=s.id, key=k) for s, k in zip(said, keys, strict=True)))

    def _is_sampled(self, name: str) -> bool:
        """All predictions of a key, or none: a label by key must not find an older one than it belongs to."""
        found = hashlib.blake2b(name.encode(), digest_size=8, key=self._secret, person=b"sample").digest()
        return int.from_bytes(found, "little") < self._below

    def _redact(self, ask: PredictionRequest, answered: RouterAnswer) -> tuple[list[str | None], list[str | None]]:
        """The keys as hashes and no event times, where the policy names these columns."""
        signature = answered.release.signature
        keys = [self._hash(k) for k in ask.keys] if signature.key in self._hidden else ask.keys
        times: list[str | None] = ask.event_times
        if signature.event_time in self._hidden:
            times = [None] * len(times)
        return keys, times

    def _hash(self, key: str | None) -> str | None:
        """The same for the same key, so that labels find their predictions; nobody without the secret can tell the key."""
        return key and "h-" + hashlib.blake2b(key.encode(), digest_size=16, key=self._secret, person=b"key").hexdigest()

    def _write_or_count(self, project: str, records: Sequence[Prediction | Predictions], rows: int, unsampled: int) -> None:
        """``rows``: in ``records``; ``unsampled``: not in them."""
        if records:
            try:
                self._write(*records)
            except DiskFullError as error:
                full = isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL
                if not full or self._policy.when_full is not WhenFull.COUNT or self._counts is None:
                    raise
                self._counts.of(project).count_not_recorded(rows, sampled=False)
        if unsampled and self._counts is not None:
            self._counts.of(project).count_not_recorded(unsampled, sampled=True)

    def _write(self, *records: Prediction | Predictions | Feedback) -> None:
        try:
            self._log.append(*records)
        except OSError as error:
            raise DiskFullError(f"the prediction cannot be recorded, so it is not answered: {error.strerror}") from error


def secret(state: Path) -> bytes:
    """The secret of an installation's log, made when it is not there yet; readable by its owner only. Raises StoreError."""
    path = state / SECRET
    with contextlib.suppress(FileNotFoundError):
        return _read_secret(path)
    if any((state / "log").glob("*/[!.]*")):
        text = f"{path} was not there, and is made: labels by key find what is logged from now on, not what was before"
        _log.warning(text)
    with contextlib.suppress(FileExistsError):  # another worker was first
        write_whole(path, os.urandom(SECRET_BYTES), 0o600, replace=False)
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    """Raises FileNotFoundError when it is not there, StoreError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        text = f"the secret of the log cannot be read: {error.strerror}"
        hint = "Restore it from a backup: without it, labels by key find nothing."
        raise StoreError(text, where=str(path), hint=hint) from error
