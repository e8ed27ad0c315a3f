"""`noria diff A B`: compares two runs: what differs, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec.structs import replace

from noria.cli import story
from noria.cli.context import Home, pass_home
from noria.cli.output import cells_of, emit, fill, json_option, number, pairs, plain, plural, section, table
from noria.evaluation.records import sort_gated_first
from noria.kernel import names
from noria.pipeline.turn_store import TurnStore
from noria.storage.blobs import BlobStore
from noria.views import comparison
from noria.views.report_records import finite
from noria.views.status import turn_facts

if TYPE_CHECKING:
    from noria.evaluation.judge_compare import (
        CodeState,
        DataDifference,
        FileDifference,
        MetricDifference,
        RunDifference,
        SeriesDifference,
        Summary,
        ValueDifference,
    )
    from noria.stats.measures import Measure
    from noria.views.comparison import Archive, NamedRun

SHOWN = 20  # files, parameters or packages of one kind; the rest is counted unless --all is given
ARROW = "→"


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--all", "everything", is_flag=True, help="Also show what is equal, and list every file.")
@json_option
@pass_home
def command(home: Home, a: str | None, b: str | None, everything: bool, as_json: bool) -> None:
    """Compare two runs: code, data, parameters, metrics, plots and environment, in one view.

    A and B are releases (v3), turns (12), runs (or the beginning of an id), environments (what serves there), or `latest`.
    Without B: what serves now. Without both: from what serves now to the latest run.

    \b
    Example:  noria diff v3 v4
              noria diff
              noria diff production latest --json | jq .metrics

    The bounds of metrics are one-sided, 95 %. They are those of the paired difference if both were measured on the same rows;
    otherwise they treat the two evaluations as independent.

    JSON keys: before and after {name, run, kind, release, turn}, same [parts], code, steps, data, params, metrics, series, plots,
    artifacts, environment; each entry has `changed`; ended_early: a turn that came after the latest run, and to none. A value
    that is not known is null.
    """
    with closing(home.existing_ledger()) as ledger:
        archive = comparison.Archive(ledger, BlobStore(home.state / "blobs"), home.project_name(), home.path, home.state)
        sides = comparison.defaults(archive, a, b)
        found = _in_order(comparison.difference(archive, *sides), home.gated())
        turn = TurnStore(ledger, archive.project).ended_early() if b is None or comparison.LATEST in (a, b) else None
        early = turn_facts(turn) if turn else None
        emit(
            as_json,
            lambda: document(sides, found) | {"ended_early": early},
            lambda: "\n".join(filter(None, [story.early(early), render(found, archive, everything)])),
        )


def _in_order(found: RunDifference, gated: Sequence[str]) -> RunDifference:
    """The metrics, those that gates require first."""
    named = {metric.name: metric for metric in found.metrics}
    return replace(found, metrics=tuple(named[name] for name in sort_gated_first(named, gated)))


def document(sides: tuple[NamedRun, NamedRun], found: RunDifference) -> dict[str, Any]:
    """The JSON document: stable keys, no number that JSON cannot hold."""
    head = {"before": _side(sides[0]), "after": _side(sides[1]), "same": _same(found)}
    parts = msgspec.to_builtins(found)
    cleaned: dict[str, Any] = finite(head | {name: part for name, part in parts.items() if name not in head})
    return cleaned


def _side(side: NamedRun) -> dict[str, Any]:
    run = side.run
    version = side.release.version if side.release else None
    return {"name": side.name, "run": run.id, "kind": str(run.kind), "release": version, "turn": run.turn_id}


def render(found: RunDifference, archive: Archive, everything: bool) -> str:
    """Renders what differs, or everything."""
    chapters = (
        ("Code", _code(found.code, everything)),
        ("Steps", pairs([(s.name, s.text) for s in found.steps if s.changed or everything])),
        ("Data", "\n".join(_data(found.data, everything))),
        ("Parameters", _params(found.params, everything)),
        ("Metrics", _metrics(found, everything)),
        ("Series", _series(found.series, everything)),
        ("Plots", _files(found.plots, archive, everything)),
        ("Artifacts", _files(found.artifacts, archive, everything)),
        ("Environment", _environment(found, everything)),
    )
    head = click.style(f"{plain(found.before)} {ARROW} {plain(found.after)}", bold=True) + "\n"
    body = [section(title, text) for title, text in chapters if text]
    same = _same(found)
    tail = [f"the same: {', '.join(same)}"] if same else []
    return "\n".join([head, *body, *tail])


def _same(found: RunDifference) -> list[str]:
    """The parts in which nothing differs, without those that neither side has."""
    parts: list[tuple[str, bool, bool]] = [
        ("code", True, found.code.changed),
        ("environment", True, found.environment.changed or bool(found.environment.differences)),
        ("parameters", found.params != (), found.params is None or any(p.changed for p in found.params)),
    ]
    lists: tuple[tuple[str, Sequence[Any]], ...] = (
        ("steps", found.steps),
        ("data", found.data),
        ("metrics", found.metrics),
        ("series", found.series),
        ("plots", found.plots),
        ("artifacts", found.artifacts),
    )
    parts += [(name, bool(items), any(item.changed for item in items)) for name, items in lists]
    return [name for name, present, changed in parts if present and not changed]


def _limit_lines(lines: list[str], noun: str, everything: bool) -> list[str]:
    if everything or len(lines) <= SHOWN:
        return lines
    return [*lines[:SHOWN], f"... and {plural(len(lines) - SHOWN, noun)} more: --all shows them"]


def _code(code: CodeState, everything: bool) -> str:
    if not code.changed:
        return f"{_commit(code.before, code.dirty_before)}, both" if everything else ""
    head = f"{_commit(code.before, code.dirty_before)} {ARROW} {_commit(code.after, code.dirty_after)}"
    if code.files is None:
        return f"{head}\nthe repository does not hold both commits, so the changed files are unknown"
    width = max((cells_of(plain(f.path)) for f in code.files), default=0)
    lines = [
        f"{fill(plain(f.path), width)}  " + ("not text" if f.added is None or f.removed is None else f"+{f.added} -{f.removed}")
        for f in code.files
    ]
    return "\n".join([head, *_limit_lines(lines, "file", everything)])


def _commit(commit: str | None, dirty: bool) -> str:
    if commit is None:
        return "no commit"
    return f"{commit[:10]} with changes" if dirty else commit[:10]


def _data(data: Sequence[DataDifference], everything: bool) -> Iterator[str]:
    for d in data:
        if not (d.changed or everything):
            continue
        before, after = (_rows(rows) for rows in (d.rows_before, d.rows_after))
        told = f"{before} {ARROW} {after} rows" if d.changed else f"{after} rows, both"
        if d.files is None:
            yield f"{d.dataset}  {told}; a snapshot is no longer recorded, so the changed files are unknown"
            continue
        yield f"{d.dataset}  {told}" + "".join(_file_counts(d))
        yield from _limit_lines([_data_file(f.name, f.rows_before, f.rows_after) for f in d.files], "file", everything)


def _rows(rows: int | None) -> str:
    return "?" if rows is None else f"{rows:,}"


def _file_counts(d: DataDifference) -> Iterator[str]:
    files = d.files or ()
    counts = (
        ("new", sum(f.rows_before is None for f in files)),
        ("gone", sum(f.rows_after is None for f in files)),
        ("changed", sum(f.rows_before is not None and f.rows_after is not None for f in files)),
    )
    for word, count in counts:
        if count:
            yield f", {plural(count, 'file')} {word}"


def _data_file(name: str, before: int | None, after: int | None) -> str:
    if before is None:
        return f"  + {plain(name)}  {plural(after or 0, 'row')}"
    if after is None:
        return f"  - {plain(name)}  {plural(before, 'row')}"
    return f"  ~ {plain(name)}  {before:,} {ARROW} {plural(after, 'row')}"


def _params(params: tuple[ValueDifference, ...] | None, everything: bool) -> str:
    if params is None:
        return "they differ; one side's are not recorded"
    rows = [(p.name, _value(p.before, p.has_before), _value(p.after, p.has_after)) for p in params if p.changed or everything]
    width = max((cells_of(plain(before)) for _, before, _ in rows), default=0)
    lines = pairs([(name, f"{fill(plain(before), width)} {ARROW} {plain(after)}") for name, before, after in rows])
    return "\n".join(_limit_lines(lines.splitlines(), "parameter", everything))


def _value(value: object, there: bool) -> str:
    return f"{value!r}" if there else "–"


def _metrics(found: RunDifference, everything: bool) -> str:
    shown = [m for m in found.metrics if m.changed or everything]
    if not shown:
        return ""
    rows = [(m.name, _measure(m.before), _measure(m.after), _by(m), _verdict_words(m)) for m in shown]
    names = (side.partition(" (")[0] for side in (found.before, found.after))
    listed = table(("metric", *names, "difference", "which is"), rows)
    return f"{listed}\nin brackets: one-sided 95 % bounds" if any("(" in by for _, _, _, by, _ in rows) else listed


def _measure(m: Measure | None) -> str:
    if m is None or not math.isfinite(m.value):
        return "–" if m is None else "not defined"
    bounded = math.isfinite(m.low) and math.isfinite(m.high)
    return f"{number(m.value)} ({number(m.low)} to {number(m.high)})" if bounded else number(m.value)


def _by(m: MetricDifference) -> str:
    if m.difference is None:
        return "–"
    if m.low is None or m.high is None:
        return f"{m.difference:+.4g}"
    return f"{m.difference:+.4g} ({m.low:+.4g} to {m.high:+.4g})"


def _verdict_words(m: MetricDifference) -> str:
    told = "no clear difference" if m.verdict == "unclear" else m.verdict
    if m.paired is None or m.before_paired is None:
        return told
    return f"{told}, on the same {plural(m.paired, 'row')}, where the first has {number(m.before_paired)}"


def _series(series: Sequence[SeriesDifference], everything: bool) -> str:
    rows = [
        (s.name, _summary(s.before), _summary(s.after), _part(s, "least"), _part(s, "most"))
        for s in series
        if s.changed or everything
    ]
    return table(("series", "before: last", "after: last", "smallest", "largest"), rows) if rows else ""


def _summary(summary: Summary | None) -> str:
    return "–" if summary is None else f"{number(summary.last)} of {plural(summary.points, 'point')}"


def _part(s: SeriesDifference, part: str) -> str:
    values = [number(getattr(side, part)) if side is not None else "–" for side in (s.before, s.after)]
    return f" {ARROW} ".join(values)


def _files(files: Sequence[FileDifference], archive: Archive, everything: bool) -> str:
    lines = []
    for f in files:
        if not (f.changed or everything):
            continue
        places = [_blob(archive, digest) for digest in (f.before, f.after)]
        lines += (
            [plain(f.name), f"  before  {places[0]}", f"  after   {places[1]}"] if f.changed else [plain(f.name) + "  the same"]
        )
    return "\n".join(_limit_lines(lines, "line", everything))


def _blob(archive: Archive, digest: str | None) -> str:
    """The path at which a blob can be opened."""
    if digest is None:
        return "–"
    if not archive.blobs.exists(digest):
        return f"{names.short(digest)}, no longer stored"
    return str(archive.blobs.path(digest))


def _environment(found: RunDifference, everything: bool) -> str:
    differences = found.environment.differences
    if differences is None:
        return "it differs; a record is missing, so the packages are unknown"
    lines = list(differences) or (["the digests differ"] if found.environment.changed else [])
    return "\n".join(_limit_lines([plain(line) for line in lines], "difference", everything))
