"""A job held under a lease: a thread renews it, and every state change checks it in its own transaction."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from msgspec.structs import replace

from noria.kernel import logs
from noria.kernel.errors import LeaseLostError, StoppedError
from noria.storage.context import StoreContext
from noria.storage.jobs import Job, JobStore
from noria.storage.ledger import Ledger

_log = logs.get_logger("noria.storage")

Context = TypeVar("Context", bound=StoreContext)
LEASE_S = 6.0
AGAIN_S = 0.5  # after a renewal that failed


def owner() -> str:
    """This process, as job rows name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_holder_gone(holder: str) -> bool:
    """Whether the process of an owner was on this machine and is no more: its lease need not be waited for."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


class HeldJob:
    """A claimed job. Leaving the block without `done` gives the job back for another engine to take at once."""

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self.job = job
        self.jobs = JobStore(ledger, job.project)
        self._stop = threading.Event()
        self._lost = False
        self._outcome: str | None = None
        self._thread = threading.Thread(target=self._renew, name=f"lease-{job.kind}", daemon=True)

    @classmethod
    def claim(cls, ledger: Ledger, project: str, kind: str, subject: str) -> HeldJob | None:
        """Claim the job of this kind, making it first if there is none; None while another engine holds it."""
        jobs = JobStore(ledger, project)
        jobs.add(kind, subject, dedupe=f"{kind}:{subject}")
        job = jobs.claim((kind,), owner(), LEASE_S, subject)
        if job is None and (holder := jobs.holder(kind, subject)) and is_holder_gone(holder):
            job = jobs.claim((kind,), owner(), LEASE_S, subject, gone=holder)
        if job is None:
            return None
        _log.debug(f"{kind} {subject} is in hand", extra=logs.facts(job=kind, subject=subject))
        return cls(ledger, job)

    def __enter__(self) -> HeldJob:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._lost:
            return
        if isinstance(error, LeaseLostError):  # of this lease, or somebody changed what it was read from: then it is free at once
            with contextlib.suppress(LeaseLostError):
                self.jobs.release(self.job, 0.0, worked=True)
            return
        if self._outcome is not None:
            self.jobs.finish(self.job, self._outcome)
        else:
            self.jobs.release(self.job, 0.0, worked=error is None or isinstance(error, StoppedError | KeyboardInterrupt))

    def finish(self, outcome: str) -> None:
        """The job is finished, not to be taken again."""
        self._outcome = outcome

    def over(self, context: Context) -> Context:
        """The line whose changes of state check this lease, besides what it checked before."""

        def check(before: Callable[[], None] = context.check_lease) -> None:
            before()
            self.check()

        return replace(context, check_lease=check)

    def check(self) -> None:
        """Raise LeaseLostError when another engine took the job over."""
        if self._lost:
            raise LeaseLostError(f"the lease on {self.job.kind} {self.job.subject} was lost")
        self.jobs.check(self.job)

    def _renew(self) -> None:
        wait = LEASE_S / 3
        while not self._stop.wait(wait):
            try:
                self.job, wait = self.jobs.renew(self.job, LEASE_S), LEASE_S / 3
            except LeaseLostError:
                self._lost = True
                return
            except BaseException as error:  # noqa: BLE001 - tried again while the lease lasts; `check` tells when it does not
                told = f"the lease on {self.job.kind} {self.job.subject} could not be renewed: {error}"
                _log.warning(told, extra=logs.facts(job=self.job.kind, subject=self.job.subject, error=type(error).__name__))
                wait = AGAIN_S
