"""What every stage works with: the delivery line's resources, and the run in hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from noria.config import Project
from noria.data.arrival import Arrival
from noria.data.table import TableType
from noria.kernel.pins import Pins
from noria.pipeline.executors.task import Executor, Handle
from noria.pipeline.places import Places
from noria.pipeline.run import StepRecord
from noria.pipeline.served_training import ServedTraining
from noria.pipeline.turn_record import Turn
from noria.storage.context import StoreContext


def nothing_served(context: PipelineContext, project: Project) -> None:
    """Of a line that delivers nowhere."""


def own_contracts(context: PipelineContext, project: Project) -> Project:
    """Where nothing is in force, a project's own contracts judge its data."""
    return project


class PipelineContext(StoreContext, frozen=True, kw_only=True):
    """What every stage before the delivery works with."""

    executor: Executor
    places: Places
    reuse: bool = True  # False: every step runs, whatever is remembered
    served: Callable[[PipelineContext, Project], ServedTraining | None] = nothing_served  # how what serves was trained
    contracts: Callable[[PipelineContext, Project], Project] = own_contracts  # with those that judge its data


class StartedRun(msgspec.Struct):
    """A run whose code is known and its data not yet; Check fills it in."""

    turn: Turn
    run_id: str
    project: Project  # as the pinned commit says it, but for contracts that it changes and nobody approved: those in force stand
    tree: Path  # the code: a clean worktree, or the home itself when it is dirty
    commit: str | None
    dirty: str | None
    environment: dict[str, object]
    arrivals: tuple[Arrival, ...] = ()
    refused: list[str] = []  # one sentence per quarantined file
    records: list[StepRecord] = []
    under_way: dict[str, Handle] = {}  # tasks that run, by id
    by_hand: bool = False
    sealed: Path | None = None  # of a reproduction: the code that was sealed then
    proposed: Project | None = None  # the commit's own words, where contracts in force stand in the place of its own

    @property
    def tree_id(self) -> str:
        """What executors call the tree."""
        return f"home:{self.dirty}" if self.dirty or not self.commit else f"commit:{self.commit}"

    @property
    def committed(self) -> Project:
        """The project in the commit's own words."""
        return self.project if self.proposed is None else self.proposed

    @property
    def roots(self) -> tuple[str, ...]:
        """Folders of the tree in which the project's modules are found."""
        return ("src", ".") if (self.tree / "src").is_dir() else (".",)

    @property
    def user_s(self) -> float:
        """Wall time that the project's own functions and tests took."""
        return sum(r.user_s for r in self.records)

    @property
    def code_paths(self) -> tuple[Path, ...]:
        """Where the project's modules are found."""
        return tuple(self.tree / root for root in self.roots)

    def pinned(self, pins: Pins, tables: dict[str, TableType]) -> PinnedRun:
        """The same run with its data: what it did so far, and what is under way, stays its own."""
        return PinnedRun(**{name: getattr(self, name) for name in StartedRun.__struct_fields__}, pins=pins, tables=tables)


class PinnedRun(StartedRun, kw_only=True):
    """A run of which all is fixed that can change its result; the stages fill it in, in their order."""

    pins: Pins
    tables: dict[str, TableType] = {}  # dataset -> how its files are read; none of what is no table
    found: dict[str, Any] = {}  # what a search chose: `algorithm`, and the `params` of its training
    policy: Project | None = None  # whose gates judge it, where those are not the project's own alone

    @property
    def judging(self) -> Project:
        """The project with the gates that judge this run."""
        return self.policy if self.policy is not None else self.project

    @property
    def params_used(self) -> dict[str, Any]:
        """The parameters of the run: the project's, and where a search chose, those that it found and its algorithm."""
        if not self.found:
            return self.project.params
        return {**self.project.params, "train": self.found["params"], "algorithm": self.found["algorithm"]}
