"""A report as Markdown, for a pull request: the verdict in sight, the rest folded away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from noria.kernel.names import short
from noria.kernel.verdict import Outcome
from noria.views import report_words as words
from noria.views.report_records import Report, ReportGate

SIGNS = {Outcome.PASS: "✅", Outcome.FAIL: "❌", Outcome.NOT_ENOUGH_DATA: "❔"}
WORDS = {Outcome.PASS: "pass", Outcome.FAIL: "fail", Outcome.NOT_ENOUGH_DATA: "not enough data"}
MARKUP = re.compile(r"([\\`*_\[\]#|~<@&])")  # what may begin markup, a link, a mention or an entity


def render(report: Report) -> str:
    parts = [*_verdict(report), *_metrics(report)]
    folded = (
        ("What changed", _changes(report)),
        ("Slices, the most harmed first", _slices(report)),
        ("Behaviours", _behaviours(report)),
        ("Calibration", _calibration(report)),
        ("Data, latency and size", _data(report)),
        ("Lineage", [f"- {text(fact.name)}: {text(fact.value)}" for fact in report.lineage]),
    )
    for title, lines in folded:
        if lines:
            parts += ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]
    return "\n".join(parts) + "\n"


def text(value: object) -> str:
    """One line in which nothing is markup, a mention or HTML."""
    plain = " ".join(str(value).split())
    return MARKUP.sub(r"\\\1", "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in plain))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """``left``: so many first columns are texts; the others are numbers."""
    rule = ["---" if place < left else "---:" for place in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *([text(cell) for cell in row] for row in rows))]


def _verdict(report: Report) -> Iterator[str]:
    sign = SIGNS[report.outcome] if report.outcome is not None else "⏸"
    yield f"### {sign} {text(report.headline)}"
    if report.gates:
        yield ""
        yield from (_gate(gate) for gate in report.gates)
    for remedy in report.remedies:
        yield from ("", f"**What would change the verdict:** {text(remedy)}")
    for decision in report.decisions:
        yield from ("", f"**A person's decision:** {text(decision)}")
    if report.looks is not None:
        yield from ("", text(report.looks.words))
    if report.afterwards:
        yield from ("", text(report.afterwards))


def _gate(gate: ReportGate) -> str:
    asked = f"**{text(gate.gate)}**: " if gate.gate else ""
    return f"- {SIGNS[gate.outcome]} {WORDS[gate.outcome]}: {asked}{text(gate.text)}"


def _metrics(report: Report) -> Iterator[str]:
    if not report.metrics:
        return
    yield ""
    rows = [
        (m.name, words.measure_words(m.candidate), words.value_words(m.champion), words.difference_words(m), m.verdict or "–")
        for m in report.metrics
    ]
    yield from table(("metric", "candidate", text(report.champion or "champion"), "difference", "which is"), rows)
    yield from ("", f"In brackets: one-sided 95 % bounds, {report.rows:,} rows. {text(report.holdout)}")
    for note in words.metric_notes(report):
        yield from ("", text(note))


def _changes(report: Report) -> list[str]:
    if report.changes is None:
        return [text(report.changes_note)]
    found = [f"- {part.part}: {text(line)}" for part in words.changed_parts(report.changes) for line in part.lines]
    same = words.unchanged_parts(report.changes)
    return [*found, *([f"- the same as {text(report.champion)}: {', '.join(same)}"] if same else [])]


def _slices(report: Report) -> list[str]:
    rows = [
        (s.column, s.value, s.metric, words.measure_words(s.measure), f"{s.measure.n:,}", words.behind_words(s))
        for s in report.slices[: words.LISTED]
    ]
    return table(("by", "value", "metric", "candidate", "rows", "which is"), rows, left=3) if rows else []


def _behaviours(report: Report) -> list[str]:
    head = ("behaviour", "says", "what came of it", "such as")
    return table(head, words.behaviour_cells(report), left=4) if report.behaviours else []


def _calibration(report: Report) -> list[str]:
    curves = report.curves
    if curves is None:
        return [text(report.curves_note)]
    cells = words.calibration_cells(curves, curves.candidate)
    return table(("rows", "predicted", "observed", "95 % bounds"), cells, left=0) if cells else []


def _data(report: Report) -> list[str]:
    rows = [
        (
            d.dataset,
            words.NOTHING if d.rows is None else f"{d.rows:,}",
            words.NOTHING if d.files is None else d.files,
            short(d.digest),
        )
        for d in report.data
    ]
    return [
        *table(("dataset", "rows", "files", "snapshot"), rows),
        "",
        *(f"- {name}: {value}" for name, value in words.footprint(report)),
    ]
