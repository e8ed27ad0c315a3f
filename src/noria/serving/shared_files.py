"""Restores files that a running server shares with its processes and somebody deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from noria.serving import counts, rate_limits
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.host_pool import Hosts
from noria.serving.worker_pool import WorkerPool


def mend(
    state: Path, environments: Mapping[str, tuple[WorkerPool, SharedCounters]], hosts: Hosts, *, limited: bool
) -> Iterator[str]:
    """Says what was made again. ``limited``: callers have budgets. Raises OSError, NoriaError where that is not possible."""
    for name, (group, counters) in environments.items():
        yield from _mend_environment(state, name, group, counters, limited)
    for digest in hosts.start_unreachable_again():
        yield f"the socket of {digest[:12]}'s host was deleted: the host is restarted"


def _mend_environment(state: Path, name: str, group: WorkerPool, counters: SharedCounters, limited: bool) -> Iterator[str]:
    """The counters of an environment, with what they held; and the budgets of its callers, empty."""
    path = counts_path(state, name)
    if not path.exists():
        counts.create(path)
        counters.reopen(path)
        group.tell("recount")
        yield f"{path} was deleted: it is restored with its contents"
    if limited and not rate_limits.rates_path(state, name).exists():
        rate_limits.create(rate_limits.rates_path(state, name))
        yield f"{rate_limits.rates_path(state, name)} was deleted: new workers start counting from zero"
