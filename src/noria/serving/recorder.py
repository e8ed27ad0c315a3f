"""On disk before the answer: nothing leaves that the log does not hold."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from noria.domain.rollout import Route
from noria.errors import DiskFullError
from noria.serving.protocol import Ask, Said
from noria.serving.router import Answered
from noria.store.predictions import Feedback, LogWriter, Prediction


class Ids:
    """Prediction ids of one process: ``p-0197a3c2e5f1-9c1b7e22-00002a``; sortable by time, never given twice."""

    def __init__(self) -> None:
        self._process = os.urandom(4).hex()
        self._counter = itertools.count()

    def take(self, at: float) -> str:
        return f"p-{int(at * 1000):012x}-{self._process}-{next(self._counter):06x}"


class Recorder:
    """Writes predictions and labels through to the operating system. Every method may raise DiskFullError."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._ids = Ids()

    def predicted(self, route: Route, ask: Ask, answered: Answered, outputs: list[dict[str, Any]]) -> list[str]:
        """Record each row; returns their ids."""
        at = time.time()
        ids = [self._ids.take(at) for _ in outputs]
        columns, names = ask.columns, list(ask.columns)
        error = "the candidate failed" if answered.variant == "fallback" else None
        self._write(
            *(
                Prediction(
                    id=ids[i],
                    at=at,
                    project=route.project,
                    release=answered.version,
                    variant=answered.variant,
                    rollout=route.rollout_id,
                    inputs={name: columns[name][i] for name in names},
                    outputs=outputs[i],
                    key=ask.keys[i],
                    event_time=ask.event_times[i],
                    latency_ms=answered.seconds * 1000,
                    error=error,
                )
                for i in range(len(outputs))
            )
        )
        return ids

    def fed_back(self, project: str, said: list[Said]) -> None:
        at = time.time()
        self._write(*(Feedback(at=at, project=project, label=s.label, id=s.id, key=s.key) for s in said))

    def _write(self, *records: Prediction | Feedback) -> None:
        try:
            self._log.append(*records)
        except OSError as error:
            raise DiskFullError(f"the record cannot be written, so nothing is answered: {error.strerror}") from error
