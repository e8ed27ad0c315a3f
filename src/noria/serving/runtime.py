"""A loaded release: columns in, numbers out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import onnxruntime as ort

from noria.kernel.errors import NoriaError, ServingError, SignatureError
from noria.models import graph_outputs, weights
from noria.models.signature import MATRIX, Kind, Signature
from noria.releases.bundle import Bundle
from noria.releases.release import ServedForm
from noria.serving import frames
from noria.serving.client import connect
from noria.serving.failed_rows import RetryBudget, tell_apart
from noria.serving.protocol import SINGLE_END

Columns = dict[str, list[Any]]
Answers = list[Any]  # per row: a float (regression), or the probabilities in the order of the signature's classes

INLINE_ROWS = 64  # larger batches leave the event loop to others
CONNECT_S = 5.0  # for a host that listens to take the connection
AGAIN_S = 0.1  # between two tries, of one that does not
READY_S = 1.0  # the same where somebody asks for the health


class ReleaseFailed(NoriaError):
    """A release raised an error, crashed, or did not answer with a number; the router decides what follows."""


class PartlyError(ReleaseFailed):
    """Some rows of a request have no answer; ``answers``: of each row, None where there is none."""

    def __init__(self, why: str, answers: Answers, failed: Sequence[int], untold: Sequence[int] = ()) -> None:
        super().__init__(why)
        self.answers = answers
        self.failed = failed
        self.untold = untold  # not told from those that fail


class HostLostError(ReleaseFailed):
    """The release's host process is gone."""


class AwayError(HostLostError):
    """The release was not asked: its host process is being restarted."""


class BeyondModelError(SignatureError):
    """A number is too large for the compiled model: the request's fault, not the release's."""


class Runtime(Protocol):
    """The interface of a loaded release. ``immediate``: up to INLINE_ROWS rows are answered without waiting."""

    immediate: bool

    async def predict(self, columns: Columns, n: int, until: float, apart: bool = False) -> Answers:
        """Answers for ``n`` rows before ``until`` (monotonic seconds). ``apart``: where that fails, the rows are told apart.

        Raises ReleaseFailed or TimeoutError; PartlyError where some rows are answered.
        """

    async def ready(self) -> bool:
        """Whether it can be asked now."""

    async def close(self) -> None: ...


class OnnxRuntime:
    """A compiled release, on one thread of this process."""

    immediate = True

    def __init__(self, bundle: Bundle) -> None:
        self._session = _session(bundle)
        self.matrix = _takes_matrix(self._session)
        self._feeds = [] if self.matrix else _feeds(self._session, bundle.signature)
        self._outputs = [_output(self._session, bundle.signature)]
        self._names = [i.name for i in bundle.signature.inputs]
        self._width = bundle.signature.width
        self.single = any(node.type == "tensor(float)" for node in self._session.get_inputs())
        self._retry_budget = RetryBudget()
        self._warm_up(bundle.signature)

    async def predict(self, columns: Columns, n: int, until: float, apart: bool = False) -> Answers:
        run = self._run_apart if apart and n > 1 else self._run
        if n <= INLINE_ROWS:
            return run(columns, n)
        return await asyncio.to_thread(run, columns, n)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        """Memory goes with the last reference: requests in flight still hold one."""

    def rows(self, rows: Sequence[Sequence[Any]]) -> Answers:
        """Answers for rows of values in the order of the signature's inputs. Raises ReleaseFailed."""
        if self.matrix:
            return self.matrix_rows(np.array(rows, dtype=np.float32))  # None becomes NaN
        try:
            columns = dict(zip(self._names, map(list, zip(*rows, strict=True)), strict=True))
            fed = {name: feed(columns[name]) for name, feed in self._feeds}
            raw = self._session.run(self._outputs, fed)[0]
        except Exception as error:  # onnxruntime's errors share no base
            raise ReleaseFailed(f"{type(error).__name__}: {error}") from error
        return check_answers(raw, len(rows), self._width)

    def matrix_rows(self, table: Any) -> Answers:
        """Answers for a float32 array [n, inputs], of a model that takes a matrix. Raises ReleaseFailed."""
        try:
            raw = self._session.run(self._outputs, {MATRIX: table})[0]
        except Exception as error:  # onnxruntime's errors share no base
            raise ReleaseFailed(f"{type(error).__name__}: {error}") from error
        return check_answers(raw, len(table), self._width)

    def _run(self, columns: Columns, n: int) -> Answers:
        try:
            with np.errstate(over="ignore"):  # a number beyond float32 is told to the client, not to the log
                fed = self._feed(columns, n)
            if self.single and any(np.isinf(values).any() for values in fed.values() if values.dtype == np.float32):
                _demand_single(columns)
            raw = self._session.run(self._outputs, fed)[0]
        except BeyondModelError:
            raise
        except Exception as error:  # onnxruntime's errors share no base
            raise ReleaseFailed(f"{type(error).__name__}: {error}") from error
        return check_answers(raw, n, self._width)

    def _run_apart(self, columns: Columns, n: int) -> Answers:
        try:
            return self._run(columns, n)
        except (BeyondModelError, PartlyError):
            raise
        except ReleaseFailed as error:
            found = tell_apart(n, partial(self._run_part, columns), self._retry_budget)
            if not found.answered:
                raise
            raise PartlyError(error.message, found.answers, found.failed, found.untold) from error

    def _run_part(self, columns: Columns, start: int, stop: int) -> Answers:
        try:
            return self._run({name: values[start:stop] for name, values in columns.items()}, stop - start)
        except PartlyError as error:
            return error.answers

    def _feed(self, columns: Columns, n: int) -> dict[str, Any]:
        if not self.matrix:
            return {name: feed(columns[name]) for name, feed in self._feeds}
        rows = np.array([columns[name] for name in self._names], dtype=np.float64)  # None becomes NaN
        return {MATRIX: np.ascontiguousarray(rows.T, dtype=np.float32)}

    def _warm_up(self, signature: Signature) -> None:
        """The first run allocates; a model may refuse the row of nulls, which says nothing about real rows."""
        with contextlib.suppress(ReleaseFailed):
            self._run({i.name: [None] for i in signature.inputs}, 1)


