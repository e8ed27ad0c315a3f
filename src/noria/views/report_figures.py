"""The figures of a report: candidate and champion overlaid, each with the table that says the same."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
from markupsafe import Markup

from noria.kernel.words import number, percent
from noria.stats.curve_records import CalibrationBin, EvaluationCurves, Points, RankCurves, ReleaseCurves
from noria.views import svg
from noria.views.report_records import Report, ReportGate, ReportMetric, ReportSlice
from noria.views.svg import Frame, PlottedInterval

MINE, THEIRS = "mine", "theirs"  # classes: the candidate's solid line, the champion's dashed one
GRID = tuple(place / 10 for place in range(11))  # where a curve's table reads it
UNIT = Frame(0.0, 1.0, 0.0, 1.0)
STRIP = 34  # units of height that the counts below a calibration take


class Figure(msgspec.Struct, frozen=True):
    title: str
    note: str  # how to read it, in one sentence
    picture: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class HeatCell(msgspec.Struct, frozen=True):
    count: int
    share: str  # of its label's rows
    level: int  # 0 to 5: how dark


class Matrix(msgspec.Struct, frozen=True):
    """A confusion matrix: rows by label, columns by call."""

    name: str
    classes: tuple[str, ...]
    rows: tuple[tuple[HeatCell, ...], ...]


Sides = list[tuple[str, str, ReleaseCurves]]  # class, name, curves


def figures(report: Report) -> list[Figure]:
    """In the order in which they stand; none where no curves were recorded."""
    curves = report.curves
    if curves is None:
        return []
    sides: Sides = [(MINE, report.name, curves.candidate)]
    if curves.champion is not None:
        sides.append((THEIRS, curves.champion_name or "champion", curves.champion))
    found = _of_numbers(curves, sides) if curves.of_numbers else _of_classes(curves, sides)
    return list(found)


def matrices(report: Report) -> list[Matrix]:
    curves = report.curves
    if curves is None or not curves.candidate.confusion:
        return []
    found = [_matrix(report.name, curves, curves.candidate)]
    return [*found, _matrix(curves.champion_name or "champion", curves, curves.champion)] if curves.champion else found


def _matrix(name: str, curves: EvaluationCurves, release: ReleaseCurves) -> Matrix:
    return Matrix(name, curves.classes, tuple(tuple(_cells(counts)) for counts in release.confusion))


def _cells(counts: Sequence[int]) -> Iterator[HeatCell]:
    total = sum(counts)
    for count in counts:
        share = count / total if total else 0.0
        yield HeatCell(count, percent(share) if total else "–", min(5, math.ceil(share * 5)))


# --- classes


def _of_classes(curves: EvaluationCurves, sides: Sides) -> Iterator[Figure]:
    several = len(curves.candidate.ranks) > 1
    for place, ranked in enumerate(curves.candidate.ranks):
        pairs = [(css, name, _same_class(release, ranked.name)) for css, name, release in sides]
        known = [(css, name, one) for css, name, one in pairs if one is not None]
        of = f", {curves.label} = {ranked.name}" if several else ""
        yield _roc(f"roc{place}", of, known)
        yield _precision_recall(f"pr{place}", of, known, ranked.positives / curves.rows)
        if not several:
            yield _gain("gain", known, ranked.positives / curves.rows)
    if curves.candidate.calibration:
        what = "probability of the called class" if several else "predicted probability"
        yield _calibration(sides, what, "share that is right" if several else "share that came true")


def _same_class(release: ReleaseCurves, name: str) -> RankCurves | None:
    return next((one for one in release.ranks if one.name == name), None)


Known = list[tuple[str, str, RankCurves]]


def _roc(key: str, of: str, known: Known) -> Figure:
    parts = [*svg.axes(UNIT, "false positive rate", "true positive rate"), svg.rule(UNIT, "chance", (0, 0), (1, 1))]
    for css, name, one in reversed(known):
        parts.append(svg.line(UNIT, css, one.roc.x, one.roc.y))
        if one.calls is not None:
            told = f"{name} as it calls: {percent(one.calls[1])} found, {percent(one.calls[0])} false alarms"
            parts.append(svg.dot(UNIT, css, *one.calls, told, 4.5))
    title = f"ROC{of}"
    told = _description("true positive rate", "false positive rate", known, lambda one: one.roc)
    note = "Nearer to the upper left is better; the point is the decision rule as it is served."
    return Figure(
        title, note, svg.figure(UNIT, key, title, told, parts), *_grid(known, "false positive rate", lambda one: one.roc)
    )


def _precision_recall(key: str, of: str, known: Known, share: float) -> Figure:
    parts = [*svg.axes(UNIT, "recall", "precision"), svg.rule(UNIT, "chance", (0, share), (1, share))]
    parts += [svg.line(UNIT, css, one.precision_recall.x, one.precision_recall.y) for css, _, one in reversed(known)]
    title = f"Precision and recall{of}"
    told = _description("precision", "recall", known, lambda one: one.precision_recall)
    note = f"Higher is better; the dotted line is chance: {percent(share)} of the rows are positive."
    drawn = svg.figure(UNIT, key, title, told, parts)
    return Figure(title, note, drawn, *_grid(known, "recall", lambda one: one.precision_recall))


def _gain(key: str, known: Known, share: float) -> Figure:
    parts = [*svg.axes(UNIT, "share of rows, highest scores first", "share of positives found")]
    parts.append(svg.rule(UNIT, "chance", (0, 0), (1, 1)))
    parts.append(svg.line(UNIT, "ideal", [0, share, 1], [0, 1, 1]))
    parts += [svg.line(UNIT, css, one.gain.x, one.gain.y) for css, _, one in reversed(known)]
    told = _description("share of positives found", "share of rows", known, lambda one: one.gain)
    note = "How many positives the highest scores hold; the upper dotted line is a perfect order."
    drawn = svg.figure(UNIT, key, "Gain", told, parts)
    return Figure("Gain", note, drawn, *_grid(known, "share of rows", lambda one: one.gain))


def _description(y: str, x: str, known: Known, of: Callable[[RankCurves], Points]) -> str:
    """What a person hears who does not see it."""
    told = [
        f"{name}: " + ", ".join(f"{percent(_at(of(one), x))} at {percent(x)}" for x in (0.1, 0.25, 0.5)) for _, name, one in known
    ]
    return f"{y} by {x}. {'; '.join(told)}."


def _grid(known: Known, x: str, of: Callable[[RankCurves], Points]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    head = (x, *(name for _, name, _ in known))
    return head, tuple((percent(place), *(percent(_at(of(one), place)) for _, _, one in known)) for place in GRID)


def _at(curve: Points, x: float) -> float:
    """The curve's height there, the highest where it is upright."""
    place = bisect.bisect_right(curve.x, x)
    if place == 0 or curve.x[place - 1] == x:
        return curve.y[max(place - 1, 0)]
    if place == len(curve.x):
        return curve.y[-1]
    (x0, x1), (y0, y1) = curve.x[place - 1 : place + 1], curve.y[place - 1 : place + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _calibration(sides: Sides, x_name: str, y_name: str, shown: Callable[[float], str] = percent) -> Figure:
    bins = [one for _, _, release in sides for one in release.calibration]
    frame = _calibration_frame(bins, shares=shown is percent)
    parts = [*svg.axes(frame, x_name, y_name)]
    parts.append(svg.rule(frame, "chance", (frame.low_x, frame.low_x), (frame.high_x, frame.high_x)))
    for css, name, release in reversed(sides):
        parts += _calibrated(frame, css, name, release, shown)
    parts += _counts_below(frame, sides)
    head = ("release", "rows", "predicted", "observed", "95 % bounds")
    rows = tuple(
        (name, f"{b.rows:,}", shown(b.predicted), shown(b.observed), f"{shown(b.low)} to {shown(b.high)}")
        for _, name, release in sides
        for b in release.calibration
    )
    off = [(name, _farthest(release.calibration)) for _, name, release in sides]
    told = "; ".join(f"{name} is farthest off at {shown(b.predicted)}, where {shown(b.observed)} came" for name, b in off)
    note = "On the dotted line predictions mean what they say; upright lines are 95 % bounds, bars below count the rows."
    drawn = svg.figure(frame, "calibration", "Calibration", f"{y_name} by {x_name}, in bins. {told}.", parts)
    return Figure("Calibration", note, drawn, head, rows)


def _farthest(bins: Sequence[CalibrationBin]) -> CalibrationBin:
    return max(bins, key=lambda b: abs(b.observed - b.predicted))


def _calibration_frame(bins: Sequence[CalibrationBin], *, shares: bool) -> Frame:
    """One scale for both axes, as far as there is something to see."""
    values = [value for b in bins for value in (b.predicted, b.observed)]
    low, high = (0.0, min(1.0, max(values) * 1.08)) if shares else (min(values), max(values))
    pad = 0.0 if shares else (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    low, high = low - pad, max(high + pad, low + 1e-6)
    return Frame(low, high, low, high, height=280 + STRIP, bottom=svg.BOTTOM + STRIP)


def _calibrated(frame: Frame, css: str, name: str, release: ReleaseCurves, shown: Callable[[float], str]) -> Iterator[Markup]:
    bins = release.calibration
    yield svg.line(frame, css, [b.predicted for b in bins], [b.observed for b in bins])
    for b in bins:
        low, high = max(b.low, frame.low_y), min(b.high, frame.high_y)
        yield svg.whisker(frame, css, b.predicted, low, high)
        bounds = f"{shown(b.low)} to {shown(b.high)}"
        told = f"{name}: {b.rows:,} rows, predicted {shown(b.predicted)}, came {shown(b.observed)} ({bounds})"
        yield svg.dot(frame, css, b.predicted, b.observed, told)


def _counts_below(frame: Frame, sides: Sides) -> Iterator[Markup]:
    """Bars between the axis' numbers and its name: how many rows each bin of the candidate has."""
    css, name, release = sides[0]
    most = max(b.rows for b in release.calibration)
    floor = frame.height - 20
    for b in release.calibration:
        height = max(1.0, (STRIP - 14) * b.rows / most)
        shape = Markup('<rect class="count {}" x="{:.1f}" y="{:.1f}" width="6" height="{:.1f}"><title>{}</title></rect>')
        yield shape.format(css, frame.x(b.predicted) - 3, floor - height, height, f"{name}: {b.rows:,} rows")


# --- numbers


def _of_numbers(curves: EvaluationCurves, sides: Sides) -> Iterator[Figure]:
    if curves.candidate.calibration:
        yield replace_title(_calibration(sides, "predicted", f"mean of {curves.label}", number), "Predicted and observed")
    if len(curves.residual_edges) > 1:
        yield _residual_histogram(curves, sides)
    for css, name, release in sides:
        if release.residuals:
            yield _residuals(css, name, curves, release)
    lines = [(css, name, release.gain) for css, name, release in sides if release.gain is not None]
    if lines:
        yield _gain_of_numbers(curves.label, lines)


def replace_title(figure: Figure, title: str) -> Figure:
    return msgspec.structs.replace(figure, title=title)


def _residual_histogram(curves: EvaluationCurves, sides: Sides) -> Figure:
    edges = curves.residual_edges
    inner = [(css, name, [count / curves.rows for count in release.residual_counts[1:-1]]) for css, name, release in sides]
    most = max(max(shares) for _, _, shares in inner) or 1.0
    frame = Frame(edges[0], edges[-1], 0.0, most * 1.08)
    parts = [
        *svg.axes(frame, f"{curves.label} - predicted", "share of rows"),
        svg.rule(frame, "chance", (0, 0), (0, most * 1.08)),
    ]
    css, _, shares = inner[0]
    parts += [svg.bar(frame, f"fill {css}", (edges[i], edges[i + 1]), (0, share)) for i, share in enumerate(shares)]
    parts += [svg.step(frame, css, edges, shares) for css, _, shares in inner[1:]]
    outside = [(name, release.residual_counts[0] + release.residual_counts[-1]) for _, name, release in sides]
    told = "Outside of this range: " + ", ".join(f"{percent(count / curves.rows)} of {name}'s" for name, count in outside)
    head = ("residual", *(name for _, name, _ in inner))
    rows = tuple(
        (f"{number(edges[i])} to {number(edges[i + 1])}", *(percent(shares[i]) for _, _, shares in inner))
        for i in range(len(edges) - 1)
    )
    note = f"Narrow and around 0 is better. {told}."
    drawn = svg.figure(frame, "residuals", "Residuals", f"Share of rows by residual. {told}.", parts)
    return Figure("Residuals", note, drawn, head, rows)


def _residuals(css: str, name: str, curves: EvaluationCurves, release: ReleaseCurves) -> Figure:
    every = [r for side in (curves.candidate, curves.champion) if side is not None for r in side.residuals]
    low, high = min(0.0, *(r.p5 for r in every)), max(0.0, *(r.p95 for r in every))
    x = [r.predicted for r in release.residuals]
    span = (min(r.predicted for r in every), max(r.predicted for r in every))
    pad = (high - low) * 0.06 or 1.0
    frame = Frame(span[0], span[1] if span[1] > span[0] else span[0] + 1, low - pad, high + pad)
    parts = [
        *svg.axes(frame, "predicted", f"{curves.label} - predicted"),
        svg.rule(frame, "chance", (frame.low_x, 0), (frame.high_x, 0)),
    ]
    parts += [
        svg.band(frame, f"{css} wide-band", x, [r.p5 for r in release.residuals], [r.p95 for r in release.residuals]),
        svg.band(frame, css, x, [r.p25 for r in release.residuals], [r.p75 for r in release.residuals]),
        svg.line(frame, css, x, [r.p50 for r in release.residuals]),
    ]
    head = ("predicted", "rows", "5 %", "25 %", "median", "75 %", "95 %")
    rows = tuple(
        (number(r.predicted), f"{r.rows:,}", *(number(value) for value in (r.p5, r.p25, r.p50, r.p75, r.p95)))
        for r in release.residuals
    )
    title = f"Residuals by prediction, {name}"
    note = "Median, the middle half, and nine tenths of the rows; a level band around 0 is better."
    told = f"Quantiles of the residuals of {name} by what it predicts."
    return Figure(title, note, svg.figure(frame, f"spread-{css}", title, told, parts), head, rows)


def _gain_of_numbers(label: str, lines: Sequence[tuple[str, str, Points]]) -> Figure:
    parts = [*svg.axes(UNIT, "share of rows, highest predictions first", f"share of the sum of {label}")]
    parts.append(svg.rule(UNIT, "chance", (0, 0), (1, 1)))
    parts += [svg.line(UNIT, css, points.x, points.y) for css, _, points in reversed(lines)]
    head = ("share of rows", *(name for _, name, _ in lines))
    rows = tuple((percent(place), *(percent(_at(points, place)) for _, _, points in lines)) for place in GRID)
    note = f"How much of the sum of {label} the rows with the highest predictions hold."
    drawn = svg.figure(UNIT, "gain", "Gain", f"Share of the sum of {label} by share of rows.", parts)
    return Figure("Gain", note, drawn, head, rows)


# --- rows of tables


def gate_interval(gate: ReportGate) -> Markup:
    """The value, or the difference, with its bounds beside what the gate asks; empty where a reason has no such numbers."""
    n = gate.numbers
    value, against = n.get("difference", n.get("value")), n.get("margin", n.get("threshold"))
    if value is None or against is None or not (math.isfinite(value) and math.isfinite(against)):
        return Markup("")
    low, high = n.get("low", math.nan), n.get("high", math.nan)
    places = [place for place in (value, against, low, high) if math.isfinite(place)]
    pad = (max(places) - min(places)) * 0.15 or abs(value) * 0.1 or 1.0
    told = f"{number(value)}, asked: {number(against)}"
    return svg.interval(
        PlottedInterval(value, low, high, against, told),
        min(places) - pad,
        max(places) + pad,
        str(gate.outcome).replace(" ", "-"),
    )


def difference_interval(metric: ReportMetric) -> Markup:
    """Better is to the right, whatever the metric; the tick is the champion."""
    if metric.difference is None or metric.low is None or metric.high is None:
        return Markup("")
    sign = -1 if metric.greater_is_better is False else 1
    low, high = sorted((sign * metric.low, sign * metric.high))
    reach = max(abs(low), abs(high)) * 1.1 or 1.0
    css = {"better": "pass", "worse": "fail"}.get(metric.verdict, "quiet")
    side = f"{metric.verdict}: " if metric.verdict else ""
    told = f"{side}difference {metric.difference:+.4g}, bounds {metric.low:+.4g} to {metric.high:+.4g}"
    return svg.interval(PlottedInterval(sign * metric.difference, low, high, 0.0, told), -reach, reach, css)


def slice_interval(one: ReportSlice, every: Sequence[ReportSlice], whole: float) -> Markup:
    """On the scale of all slices of the metric; the tick is the metric of all rows."""
    values = [
        v for s in every if s.metric == one.metric for v in (s.measure.value, s.measure.low, s.measure.high) if math.isfinite(v)
    ]
    if not values or not math.isfinite(one.measure.value) or not math.isfinite(whole):
        return Markup("")
    low, high = min(*values, whole), max(*values, whole)
    pad = (high - low) * 0.05 or 1.0
    css = "fail" if one.shown_behind > 0 else "quiet"
    m = one.measure
    return svg.interval(
        PlottedInterval(m.value, m.low, m.high, whole, f"{number(m.value)}, all rows: {number(whole)}"),
        low - pad,
        high + pad,
        css,
    )
