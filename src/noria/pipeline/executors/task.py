"""What an executor does: take a step with its resources, wait for it, cancel it.

Nothing here assumes one machine. Code is named by its tree, files by the digests of their bytes; where those are found, and
where the step works, is the executor's own affair. An executor is one file that fulfils ``Executor``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

INPUT = "input:"  # in a job, "input:NAME" stands for the path of that input where the step runs


class Resources(msgspec.Struct, frozen=True):
    """What a step may use. ``cpus`` None: as many as there are, without a claim on more than one of them."""

    cpus: int | None = None
    memory_bytes: int | None = None  # resident memory of the whole process tree
    timeout_s: float = 600.0


class StepTask(msgspec.Struct, frozen=True):
    """One step. Exactly one of ``target`` and ``command`` is set.

    ``target`` is a function of Noria, ``module:name``, from a JSON object to a JSON object, in an interpreter of its own that
    finds the project's modules under ``roots`` of the tree; it leaves files in the folder that its job names ``folder``.
    ``command`` is a line for the shell, run in ``directory`` of the tree; its outs are paths in the tree, and so are ``placed``.
    """

    id: str  # RUN/STEP
    tree: str  # commit:ID, home:DIGEST, release:DIGEST or run:ID
    target: str | None = None
    command: str | None = None
    job: Mapping[str, Any] = {}
    roots: tuple[str, ...] = (".",)
    directory: str = "."
    inputs: Mapping[str, str] = {}  # name -> blob digest: files that the job or ``env`` speaks of
    placed: Mapping[str, str] = {}  # path in the tree -> blob digest: what earlier commands left
    outs: Mapping[str, str] = {}  # name -> path of a file or folder
    env: Mapping[str, str | Sequence[str]] = {}  # added to what all have; a list becomes a path list
    resources: Resources = Resources()


class StepUsage(msgspec.Struct, frozen=True):
    """What a step used: seconds, and megabytes (10^6 bytes). Of the whole process tree as far as the system tells."""

    seconds: float = 0.0  # wall time from a free slot to the end
    user_s: float = 0.0  # of these, inside the project's own code
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0


class StepEnd(msgspec.Struct, frozen=True):
    """How a step ended. ``kind``: ok, raised, refused, timeout, memory, killed, exited, cancelled; outs: they are amiss."""

    kind: str
    error: str | None = None  # one sentence, when not ok
    result: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}  # name -> blob digest; of a folder NAME/PATH for each file in it
    usage: StepUsage = StepUsage()
    log: str | None = None  # blob digest of what it printed
    tracked: str | None = None  # blob digest of what it logged with ``noria.track``
    artifacts: Mapping[str, str] = {}  # path -> blob digest of the files it asked to keep
    read: Sequence[str] = ()  # files of its tree that a target opened, as far as is known

    @property
    def ok(self) -> bool:
        return self.kind == "ok"


class Handle(Protocol):
    """A step under way."""

    def wait(self) -> StepEnd:
        """Blocks until the step ended; its limits see to it that it does. Its files are kept when this returns."""

    def cancel(self) -> None:
        """End the step; ``wait`` then tells ``cancelled``."""


class Executor(Protocol):
    """Runs steps somewhere."""

    def warm(self) -> None:
        """There will be work soon. Returns at once."""

    def submit(self, task: StepTask) -> Handle:
        """Start the step as soon as its resources are free."""

    def close(self) -> None:
        """Cancel what runs, and end."""


class Workspace(Protocol):
    """Trees and blobs of one machine, for the executors that run steps on it."""

    def tree(self, identity: str) -> Path:
        """The folder of a tree."""

    def scratch(self, task_id: str) -> Path:
        """An empty folder of this step alone."""

    def link(self, digest: str, target: Path) -> None:
        """Make a blob readable at ``target``."""

    def place(self, tree: Path, files: Mapping[str, str]) -> None:
        """Make blobs the files of a tree, as copies or read-only."""

    def keep(self, files: Sequence[Path]) -> list[str]:
        """The digests of files that are kept from now on, in their order."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