def _demand_single(columns: Columns) -> None:
    """Raise BeyondModelError for a number that float32 does not hold."""
    for name, values in columns.items():
        for i, value in enumerate(values):
            if isinstance(value, int | float) and SINGLE_END <= abs(value) < math.inf:
                raise BeyondModelError(f"records[{i}].{name} is beyond what this release computes with (float32): {value:.6g}")


def check_answers(raw: Any, n: int, width: int) -> Answers:
    """The model's output as lists, refused unless its shape is right and every number finite: raises PartlyError where
    only some rows are."""
    values = raw if isinstance(raw, np.ndarray) else np.asarray(raw, dtype=np.float64)
    wanted = (n, width) if width else (n,)
    if not width and values.shape == (n, 1):
        values = values[:, 0]
    if values.shape != wanted:
        raise ReleaseFailed(f"the model answered shape {values.shape} where {wanted} was due")
    answers: Answers = values.tolist()
    if not (_finite(answers[0]) if n == 1 else np.isfinite(values).all()):
        raise _infinite(values, answers)
    return answers


def _infinite(values: Any, answers: Answers) -> ReleaseFailed:
    told = "the model answered a number that is not finite"
    bad = ~np.isfinite(values.reshape(len(answers), -1)).all(axis=1)
    if bad.all():
        return ReleaseFailed(told)
    return PartlyError(told, [None if b else a for a, b in zip(answers, bad, strict=True)], np.flatnonzero(bad).tolist())


def make_partly_error(answers: Answers, failed: Sequence[int], untold: Sequence[int], why: str, width: int) -> PartlyError:
    """What a host answered, where rows have no answer. Raises ReleaseFailed when no row has a sound one."""
    rows = [row for row, answer in enumerate(answers) if answer is not None]
    if not rows:
        raise ReleaseFailed(why)
    more: set[int] = set()
    try:
        check_answers([answers[row] for row in rows], len(rows), width)
    except PartlyError as error:
        more = {rows[place] for place in error.failed}
    kept = [None if row in more else answer for row, answer in enumerate(answers)]
    return PartlyError(why, kept, sorted({*failed, *more}), untold)


def _finite(answer: Any) -> bool:
    """One row's: NumPy takes longer to begin than a row takes."""
    return all(map(math.isfinite, answer)) if isinstance(answer, list) else math.isfinite(answer)


def _session(bundle: Bundle) -> Any:
    path = bundle.model_path
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors reach us as exceptions
    try:
        with weights.loading(options, path, bundle.weights_digest):
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ServingError:
        raise
    except Exception as error:  # onnxruntime's errors share no base
        raise ServingError(f"the model cannot be loaded: {error}", where=str(path)) from error


def _strings(values: list[Any]) -> Any:
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = ["" if v is None else v for v in values]
    return array


def _numbers(dtype: Any) -> Callable[[list[Any]], Any]:
    """None becomes NaN."""

    def feed(values: list[Any]) -> Any:
        return np.array(values, dtype=np.float64).astype(dtype).reshape(-1, 1)

    return feed


def _integers(dtype: Any) -> Callable[[list[Any]], Any]:
    def feed(values: list[Any]) -> Any:
        if None in values:
            raise ValueError("null, where the model takes whole numbers only")
        return np.array(values).astype(dtype).reshape(-1, 1)

    return feed


_FEEDS: dict[str, Callable[[list[Any]], Any]] = {
    "tensor(string)": _strings,
    "tensor(float)": _numbers(np.float32),
    "tensor(double)": _numbers(np.float64),
    "tensor(int64)": _integers(np.int64),
    "tensor(int32)": _integers(np.int32),
    "tensor(bool)": _integers(np.bool_),
}


def _takes_matrix(session: Any) -> bool:
    return [node.name for node in session.get_inputs()] == [MATRIX]


