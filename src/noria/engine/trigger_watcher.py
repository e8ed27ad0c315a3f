"""The trigger watcher notices commits, files and due schedules, and records each once as a trigger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim

from noria import config
from noria.config import DataSource, Project
from noria.data import arrivals, served_predictions, sources
from noria.delivery.context import DeliveryContext
from noria.kernel import logs, names
from noria.kernel.errors import ConfigError, DataError, NoriaError
from noria.kernel.trigger import TriggerKind
from noria.kernel.words import plural
from noria.pipeline import git, pin
from noria.pipeline.trigger_store import TriggerStore
from noria.storage.clock import ClockStore

CODE_RETRY_S = 10.0  # a repository that cannot be read is tried again after this long
SINGLY = 20  # so many files of a dataset that arrive together get a trigger each; more share one


class TriggerWatcher:
    """Checks the watched branch, the data sources and the schedule. A check is cheap when nothing changed."""

    def __init__(self, context: DeliveryContext) -> None:
        self.context = context
        self._told: dict[str, set[str]] = {}  # dataset -> changes that have a trigger and wait for their delivery
        self._next: dict[str, float] = {}  # dataset of a remote source -> when it is checked again
        self._unreadable: dict[str, str] = {}  # dataset -> the problem that was reported
        self._commit = ""
        self._branch = ""  # the branch that was followed last
        self._code_at = 0.0  # when a remote repository is asked again
        self._unseen = ""  # the reported problem of a repository that cannot be followed
        self._scheduled_until: float | None = None
        self._complaint = ""

    def look(self) -> int:
        """Records what is new; returns the number of new triggers."""
        try:
            project = config.load(self.context.home)
            self.context.ledger.database.hide = project.masked
            logs.hide(project.masked)
            found = self.commits(project) + self.data(project) + self.schedule(project)
        except ConfigError as error:
            return self._complain(error)
        self._complaint = ""
        return found

    def _complain(self, error: NoriaError) -> int:
        """Reports once that the project file cannot be read; the champion keeps serving."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            self.context.event("project.unreadable", self.context.name, str(error))
        return 0

    def commits(self, project: Project) -> int:
        """Records a trigger when the watched branch has a new commit.

        A branch that cannot be followed is reported once and tried again.
        """
        if "code" not in project.retrain.on:
            return 0
        try:
            found = self._watched_branch(project)
        except NoriaError as error:
            self._code_at = max(self._code_at, time.monotonic() + CODE_RETRY_S)
            if str(error) != self._unseen:
                self._unseen = str(error)
                self.context.event("code.unreadable", self.context.name, str(error))
            return 0
        self._unseen = ""
        return found

    def _watched_branch(self, project: Project) -> int:
        now, watch = time.monotonic(), project.git
        if now < self._code_at:
            return 0
        if watch.repository is not None:
            self._code_at = now + watch.every_s
        repository = pin.repository(self.context, project)
        if not git.is_repo(repository):
            return 0
        commit, branch = pin.watched_head(repository, watch)
        if branch != self._branch:
            if branch != (watch.branch or pin.MAIN):
                self.context.event("code.followed", branch, f"there is no branch {pin.MAIN}: {branch} is followed")
            self._branch = branch
        if commit is None or commit == self._commit:
            return 0
        told = self._trigger_commit(repository, commit)
        self._commit = commit
        return told

    def _trigger_commit(self, repository: Path, commit: str) -> int:
        """Records a trigger for a commit: once, and again each time the branch returns to it."""
        before = TriggerStore.of(self.context).newest_commit()
        text = f"commit {commit[:10]}: {git.commit_info(repository, commit).subject}"
        if before is None:
            return self._trigger(TriggerKind.PUSH, text, f"commit:{commit}")
        earlier, trigger = before
        if earlier == commit:
            return 0
        if git.contains(repository, commit, earlier) is False:
            back = git.contains(repository, earlier, commit)
            moved = "went back to it" if back else "was rewritten, or another one is followed"
            text += f" (the branch {moved}: it no longer holds {earlier[:10]}, its former head)"
        return self._trigger(TriggerKind.PUSH, text, f"commit:{commit}") or self._trigger(
            TriggerKind.PUSH, text, f"commit:{commit}:after:{trigger}"
        )

    def data(self, project: Project) -> int:
        """Records triggers for files that have arrived completely and that no delivery covers."""
        if "data" not in project.retrain.on:
            return 0
        found = 0
        for source in self.context.contracts(self.context, project).data.values():
            if served_predictions.is_log(source.source):
                continue
            if self._due_sources(source):
                try:
                    found += self._dataset(source)
                    self._unreadable.pop(source.name, None)
                except DataError as error:
                    self._complain_of(source, error)
        return found

    def _due_sources(self, source: DataSource) -> bool:
        """Yields the sources to check now: local ones each time, remote ones as often as their ``every`` says."""
        if sources.nearby(source):
            return True
        now = time.monotonic()
        if now < self._next.get(source.name, now):
            return False
        self._next[source.name] = now + source.every_s
        return True

    def _dataset(self, source: DataSource) -> int:
        """Records triggers for new files of a dataset without reading them; the turn reads them."""
        looked = arrivals.connect(self.context, source)
        before, still, fresh = self._told.get(source.name, set()), set(), []
        for found in arrivals.news(self.context, source, looked):
            judge = arrivals.judge_of_change(self.context, source, found.name)
            change = f"{found.name}:{found.mark}{found.digest}:{judge}"
            if change not in before:
                if not arrivals.has_arrived(looked, found, source.settle_s):
                    continue
                fresh.append((found.name, change))
            still.add(change)
        self._told[source.name] = still
        return self._trigger_files(source, fresh)

    def _trigger_files(self, source: DataSource, fresh: Sequence[tuple[str, str]]) -> int:
        """Records a trigger for each file, or one for many. The same change of a file never gets two triggers."""
        if len(fresh) > SINGLY:
            together = names.digest_bytes("\n".join(change for _, change in fresh).encode())
            return self._trigger(
                TriggerKind.DATA, f"{source.name}: {plural(len(fresh), 'file')} arrived", f"data:{source.name}:{together}"
            )
        return sum(self._trigger(TriggerKind.DATA, f"{name} arrived", f"data:{source.name}:{change}") for name, change in fresh)

    def _complain_of(self, source: DataSource, error: DataError) -> None:
        """Reports once that a source cannot be read. It is tried again; other sources are unaffected."""
        if self._unreadable.get(source.name) != str(error):
            self._unreadable[source.name] = str(error)
            self.context.event("data.unreadable", source.name, f"{source.name}: {error}")

    def schedule(self, project: Project) -> int:
        """Records a trigger when the cron line came due on the project clock since the last check."""
        if project.retrain.schedule is None:
            return 0
        now = ClockStore.of(self.context).now()
        since, self._scheduled_until = self._scheduled_until or now, now
        due = next(CronSim(project.retrain.schedule, datetime.fromtimestamp(since, UTC)))
        if due.timestamp() > now:
            return 0
        text = f"schedule {project.retrain.schedule!r} came due at {due:%Y-%m-%d %H:%M} UTC"
        return self._trigger(TriggerKind.SCHEDULE, text, f"schedule:{due.isoformat()}")

    def _trigger(self, kind: TriggerKind, reason: str, dedupe: str) -> int:
        with self.context.ledger.transaction():
            trigger = TriggerStore.of(self.context).add(kind, reason, dedupe=dedupe)
            if trigger is None:
                return 0
            self.context.event("trigger.seen", trigger.id, f"{kind}: {reason}")
        return 1
