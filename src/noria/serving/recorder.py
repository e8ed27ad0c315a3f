"""On disk before the answer: nothing leaves that the log does not hold, unless the project's policy says so; that is counted."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.domain.policy import RECORD_ALL, LogPolicy, WhenFull
from noria.domain.rollout import Route
from noria.errors import DiskFullError
from noria.serving.counts import Counts
from noria.serving.protocol import Ask, Said
from noria.serving.router import Answered
from noria.store.disk import FULL
from noria.store.predictions import Feedback, LogWriter, Prediction

SECRET = "log.key"  # noqa: S105 - the name of the file
SECRET_BYTES = 32


class Ids:
    """Prediction ids of one process: ``p-0197a3c2e5f1-9c1b7e22-00002a``; sortable by time, never given twice."""

    def __init__(self) -> None:
        self._process = os.urandom(4).hex()
        self._counter = itertools.count()

    def take(self, at: float) -> str:
        return f"p-{int(at * 1000):012x}-{self._process}-{next(self._counter):06x}"


class Recorder:
    """Writes predictions and labels through to the operating system. Every method may raise DiskFullError.

    ``secret`` keys the hashes of sampling and of redacted keys; it is the same in all processes of an installation.
    """

    def __init__(self, log: LogWriter, policy: LogPolicy = RECORD_ALL, counts: Counts | None = None, secret: bytes = b"") -> None:
        self._log = log
        self._policy = policy
        self._counts = counts
        self._secret = secret
        self._hidden = frozenset(policy.redact)
        self._below = int(policy.sample * 2**64)
        self._ids = Ids()

    def predicted(self, route: Route, ask: Ask, answered: Answered, outputs: list[dict[str, Any]]) -> list[str]:
        """Record each row, or of a sample those that are in it; returns the ids of all."""
        at = int(time.time() * 1e6) / 1e6  # as exact as it is kept later
        ids = [self._ids.take(at) for _ in outputs]
        columns, keys, times = ask.columns, ask.keys, ask.event_times
        sample = 1.0
        rows: Sequence[int] = range(len(outputs))
        if self._policy.sample < 1.0 and route.rollout_id is None and route.candidate is None:
            sample = self._policy.sample
            rows = [i for i in rows if self._chosen(keys[i] or ids[i])]
        if self._hidden:
            columns = {name: values for name, values in columns.items() if name not in self._hidden}
            keys, times = self._redacted(ask, answered)
        names = list(columns)
        error = "the candidate failed" if answered.variant == "fallback" else None
        records = [
            Prediction(
                id=ids[i],
                at=at,
                project=route.project,
                release=answered.version,
                variant=answered.variant,
                rollout=route.rollout_id,
                inputs={name: columns[name][i] for name in names},
                outputs=outputs[i],
                key=keys[i],
                event_time=times[i],
                latency_ms=answered.seconds * 1000,
                error=error,
                sample=sample,
            )
            for i in rows
        ]
        self._write_or_count(records, len(outputs) - len(records))
        return ids

    def fed_back(self, project: str, said: list[Said], key: str | None = None) -> None:
        """Record labels, all of them; ``key``: the column that they may name instead of a prediction's id."""
        at = int(time.time() * 1e6) / 1e6
        hidden = key is not None and key in self._hidden
        keys = [self._hashed(s.key) if hidden else s.key for s in said]
        self._write(*(Feedback(at=at, project=project, label=s.label, id=s.id, key=k) for s, k in zip(said, keys, strict=True)))

    def _chosen(self, name: str) -> bool:
        """All predictions of a key, or none: a label by key must not find an older one than it belongs to."""
        found = hashlib.blake2b(name.encode(), digest_size=8, key=self._secret, person=b"sample").digest()
        return int.from_bytes(found, "little") < self._below

    def _redacted(self, ask: Ask, answered: Answered) -> tuple[list[str | None], list[str | None]]:
        """The keys as hashes and no event times, where the policy names these columns."""
        signature = answered.release.signature
        keys = [self._hashed(k) for k in ask.keys] if signature.key in self._hidden else ask.keys
        times: list[str | None] = ask.event_times
        if signature.event_time in self._hidden:
            times = [None] * len(times)
        return keys, times

    def _hashed(self, key: str | None) -> str | None:
        """The same for the same key, so that labels find their predictions; nobody without the secret can tell the key."""
        return key and "h-" + hashlib.blake2b(key.encode(), digest_size=16, key=self._secret, person=b"key").hexdigest()

    def _write_or_count(self, records: list[Prediction], unsampled: int) -> None:
        if records:
            try:
                self._write(*records)
            except DiskFullError as error:
                full = isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL
                if not full or self._policy.when_full is not WhenFull.COUNT or self._counts is None:
                    raise
                self._counts.not_recorded(len(records), sampled=False)
        if unsampled and self._counts is not None:
            self._counts.not_recorded(unsampled, sampled=True)

    def _write(self, *records: Prediction | Feedback) -> None:
        try:
            self._log.append(*records)
        except OSError as error:
            raise DiskFullError(f"the record cannot be written, so nothing is answered: {error.strerror}") from error


def secret(state: Path) -> bytes:
    """The secret of an installation's log, made when it is not there yet; readable by its owner only. Raises DiskFullError."""
    path = state / SECRET
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    fresh = state / f"{SECRET}.{os.urandom(4).hex()}"
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(os.urandom(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another worker was first
            os.link(fresh, path)
    except OSError as error:
        raise DiskFullError(f"no secret for the log can be kept: {error.strerror}", where=str(path)) from error
    finally:
        fresh.unlink(missing_ok=True)
    return path.read_bytes()