def _feeds(session: Any, signature: Signature) -> list[tuple[str, Callable[[list[Any]], Any]]]:
    wanted = {i.name: i.kind for i in signature.inputs}
    feeds = []
    for node in session.get_inputs():
        if node.name not in wanted:
            raise ServingError(f"the model takes {node.name!r}, which the signature does not have")
        if node.type not in _FEEDS or (node.type == "tensor(string)") is not (wanted[node.name] is Kind.STRING):
            raise ServingError(f"the model takes {node.name!r} as {node.type}, the signature as {wanted[node.name]}")
        feeds.append((node.name, _FEEDS[node.type]))
    return feeds


def _output(session: Any, signature: Signature) -> str:
    """The name of the output that carries the numbers."""
    found = graph_outputs.likeliest(graph_outputs.of_session(session), signature.task, len(signature.classes))
    if found is None:
        raise ServingError("the model has no output of numbers of the shape that its task needs")
    return found


class HostedRuntime:
    """A hosted release: its host process does the work; this side multiplexes requests over one connection."""

    immediate = False

    def __init__(self, socket: Path, signature: Signature) -> None:
        self._path = socket
        self._width = signature.width
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answers]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def predict(self, columns: Columns, n: int, until: float, apart: bool = False) -> Answers:
        number = next(self._ids)
        answer: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(until - time.monotonic()):
                writer = await self._connect()
                if writer.is_closing():  # the host has just ended, and the reading task was not told yet
                    raise ConnectionResetError("it ended")
                writer.write(frames.pack({"id": number, "columns": columns, "n": n, "until": until, "apart": apart}))
                return check_answers(await answer, n, self._width)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise AwayError(f"the host process cannot be reached: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def connect(self, until: float) -> None:
        """Raises ServingError when the host is not reached before ``until`` (monotonic seconds): it may be starting again."""
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._connect()
                return
            except OSError as error:
                if time.monotonic() + AGAIN_S > until:
                    raise ServingError(f"the host process cannot be reached: {error}", where=str(self._path)) from error
            await asyncio.sleep(AGAIN_S)

    async def ready(self) -> bool:
        """Whether the host takes connections."""
        try:
            async with asyncio.timeout(READY_S):
                return not (await self._connect()).is_closing()
        except OSError:
            return False

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
        self._fail_waiting("the release was unloaded")

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                link = connect(self._path, 1.0)
                link.setblocking(False)
                reader, self._writer = await asyncio.open_unix_connection(sock=link, limit=frames.LIMIT_BYTES)
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        error: Callable[[str], HostLostError] = HostLostError
        try:
            while True:
                message = await frames.read(reader)
                if frames.OVER in message:
                    error = AwayError  # the next process can answer what this one did not
                else:
                    self._deliver(message)
        except (EOFError, OSError, ValueError, msgspec.DecodeError):
            if self._writer is writer:
                self._writer = None
            writer.close()
            self._fail_waiting("the host process ended", error)

    def _deliver(self, message: dict[str, Any]) -> None:
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return  # its deadline passed
        if message["ok"]:
            answer.set_result(message["values"])
        elif message.get("again"):
            answer.set_exception(AwayError(str(message["error"])))
        elif "failed" in message:
            answer.set_exception(self._make_partly_error(message))
        else:
            answer.set_exception(ReleaseFailed(str(message["error"])))

    def _make_partly_error(self, message: dict[str, Any]) -> ReleaseFailed:
        try:
            return make_partly_error(message["values"], message["failed"], message["untold"], message["error"], self._width)
        except ReleaseFailed as error:
            return error

    def _fail_waiting(self, why: str, error: Callable[[str], HostLostError] = HostLostError) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error(why))


class LoadedRelease:
    """A release in memory, with the signature by which requests are read."""

    __slots__ = ("digest", "names", "platform", "project", "runtime", "signature", "single")

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.digest = bundle.digest
        self.project = bundle.manifest.project
        self.signature = bundle.signature
        self.runtime = runtime
        self.platform = (
            "onnx_onnxv1" if bundle.form is ServedForm.COMPILED else "python_joblib"
        )  # PROJECT_FORMAT, as the protocol says
        self.single = isinstance(runtime, OnnxRuntime) and runtime.single  # numbers beyond float32 are refused
        self.names: Sequence[str] = tuple(i.name for i in bundle.signature.inputs)


async def load(bundle: Bundle, host: Path | None, wait_s: float = 0.0) -> LoadedRelease:
    """Bring a verified bundle into memory. ``host`` is the socket of its host process when it is hosted; ``wait_s``: how long
    to try when that does not listen, as it does not while it is started again.

    Raises ServingError.
    """
    if bundle.form is ServedForm.COMPILED:
        return LoadedRelease(bundle, await asyncio.to_thread(OnnxRuntime, bundle))
    if host is None:
        raise ServingError("a hosted release needs its host process", where=str(bundle.folder))
    runtime = HostedRuntime(host, bundle.signature)
    await runtime.connect(time.monotonic() + wait_s)
    return LoadedRelease(bundle, runtime)
