"""The quality chart, drawn on the server as SVG: one line per release, its holdout reference dashed beside it.

Only presentation attributes and classes are used, so that the page needs no inline style.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec
from markupsafe import Markup

from noria.kernel.words import day, number
from noria.monitor.records import Window
from noria.views.svg import ticks

COLOURS = 6  # classes r0 to r5 in the style sheet
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 52, 14, 14, 28


class ChartFrame(msgspec.Struct, frozen=True):
    """From project time and metric to pixels."""

    width: int
    height: int
    start: float
    end: float
    low: float
    high: float

    def x(self, at: float) -> float:
        inner = self.width - MARGIN_LEFT - MARGIN_RIGHT
        return round(MARGIN_LEFT + inner * (at - self.start) / ((self.end - self.start) or 1.0), 1)

    def y(self, value: float) -> float:
        inner = self.height - MARGIN_TOP - MARGIN_BOTTOM
        return round(MARGIN_TOP + inner * (self.high - value) / (self.high - self.low), 1)


def labelled_windows(windows: Sequence[Window]) -> list[Window]:
    """The windows that have labels, and so a quality."""
    return [w for w in windows if w.labelled > 0]


def colour(release: str) -> int:
    """The colour class of a release: stable, and different for neighbours."""
    return (int(release[1:]) - 1) % COLOURS if release[1:].isdigit() else 0


def sank(window: Window, false_alarm: float) -> bool:
    """Whether the monitor would call this window worse than the release's reference."""
    return window.labelled > 0 and window.p_value < false_alarm


def quality_chart(windows: Sequence[Window], width: int, height: int, false_alarm: float) -> Markup:
    """An SVG element of ``width`` by ``height`` user units; empty when no window has labels."""
    shown = labelled_windows(windows)
    if not shown:
        return Markup("")
    frame = _frame(shown, width, height)
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{} by window and release">').format(
            width, height, shown[0].metric
        )
    ]
    parts += _grid(frame)
    for release, group in groupby(sorted(shown, key=lambda w: (w.release, w.start)), key=lambda w: w.release):
        parts += _series(frame, release, list(group), false_alarm)
    return Markup("").join([*parts, Markup("</svg>")])


def _frame(windows: Sequence[Window], width: int, height: int) -> ChartFrame:
    values = [v for w in windows for v in (w.value, w.reference)]
    low, high = min(values), max(values)
    pad = (high - low) * 0.15 or abs(high) * 0.05 or 0.01
    return ChartFrame(width, height, min(w.start for w in windows), max(w.end for w in windows), low - pad, high + pad)


def _grid(frame: ChartFrame) -> list[Markup]:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    label = Markup('<text class="tick" text-anchor="{}" x="{}" y="{}">{}</text>')
    right, floor = frame.width - MARGIN_RIGHT, frame.height - 8
    parts = []
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        parts += [line.format(MARGIN_LEFT, right, y, y), label.format("end", MARGIN_LEFT - 8, y + 4, number(value))]
    parts.append(label.format("start", frame.x(frame.start), floor, day(frame.start)))
    parts.append(label.format("end", frame.x(frame.end), floor, day(frame.end)))
    return parts


def _series(frame: ChartFrame, release: str, windows: Sequence[Window], false_alarm: float) -> list[Markup]:
    css = f"r{colour(release)}"
    points = " ".join(f"{frame.x((w.start + w.end) / 2)},{frame.y(w.value)}" for w in windows)
    first, last = frame.x(windows[0].start), frame.x(windows[-1].end)
    reference = frame.y(windows[0].reference)
    parts = [
        Markup('<line class="reference {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(css, first, last, reference, reference),
        Markup('<polyline class="series {}" points="{}"/>').format(css, points),
    ]
    return parts + [_point(frame, css, w, sank(w, false_alarm)) for w in windows]


def _point(frame: ChartFrame, css: str, window: Window, sunk: bool) -> Markup:
    x, y = frame.x((window.start + window.end) / 2), frame.y(window.value)
    story = (
        f"{window.release}, {day(window.start)} to {day(window.end)}: {window.metric} {number(window.value)} "
        f"(holdout {number(window.reference)}), {window.labelled:,} of {window.predictions:,} labelled"
    )
    ring = Markup('<circle class="sunk" cx="{}" cy="{}" r="8"/>').format(x, y) if sunk else Markup("")
    return ring + Markup('<circle class="point {}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>').format(css, x, y, story)
