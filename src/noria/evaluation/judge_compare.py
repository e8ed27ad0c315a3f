"""Two runs side by side: what differs in code, data, parameters, metrics, series, plots, artifacts and environment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from noria.data.snapshot import Snapshot
from noria.kernel.tasks import find_metric
from noria.pipeline import judge_staleness
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.run import Run
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

Points = Sequence[tuple[float, float]]

MEASURED = ("latency_p50_ms", "latency_p99_ms", "model_size_mb")  # read from the evaluation itself: no bounds


class ComparedSide(msgspec.Struct, frozen=True):
    """One of the two, with everything that is recorded about it. None: not recorded, or no longer there."""

    name: str  # as a person calls it: v3, turn 12, run-0197a3c2e5f1-9c1b7e22
    run: Run
    release: str | None = None  # v3, when the run became one
    params: Mapping[str, object] | None = None  # flat
    evaluation: Evaluation | None = None
    snapshots: Mapping[str, Snapshot | None] = {}
    environment: Mapping[str, Any] | None = None
    series: Mapping[str, Mapping[str, Points]] = {}  # step -> metric -> points
    steps: Mapping[str, StepFacts] = {}  # what each step depended on


class CodeFile(msgspec.Struct, frozen=True):
    """Lines that a file gained and lost; None for a file that is not text."""

    path: str
    added: int | None
    removed: int | None


class CodeState(msgspec.Struct, frozen=True):
    before: str | None  # commit
    after: str | None
    dirty_before: bool
    dirty_after: bool
    files: tuple[CodeFile, ...] | None  # None: the repository does not hold both commits
    changed: bool


class StepDifference(msgspec.Struct, frozen=True):
    name: str
    text: str  # why the results may differ, in the words of the plan
    changed: bool


class DataFile(msgspec.Struct, frozen=True):
    name: str
    rows_before: int | None  # None: the file is new
    rows_after: int | None  # None: the file is gone


class DataDifference(msgspec.Struct, frozen=True):
    """``files`` are those that differ, None where a snapshot is no longer recorded."""

    dataset: str
    rows_before: int | None
    rows_after: int | None
    files: tuple[DataFile, ...] | None
    changed: bool


class ValueDifference(msgspec.Struct, frozen=True):
    """A parameter; ``has_before`` and ``has_after`` tell a missing one from one that is null."""

    name: str
    before: object
    after: object
    has_before: bool
    has_after: bool
    changed: bool


class MetricDifference(msgspec.Struct, frozen=True):
    """``difference`` is after - before with one-sided 95 % bounds.

    ``paired`` is the number of rows on which both were scored, None when the bounds take the two evaluations as independent
    (too wide rather than too narrow where they share rows). ``verdict``: better, worse, higher, lower (both where it is not known
    which is better), unclear, same, or empty where there are no bounds.
    """

    name: str
    before: Measure | None
    after: Measure | None
    difference: float | None
    low: float | None
    high: float | None
    paired: int | None
    before_paired: float | None  # the value of before on the rows of after
    verdict: str
    changed: bool


class Summary(msgspec.Struct, frozen=True):
    points: int
    last: float
    least: float
    most: float


class SeriesDifference(msgspec.Struct, frozen=True):
    name: str  # step.metric
    before: Summary | None
    after: Summary | None
    changed: bool


class FileDifference(msgspec.Struct, frozen=True):
    """A plot or an artifact: "step/path" and its blobs' digests."""

    name: str
    before: str | None
    after: str | None
    changed: bool


class Environments(msgspec.Struct, frozen=True):
    """``differences`` in phrases; None when a record is missing, so that only ``changed`` is known, from the digests."""

    differences: tuple[str, ...] | None
    changed: bool


