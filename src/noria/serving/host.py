"""The host process of one release: `python -m noria.serving.host STATE BUNDLE SOCKET READY_FD [prove]`.

The pickled model and a copy of the sealed source tree live here and nowhere else. One thread predicts, one loop listens. An
exception of the project's code is an answer. What is more than an exception (a panic of a native library, `sys.exit`) is an
answer to the request that met it, and the end of this process: nobody knows what it left behind. It ends with its parent, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec

from noria.kernel import logs, names
from noria.kernel.errors import ServingError, StoreError
from noria.models.signature import Input, Kind
from noria.releases.bundle import CODE, Bundle, lay_out_code, open_bundle
from noria.releases.signing import known_keys
from noria.serving import frames, golden_rows
from noria.serving.child_process import CODE_ENDED, PROVE
from noria.serving.client import PARENT, short_path
from noria.serving.failed_rows import RetryBudget, tell_apart
from noria.serving.host_pool import clear_copies, copy_of

_log = logs.get_logger("noria.serving.host")

QUEUE_LIMIT = 1024  # requests that wait for the one thread
WARNINGS = 100  # different ones that are logged
BATCH_ROWS = 256  # of one call, and the rest of a request
HALVED = 8  # failed calls of several requests, then each is asked alone
HANG_S = 60.0  # beyond the time when anybody waits for the answer: then the call counts as one that never ends
LOOK_S = 0.5  # between two looks at the parent and at the thread that predicts
FLUSH_S = 1.0  # to hand out the last answers
PR_SET_PDEATHSIG = 1


class HostRequest(msgspec.Struct, frozen=True):
    """One request, and where its answer goes."""

    number: int
    columns: dict[str, list[Any]]
    n: int
    until: float  # monotonic seconds; nobody waits for the answer after that
    answer: Callable[[dict[str, Any]], None]
    apart: bool = False  # where its rows fail together, each is told by itself


class HostedModel:
    """The project's features and model, called as they were in training."""

    def __init__(self, bundle: Bundle) -> None:
        from noria.models import python_model  # heavy: only hosts load it

        self._signature = bundle.signature
        frames = msgspec.convert(bundle.manifest.frames, python_model.TableKinds)
        self._rows_of = python_model.rows_of
        tables = python_model.load_tables({name: bundle.folder / one.file for name, one in bundle.manifest.also.items()})
        features = python_model.bind_features(_features(bundle), bundle.manifest.feature_params, tables)
        self._model = python_model.PythonModel(_unpickle(bundle), features, bundle.signature, frames)

    def warm(self) -> None:
        """Predicts one made-up row, so that the first request does not pay for the first call's set-up.

        It proves nothing: the row is not real, and the result is ignored.
        """
        row = {i.name: [_middle(i)] for i in self._signature.inputs}
        for _ in range(3):
            with contextlib.suppress(BaseException):
                self.predict(row, 1)

    def predict(self, columns: dict[str, list[Any]], n: int) -> list[Any]:
        """A float per row (regression) or a row of probabilities; of a model that decides itself its class's place besides."""
        found: list[Any] = self._model.served_answers(self._rows_of(columns, self._signature)).tolist()
        return found


