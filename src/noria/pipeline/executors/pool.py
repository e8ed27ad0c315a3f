"""Processes on this machine: warm, single-use interpreters and plain commands, each in its process group, with limits and a log.

One thread per running job watches its process tree. Every job ends with a ``Done``; whatever the job started ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from noria.kernel import logs, orphans
from noria.kernel.errors import NoriaError, StepError
from noria.kernel.process_tree import ProcessTree, descendants
from noria.kernel.words import lasting
from noria.pipeline.executors.command import Command
from noria.pipeline.executors.limits import SAMPLE_S, THREADS, JobEnd, PoolWork, Slots, drain, fd_of
from noria.pipeline.executors.log import Log
from noria.pipeline.executors.task import cores

_log = logs.get_logger("noria.pipeline")

PRELOAD = (  # in small pieces: a job that comes waits for one of them only
    "polars",
    "numpy",
    "joblib",
    "scipy.sparse",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.base",
    "sklearn.pipeline",
    "sklearn.compose",
    "sklearn.preprocessing",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "skl2onnx",
    "onnxruntime",
)
OF_THIS_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})
OURS = frozenset({"NORIA_API_KEY"})
OF_A_REPOSITORY = frozenset(  # as `git rev-parse --local-env-vars` tells them, without the settings that a person may have made
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)
START_S = 60.0  # a step process that has not taken its job by then never will
ATTEMPTS = 3  # warm processes may have died while they waited
RESTING = 2  # warm processes that are kept when no work comes: each holds up to 270 MB
REST_S = 300.0  # without work: then the others are let go
QUIET_S = 0.5  # the pool is filled up again when nothing has run for this long: warming takes a core for a second


class StepProcess(msgspec.Struct, eq=False):
    """A step process and the pipes to it."""

    process: subprocess.Popen[bytes]
    reply: int
    mark: str  # in its environment, and that of all it starts
    pending: bytearray = bytearray()  # an unfinished line of the reply pipe
    ready: bool = False  # its interpreter has started and listens
    closed: bool = False  # it will say no more

    @classmethod
    def start(cls, preload: Sequence[str], interpreter: Path) -> StepProcess:
        ours, theirs = os.pipe()
        mark = orphans.new_mark()
        try:
            process = subprocess.Popen(
                [str(interpreter), "-P", "-m", "noria.pipeline.executors.child", str(theirs), *preload],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                start_new_session=True,
                env=_environment(interpreter) | {orphans.MARK: mark},
            )
        except OSError as error:
            os.close(ours)
            raise StepError(f"a step process cannot be started: {error}", where=str(interpreter)) from error
        finally:
            os.close(theirs)
        for fd in (ours, fd_of(process.stdout)):
            os.set_blocking(fd, False)
        return cls(process, ours, mark)

    def send(self, work: PoolWork, kept_to: tuple[int, ...] = ()) -> None:
        """Hand the job over. Raises OSError when the process is gone."""
        assert self.process.stdin is not None
        message = {
            "target": work.target,
            "job": work.job,
            "cwd": str(work.cwd),
            "paths": [str(path) for path in work.paths],
            "env": work.env | {orphans.MARK: self.mark},
            "cores": kept_to,
        }
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def messages(self) -> list[dict[str, Any]]:
        """What it said since the last look."""
        while said := drain(self.reply):
            self.pending += said
        self.closed = said is not None
        *lines, rest = bytes(self.pending).split(b"\n")
        self.pending = bytearray(rest)
        return [json.loads(line) for line in lines]

    def output(self) -> bytes | None:
        """What it printed since the last look; empty at the end, None when there is nothing yet."""
        return drain(fd_of(self.process.stdout))

    def kill(self, known: Sequence[psutil.Process] = ()) -> None:
        """End it and everything it started: its descendants, its process group, and those ``known`` from earlier looks."""
        for process in [*descendants(self.process.pid), *known]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        orphans.end(self.process.pid, self.mark)

    def release(self) -> None:
        """Reap it and close its pipes."""
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        os.close(self.reply)


class Pool:
    """``size`` processes are kept warm, fewer while no work comes; at most ``running`` jobs run at a time (the number of cores,
    at least ``size``).

    They are of ``interpreter``, in which this Noria can be imported; this process's own when none is named.
    """

    def __init__(
        self, size: int = 2, preload: Sequence[str] = PRELOAD, running: int | None = None, interpreter: Path | None = None
    ) -> None:
        self.interpreter = interpreter or Path(sys.executable)
        self._size = size
        self._preload = tuple(preload)
        self.slots = Slots(running or max(size, cores()))
        self._lock = threading.Lock()
        self._warm: list[StepProcess] = []
        self._jobs: set[PoolJob] = set()
        self._refill: threading.Timer | None = None
        self._rest: threading.Timer | None = None
        self._keeper: orphans.Keeper | None = None
        self._keeping = threading.Lock()
        self._closed = False
        self._wanted = False  # commands alone need no interpreters

    def warm(self) -> None:
        """Start processes ahead; returns at once."""
        with self._lock:
            self._wanted = True
            missing = 0 if self._closed else self._size - len(self._warm)
            for _ in range(missing):
                self._warm.append(self._child())
            if missing > 0:
                self._rest_later()

    def submit(self, work: PoolWork) -> PoolJob:
        """Start the job as soon as a slot is free. Raises StepError when the executor was closed."""
        job = PoolJob(self, work)
        with self._lock:
            if self._closed:
                raise StepError("the executor is closed")
            self._jobs.add(job)
        job.start()
        return job

    def close(self) -> None:
        """Cancel what runs and end every process."""
        with self._lock:
            self._closed = True
            jobs, warm, self._warm = list(self._jobs), self._warm, []
            for timer in filter(None, (self._refill, self._rest)):
                timer.cancel()
        for child in warm:
            child.kill()
            child.release()
        for job in jobs:
            job.cancel()
            job.join()
        if self._keeper is not None:
            self._keeper.close()

    def keeper(self) -> orphans.Keeper:
        """Who ends the jobs when this process is killed. With the first one, what killed engines of before left is ended."""
        with self._keeping:
            if self._keeper is None:
                self._keeper = orphans.Keeper()
                if ended := orphans.end_orphans():
                    told = f"{ended} processes were left by steps whose engine was killed; they were ended"
                    _log.warning(told, extra=logs.facts(processes=ended))
            return self._keeper

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> StepProcess:
        """A warm process, or a cold one; one more is started ahead when none is left."""
        with self._lock:
            for dead in [child for child in self._warm if child.process.poll() is not None]:
                self._warm.remove(dead)
                dead.release()
            child = self._warm.pop(0) if self._warm else self._child()
            if not self._warm and self._size and not self._closed:
                self._warm.append(self._child())
            return child

    def _child(self) -> StepProcess:
        return StepProcess.start(self._preload, self.interpreter)

    def refill_later(self, job: PoolJob) -> None:
        """The last job to end has the pool filled up, after a pause in which the next one may come."""
        with self._lock:
            self._jobs.discard(job)
            if self._jobs or self._closed or not self._wanted:
                return
            if self._refill is not None:
                self._refill.cancel()
            self._refill = _timer(QUIET_S, self._fill)

    def _fill(self) -> None:
        with self._lock:
            busy = bool(self._jobs)
        if not busy:
            with contextlib.suppress(StepError):  # no memory for one more process: the next job starts its own
                self.warm()

    def _rest_later(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._rest = _timer(REST_S, self._end_idle)

    def _end_idle(self) -> None:
        """Most of the warm processes end where no work came for long; the next job has the pool filled up again."""
        with self._lock:
            if self._closed:
                return
            if self._jobs:
                self._rest_later()
                return
            spare, self._warm = self._warm[RESTING:], self._warm[:RESTING]
        for child in spare:
            child.kill()
            child.release()


def _timer(seconds: float, call: Callable[[], None]) -> threading.Timer:
    """Without it the pool is fuller or emptier than it should be: jobs start their own processes, and nothing waits for it."""

    def told() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the next job has it tried again
            _log.warning(f"the warm step processes are left as they are: {type(error).__name__}: {error}")

    timer = threading.Timer(seconds, told)
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # the machine has no thread left
        timer.start()
    return timer


class PoolJob:
    """A job under way, and the thread that watches it."""

    def __init__(self, executor: Pool, work: PoolWork) -> None:
        self._executor = executor
        self._work = work
        self._finished = threading.Event()
        self._cancelled = threading.Event()
        self._done: JobEnd | None = None
        self._thread = threading.Thread(target=self._run, name="job", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:  # the machine has no thread left
            self._done = _could_not_run(error)
            self._leave()

    def wait(self) -> JobEnd:
        """Blocks until the job ended; its limits see to it that it does."""
        self._finished.wait()
        assert self._done is not None
        return self._done

    def cancel(self) -> None:
        """Kill the job; ``wait`` then returns a Done of kind ``cancelled``."""
        self._cancelled.set()
        self._executor.slots.look()

    def join(self) -> None:
        """Until the job's processes are reaped."""
        if self._thread.ident is not None:  # it was begun
            self._thread.join(timeout=10)

    def _run(self) -> None:
        watched: WatchedProcess | None = None
        try:
            with self._executor.slots.hold(self._work, self._cancelled) as kept_to, Log(self._work.log) as log:
                if self._work.command is not None:
                    command = Command(self._work, log, self._cancelled, kept_to)
                    self._done = self._watch_kept(command.pid, command.watch)
                else:
                    watched = self._hand_over(log, kept_to)
                    self._done = self._watch_kept(watched.child.process.pid, watched.watch)
        except (OSError, NoriaError) as error:  # no process, no log: the machine's trouble is the job's end
            self._done = _could_not_run(error, "cancelled" if self._cancelled.is_set() else "exited")
        except BaseException as error:  # noqa: BLE001 - whatever it was, nobody waits for the job for ever
            self._done = _could_not_run(f"{type(error).__name__}: {error}")
        finally:
            self._leave(watched)

    def _leave(self, watched: WatchedProcess | None = None) -> None:
        try:
            self._executor.refill_later(self)
        finally:  # also where the pool breaks: somebody waits
            self._finished.set()
            if watched is not None:
                watched.child.release()

    def _watch_kept(self, session: int, watch: Callable[[], JobEnd]) -> JobEnd:
        keeper = self._executor.keeper()
        keeper.note_start(session)
        try:
            return watch()
        finally:
            keeper.note_end(session)

    def _hand_over(self, log: Log, kept_to: tuple[int, ...]) -> WatchedProcess:
        """The job in the hands of a process. Raises StepError when none takes it."""
        for _ in range(ATTEMPTS):
            if self._cancelled.is_set():
                raise StepError("was cancelled")
            watched = WatchedProcess(self._executor.take(), self._work, log, self._cancelled, kept_to)
            if watched.hand_over():
                return watched
            watched.child.kill()
            watched.child.release()
        raise StepError(f"no step process accepts the job: {log.tail() or 'they end without output'}")


