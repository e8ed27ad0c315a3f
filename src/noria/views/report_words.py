"""What a report says in words and cells, the same on a terminal, in Markdown and on its page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from noria.evaluation.judge_compare import CodeState, DataDifference, RunDifference, ValueDifference
from noria.kernel.verdict import Outcome
from noria.kernel.words import duration, number, percent, plural, size
from noria.stats.curve_records import EvaluationCurves, ReleaseCurves
from noria.stats.measures import Measure
from noria.views.report_records import Report, ReportMetric, ReportSlice

LISTED = 12  # files, parameters or packages of one kind; the rest is counted
ARROW = "→"
NOTHING = "–"
MARKS = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.NOT_ENOUGH_DATA: "?"}


class ChangedPart(msgspec.Struct, frozen=True):
    """One part that differs from the champion's run: code, data, parameters, steps, environment, model."""

    part: str
    lines: tuple[str, ...]


def mark(outcome: Outcome | None) -> str:
    return MARKS[outcome] if outcome is not None else "…"


def value_words(value: float | None) -> str:
    if value is None:
        return NOTHING
    return number(value) if math.isfinite(value) else "not defined"


def bounds_words(low: float | None, high: float | None, *, signed: bool = False) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return NOTHING
    return f"{low:+.4g} to {high:+.4g}" if signed else f"{number(low)} to {number(high)}"


def measure_words(measure: Measure) -> str:
    bounds = bounds_words(measure.low, measure.high)
    return value_words(measure.value) + (f" ({bounds})" if bounds != NOTHING else "")


def difference_words(metric: ReportMetric) -> str:
    if metric.difference is None:
        return NOTHING
    bounds = bounds_words(metric.low, metric.high, signed=True)
    return f"{metric.difference:+.4g}" + (f" ({bounds})" if bounds != NOTHING else "")


def metric_notes(report: Report) -> list[str]:
    """What has to be known of the metrics: why one is missing, or that rows come in groups."""
    notes = [f"no comparison with {report.champion}: {report.champion_note}"] if report.champion_note else []
    notes += [f"{name} has no value: {why}" for name, why in report.unmeasured.items()]
    grouped = [metric for metric in report.metrics if metric.candidate.widened is not None]
    if grouped:
        first = grouped[0].candidate
        wider = ", ".join(f"{metric.name} {metric.candidate.widened:.2g}" for metric in grouped)
        come = f"rows come in {plural(first.groups or 0, 'group')} (by {first.unit})"
        notes.append(f"{come}; beside independent rows, bounds are wider by these factors: {wider}")
    return notes


def behind_words(one: ReportSlice) -> str:
    """``0.023 worse than all rows``, and whether that is more than chance."""
    if not math.isfinite(one.measure.value):
        return "not defined on these rows"
    if one.behind == 0:
        return "as all rows"
    side = "worse" if one.behind > 0 else "better"
    shown = "" if one.behind < 0 else ", beyond its bound" if one.shown_behind > 0 else ", within its bound"
    return f"{abs(one.behind):.3g} {side} than all rows{shown}"


def behaviour_cells(report: Report) -> list[tuple[str, str, str, str]]:
    """Name with its mark, what the project states, what came of it, and up to three rows that behave otherwise."""
    return [(f"{mark(one.outcome)} {one.name}", one.says, one.text, "; ".join(one.examples)) for one in report.behaviours]


# --- what changed


def changed_parts(found: RunDifference | None) -> tuple[ChangedPart, ...]:
    """What differs between the champion's run and the candidate's; the parts that do not are left out."""
    if found is None:
        return ()
    parts = (
        ("code", _code(found.code)),
        ("data", [line for d in found.data if d.changed for line in _data(d)]),
        ("parameters", _params(found.params)),
        ("steps", [f"{s.name}: {s.text}" for s in found.steps if s.changed and not s.name.startswith("score.")]),
        ("environment", _environment(found)),
    )
    return tuple(ChangedPart(part, tuple(_limited(lines))) for part, lines in parts if lines)


def unchanged_parts(found: RunDifference | None) -> tuple[str, ...]:
    if found is None:
        return ()
    changed = {part.part for part in changed_parts(found)}
    return tuple(part for part in ("code", "data", "parameters", "environment") if part not in changed)


def _limited(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:LISTED]
    if len(lines) > LISTED:
        yield f"and {len(lines) - LISTED:,} more: `noria diff --all` lists them"


def _code(code: CodeState) -> list[str]:
    if not code.changed:
        return []
    commits = f"{_commit(code.before, code.dirty_before)} {ARROW} {_commit(code.after, code.dirty_after)}"
    if code.files is None:
        return [commits, "the repository does not hold both commits, so the changed files are unknown"]
    return [commits, *(f"{f.path}  {_changed_lines(f.added, f.removed)}" for f in code.files)]


def _changed_lines(added: int | None, removed: int | None) -> str:
    return "not text" if added is None or removed is None else f"+{added} -{removed}"


def _commit(commit: str | None, dirty: bool) -> str:
    return ("no commit" if commit is None else commit[:10]) + (" with uncommitted changes" if dirty else "")


def _data(d: DataDifference) -> Iterator[str]:
    before, after = ("?" if rows is None else f"{rows:,}" for rows in (d.rows_before, d.rows_after))
    yield f"{d.dataset}: {before} {ARROW} {after} rows"
    for f in d.files or ():
        rows = [None if count is None else f"{count:,}" for count in (f.rows_before, f.rows_after)]
        if rows[0] is None:
            yield f"new: {f.name}, {rows[1]} rows"
        else:
            yield f"gone: {f.name}" if rows[1] is None else f"changed: {f.name}, {rows[0]} {ARROW} {rows[1]} rows"


def _params(params: Sequence[ValueDifference] | None) -> list[str]:
    if params is None:
        return ["they differ; one side's are not recorded"]
    return [
        f"{p.name}: {repr(p.before) if p.has_before else NOTHING} {ARROW} {repr(p.after) if p.has_after else NOTHING}"
        for p in params
        if p.changed
    ]


def _environment(found: RunDifference) -> list[str]:
    if found.environment.differences is None:
        return ["it differs; a record is missing, so the packages are unknown"]
    return list(found.environment.differences) or (["the digests differ"] if found.environment.changed else [])


# --- figures as cells


def calibration_cells(curves: EvaluationCurves, release: ReleaseCurves) -> list[tuple[str, ...]]:
    shown = number if curves.of_numbers else percent
    return [
        (f"{b.rows:,}", shown(b.predicted), shown(b.observed), f"{shown(b.low)} to {shown(b.high)}") for b in release.calibration
    ]


def footprint(report: Report) -> list[tuple[str, str]]:
    """Latency and size."""
    found = [
        ("latency, median", duration(report.latency_p50_ms / 1000)),
        ("latency, p99", duration(report.latency_p99_ms / 1000)),
    ]
    if report.latency_rounds_ms:
        rounds = [duration(ms / 1000) for ms in (min(report.latency_rounds_ms), max(report.latency_rounds_ms))]
        found.append(("p99 by round", f"{rounds[0]} to {rounds[1]} in {plural(len(report.latency_rounds_ms), 'round')}"))
    found.append(("model", size(report.model_size_mb * 1e6)))
    return [*found, *((name, value_words(value)) for name, value in report.step_metrics.items())]
