"""The preflight check: a compiled release is probed once, before a worker loads it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noria.kernel.errors import ServingError
from noria.kernel.words import lasting
from noria.serving.child_process import send_signal, spawn

PROBE_S = 60.0  # to verify, load and answer the golden rows
AT_ONCE = 2  # each holds a model in memory


class Proofs:
    """Digests that a probe answered for, for as long as this tree lives: neither flips nor new workers probe again."""

    def __init__(self, state: Path, bundle_folder: Callable[[str], Path]) -> None:
        self._state = state
        self._folder = bundle_folder
        self._proven: set[str] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def prove(self, digests: list[str], patience_s: float = PROBE_S) -> dict[str, str]:
        """Probes releases that are not proven yet; returns digest -> reason for those that must not be served."""
        wanted = [digest for digest in digests if digest not in self._proven]
        outcomes = await asyncio.gather(*(self._try(digest, patience_s) for digest in wanted))
        return {digest: why for digest, why in zip(wanted, outcomes, strict=True) if why}

    def forget(self) -> None:
        """Forgets what was proven, so that releases are probed again."""
        self._proven.clear()

    async def _try(self, digest: str, patience_s: float) -> str:
        async with self._room:
            try:
                await probe(self._state, self._folder(digest), digest, patience_s)
            except ServingError as error:
                return str(error)
            except OSError as error:
                return f"it could not be tried: {error}"
        self._proven.add(digest)
        return ""


async def probe(state: Path, folder: Path, digest: str, patience_s: float = PROBE_S) -> None:
    """Raises ServingError with the reason why the release must not be served; OSError when no process can be started."""
    ours, theirs = os.pipe()
    try:
        process = await spawn("noria.serving.probe", [str(state), str(folder), digest, str(theirs)], (theirs,))
    except BaseException:  # whatever it was, the pipe has no other end now
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as said:
        try:
            lines = await asyncio.wait_for(asyncio.to_thread(said.readlines), patience_s)
        except TimeoutError:
            raise ServingError(f"it did not load and answer its golden rows within {lasting(patience_s)}") from None
        finally:
            await _end(process)  # before the pipe is closed: a thread may still read it
    _judge(lines, process.returncode or 0)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It is given a second to end by itself: how it does is part of the answer."""
    try:
        await asyncio.wait_for(process.wait(), 1.0)
    except (TimeoutError, asyncio.CancelledError) as why:
        send_signal(process)
        await process.wait()
        if isinstance(why, asyncio.CancelledError):
            raise


def _judge(lines: list[bytes], code: int) -> None:
    last = lines[-1].decode(errors="replace").strip() if lines else "starting"
    answer: dict[str, Any] = json.loads(last) if last.startswith("{") else {}
    if "error" in answer:
        raise ServingError(answer["error"])
    if not answer:
        raise ServingError(f"it ended the process that tried it: {ending(code)} at: {last}")


def ending(code: int) -> str:
    """How a process ended, for people: ``SIGSEGV``, ``exit code 3``."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
