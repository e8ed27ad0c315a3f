"""The part of the status that is not in the ledger: settings of the project file, and running processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from noria.kernel.errors import ServingError
from noria.kernel.policy import Freeze, MonitorPolicy, RolloutPolicy, StepKind
from noria.serving.client import SOCKET, Server

if TYPE_CHECKING:
    from noria.config import Project


class ServerUse(msgspec.Struct, frozen=True):
    """What the processes of the model server use at present."""

    workers: Mapping[str, int] = {}  # environment -> how many
    processes: int = 0
    cpu: float = 0.0  # of a core
    memory_bytes: int = 0  # shared pages are divided where that was measured, else counted in each process


class StatusContext(msgspec.Struct, frozen=True):
    """Without a project file, its fields stay empty, and the environments are those with a route."""

    goal: str = ""
    gated: tuple[str, ...] = ()  # metrics that gates ask for, in the gates' order
    environments: tuple[str, ...] = ()  # in the project file's order
    steps: Mapping[str, tuple[float, ...]] = {}  # environment -> the policy's canary shares
    freezes: Mapping[str, tuple[Freeze, ...]] = {}  # environment -> when nothing goes out to it
    addresses: Mapping[str, str] = {}  # environment, or "console" -> http://127.0.0.1:8000
    daemon: bool = False
    standstill: str = ""  # why the running daemon decides nothing any more
    server: bool = False
    use: ServerUse | None = None  # None: no server, or it does not know yet
    answering: Mapping[tuple[str, str], str] = {}  # environment, project -> the champion in the workers
    idle: frozenset[str] = frozenset()  # environments in which no worker answers at present
    failed: Mapping[str, str] = {}  # release, by its digest -> why the server does not serve it
    false_alarm: float = MonitorPolicy().false_alarm  # a window with a smaller p-value is one whose quality sank


class RunningDaemon(msgspec.Struct, frozen=True):
    """The contents of daemon.json: the process that `noria up` started."""

    pid: int
    console: str | None  # http://127.0.0.1:8080
    standstill: str = ""  # why it decides nothing any more


def surroundings(state: Path, project: Project | None = None) -> StatusContext:
    """Reads daemon.json, asks the server over its socket, and reads the project file if there is one."""
    daemon = running_daemon(state)
    status = _status(state)
    addresses = status.get("addresses", {})
    console = {"console": daemon.console} if daemon is not None and daemon.console else {}
    everywhere = {**console, **addresses}
    environments = status.get("environments", {})
    around = StatusContext(
        addresses=everywhere,
        daemon=daemon is not None,
        standstill=daemon.standstill if daemon is not None else "",
        server=bool(addresses),
        use=_use(status),
        answering={(name, r["project"]): r["champion"] for name, facts in environments.items() for r in facts["routes"]},
        idle=frozenset(name for name, facts in environments.items() if not facts["workers"]),
        failed=status.get("failed", {}) | _crash_causes(environments),
    )
    return around if project is None else _with_words(around, project)


def _status(state: Path) -> dict[str, Any]:
    if not (state / SOCKET).exists():
        return {}
    try:
        return Server(state).status()
    except ServingError:
        return {}


def _crash_causes(environments: Mapping[str, Any]) -> dict[str, str]:
    return {digest: crash["how"] for facts in environments.values() for digest, crash in facts["crashes"].items()}


def _use(status: Mapping[str, Any]) -> ServerUse | None:
    """Every environment reports parent and hosts; they are counted once."""
    found = {name: facts["usage"] for name, facts in status.get("environments", {}).items() if facts.get("usage")}
    each = {process["pid"]: process for usage in found.values() for process in usage["processes"]}.values()
    if not each:
        return None
    workers = {name: len(status["environments"][name]["workers"]) for name in found}
    memory = sum(process["pss"] or process["rss"] for process in each)
    return ServerUse(workers, len(each), sum(process["cpu"] for process in each), memory)


def shares(policy: RolloutPolicy) -> tuple[float, ...]:
    """The candidate's shares of live traffic, step by step."""
    return tuple(step.share for step in policy.steps if step.kind is StepKind.CANARY)


def with_freezes(around: StatusContext, project: Project) -> StatusContext:
    return replace(around, freezes={name: environment.freeze for name, environment in project.environments.items()})


def _with_words(around: StatusContext, project: Project) -> StatusContext:
    return replace(
        with_freezes(around, project),
        goal=project.goal,
        gated=tuple(gate.metric for gate in project.gates),
        environments=tuple(project.environments),
        steps={name: shares(environment.rollout) for name, environment in project.environments.items()},
        false_alarm=project.monitor.false_alarm,
    )


def running_daemon(state: Path) -> RunningDaemon | None:
    """The running daemon, or None."""
    try:
        facts = json.loads((state / "daemon.json").read_text())
        pid = int(facts["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if facts.get("folder", identity(state)) != identity(state):
        return None  # this folder is a copy; the daemon runs in the original
    return RunningDaemon(pid, facts.get("console"), str(facts.get("standstill", ""))) if is_alive(pid) else None


def identity(folder: Path) -> list[int]:
    """Identifies a folder, as opposed to its copies, even after it moved on its disk."""
    facts = folder.stat()
    return [facts.st_dev, facts.st_ino]


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs (one of another user counts)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