def _could_not_run(why: object, kind: str = "exited") -> JobEnd:
    return JobEnd(False, None, f"could not be run: {why}", kind, 0.0, 0.0, 0.0, "")


class WatchedProcess:
    """A process with its job: what it says, what it uses, and when it must end."""

    def __init__(
        self, child: StepProcess, work: PoolWork, log: Log, cancelled: threading.Event, kept_to: tuple[int, ...] = ()
    ) -> None:
        self.child = child
        self._kept_to = kept_to
        self._work = work
        self._log = log
        self._cancelled = cancelled
        self._begun = time.perf_counter()
        self._started: float | None = None
        self._in_user_code: float | None = None
        self._user_s = 0.0
        self._tree = ProcessTree(child.process.pid, work.memory_bytes)
        self._answer: dict[str, Any] | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(child.reply, selectors.EVENT_READ)
        self._selector.register(fd_of(child.process.stdout), selectors.EVENT_READ)

    def hand_over(self) -> bool:
        """Whether the process took the job."""
        deadline = self._begun + START_S
        while not self.child.ready and self._is_living(deadline):
            self._look()
        try:
            self.child.send(self._work, self._kept_to)
        except OSError:
            return False
        while self._started is None and self._is_living(deadline):
            self._look()
        return self._started is not None or self._cancelled.is_set()

    def watch(self) -> JobEnd:
        """Until the job ends, by itself or by its limits."""
        ending: tuple[str, str] | None = None
        due = time.perf_counter() + SAMPLE_S
        while self._answer is None and ending is None:
            self._look()
            if self._answer is None and time.perf_counter() >= due:
                ending, due = self._judge(), time.perf_counter() + SAMPLE_S
        self.child.kill(self._tree.known)
        self._log.write(self.child.output() or b"")
        self._selector.close()
        return self._report(ending)

    def _is_living(self, deadline: float) -> bool:
        return self.child.process.poll() is None and time.perf_counter() < deadline and not self._cancelled.is_set()

    def _look(self) -> None:
        for key, _ in self._selector.select(SAMPLE_S):
            if key.fd == self.child.reply:
                self._listen()
            elif (printed := self.child.output()) == b"":
                self._selector.unregister(key.fd)
            else:
                self._log.write(printed or b"")

    def _listen(self) -> None:
        for message in self.child.messages():
            self._hear(message)
        if self.child.closed:
            self._selector.unregister(self.child.reply)

    def _hear(self, message: dict[str, Any]) -> None:
        now = time.perf_counter()
        match message["state"]:
            case "ready":
                self.child.ready = True
            case "started":
                self._started = now
            case "user":
                self._in_user_code = now
            case "system":
                self._user_s += now - (self._in_user_code or now)
                self._in_user_code = None
            case "done":
                self._answer = message

    def _judge(self) -> tuple[str, str] | None:
        """Kind and sentence of a job that must end now."""
        code = self.child.process.poll()
        if code is not None:
            if not self.child.closed:
                self._listen()
            return _ending(code) if self._answer is None else None
        if self._cancelled.is_set():
            return "cancelled", "was cancelled"
        if time.perf_counter() - (self._started or self._begun) > self._work.timeout_s:
            return "timeout", f"timed out after {lasting(self._work.timeout_s)}"
        return self._tree.judge()

    def _report(self, ending: tuple[str, str] | None) -> JobEnd:
        now = time.perf_counter()
        answer = self._answer or {}
        kind, error = ending or (answer["kind"], answer.get("error"))
        spent = self._user_s + (now - self._in_user_code if self._in_user_code else 0.0)
        return JobEnd(
            ok=kind == "ok",
            result=answer.get("result"),
            error=error,
            kind=kind,
            seconds=now - self._begun,
            user_s=answer.get("user_s", spent),
            peak_rss_mb=max(self._tree.peak_bytes, answer.get("peak_bytes", 0)) / 1e6,
            log_tail=self._log.tail(),
            cpu_s=answer.get("cpu_s", 0.0),
            read_mb=answer.get("read_mb", 0.0),
            written_mb=answer.get("written_mb", 0.0),
            read=tuple(answer.get("read", ())),
        )


def _environment(interpreter: Path) -> dict[str, str]:
    """What must be set before the interpreter starts: equal hashes in every run, a native thread a core, none that spins."""
    defaults = {**dict.fromkeys(THREADS, str(cores())), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**defaults, **surroundings(interpreter), "PYTHONHASHSEED": "0"}


def surroundings(interpreter: Path) -> dict[str, str]:
    """This process's environment, for an interpreter: what would bring this one's packages to another is left out.

    So are a client's key, and what names a Git repository: a hook that called Noria was told of its own.
    """
    left_out = OURS | OF_A_REPOSITORY | (frozenset() if interpreter == Path(sys.executable) else OF_THIS_PYTHON)
    return {name: value for name, value in os.environ.items() if name not in left_out}


def _ending(code: int) -> tuple[str, str]:
    if code < 0:
        return "killed", f"was killed by signal {-code}"
    return "exited", f"ended with exit code {code} without a result"
