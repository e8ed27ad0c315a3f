"""The prediction log, kept: finished segments become Parquet, and days that are older than the project says go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from noria.config import Project
from noria.stages.line import Line
from noria.store import compacted

if TYPE_CHECKING:
    from noria.store.compaction import Done

EVERY_S = 600.0  # between two looks of the daemon


@dataclass(frozen=True, slots=True)
class Kept:
    """What was done to the log of one environment."""

    environment: str
    compacted: Done


def look(line: Line, project: Project) -> list[Kept]:
    """Compact the logs in which enough has gathered: a finished segment of a day's age, or 64 MiB of them."""
    folders = {name: line.state / "log" / name for name in project.environments}
    return [keep(line, name) for name, folder in folders.items() if folder.is_dir() and compacted.due(folder)]


def keep(line: Line, environment: str, *, again: bool = False) -> Kept:
    """Compact all that is finished of one log. Raises StoreError when another process is at it, DiskFullError."""
    from noria.store import compaction  # Arrow is loaded when there is something to do

    done = compaction.compact(line.state / "log" / environment, again=again)
    for name in done.damaged:
        text = f"a segment of {environment}'s prediction log is damaged; it stays as it is, and what can be read of it is read"
        line.event("log.damaged", f"{environment}/{name}", text)
    return Kept(environment, done)