def explain(error: BaseException, root: Path) -> str:
    """``KeyError: 'ANC' in delays/features.py:12``: the innermost line of the project's own code."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        with contextlib.suppress(ValueError):
            place = f" in {Path(frame.filename).relative_to(root)}:{frame.lineno}"
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    cure = f"; install what has {missing.partition('.')[0]} in the environment that serves it" if missing else ""
    return f"{type(error).__name__}: {str(error)[:500]}{place}{cure}"


def _middle(entry: Input) -> Any:
    """A value that training saw the like of."""
    if entry.kind is Kind.STRING:
        return ""
    if entry.kind is Kind.BOOLEAN:
        return False
    middle = ((entry.low or 0.0) + (entry.high or 0.0)) / 2
    return int(middle) if entry.kind is Kind.INTEGER else middle


def _features(bundle: Bundle) -> Callable[[Any], Any] | None:
    features = bundle.manifest.features
    if not features:
        return None
    module, _, name = features.partition(":")
    function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    return function


def _unpickle(bundle: Bundle) -> Any:
    import joblib  # heavy: only hosts load it

    return joblib.load(bundle.model_path)  # safe: the manifest's signature and this file's digest were verified


class SealedLoader(SourceFileLoader):
    """Compiles the sealed sources themselves: bytecode that lies beside them was not verified, so it is not believed."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def enter(bundle: Bundle, copy: Path) -> None:
    """Changes into a copy of the sealed tree, to which the code may write."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ.setdefault("NUMBA_CACHE_DIR", f"{tempfile.gettempdir()}/noria-{os.urandom(8).hex()}")
    if (bundle.folder / CODE).is_dir():
        lay_out_code(bundle.folder, copy)
        os.chdir(copy)
    code = copy.resolve()

    def finder(path: str) -> FileFinder:
        if not Path(path).resolve().is_relative_to(code):
            raise ImportError
        return FileFinder(path, (SealedLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    paths = bundle.manifest.hosted.paths if bundle.manifest.hosted else ()
    sys.path[:0] = [str((code / path).resolve()) for path in paths]


class ModelThread:
    """The thread that calls the project's code, and its bounded queue.

    ``together``: what waits is answered in one call, as far as it is there already: nothing waits for company.
    ``on_end`` is called once that thread takes no more: what waits then is sent back, for the next process to answer.
    """

    def __init__(
        self, model: HostedModel, root: Path, together: bool = False, on_end: Callable[[], object] = lambda: None
    ) -> None:
        self._model = model
        self._root = root
        self._most = BATCH_ROWS if together else 1
        self._together = together
        self._retry_budget = RetryBudget()
        self._on_end = on_end
        self._ended = False
        self._until = math.inf  # monotonic seconds: when the answer at work is of use to nobody any more
        self._jobs: queue.Queue[HostRequest] = queue.Queue(QUEUE_LIMIT)
        threading.Thread(target=self._work, name="predict", daemon=True).start()

    def is_hanging(self) -> bool:
        """Whether the thread is in a call that nobody has been waiting for since HANG_S seconds."""
        return time.monotonic() > self._until + HANG_S

    def put(self, job: HostRequest) -> None:
        if self._ended:
            job.answer(_again(job))
            return
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            job.answer({"id": job.number, "ok": False, "error": f"more than {QUEUE_LIMIT} requests wait for this release"})

    def _work(self) -> None:
        try:
            while not self._ended:
                jobs = self._next_batch(self._jobs.get())
                now = time.monotonic()
                jobs = [job for job in jobs if now < job.until]  # nobody waits for the others any more
                self._until = max((job.until for job in jobs), default=math.inf)
                self._answer(jobs)
                self._until = math.inf
        finally:
            self._ended = True
            with contextlib.suppress(queue.Empty):
                while True:
                    job = self._jobs.get_nowait()
                    job.answer(_again(job))
            self._on_end()

    def _next_batch(self, first: HostRequest) -> list[HostRequest]:
        """The first job, with those behind it that one call can take."""
        jobs, rows = [first], first.n
        while rows < self._most:
            try:
                jobs.append(self._jobs.get_nowait())
            except queue.Empty:
                break
            rows += jobs[-1].n
        return jobs

    def _answer(self, jobs: list[HostRequest]) -> None:
        """In one call, or where that fails in halves, down to each alone: nobody fails for what somebody else asked."""
        waiting, failed = [jobs] if jobs else [], 0
        while waiting:
            some = waiting.pop()
            if len(some) == 1 or failed > HALVED:
                for job in some:
                    job.answer(_again(job) if self._ended else self._reply(job))
            elif not self._answer_together(some):
                failed += 1
                waiting += [some[len(some) // 2 :], some[: len(some) // 2]]

    def _answer_together(self, jobs: list[HostRequest]) -> bool:
        """Answer all in one call; False when it fails."""
        if self._ended:
            return False
        columns = {name: [value for job in jobs for value in job.columns[name]] for name in jobs[0].columns}
        rows = sum(job.n for job in jobs)
        try:
            values = self._model.predict(columns, rows)
        except BaseException:  # noqa: BLE001 - whatever the project's code raises is said to the request that causes it
            return False
        if len(values) != rows:
            return False
        at = 0
        for job in jobs:
            job.answer({"id": job.number, "ok": True, "values": values[at : at + job.n]})
            at += job.n
        return True

    def _reply(self, job: HostRequest) -> dict[str, Any]:
        try:
            try:
                return {"id": job.number, "ok": True, "values": self._model.predict(job.columns, job.n)}
            except Exception as error:  # noqa: BLE001 - whatever the project's code raises is an answer
                failed = {"id": job.number, "ok": False, "error": explain(error, self._root)}
            return failed | self._answer_apart(job) if job.apart and job.n > 1 and self._together else failed
        except BaseException as error:  # noqa: BLE001 - a panic or an exit: an answer too, and the last one
            self._ended = True
            _log.error(f"{type(error).__name__} ended this host", exc_info=error)
            return {"id": job.number, "ok": False, "error": f"{explain(error, self._root)}; that ended the host process"}

    def _answer_apart(self, job: HostRequest) -> dict[str, Any]:
        """The rows of a failed request that have an answer all the same; nothing where none has."""

        def ask(start: int, stop: int) -> list[Any]:
            return self._model.predict({name: values[start:stop] for name, values in job.columns.items()}, stop - start)

        found = tell_apart(job.n, ask, self._retry_budget)
        return {"values": found.answers, "failed": found.failed, "untold": found.untold} if found.answered else {}


def _again(job: HostRequest) -> dict[str, Any]:
    """The reply to a request that was not tried: this process ends, and the next one can answer it."""
    return {"id": job.number, "ok": False, "again": True, "error": "the host process ends"}


async def serve(make: Callable[[Callable[[], object]], ModelThread], socket: Path, ready: Callable[[], object]) -> int:
    """Answers connections until the parent or the model thread ends; returns the exit code.

    ``make`` gets what a desk calls at its end.
    """
    loop, over, writers = asyncio.get_running_loop(), asyncio.Event(), set[asyncio.StreamWriter]()

    def ended() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are ending
            loop.call_soon_threadsafe(over.set)

    desk = make(ended)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def answer(message: dict[str, Any]) -> None:
            packed = frames.pack(message)
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are ending
                loop.call_soon_threadsafe(_write, writer, packed)

        writers.add(writer)
        with contextlib.suppress(EOFError, OSError, ValueError, msgspec.DecodeError):
            while True:
                m = await frames.read(reader)
                desk.put(HostRequest(m["id"], m["columns"], m["n"], m["until"], answer, m.get("apart", False)))
        writers.discard(writer)
        writer.close()

    socket.unlink(missing_ok=True)
    with short_path(socket) as name:
        server = await asyncio.start_unix_server(connected, name, limit=frames.LIMIT_BYTES)
    ready()
    parent = os.getppid()
    while os.getppid() == parent and not over.is_set() and not desk.is_hanging():  # braces to the belt of PR_SET_PDEATHSIG
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), LOOK_S)
    server.close()
    if desk.is_hanging():
        _log.error("a call does not end, and nobody waits for it any more")
    if over.is_set():
        for writer in writers:
            _write(writer, frames.pack({frames.OVER: True}))
    await _flushed(writers)
    return CODE_ENDED if over.is_set() or desk.is_hanging() else 0


def _write(writer: asyncio.StreamWriter, packed: bytes) -> None:
    if not writer.is_closing():
        writer.write(packed)


async def _flushed(writers: set[asyncio.StreamWriter]) -> None:
    """What was answered leaves this process, if anybody reads it."""
    open_ones = list(writers)
    for writer in open_ones:
        writer.close()
    if open_ones:
        await asyncio.wait([asyncio.create_task(writer.wait_closed()) for writer in open_ones], timeout=FLUSH_S)


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends (Linux); end at once when it is gone already."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ.pop(PARENT, None)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # nobody waits for words


class WarnOnce:
    """Warnings of libraries go to the log once each: some come with every call, and would fill it."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, int]] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        known = (str(message)[:200], filename, lineno)
        if known not in self._seen and len(self._seen) < WARNINGS:
            self._seen.add(known)
            told = warnings.formatwarning(message, category, filename, lineno, line).rstrip()
            _log.warning(told, extra=logs.facts(category=category.__name__, file=filename, line=lineno))


