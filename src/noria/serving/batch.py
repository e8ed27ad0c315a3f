"""Scores many rows at once, for files: the same forms that answer requests, fed with arrays instead of lists."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from noria.kernel import names
from noria.kernel.errors import ServingError, SignatureError
from noria.kernel.words import lasting
from noria.models.signature import MATRIX
from noria.releases.bundle import Bundle
from noria.releases.release import ServedForm
from noria.serving.host_pool import Host
from noria.serving.runtime import BeyondModelError, HostedRuntime, HostLostError, OnnxRuntime, ReleaseFailed
from noria.serving.runtime import _output as output_name

if TYPE_CHECKING:
    import polars as pl

HOSTED_ROWS = 1000  # in one message to a host process: as many as a request may carry by default
PATIENCE_S = 600.0  # for one message
RESTART_S = 30.0  # for a host process that died
DEATHS = 50  # of host processes, in one job: a row that kills is found by halving, with about ten

Answers = NDArray[np.float64]  # [n] of a regression; [n, k] probabilities in the order of the classes
Failures = dict[int, str]  # position of a row -> why it has no answer


class Scorer(Protocol):
    """A release that answers frames. Their columns are the signature's, of its kinds, checked as a request's are."""

    size: int  # the most rows that are worth asking at once

    def score(self, frame: pl.DataFrame) -> Answers:
        """Returns answers in the order of the rows. Raises ReleaseFailed or SignatureError when a row has none."""

    def close(self) -> None: ...


def open_scorer(bundle: Bundle, state: Path, rows: int) -> Scorer:
    """Loads a verified bundle as the model server does. Raises ServingError."""
    return CompiledScorer(bundle, rows) if bundle.form is ServedForm.COMPILED else HostedScorer(bundle, state)


def score_rows(scorer: Scorer, frame: pl.DataFrame) -> tuple[Answers, Failures]:
    """Returns the answers of all rows that have one, in order, and why the others have none: a failing batch is halved."""
    parts: list[Answers] = []
    failures: Failures = {}
    waiting = [(at, min(scorer.size, frame.height - at)) for at in range(0, frame.height, scorer.size)][::-1]
    while waiting:
        at, n = waiting.pop()
        try:
            parts.append(scorer.score(frame.slice(at, n)))
        except (ReleaseFailed, SignatureError) as error:
            if n == 1:
                failures[at] = error.message
            else:
                waiting += [(at + n // 2, n - n // 2), (at, n // 2)]
    return (np.concatenate(parts) if parts else np.empty(0)), failures


class CompiledScorer(OnnxRuntime):
    """ONNX in this process, with the session of the server's workers. Text goes as objects, all else without a Python object."""

    def __init__(self, bundle: Bundle, rows: int) -> None:
        super().__init__(bundle)
        self.size = rows
        self._classes = len(bundle.signature.classes)
        self._answer = output_name(self._session, bundle.signature)
        self._columns = [i.name for i in bundle.signature.inputs]
        self._types = {node.name: node.type for node in self._session.get_inputs()}

    def score(self, frame: pl.DataFrame) -> Answers:
        try:
            with np.errstate(over="ignore"):  # beyond float32: said below, where it matters
                feeds = self._arrays(frame)
            raw = np.asarray(self._session.run([self._answer], feeds)[0])
        except Exception as error:  # onnxruntime's errors share no base
            raise ReleaseFailed(f"{type(error).__name__}: {error}") from error
        wanted = (frame.height, self._classes) if self._classes else (frame.height,)
        if not self._classes and raw.shape == (frame.height, 1):
            raw = raw[:, 0]
        if raw.shape != wanted:
            raise ReleaseFailed(f"the model answered shape {raw.shape} where {wanted} was due")
        if not np.isfinite(raw).all():
            _demand_single(frame)
            raise ReleaseFailed("the model answered a number that is not finite")
        return raw.astype(np.float64)

    def close(self) -> None:  # type: ignore[override]  # nothing to wait for
        """Memory goes with the last reference."""

    def _arrays(self, frame: pl.DataFrame) -> dict[str, Any]:
        if list(self._types) != [MATRIX]:
            return {name: _column(frame[name], kind) for name, kind in self._types.items()}
        made = np.empty((frame.height, len(self._columns)), dtype=np.float32)
        for place, name in enumerate(self._columns):
            made[:, place] = _numbers(frame[name])
        return {MATRIX: made}


_WHOLE = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def _column(series: pl.Series, kind: str) -> NDArray[Any]:
    """One ONNX input [n, 1], by the rule of the model server."""
    if kind == "tensor(string)":
        found = np.empty((len(series), 1), dtype=object)
        found[:, 0] = series.fill_null("").to_list()
        return found
    if kind in _WHOLE:
        if series.null_count():
            raise ReleaseFailed(f"{series.name} is null, where the model takes whole numbers only")
        return series.to_numpy().astype(_WHOLE[kind]).reshape(-1, 1)
    return _numbers(series).astype(np.float32 if kind == "tensor(float)" else np.float64).reshape(-1, 1)


def _numbers(series: pl.Series) -> NDArray[np.float64]:
    """float64, null as NaN."""
    import polars as pl

    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _demand_single(frame: pl.DataFrame) -> None:
    """Raise BeyondModelError for a number that float32 does not hold."""
    for series in frame:
        if series.dtype.is_numeric():
            values = np.abs(_numbers(series))
            large = values[(values > np.finfo(np.float32).max) & np.isfinite(values)]
            if large.size:
                raise BeyondModelError(f"{series.name} is beyond what this release computes with (float32): {large[0]:.6g}")


class HostedScorer:
    """The release's own code, in a host process as the model server keeps one; it is started again when a row kills it."""

    size = HOSTED_ROWS

    def __init__(self, bundle: Bundle, state: Path) -> None:
        folder = state / "serving"
        folder.mkdir(parents=True, exist_ok=True)
        self._runner = asyncio.Runner()
        self._deaths = 0
        socket = folder / f"host-{names.short(bundle.digest)}.sock"
        self._host = Host(state, bundle.folder, socket)
        self._runtime = HostedRuntime(socket, bundle.signature)
        try:
            self._runner.run(self._host.start())
            self._runner.run(self._runtime.connect(time.monotonic() + RESTART_S))
        except BaseException:  # whatever it was: no host may outlive it
            self.close()
            raise

    def score(self, frame: pl.DataFrame) -> Answers:
        columns = {series.name: series.to_list() for series in frame}
        try:
            found = self._runner.run(self._runtime.predict(columns, frame.height, time.monotonic() + PATIENCE_S))
        except TimeoutError:
            raise ReleaseFailed(f"no answer within {lasting(PATIENCE_S)}") from None
        except HostLostError:
            self._await_host()
            raise
        return np.asarray(found, dtype=np.float64)

    def close(self) -> None:
        with self._runner as runner:
            runner.run(self._runtime.close())
            runner.run(self._host.stop())

    def _await_host(self) -> None:
        """Waits until the host process runs again. Raises ServingError when it dies repeatedly."""
        self._deaths += 1
        if self._deaths > DEATHS:
            raise ServingError(f"the release's host process died {self._deaths} times", hint="Its standard error says why.")
        self._runner.run(self._alive())

    async def _alive(self) -> None:
        until = time.monotonic() + RESTART_S
        while True:
            try:
                await self._runtime.connect(time.monotonic() + 1.0)
                return
            except ServingError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)