class RunDifference(msgspec.Struct, frozen=True):
    """All of it, the unchanged too; a reader filters by ``changed``."""

    before: str
    after: str
    code: CodeState
    steps: tuple[StepDifference, ...]
    data: tuple[DataDifference, ...]
    params: tuple[ValueDifference, ...] | None  # None: not recorded on a side, and the digests differ
    metrics: tuple[MetricDifference, ...]
    series: tuple[SeriesDifference, ...]
    plots: tuple[FileDifference, ...]
    artifacts: tuple[FileDifference, ...]
    environment: Environments


def compare(
    before: ComparedSide, after: ComparedSide, files: Sequence[CodeFile] | None, environment: Sequence[str] | None
) -> RunDifference:
    """``files`` are the differences between the commits, ``environment`` those between the records; None: not known."""
    changed = before.run.pins.environment != after.run.pins.environment
    known = None if environment is None and changed else tuple(environment or ())
    return RunDifference(
        before=before.name,
        after=after.name,
        code=_code(before, after, files),
        steps=tuple(_steps(before, after)),
        data=tuple(_data(before, after)),
        params=_params(before, after),
        metrics=tuple(_metrics(before, after)),
        series=tuple(_series(before, after)),
        plots=tuple(_files(before.run.plots, after.run.plots)),
        artifacts=tuple(_files(before.run.artifacts, after.run.artifacts)),
        environment=Environments(known, changed),
    )


def _code(before: ComparedSide, after: ComparedSide, files: Sequence[CodeFile] | None) -> CodeState:
    a, b = before.run.pins, after.run.pins
    changed = (a.commit, a.dirty) != (b.commit, b.dirty)
    known = () if a.commit == b.commit else None if files is None else tuple(files)
    return CodeState(a.commit, b.commit, a.dirty is not None, b.dirty is not None, known, changed)


def _steps(before: ComparedSide, after: ComparedSide) -> Iterator[StepDifference]:
    old, new = ({r.name: r for r in side.run.steps} for side in (before, after))
    for name in _both(old, new):
        if name not in new or name not in old:
            yield StepDifference(name, f"only in {after.name if name in new else before.name}", True)
        elif old[name].key == new[name].key:
            yield StepDifference(name, "the same work", False)
        else:
            a, b = before.steps.get(name), after.steps.get(name)
            reasons = [r.text for r in judge_staleness.changes(b, a)] if a is not None and b is not None else []
            yield StepDifference(name, "; ".join(reasons) or "other work", True)


def _data(before: ComparedSide, after: ComparedSide) -> Iterator[DataDifference]:
    old, new = before.run.pins.snapshots, after.run.pins.snapshots
    for name in _both(old, new):
        a, b = before.snapshots.get(name), after.snapshots.get(name)
        missing = (name in old and a is None) or (name in new and b is None)
        files = None if missing else tuple(_data_files(a, b))
        yield DataDifference(name, a.rows if a else None, b.rows if b else None, files, old.get(name) != new.get(name))


def _data_files(before: Snapshot | None, after: Snapshot | None) -> Iterator[DataFile]:
    old = {f.name: f for f in before.files} if before else {}
    new = {f.name: f for f in after.files} if after else {}
    for name in _both(old, new):
        a, b = old.get(name), new.get(name)
        if a is None or b is None or a.digest != b.digest:
            yield DataFile(name, a.rows if a else None, b.rows if b else None)


def _params(before: ComparedSide, after: ComparedSide) -> tuple[ValueDifference, ...] | None:
    a, b = before.params, after.params
    if before.run.pins.params == after.run.pins.params:  # one that is known tells the other
        a, b = (a if a is not None else b), (b if b is not None else a)
    if a is None or b is None:
        return () if before.run.pins.params == after.run.pins.params else None
    return tuple(
        ValueDifference(n, a.get(n), b.get(n), n in a, n in b, (n in a) != (n in b) or not _equal(a.get(n), b.get(n)))
        for n in _both(a, b)
    )


def _equal(a: object, b: object) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _metrics(before: ComparedSide, after: ComparedSide) -> Iterator[MetricDifference]:
    old, new = _measures(before), _measures(after)
    for name in _both(old, new):
        yield _metric(name, old.get(name), new.get(name), _paired_difference(before, after, name))


