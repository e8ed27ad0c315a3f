"""One environment of the server tree: where it listens, its workers, and which routes it follows."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from noria.kernel.access import is_loopback
from noria.kernel.errors import PortInUseError, ServingError
from noria.serving.autoscaler import Scaler
from noria.serving.counts import SharedCounters
from noria.serving.crashes import CrashHistory, crash_facts
from noria.serving.route import Route
from noria.serving.traffic import TrafficMeter
from noria.serving.usage import UsageMeter, WorkerUsage
from noria.serving.worker_pool import WorkerPlan, WorkerPool, route_releases

BACKLOG = 1024


class ServedEnvironment(msgspec.Struct):
    """One environment of the tree."""

    listener: socket.socket
    group: WorkerPool
    counts: SharedCounters
    deaths: CrashHistory
    scaler: Scaler
    meter: UsageMeter = msgspec.field(default_factory=UsageMeter)
    flow: TrafficMeter = msgspec.field(default_factory=TrafficMeter)
    usage: WorkerUsage | None = None
    applied: dict[str, Route] = {}  # by project
    refused: dict[str, Route] = {}  # the newest route of a project, when it could not be applied
    retries: dict[str, tuple[float, float]] = {}  # by project: when to try again, and the pause

    @property
    def address(self) -> str:
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def fit(place: ServedEnvironment, plan: WorkerPlan) -> WorkerPlan:
    """Returns the plan without candidates that crash and without releases that no route names."""
    routes = tuple(route.without_candidate() if place.deaths.is_unfit(route) else route for route in plan.routes)
    wanted = {digest for route in routes for digest in route_releases(route)}
    return WorkerPlan(routes, plan.releases).without(plan.releases.keys() - wanted)


def facts(place: ServedEnvironment) -> dict[str, Any]:
    """What the control socket tells of it."""
    return {
        "route": msgspec.to_builtins(next(iter(place.applied.values()), None)),
        "routes": msgspec.to_builtins(list(place.applied.values())),
        "refused": msgspec.to_builtins(next(iter(place.refused.values()), None)),
        "workers": place.group.pids(),
        "restarts": place.group.restarts,
        "complaints": place.group.complaints,
    } | crash_facts(place.deaths)


def bind(environment: str, host: str, port: int, *, keyed: bool = False) -> socket.socket:
    """A listening socket. Raises PortInUseError, ServingError for an address that is not loopback when there are no keys."""
    if not keyed and not is_loopback(host):
        raise ServingError(
            f"{environment}: {host} is not a loopback address, and there are no API keys",
            hint="Name a list of keys (`serving: {keys_file: ...}`, or --key-file of `noria serve`), or listen on 127.0.0.1.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"{environment}: {host}:{port} cannot be listened on: {error.strerror}",
            hint="Choose another port for this environment, or stop the program that uses it.",
        ) from error
    listener.setblocking(False)
    return listener
