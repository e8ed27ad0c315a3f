"""The scout: notices commits, files and due schedules, and writes each down as a trigger, once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim

from noria import config
from noria.adapters import files, git
from noria.config import DataSource, Project
from noria.domain.trigger import TriggerKind
from noria.errors import ConfigError, NoriaError
from noria.stages import served
from noria.stages.line import Line
from noria.stages.pin import head, judged_by


class Scout:
    """Looks at the watched branch, the data sources and the schedule. Each look is cheap when nothing changed."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._known: dict[tuple[str, str], tuple[int, int, int, str]] = {}  # (dataset, name) -> size, mtime_ns, inode, contract
        self._commit = ""
        self._scheduled_until: float | None = None
        self._complaint = ""

    def look(self) -> int:
        """The number of new triggers."""
        try:
            project = config.load(self.line.home)
            found = self.commits(project) + self.data(project) + self.schedule(project)
        except ConfigError as error:
            return self._complain(error)
        self._complaint = ""
        return found

    def _complain(self, error: NoriaError) -> int:
        """Say once that the project file cannot be read; the last good release keeps serving."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            self.line.event("project.unreadable", self.line.name, str(error))
        return 0

    def commits(self, project: Project) -> int:
        """A new commit on the watched branch."""
        if "code" not in project.retrain.on:
            return 0
        repository = self.line.home
        if project.git.repository is not None:
            repository = git.fetch(project.git.repository, self.line.state / "repository")
        if not git.is_repo(repository):
            return 0
        commit = head(repository, project.git.branch)
        if commit is None or commit == self._commit:
            return 0
        self._commit = commit
        subject = git.commit_info(repository, commit).subject
        return self._trigger(TriggerKind.PUSH, f"commit {commit[:10]}: {subject}", f"commit:{commit}")

    def data(self, project: Project) -> int:
        """Files that arrived whole and that no delivery has judged."""
        if "data" not in project.retrain.on:
            return 0
        found = 0
        for source in project.data.values():
            if served.is_log(source.source):
                continue
            for name, path in files.resolve(source.source, self.line.home):
                try:
                    found += self._file(source, name, path)
                except FileNotFoundError:
                    continue  # vanished while we looked: it has not arrived
        return found

    def _file(self, source: DataSource, name: str, path: Path) -> int:
        stat = path.stat()
        mark = (stat.st_size, stat.st_mtime_ns, stat.st_ino, judged_by(source))
        if self._known.get((source.name, name)) == mark or not files.settled(path, source.settle_s):
            return 0
        digest = files.digest(path)
        self._known[source.name, name] = mark
        if self.line.ledger.data.seen(self.line.name, source.name, name, digest, judged_by(source)) is not None:
            return 0
        # the time of the change tells a file that returns to earlier bytes from one that was seen before a restart
        dedupe = f"data:{source.name}:{name}:{digest}:{stat.st_mtime_ns}:{judged_by(source)}"
        return self._trigger(TriggerKind.DATA, f"{name} arrived", dedupe)

    def schedule(self, project: Project) -> int:
        """The cron line came due on the project clock since the last look."""
        if project.retrain.schedule is None:
            return 0
        now = self.line.ledger.clock.now(self.line.name)
        since, self._scheduled_until = self._scheduled_until or now, now
        due = next(CronSim(project.retrain.schedule, datetime.fromtimestamp(since, UTC)))
        if due.timestamp() > now:
            return 0
        text = f"schedule {project.retrain.schedule!r} came due at {due:%Y-%m-%d %H:%M} UTC"
        return self._trigger(TriggerKind.SCHEDULE, text, f"schedule:{due.isoformat()}")

    def _trigger(self, kind: TriggerKind, reason: str, dedupe: str) -> int:
        with self.line.ledger.transaction():
            trigger = self.line.ledger.triggers.add(self.line.name, kind, reason, dedupe=dedupe)
            if trigger is None:
                return 0
            self.line.event("trigger.seen", trigger.id, f"{kind}: {reason}")
        return 1
