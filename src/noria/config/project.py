"""The typed project: what noria.yaml says, every default filled in. Texts that may hold a secret stay out of ``repr``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.domain.contract import Contract
from noria.domain.policy import Gate, MonitorPolicy, RetrainPolicy, RolloutPolicy
from noria.domain.signature import Task

DIRECT = RolloutPolicy()


@dataclass(frozen=True, slots=True)
class DataSource:
    """``source`` is a path or glob relative to the home, an absolute one, ``file://...``, or ``log:ENVIRONMENT``."""

    name: str
    source: str = field(repr=False)
    contract: Contract | None = None
    contract_file: str | None = None  # relative to the home
    settle_s: float = 2.0  # wall clock


@dataclass(frozen=True, slots=True)
class Step:
    """Exactly one of ``call`` ("module:function") and ``cmd`` is set."""

    name: str
    call: str | None = None
    cmd: str | None = field(default=None, repr=False)
    deps: tuple[str, ...] = ()  # datasets and steps it takes
    params: tuple[str, ...] = ()  # its other arguments that a params file gives
    outs: tuple[str, ...] = ()  # files a command writes, relative to its folder
    timeout_s: float = 600.0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Holdout:
    """At most one is set: the last seconds of event time, or a share of the rows by a hash of the key or the row."""

    last_s: float | None = None
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    rows: str  # the labelled table: a step or a dataset
    label: str
    train: str  # module:function
    key: str | None = None  # None: a row is known by what it holds
    event_time: str | None = None
    task: Task = Task.BINARY
    inputs: tuple[str, ...] = ()  # empty: every column of the table but label, key and event_time
    features: str | None = None  # module:function
    holdout: Holdout = Holdout(fraction=0.2)
    slices: tuple[str, ...] = ()  # columns that gates look at value by value
    timeout_s: float = 1800.0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Checks:
    code: str | None = field(default=None, repr=False)
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Environment:
    name: str
    after: str | None = None
    approvals: int = 0
    rollout: RolloutPolicy = DIRECT


@dataclass(frozen=True, slots=True)
class Serving:
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    max_body_bytes: int = 1 << 20
    max_rows: int = 1000


@dataclass(frozen=True, slots=True)
class Console:
    host: str = "127.0.0.1"
    port: int = 8080


@dataclass(frozen=True, slots=True)
class GitWatch:
    branch: str = "main"
    repository: str | None = field(default=None, repr=False)  # None: the home's own
    every_s: float = 2.0  # wall clock


@dataclass(frozen=True, slots=True)
class Project:
    """``steps`` stand in an order in which they can run; ``digest`` is of the bytes of noria.yaml."""

    name: str
    goal: str = field(repr=False)
    home: Path
    digest: str
    data: dict[str, DataSource]
    params: dict[str, Any]
    params_file: str | None
    steps: dict[str, Step]
    model: Model | None
    checks: Checks
    gates: tuple[Gate, ...]
    environments: dict[str, Environment]
    serving: Serving
    console: Console
    monitor: MonitorPolicy
    retrain: RetrainPolicy
    git: GitWatch
