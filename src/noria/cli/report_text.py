"""A report on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from noria.cli.output import pairs, percent, plain, plural, section, table
from noria.kernel.names import short
from noria.kernel.verdict import Outcome
from noria.stats.curve_records import EvaluationCurves, ReleaseCurves
from noria.views import report_words as words
from noria.views.report_records import Report, ReportGate

COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.NOT_ENOUGH_DATA: "yellow"}
NOTE = "in brackets: one-sided 95 % bounds"


def render(report: Report) -> str:
    """The verdict, then the chapters in the order of the page."""
    chapters = (
        ("What would change the verdict", _remedies(report)),
        ("What changed", _changes(report)),
        ("Metrics", _metrics(report)),
        ("Calibration", _calibration(report)),
        ("Confusion matrix", _confusion(report)),
        ("Slices, the most harmed first", _slices(report)),
        ("Behaviours", _behaviours(report)),
        ("Data", _data(report)),
        ("Latency and size", pairs(words.footprint(report))),
        ("Remarks", "\n".join(map(plain, report.remarks))),
        ("Lineage", pairs([(fact.name, fact.value) for fact in report.lineage])),
    )
    return "\n".join([_verdict(report), *(section(title, body) for title, body in chapters if body)])


def _verdict(report: Report) -> str:
    colour = COLOURS[report.outcome] if report.outcome is not None else "yellow"
    lines = [click.style(f"{words.mark(report.outcome)} {plain(report.headline)}", fg=colour, bold=True)]
    lines += [plain(report.afterwards)] if report.afterwards else []
    lines += [click.style(plain(decision), fg="yellow") for decision in report.decisions]
    lines += ["", *(line for gate in report.gates for line in _gate(gate))]
    lines += ["", f"  {report.looks.words}"] if report.looks is not None else []
    return "\n".join(lines) + "\n"


def _gate(gate: ReportGate) -> Iterator[str]:
    yield f"  {click.style(words.mark(gate.outcome), fg=COLOURS[gate.outcome])} {plain(gate.gate or gate.text)}"
    if gate.gate:
        yield f"    {click.style(plain(gate.text), dim=True)}"


def _remedies(report: Report) -> str:
    found = [gate for gate in report.gates if gate.remedy and gate.outcome is not Outcome.PASS]
    return "\n".join(plain(f"{gate.gate}: {gate.remedy}" if gate.gate else gate.remedy) for gate in found)


def _changes(report: Report) -> str:
    if report.changes is None:
        return plain(report.changes_note)
    found = [(part.part, line) for part in words.changed_parts(report.changes) for line in part.lines]
    shown = [(name if place == 0 or found[place - 1][0] != name else "", line) for place, (name, line) in enumerate(found)]
    same = words.unchanged_parts(report.changes)
    return "\n".join(filter(None, [pairs(shown), f"the same as {plain(report.champion)}: {', '.join(same)}" if same else ""]))


def _metrics(report: Report) -> str:
    if not report.metrics:
        return ""
    rows = [
        (m.name, words.measure_words(m.candidate), words.value_words(m.champion), words.difference_words(m), m.verdict or "–")
        for m in report.metrics
    ]
    listed = table(("metric", "candidate", report.champion or "champion", "difference", "which is"), rows)
    return "\n".join([listed, f"{NOTE}; {report.rows:,} rows", *map(plain, words.metric_notes(report))])


def _calibration(report: Report) -> str:
    curves = report.curves
    if curves is None:
        return report.curves_note
    head = ("rows", "predicted", "observed" if curves.of_numbers else "came true", "95 % bounds")
    return table(head, words.calibration_cells(curves, curves.candidate)) if curves.candidate.calibration else ""


def _confusion(report: Report) -> str:
    curves = report.curves
    if curves is None or not curves.candidate.confusion:
        return ""
    tables = [_matrix(report.name, curves, curves.candidate)]
    tables += [_matrix(curves.champion_name or "champion", curves, curves.champion)] if curves.champion is not None else []
    return "\n\n".join(tables)


def _matrix(name: str, curves: EvaluationCurves, release: ReleaseCurves) -> str:
    """Rows by label, columns by call: counts, and their share of the label's rows."""
    rows = [(label, *_shares(counts)) for label, counts in zip(curves.classes, release.confusion, strict=True)]
    return table((f"{curves.label}, {name}", *(f"called {label}" for label in curves.classes)), rows)


def _shares(counts: Sequence[int]) -> list[str]:
    total = sum(counts)
    return [f"{count:,} ({percent(count / total)})" if total else "0" for count in counts]


def _slices(report: Report) -> str:
    if not report.slices:
        return ""
    rows = [
        (s.column, s.value, s.metric, words.measure_words(s.measure), f"{s.measure.n:,}", words.behind_words(s))
        for s in report.slices[: words.LISTED]
    ]
    more = len(report.slices) - words.LISTED
    listed = table(("by", "value", "metric", "candidate", "rows", "which is"), rows)
    return f"{listed}\nand {more:,} more: --format html shows all" if more > 0 else listed


def _behaviours(report: Report) -> str:
    head = ("behaviour", "says", "what came of it", "such as")
    return table(head, words.behaviour_cells(report)) if report.behaviours else ""


def _data(report: Report) -> str:
    lines = [
        (d.dataset, f"{plural(d.rows, 'row')} in {plural(d.files or 0, 'file')}, snapshot {short(d.digest)}")
        if d.rows is not None
        else (d.dataset, f"snapshot {short(d.digest)}, no longer recorded")
        for d in report.data
    ]
    return pairs([*lines, ("held out", report.holdout)])
