"""The typed project: what noria.yaml says, every default filled in. Texts that may hold a secret stay out of ``repr``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from noria.config.unshown import RedactedRecord
from noria.kernel.access import HOST, MAX_BODY_BYTES, MAX_ROWS, PORT, UNGUARDED, Access
from noria.kernel.behaviour import Behaviour
from noria.kernel.contract import ColumnReference, Contract
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.policy import (
    RECORD_ALL,
    Freeze,
    Gate,
    LogPolicy,
    MonitorPolicy,
    PolicyChanges,
    RetrainPolicy,
    RolloutPolicy,
    UndecidedPolicy,
)
from noria.kernel.task import DEFAULT_TASK, Task
from noria.kernel.workers import TWO, Workers

DIRECT = RolloutPolicy()
PRODUCTION = "production"  # the environment of a project that names none
_PASSWORD = re.compile(r"(://[^/@\s:]*:)[^/@\s]+@")


def _mask(words: str, secrets: tuple[tuple[str, str], ...]) -> str:
    for value, written in secrets:
        words = words.replace(value, written)
    return _PASSWORD.sub(r"\1***@", words)


class Query(RedactedRecord, frozen=True):
    """A SELECT in a database; ``cursor`` names a column that only grows."""

    unshown: ClassVar = frozenset({"url", "query"})

    url: str
    query: str
    cursor: str | None = None


class DataSource(RedactedRecord, frozen=True):
    """``source`` is a path, folder or glob relative to the home, an absolute one, an address, or ``log:ENVIRONMENT``.

    It is empty where ``sql`` is set.
    """

    unshown: ClassVar = frozenset({"source", "options", "secrets"})

    name: str
    source: str
    contract: Contract | None = None
    contract_file: str | None = None  # relative to the home
    settle_s: float = 2.0  # wall clock
    sql: Query | None = None
    format: str = "auto"  # or files: they are no tables
    csv: Dialect = PLAIN  # how text files are written
    key: tuple[str, ...] = ()  # columns that name a row over all files: of equal ones the newest file's stands
    options: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)  # of an address's file system
    every_s: float = 60.0  # wall clock, of a source that is not on this machine
    pin: str = "content"  # or version: its objects never change, so that they need not be copied
    secrets: tuple[tuple[str, str], ...] = ()  # values from the environment, and their ${VAR}

    @property
    def opaque(self) -> bool:
        """Whether its files are kept as they are, and never read as tables."""
        return self.format == "files"

    @property
    def shown(self) -> str:
        """The source as a person may see it."""
        return self.masked(self.source if self.sql is None else self.sql.url)

    @property
    def references(self) -> tuple[ColumnReference, ...]:
        """What its contract asks of columns beside other datasets."""
        return self.contract.references if self.contract is not None else ()

    def masked(self, words: str) -> str:
        """``words`` without what came from the environment, and without a password in an address."""
        return _mask(words, self.secrets)


class Step(RedactedRecord, frozen=True):
    """Exactly one of ``call`` ("module:function") and ``cmd`` is set. Paths are relative to noria.yaml, '/' separated."""

    unshown: ClassVar = frozenset({"cmd", "env"})

    name: str
    call: str | None = None
    cmd: str | None = None
    deps: tuple[str, ...] = ()  # datasets and steps it takes, by name; ``wide`` steps as all that they stand for
    files: tuple[str, ...] = ()  # paths that a command reads: of the project, or left by other steps
    needs: tuple[str, ...] = ()  # steps that come first: those in ``deps``, and those that leave ``files``
    params: tuple[str, ...] = ()  # parameters it reads: names of arguments, or dotted names for a command
    item: dict[str, Any] = msgspec.field(default_factory=dict)  # what this one of a foreach or matrix stands for, by argument
    outs: tuple[str, ...] = ()  # files and folders that a command leaves, metrics and plots among them
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    env: dict[str, str] = msgspec.field(default_factory=dict)
    directory: str = "."  # where a command runs
    timeout_s: float = 600.0
    memory_bytes: int | None = None
    cpus: int | None = None
    retries: int = 0
    frozen: bool = False  # never runs again while it has a result
    always: bool = False  # runs every time
    when: str | None = None  # a condition on parameters
    wanted: bool = True  # False: its condition does not hold


class Holdout(msgspec.Struct, frozen=True):
    """At most one of the first two is set: the last seconds of event time, or a share of the rows by a hash of the key or row."""

    last_s: float | None = None
    fraction: float | None = None
    budget: int | None = None  # verdicts that the same rows may give; None: they are counted only


class Dimension(msgspec.Struct, frozen=True):
    """Where one hyperparameter is looked for: in ``choices``, or from ``low`` to ``high``, both included; whole if they are."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()  # text, numbers, booleans; one alone is fixed

    @property
    def fixed(self) -> bool:
        return len(self.choices) == 1


class Algorithm(msgspec.Struct, frozen=True):
    """A training function, "module:function", and the space of its hyperparameters."""

    name: str
    train: str
    space: dict[str, Dimension]
    takes: tuple[str, ...] = ()  # of the params file's section `train`, the parameters that it gets besides


