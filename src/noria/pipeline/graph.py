"""The project's steps: each starts when what it needs is there, as many at a time as the machine has room for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from graphlib import TopologicalSorter
from pathlib import PurePosixPath

import msgspec

from noria.config import Project, Step
from noria.config.document import nearest
from noria.kernel.errors import CorruptBlobError, StepError, UsageError
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline import git, orders, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.judge_staleness import StalenessDecision
from noria.pipeline.places import listing
from noria.pipeline.run import StepRecord, StepState
from noria.pipeline.run_store import StepStore
from noria.pipeline.steps import whole
from noria.pipeline.tree_bounds import demand_inside

AT_ONCE = 64  # threads that wait for steps; how many run is the executor's to say


class Selection(msgspec.Struct, frozen=True):
    """Which steps a run is about. At most one is set; none: all of them."""

    to: str | None = None  # this step and all it needs
    start: str | None = None  # this step and all that needs it; what comes before keeps the results it has
    only: str | None = None  # this step alone; what comes before keeps the results it has

    @property
    def everything(self) -> bool:
        return self.to is None and self.start is None and self.only is None


EVERYTHING = Selection()


def select_steps(project: Project, selection: Selection) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the steps that a run is about, and of those before them whose last results it takes. Raises UsageError."""
    asked = selection.to or selection.start or selection.only
    if asked is None:
        return frozenset(project.steps), frozenset()
    if asked not in project.steps and asked not in project.wide:
        raise UsageError(f"there is no step {asked!r}", hint=nearest(asked, [*project.steps, *project.wide]))
    begin = frozenset(project.wide.get(asked, (asked,)))
    if selection.to is not None:
        return begin | _before(project, begin), frozenset()
    wanted = begin | _after(project, begin) if selection.start is not None else begin
    return wanted, _before(project, wanted) - wanted


