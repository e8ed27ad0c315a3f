"""File descriptors: a process that answers others takes as many as the system allows."""

from __future__ import annotations

import contextlib
import resource
import select

MOST = 65_536  # more serve nobody, and some libraries walk through all that are allowed
KEPT = 128  # for files: connections take the others


def raise_limit() -> int:
    """Raise the soft limit to the hard one, for this process and those it starts; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system that refuses: the limit stays as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def for_connections() -> int:
    """How many connections a process may hold, so that its files have descriptors."""
    return max(limit() // 2, limit() - KEPT)


def readable(fd: int, timeout_s: float) -> bool:
    """Whether there is something to read before the time is over. `select.select` knows descriptors below 1,024 only."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(timeout_s * 1000))
