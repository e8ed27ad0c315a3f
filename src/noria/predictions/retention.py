"""The prediction log, kept: finished segments become Parquet, and days that are older than the project says go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from noria.config import Project
from noria.kernel.judge_clock import SETTLED_S, jump
from noria.kernel.words import lasting, plural
from noria.predictions import compacted
from noria.storage.context import StoreContext

if TYPE_CHECKING:
    from noria.predictions.compaction import CompactionResult, RetentionResult

DAY_S = 86_400.0
EVERY_S = 600.0  # between two looks of the daemon


class RetentionReport(msgspec.Struct, frozen=True):
    """What was done to the log of one environment."""

    environment: str
    compacted: CompactionResult
    expired: RetentionResult
    refused: str = ""  # why days that are over were not deleted


def look(context: StoreContext, project: Project) -> list[RetentionReport]:
    """Keep the logs in which enough has gathered (a finished segment of a day's age, or 64 MiB of them), or a day is over."""
    folders = {name: context.state / "log" / name for name in project.environments}
    keep_s = project.serving.log.keep_s
    due = [
        name
        for name, folder in folders.items()
        if folder.is_dir() and (compacted.due(folder) or (keep_s is not None and compacted.has_expired(folder, keep_s)))
    ]
    return [keep(context, project, name) for name in due]


def keep(
    context: StoreContext, project: Project, environment: str, *, again: bool = False, trust_clock: bool = False
) -> RetentionReport:
    """Compact all that is finished of one log, and delete the days that are too old; ``again``: look at damaged segments too.

    Nothing is deleted while the clock stands beyond a gap in its own history, unless a person says that it is right
    (``trust_clock``).

    Raises StoreError when another process is at it, DiskFullError.
    """
    from noria.predictions import compaction  # Arrow is loaded when there is something to do

    folder, keep_s = context.state / "log" / environment, project.serving.log.keep_s
    done = compaction.compact(folder, again=again)
    for name in done.damaged:
        text = f"a segment of {environment}'s prediction log is damaged; it stays as it is, and what can be read of it is read"
        context.event("log.damaged", f"{environment}/{name}", text)
    refused = _clock_refusal(context, environment, keep_s) if keep_s is not None and not trust_clock else ""
    gone = compaction.expire(folder, keep_s) if keep_s is not None and not refused else compaction.RetentionResult((), 0, 0)
    _tell_expired(context, environment, gone)
    return RetentionReport(environment, done, gone, refused)


def _tell_expired(context: StoreContext, environment: str, gone: RetentionResult) -> None:
    facts = {"dates": list(gone.dates), "predictions": gone.predictions, "labels": gone.labels, "damaged": gone.damaged}
    segments = plural(gone.damaged, "damaged segment")
    if gone.dates:
        span = gone.dates[0] if len(gone.dates) == 1 else f"{gone.dates[0]} to {gone.dates[-1]}"
        text = f"{environment}'s log of {span} was deleted, as serving.log.keep says: {plural(gone.predictions, 'prediction')}"
        context.event("log.expired", environment, f"{text}, {segments}" if gone.damaged else text, **facts)
    elif gone.damaged:
        text = f"{segments} of {environment}'s log deleted, as serving.log.keep says: what could be read of them is as old"
        context.event("log.expired", environment, text, **facts)


def _clock_refusal(context: StoreContext, environment: str, keep_s: float) -> str:
    """Why the days that are over stay for now; told once a day."""
    folder, now = context.state / "log" / environment, time.time()
    if not compacted.has_expired(folder, keep_s):
        return ""
    found = jump([*context.ledger.events.moments(now), *compacted.moments(folder)], now)
    if found is None:
        return ""
    text = f"{environment}'s log: days older than serving.log.keep are not deleted, because {found.text}. They go "
    text += f"{lasting(SETTLED_S)} after that; if the clock is right, `noria predictions compact --trust-clock` deletes them now"
    known = context.ledger.events.newest(context.name, 1, kind="log.kept")
    if not known or now - known[0].at > DAY_S:
        context.event("log.kept", environment, text, before=found.before, after=found.after)
    return text