def _before(project: Project, names: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for need in project.steps[waiting.pop()].needs:
            if need not in found:
                found.add(need)
                waiting.append(need)
    return frozenset(found)


def _after(project: Project, names: frozenset[str]) -> frozenset[str]:
    found = set(names)
    for name, step in project.steps.items():  # in an order in which they can run
        if found.intersection(step.needs):
            found.add(name)
    return frozenset(found)


def run(context: PipelineContext, pinned_run: PinnedRun, selection: Selection = EVERYTHING) -> dict[str, StepRecord]:
    """Run the graph; a step that failed ends it, after those that run already. Their records, by step.

    Of a run by hand, the home gets what commands left. Raises CorruptBlobError for damaged data.
    """
    wanted, kept = select_steps(pinned_run.project, selection)
    before = len(pinned_run.records)
    while True:
        try:
            done = _Graph(context, pinned_run, wanted, kept).run()
            if pinned_run.by_hand:
                hand_out(context, pinned_run, done)
            return done
        except CorruptBlobError as error:
            if not steps.thrown_away(context, error):
                raise
            del pinned_run.records[before:]
        finally:
            context.places.flush()


class StepForecast(msgspec.Struct, frozen=True):
    """What would become of a step. ``decision`` is None where that depends on what a step before it will leave."""

    name: str
    decision: StalenessDecision | None
    text: str
    record: StepRecord | None = None  # the result that would be taken


def explain(context: PipelineContext, pinned_run: PinnedRun, selection: Selection = EVERYTHING) -> Iterator[StepForecast]:
    """What would become of each step, in order, without running any."""
    wanted, kept = select_steps(pinned_run.project, selection)
    done: dict[str, StepRecord] = {}
    for name, step in pinned_run.project.steps.items():
        if name not in wanted and name not in kept:
            continue
        found = _foretell(context, pinned_run, step, done, kept)
        if found.record is not None:
            done[name] = found.record
        yield found


def _foretell(
    context: PipelineContext, pinned_run: PinnedRun, step: Step, done: Mapping[str, StepRecord], kept: frozenset[str]
) -> StepForecast:
    early = _early(context, pinned_run, step, done, kept)
    if early is not None:
        return StepForecast(step.name, StalenessDecision(False, early.reason), early.reason.text, early)
    unsure = [need for need in step.needs if need not in done]
    if unsure and not step.frozen:
        return StepForecast(step.name, None, f"depends on the result of {_list(unsure)}")
    decision, found = steps.consider(context, orders.user_step(context, pinned_run, step, done))
    return StepForecast(step.name, decision, decision.reason.text, None if decision.run else found)


def restore(context: PipelineContext, pinned_run: PinnedRun) -> None:
    """Put what commands left back into the home, where it is gone or is not what they left. All is well: a look at each file."""
    commands = {name: step for name, step in pinned_run.project.steps.items() if step.outs}
    if context.places.is_intact(context.home, [out for step in commands.values() for out in step.outs]):
        return
    latest = {name: StepStore.of(context).latest(name) for name in commands}
    hand_out(
        context, pinned_run, {name: found[0] for name, found in latest.items() if found is not None and whole(context, found[0])}
    )


def hand_out(context: PipelineContext, pinned_run: PinnedRun, records: Mapping[str, StepRecord]) -> None:
    """Outs of commands in the home, where the person who asked for the run looks for them: they may have been made in a worktree,
    by another run, or long ago. A file there that no run left is moved aside, not overwritten.
    """
    files = orders.out_files(context, pinned_run, records)
    demand_inside(context.home, files)
    for path, digest in files.items():
        place = context.home / path
        if (
            place.is_file()
            and not context.places.is_unchanged(context.home, path)
            and context.places.digests(context.home, path)[path] != digest
        ):
            aside = context.state / "replaced" / f"{time.strftime('%Y%m%dT%H%M%S')}" / path
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(place, aside)
            context.progress(f"{path} was not written by a step: moved to {aside}")
    context.places.place(context.home, files)
    context.places.flush()


class _Graph:
    def __init__(self, context: PipelineContext, pinned_run: PinnedRun, wanted: frozenset[str], kept: frozenset[str]) -> None:
        self.context, self.pinned_run, self.wanted, self.kept = context, pinned_run, wanted, kept
        self.done: dict[str, StepRecord] = {}
        self.failed: StepRecord | None = None
        self.running: dict[Future[StepRecord], tuple[Step, steps.StepOrder]] = {}
        self.left: set[str] = set()  # outs of commands that failed: theirs, in whatever state
        self.suspects: dict[str, frozenset[str]] = {}  # a file that is nobody's -> the commands that may have written it
        self.shared = ExitStack()  # the tree, once a command works in it
        self.seen: dict[str, tuple[int, int]] | None = None

    def run(self) -> dict[str, StepRecord]:
        steps_of = self.pinned_run.project.steps
        both = self.wanted | self.kept
        sorter = TopologicalSorter({name: [n for n in steps_of[name].needs if n in both] for name in steps_of if name in both})
        sorter.prepare()
        pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="step")
        try:
            with self.shared:
                while sorter.is_active() and (self.failed is None or self.running):
                    ready = sorter.get_ready() if self.failed is None else ()
                    for name in ready:
                        if self._begin(steps_of[name], pool):
                            sorter.done(name)
                    if self.running and not (ready and self.done.keys() >= set(ready)):
                        for name in self._finish():
                            sorter.done(name)
        except BaseException:  # Ctrl-C too: what runs is ended, what is finished is kept
            for handle in list(self.pinned_run.under_way.values()):
                handle.cancel()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        self._block(steps_of)
        return self.done

    def _begin(self, step: Step, pool: ThreadPoolExecutor) -> bool:
        """Whether the step is done at once; else it runs."""
        early = _early(self.context, self.pinned_run, step, self.done, self.kept)
        if early is None:
            try:
                order = orders.user_step(self.context, self.pinned_run, step, self.done)
            except StepError as error:
                return self._note_end(step, _not_started_record(step, error))
            found = steps.reuse_step(self.context, self.pinned_run, order)
            if found is None:
                if step.cmd:
                    self._share_tree()
                self.running[pool.submit(steps.make, self.context, self.pinned_run, order)] = (step, order)
                return False
            early = found
        else:
            self.pinned_run.records.append(early)
        self.done[step.name] = early
        return True

    def _note_end(self, step: Step, record: StepRecord) -> bool:
        self.done[step.name] = record
        if record.state is StepState.FAILED:
            self.failed = self.failed or record
            self.pinned_run.records.append(record)
        return True

    def _finish(self) -> list[str]:
        """Wait for a step to end; the names of those that did."""
        finished, _ = wait(self.running, return_when=FIRST_COMPLETED)
        names = []
        for future in finished:
            step, order = self.running.pop(future)
            record = future.result()
            if step.cmd and record.state is StepState.RAN:
                record = self._check_outside(step, order, record)
            self.done[step.name] = record
            if record.state is StepState.FAILED:
                self.failed = self.failed or record
                self.left.update(step.outs)
            names.append(step.name)
        return names

    def _share_tree(self) -> None:
        """Commands of different runs take turns in a tree; the first one of this run waits for its turn."""
        if self.seen is not None:
            return
        tree = self.context.places.tree(self.pinned_run.tree_id)
        told: list[bool] = []

        def waiting() -> None:
            self.context.check_lease()
            if not told:
                told.append(True)
                self.context.progress("another run uses this folder: waiting for it")

        self.shared.enter_context(self.context.locks.hold("tree", str(tree), waiting))
        self.seen = listing(tree) or {}

    def _check_outside(self, step: Step, order: steps.StepOrder, record: StepRecord) -> StepRecord:
        """The record, or a failure when the command wrote what is not its own.

        What may as well be the work of a command that runs beside it is judged when that one has ended.
        """
        tree = self.context.places.tree(self.pinned_run.tree_id)
        self.context.places.learn(tree, steps.output(self.context, record).files)
        now = listing(tree)
        if now is None or self.seen is None:
            return record
        at_work = {step.name: order, **{other.name: its for other, its in self.running.values() if other.cmd}}
        own = self.left | {path for its in at_work.values() for path in (*its.task.outs.values(), *its.task.placed)}
        touched = [path for path in now.keys() | self.seen.keys() if self.seen.get(path) != now.get(path)]
        strange = sorted(path for path in touched if not _within(path, own))
        self.seen = now
        strange = [path for path in strange if path not in git.ignored_paths(self.context.home, strange)] if strange else []
        for path in strange:
            self.suspects.setdefault(path, frozenset(at_work))
        judged = [
            path for path, names in self.suspects.items() if step.name in names and not (names & (at_work.keys() - {step.name}))
        ]
        return self._blame(step, record, judged) if judged else record

    def _blame(self, step: Step, record: StepRecord, paths: list[str]) -> StepRecord:
        others = sorted(frozenset().union(*(self.suspects.pop(path) for path in paths)) - {step.name})
        beside = f" (or {_list(others)}, beside which it ran)" if others else ""
        text = f"wrote or removed {_list(paths)}, which are not among its outs{beside}"
        hint = (
            "Declare what it leaves under `outs`, or let it write to a temporary folder. If somebody else changed the folder "
            "while it ran, run it again. Its result was not kept."
        )
        StepStore.of(self.context).forget(record.key)
        return _mark_failed(record, "step.wrote_outside", f"{text}\n{hint}", self.pinned_run)

    def _block(self, all_steps: Mapping[str, Step]) -> None:
        for name in all_steps:
            if self.failed is not None and name in self.wanted and name not in self.done:
                text = f"not started: step {self.failed.name} failed"
                record = StepRecord(name, StepState.BLOCKED, Reason("step.blocked", text, Outcome.FAIL), "")
                self.done[name] = record
                self.pinned_run.records.append(record)