def main(arguments: list[str]) -> int:
    """Exit code 1: it could not be loaded. Never returns when it served."""
    state, folder, socket, ready_fd = Path(arguments[0]), Path(arguments[1]), Path(arguments[2]), int(arguments[3])
    parent = os.getppid()
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.showwarning = WarnOnce()
    copy = copy_of(socket)
    try:
        bundle = open_bundle(folder, known_keys(state), folder.name)
        clear_copies(socket)
        enter(bundle, copy)
        model = HostedModel(bundle)
        model.warm()
        _log.disabled = False  # the project's code may have set up logging of its own, which switches off what was there
        if PROVE in arguments[4:]:
            golden_rows.ask(bundle, lambda columns: model.predict(columns, 1))
        gc.collect()
        gc.freeze()  # libraries and the model stay: collections under load need not walk them
    except (ServingError, StoreError) as error:
        return _say(ready_fd, str(error))
    except BaseException as error:  # noqa: BLE001 - importing and unpickling run the project's code: any error is its answer
        return _say(ready_fd, explain(error, copy.resolve()))
    if os.getppid() != parent:
        return 1
    _log.info(f"{names.short(bundle.digest)} is ready, pid {os.getpid()}", extra=logs.facts(release=bundle.digest))
    facts = bundle.manifest.hosted
    make = partial(ModelThread, model, copy.resolve(), facts is not None and facts.batch)
    code = asyncio.run(serve(make, socket, partial(_say, ready_fd)))
    sys.stdout.flush()
    os._exit(code)  # threads of the project's code are not waited for


def _say(ready_fd: int, error: str | None = None) -> int:
    """Tells the parent that this host is ready, or why not."""
    with contextlib.suppress(OSError):
        os.write(ready_fd, json.dumps({"error": error} if error else {"ok": True}).encode() + b"\n")
        os.close(ready_fd)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
