"""A warm, single-use interpreter: `python -P -m noria.pipeline.executors.child REPLY_FD MODULE ...`.

It imports the third-party libraries it is told to for as long as no job comes, takes one job (a line of JSON) on standard input,
runs it, replies, and waits to be killed with whatever it started. Lines on the reply pipe:
``{"state": "ready" | "started" | "user" | "system"}``, and last ``{"state": "done", ...}``.

When the parent dies, an idle child reads the end of its input and ends. A busy one cannot be trusted to look: the kernel sends
SIGKILL to its whole process group as the pipe closes (fcntl F_SETSIG), whatever the project's code is doing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import importlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from noria.kernel import orphans
from noria.kernel.descriptors import readable
from noria.kernel.errors import NoriaError
from noria.models import user_time
from noria.pipeline.executors.reading import OpenedFiles

F_SETSIG = 10  # Linux: the signal that O_ASYNC sends; not in the fcntl module
OF_CODE = (ImportError, SyntaxError, NameError, AttributeError)
MESSAGE_LIMIT = 4000  # characters of an error's text


class ParentPipe:
    """The pipe to the parent."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd

    def send(self, **message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]


def main(arguments: list[str]) -> None:
    reply, orders = ParentPipe(int(arguments[0])), _own_stdin()
    faulthandler.enable()
    orphans.adopt()
    reply.send(state="ready")
    missing = preload(arguments[1:], orders.fileno())
    line = orders.readline()
    if not line.endswith(b"\n"):
        return  # the parent is gone, or needs no more work
    _die_with_parent(orders.fileno())
    work = json.loads(line)
    preload([name for name in missing if is_shadowed(name, work["paths"])])
    enter(work)
    reading = OpenedFiles(Path(work["cwd"]))
    before = resource_usage()
    reply.send(state="started")
    user_time.listen(lambda inside: reply.send(state="user" if inside else "system"))
    done = run(work)
    user_time.listen(None)
    done["read"] = reading.opened_paths()
    _flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    used = {name: value - before[name] for name, value in resource_usage().items()}
    reply.send(state="done", user_s=user_time.user_seconds(), peak_bytes=peak, **used, **done)
    threading.Event().wait()  # the parent kills this process together with what it started


def resource_usage() -> dict[str, float]:
    """Processor seconds, and megabytes read from and written to storage, of this process and those it waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "cpu_s": sum(u.ru_utime + u.ru_stime for u in found),
        "read_mb": sum(u.ru_inblock for u in found) * 512 / 1e6,
        "written_mb": sum(u.ru_oublock for u in found) * 512 / 1e6,
    }


def preload(modules: list[str], orders: int | None = None) -> list[str]:
    """Import what is installed, until a job waits in ``orders``: it imports what it needs. Returns what is left.

    A library that is missing or broken is the job's trouble, if it needs it.
    """
    for at, name in enumerate(modules):
        if orders is not None and readable(orders, 0.0):
            return modules[at:]
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return []


def is_shadowed(name: str, paths: Sequence[str]) -> bool:
    """Whether the project has a module of a library's name: the library comes first, at whatever moment the job came."""
    top = name.partition(".")[0]
    return any(Path(path, found).exists() for path in paths for found in (top, f"{top}.py"))


def enter(work: dict[str, Any]) -> None:
    """Make the job's folder, import path and environment this interpreter's world."""
    os.chdir(work["cwd"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a killed job keeps what it printed
    sys.path[:0] = work["paths"]
    keep_to(work.get("cores") or ())
    kept = {name: value for name, value in os.environ.items() if name.endswith("_THREADS")}
    os.environ.clear()
    os.environ.update(work["env"] | kept)
    # For the interpreters that the job starts: a shell command, a pool of workers.
    os.environ["PYTHONPATH"] = os.pathsep.join([*work["paths"], *filter(None, [work["env"].get("PYTHONPATH")])])
    importlib.invalidate_caches()


def keep_to(cores: Sequence[int]) -> None:
    """Use these cores alone, native libraries that are loaded already among them."""
    if not cores:
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    for name in [name for name in os.environ if name.endswith("_THREADS")]:
        os.environ[name] = str(len(cores))
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_limits  # only a step that is kept to some cores needs it

        threadpool_limits(len(cores))


def run(work: dict[str, Any]) -> dict[str, Any]:
    """Call the job's target; what it raises is an answer, and its traceback goes to the log."""
    module, _, name = work["target"].partition(":")
    try:
        result = getattr(importlib.import_module(module), name)(work["job"])
        unfit = _unfit(result)
        if unfit:
            return {"ok": False, "kind": "raised", "error": unfit}
    except SystemExit as error:
        if isinstance(error.code, str):  # as the interpreter would: its log has it
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return {"ok": False, "kind": "exited", "error": f"ended with exit code {code} without a result"}
    except NoriaError as error:  # written for people: a traceback would only show Noria's own lines
        return {"ok": False, "kind": "refused", "error": str(error)[:MESSAGE_LIMIT]}
    except BaseException as error:  # noqa: BLE001 - project code may raise anything, and Rust panics are BaseExceptions
        roots = [Path(work["cwd"]), *map(Path, work["paths"]), Path.cwd()]
        traceback.print_exception(type(error), error, _from_project(error, roots))
        return {"ok": False, "kind": "raised", "error": explain(error, roots)}
    return {"ok": True, "kind": "ok", "result": result}


def _unfit(result: Any) -> str:
    """Why a result cannot be sent; empty where it can. The words name types, not values."""
    try:
        json.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        return f"raised {type(error).__name__}: {error}"
    return ""


def explain(error: BaseException, roots: list[Path]) -> str:
    """``raised KeyError at delays/table.py:41``: the innermost line of the project's own code.

    What an error says may be a row of data or a secret, and this is kept for ever: it is in the log with the traceback, and here
    only where the interpreter says it of the code.
    """
    place = _place(error, [root.resolve() for root in roots])
    text = str(error)[:MESSAGE_LIMIT] if isinstance(error, OF_CODE) else ""
    return f"raised {type(error).__name__}{': ' if text else ''}{text}{f' at {place}' if place else ''}"


def _from_project(error: BaseException, roots: list[Path]) -> TracebackType | None:
    """The traceback from the first line of the project's own code; all of it where there is none."""
    known = [root.resolve() for root in roots]
    trace = error.__traceback__
    while trace is not None and not _relative(trace.tb_frame.f_code.co_filename, known):
        trace = trace.tb_next
    return trace or error.__traceback__


def _place(error: BaseException, roots: list[Path]) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        found = _relative(error.filename, roots)
        if found:
            return f"{found}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        found = _relative(frame.filename, roots)
        if found:
            return f"{found}:{frame.lineno}"
    return ""


def _relative(filename: str, roots: list[Path]) -> str:
    path = Path(filename).resolve()
    for root in roots:
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            return str(path.relative_to(root))
    return ""


def _own_stdin() -> Any:
    """Standard input under another number, so that no program the job starts can read or hold it."""
    orders = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return orders


def _die_with_parent(fd: int) -> None:
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        if readable(fd, 0.0):  # it died before the kernel was told
            os.killpg(0, signal.SIGKILL)
    else:
        threading.Thread(target=_kill_at_end, args=(fd,), daemon=True).start()


def _kill_at_end(fd: int) -> None:
    try:
        os.read(fd, 1)
    finally:  # who cannot hear of the end must not outlive it
        os.killpg(0, signal.SIGKILL)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