def _early(
    context: PipelineContext, pinned_run: PinnedRun, step: Step, done: Mapping[str, StepRecord], kept: frozenset[str]
) -> StepRecord | None:
    """The record of a step that is settled without a look at what it depends on."""
    if not step.wanted:
        return StepRecord(step.name, StepState.SKIPPED, Reason("step.condition", f"`when: {step.when}` does not hold"), "")
    skipped = [n for n in step.needs if n in done and done[n].state is StepState.SKIPPED and _direct(pinned_run.project, step, n)]
    if skipped:
        return StepRecord(step.name, StepState.SKIPPED, Reason("step.condition", f"{_list(skipped)} was skipped"), "")
    if step.name not in kept:
        return None
    latest = StepStore.of(context).latest(step.name)
    if latest is None or not whole(context, latest[0]):
        raise UsageError(
            f"step {step.name} comes before and has no result yet",
            hint=f"Run it once: noria run --to {step.name.partition('@')[0]}",
        )
    reason = Reason("step.kept", "not requested: keeps its result")
    return StepRecord(step.name, StepState.REUSED, reason, latest[0].key, latest[0].output)


def _direct(project: Project, step: Step, need: str) -> bool:
    """Whether a step cannot do without this one; of a foreach it takes those that there are."""
    return not any(need in members and name in step.deps for name, members in project.wide.items())


def _not_started_record(step: Step, error: Exception) -> StepRecord:
    return StepRecord(step.name, StepState.FAILED, Reason("step.not_started", str(error), Outcome.FAIL), "")


def _mark_failed(record: StepRecord, code: str, text: str, pinned_run: PinnedRun) -> StepRecord:
    made = StepRecord(record.name, StepState.FAILED, Reason(code, text, Outcome.FAIL), record.key, None, record.seconds)
    pinned_run.records[:] = [made if found is record else found for found in pinned_run.records]
    return made


def _within(path: str, own: set[str]) -> bool:
    """Whether a path is one of these, or lies below one."""
    return path in own or any(parent.as_posix() in own for parent in PurePosixPath(path).parents)


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
