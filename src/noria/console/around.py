"""What the ledger does not know: the project file's words, and which processes run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from noria.adapters.server import SOCKET, Server

if TYPE_CHECKING:
    from noria.config import Project


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Without a project file in hand its words stay empty, and the environments are those that have a route."""

    goal: str = ""
    environments: tuple[str, ...] = ()  # in the project file's order
    steps: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # environment -> the policy's canary shares
    addresses: Mapping[str, str] = field(default_factory=dict)  # environment, or "console" -> http://127.0.0.1:8000
    daemon: bool = False
    server: bool = False
    false_alarm: float = 0.001  # a window with a smaller p-value is one whose quality sank


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """What state/daemon.json tells of the process that `noria up` started."""

    pid: int
    console: str | None  # http://127.0.0.1:8080


def surroundings(state: Path, project: Project | None = None) -> Surroundings:
    """Look around: daemon.json, the server's socket, and the project file's words where there is one."""
    daemon = running_daemon(state)
    addresses = Server(state).addresses() if (state / SOCKET).exists() else {}
    console = {"console": daemon.console} if daemon is not None and daemon.console else {}
    around = Surroundings(addresses={**console, **addresses}, daemon=daemon is not None, server=bool(addresses))
    return around if project is None else _with_words(around, project)


def _with_words(around: Surroundings, project: Project) -> Surroundings:
    return Surroundings(
        goal=project.goal,
        environments=tuple(project.environments),
        steps={name: environment.rollout.steps for name, environment in project.environments.items()},
        addresses=around.addresses,
        daemon=around.daemon,
        server=around.server,
        false_alarm=project.monitor.false_alarm,
    )


def running_daemon(state: Path) -> RunningDaemon | None:
    """The running daemon, or None."""
    try:
        facts = json.loads((state / "daemon.json").read_text())
        pid = int(facts["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return RunningDaemon(pid, facts.get("console")) if is_alive(pid) else None


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs (one of another user counts)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