class Search(msgspec.Struct, frozen=True):
    """A search over algorithms and hyperparameters, on validation rows inside the training side."""

    metric: str
    algorithms: dict[str, Algorithm]
    trials: int = 30
    folds: int = 3
    timeout_s: float | None = None  # no trial begins later
    parallel: int | None = None  # trials at a time; None: as many as there are cores


class Model(msgspec.Struct, frozen=True):
    rows: str  # the labelled table: a step or a dataset
    label: str
    train: str  # module:function; where a search chooses among algorithms, the first of them
    key: str | None = None  # None: a row is known by what it holds
    event_time: str | None = None
    task: Task = DEFAULT_TASK
    inputs: tuple[str, ...] = ()  # empty: every column of the table but label, key and event_time
    weight: str | None = None  # column: how much a row counts in training; the training function's `sample_weight`
    groups: str | None = None  # column: rows that belong together stay on one side of each split
    query: str | None = None  # column: rows of one query are ranked against each other; `groups` unless that is set
    quantile: float | None = None  # that the model predicts: what a pinball loss is of
    season: int | None = None  # points of a series after which it repeats itself: MASE compares with that forecast
    series: str | None = None  # column: rows of one series follow each other; None: all do
    features: str | None = None  # module:function
    feature_params: tuple[str, ...] = ()  # parameters that `features` takes by name
    also: tuple[str, ...] = ()  # further datasets and steps whose tables `train` and `features` take by name
    holdout: Holdout = Holdout(fraction=0.2)
    slices: tuple[str, ...] = ()  # columns that gates look at value by value
    threshold: float | None = None  # of two classes, the second is called from this probability on; None: as the model does
    costs: tuple[float, float] | None = None  # of a false positive and a false negative: training chooses the threshold
    timeout_s: float = 1800.0
    memory_bytes: int | None = None
    search: Search | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that the labelled table must have."""
        rest = (self.weight, self.groups, self.query, self.series)
        named = (self.key, self.event_time, self.label, *self.inputs, *rest, *self.slices)
        return tuple(dict.fromkeys(filter(None, named)))


class CustomMetric(msgspec.Struct, frozen=True):
    """A metric of the project's own: a function of labels and predictions, ``module:function``."""

    name: str
    call: str
    greater_is_better: bool = False


class Checks(RedactedRecord, frozen=True):
    unshown: ClassVar = frozenset({"code"})

    code: str | None = None
    timeout_s: float = 600.0
    behaviours: tuple[Behaviour, ...] = ()


class Environment(msgspec.Struct, frozen=True):
    name: str
    after: str | None = None
    approvals: int = 0
    rollout: RolloutPolicy = DIRECT
    freeze: tuple[Freeze, ...] = ()


class Serving(msgspec.Struct, frozen=True):
    host: str = HOST
    port: int = PORT
    workers: Workers = TWO
    max_body_bytes: int = MAX_BODY_BYTES
    max_rows: int = MAX_ROWS
    access: Access = UNGUARDED
    log: LogPolicy = RECORD_ALL


class Console(msgspec.Struct, frozen=True):
    host: str = HOST
    port: int = 8080
    hosts: tuple[str, ...] = ()  # names that the Host header may say, besides the address itself


class GitWatch(RedactedRecord, frozen=True):
    unshown: ClassVar = frozenset({"repository"})

    branch: str | None = None  # main, or what is checked out where there is no main
    repository: str | None = None  # None: the home's own
    every_s: float = 2.0  # wall clock


class Project(RedactedRecord, frozen=True):
    """``steps`` stand in an order in which they can run; ``digest`` is of the bytes of noria.yaml."""

    unshown: ClassVar = frozenset({"goal", "secrets"})

    name: str
    goal: str
    home: Path
    digest: str
    data: dict[str, DataSource]
    params: dict[str, Any]
    params_file: str | None
    steps: dict[str, Step]
    wide: dict[str, tuple[str, ...]]  # a step with foreach or matrix -> the steps it stands for
    model: Model | None
    checks: Checks
    gates: tuple[Gate, ...]
    environments: dict[str, Environment]
    serving: Serving
    console: Console
    monitor: MonitorPolicy
    retrain: RetrainPolicy
    git: GitWatch
    metrics: dict[str, CustomMetric] = msgspec.field(default_factory=dict)
    secrets: tuple[tuple[str, str], ...] = ()  # of addresses: values from the environment, their ${VAR}
    not_enough_data: UndecidedPolicy = UndecidedPolicy.REFUSE  # of the gates
    policy_changes: PolicyChanges = PolicyChanges.ALLOW

    def masked(self, words: str) -> str:
        """``words`` without what came from the environment, and without a password in an address."""
        return _mask(words, self.secrets)

    def result_name(self, stage: str) -> str:
        """What the result of a stage (`train`, `package`, `search`) is called: by its name, unless a step is called so."""
        return f"model.{stage}" if stage in self.steps or stage in self.wide else stage