def _measures(side: ComparedSide) -> dict[str, Measure]:
    """Every metric of a side; one that is a number only has no bounds (NaN) and no rows."""
    found = {name: _bare(value) for name, value in side.run.metrics.items()}
    if side.evaluation is not None:
        found |= side.evaluation.metrics
        found |= {name: _bare(getattr(side.evaluation, name)) for name in MEASURED}
    return found


def _bare(value: float) -> Measure:
    return Measure(value, math.nan, math.nan, 0)


def _paired_difference(before: ComparedSide, after: ComparedSide, metric: str) -> Comparison | None:
    """After minus before on the same rows, where one of them was measured against the other."""
    if after.evaluation and before.release and after.evaluation.champion == before.release:
        return after.evaluation.versus.get(metric)
    if before.evaluation and after.release and before.evaluation.champion == after.release:
        found = before.evaluation.versus.get(metric)
        if found is not None:
            value = found.champion + found.difference  # of before, on its own rows
            return Comparison(value, -found.difference, -found.high, -found.low, found.n)
    return None


def _metric(name: str, before: Measure | None, after: Measure | None, paired: Comparison | None) -> MetricDifference:
    if before is None or after is None:
        return MetricDifference(name, before, after, None, None, None, None, None, "", True)
    if paired is not None and math.isfinite(paired.difference):
        verdict = _verdict(name, paired.difference, paired.low, paired.high)
        changed = before.value != after.value or paired.difference != 0
        return MetricDifference(
            name, before, after, paired.difference, paired.low, paired.high, paired.n, paired.champion, verdict, changed
        )
    changed = before.value != after.value and not (math.isnan(before.value) and math.isnan(after.value))
    difference = after.value - before.value
    if not math.isfinite(difference):
        return MetricDifference(name, before, after, None, None, None, None, None, "", changed)
    low, high = between(before, after)
    verdict = _verdict(name, difference, low, high) if changed else "same"
    if math.isnan(low):
        return MetricDifference(name, before, after, difference, None, None, None, None, verdict, changed)
    return MetricDifference(name, before, after, difference, low, high, None, None, verdict, changed)


def between(before: Measure, after: Measure) -> tuple[float, float]:
    """One-sided 95 % bounds of after - before, from the bounds of each, taken as independent: MOVER, the square-and-add method
    (Newcombe 1998, method 10; Zou and Donner 2008, eq. 4). Two evaluations that share rows are positively correlated, and then
    the bounds are too wide rather than too narrow. NaN without bounds."""
    difference = after.value - before.value
    low = difference - math.hypot(after.value - after.low, before.high - before.value)
    high = difference + math.hypot(after.high - after.value, before.value - before.low)
    return low, high


def _verdict(name: str, difference: float, low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    if low <= 0 <= high:
        return "unclear" if difference else "same"
    grew = low > 0
    metric = find_metric(name)
    if metric is not None:
        return "better" if grew == metric.greater_is_better else "worse"
    return "higher" if grew else "lower"


def _series(before: ComparedSide, after: ComparedSide) -> Iterator[SeriesDifference]:
    old, new = _by_metric(before), _by_metric(after)
    for name in _both(old, new):
        a, b = old.get(name), new.get(name)
        yield SeriesDifference(name, summary(a), summary(b), a != b)


def _by_metric(side: ComparedSide) -> dict[str, Points]:
    return {f"{step}.{metric}": points for step, of_step in side.series.items() for metric, points in of_step.items()}


def summary(points: Points | None) -> Summary | None:
    """The short of a series; None where there is none."""
    values = [value for _, value in points or ()]
    return Summary(len(values), values[-1], min(values), max(values)) if values else None


def _files(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[FileDifference]:
    for name in _both(before, after):
        yield FileDifference(name, before.get(name), after.get(name), before.get(name) != after.get(name))


def _both(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Every name of either side: in the order of the second, then what only the first has."""
    return [*after, *(name for name in before if name not in after)]
