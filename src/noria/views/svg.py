"""Small figures as SVG: lines, steps, bars, bands, points and their axes. Colours come from classes of the page's style sheet, so
that a figure needs no inline style; every figure carries a title and a description for who does not see it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import msgspec
from markupsafe import Markup

from noria.kernel.words import number

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40


class Frame(msgspec.Struct, frozen=True):
    """From data to the units of a figure of ``width`` by ``height``."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float
    width: int = 340
    height: int = 280
    bottom: int = BOTTOM

    def x(self, value: float) -> float:
        inner = self.width - LEFT - RIGHT
        return round(LEFT + inner * (value - self.low_x) / ((self.high_x - self.low_x) or 1.0), 1)

    def y(self, value: float) -> float:
        inner = self.height - TOP - self.bottom
        return round(TOP + inner * (self.high_y - value) / ((self.high_y - self.low_y) or 1.0), 1)


def figure(frame: Frame, key: str, title: str, description: str, parts: Iterable[Markup]) -> Markup:
    """The whole element; ``key`` is unique on the page."""
    head = Markup(
        '<svg class="figure" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{key}-t {key}-d">'
        '<title id="{key}-t">{title}</title><desc id="{key}-d">{description}</desc>'
    ).format(w=frame.width, h=frame.height, key=key, title=title, description=description)
    return Markup("").join([head, *parts, Markup("</svg>")])


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between ``low`` and ``high``, at most about ``most``: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(power * m for m in (1, 2, 5, 10) if (high - low) / (power * m) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def axes(frame: Frame, x_name: str, y_name: str) -> list[Markup]:
    """A grid with its numbers, and what they count."""
    floor, right = frame.y(frame.low_y), frame.width - RIGHT
    parts = []
    for value in ticks(frame.low_y, frame.high_y, 5):
        y = frame.y(value)
        parts += [_rule("grid", LEFT, right, y, y), text("tick", "end", LEFT - 6, y + 4, number(value))]
    for value in ticks(frame.low_x, frame.high_x, 5):
        x = frame.x(value)
        parts += [_rule("grid", x, x, TOP, floor), text("tick", "middle", x, floor + 15, number(value))]
    middle = round((TOP + floor) / 2, 1)
    parts.append(text("axis", "middle", round((LEFT + right) / 2, 1), frame.height - 4, x_name))
    turned = Markup('<text class="axis" text-anchor="middle" transform="translate(11 {}) rotate(-90)">{}</text>')
    parts.append(turned.format(middle, y_name))
    return parts


def _rule(css: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(css, x1, x2, y1, y2)


def text(css: str, anchor: str, x: float, y: float, content: str) -> Markup:
    return Markup('<text class="{}" text-anchor="{}" x="{}" y="{}">{}</text>').format(css, anchor, x, y, content)


def rule(frame: Frame, css: str, start: tuple[float, float], end: tuple[float, float]) -> Markup:
    """A straight line between two places of the data."""
    return _rule(css, frame.x(start[0]), frame.x(end[0]), frame.y(start[1]), frame.y(end[1]))


def line(frame: Frame, css: str, x: Sequence[float], y: Sequence[float]) -> Markup:
    points = " ".join(f"{frame.x(a):g},{frame.y(b):g}" for a, b in zip(x, y, strict=True))
    return Markup('<polyline class="line {}" points="{}"/>').format(css, points)


def step(frame: Frame, css: str, edges: Sequence[float], heights: Sequence[float]) -> Markup:
    """The outline of a histogram: ``heights`` between neighbours of ``edges``."""
    x = [edge for pair in itertools.pairwise(edges) for edge in pair]
    y = [height for height in heights for _ in range(2)]
    return line(frame, css, [edges[0], *x, edges[-1]], [0.0, *y, 0.0])


def bar(frame: Frame, css: str, x: tuple[float, float], y: tuple[float, float], title: str = "") -> Markup:
    left, right, top, floor = frame.x(x[0]), frame.x(x[1]), frame.y(y[1]), frame.y(y[0])
    told = Markup("<title>{}</title>").format(title) if title else Markup("")
    shape = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>')
    return shape.format(css, left, top, max(right - left, 0.5), max(floor - top, 0.0), told)


def band(frame: Frame, css: str, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Markup:
    """The area between two lines."""
    there = [f"{frame.x(a):g},{frame.y(b):g}" for a, b in zip(x, high, strict=True)]
    back = [f"{frame.x(a):g},{frame.y(b):g}" for a, b in zip(x, low, strict=True)][::-1]
    return Markup('<polygon class="band {}" points="{}"/>').format(css, " ".join([*there, *back]))


def dot(frame: Frame, css: str, x: float, y: float, title: str, radius: float = 3.5) -> Markup:
    mark = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    return mark.format(css, frame.x(x), frame.y(y), radius, title)


def whisker(frame: Frame, css: str, x: float, low: float, high: float) -> Markup:
    """From one bound to the other, upright."""
    return _rule(f"whisker {css}", frame.x(x), frame.x(x), frame.y(low), frame.y(high))


class PlottedInterval(msgspec.Struct, frozen=True):
    """A value between its bounds, and a place that it is held against."""

    value: float
    low: float
    high: float
    against: float
    title: str


def interval(one: PlottedInterval, low: float, high: float, css: str, width: int = 180) -> Markup:
    """One row of a forest plot: bounds as a line, the value as a point, a tick to hold it against. From ``low`` to ``high``."""

    def x(value: float) -> float:
        inside = min(max(value, low), high)
        return round(8 + (width - 16) * (inside - low) / ((high - low) or 1.0), 1)

    parts = [
        Markup('<svg class="interval" viewBox="0 0 {} 22" role="img"><title>{}</title>').format(width, one.title),
        _rule("base", 4, width - 4, 11, 11),
        _rule("against", x(one.against), x(one.against), 2, 20),
    ]
    if math.isfinite(one.low) and math.isfinite(one.high):
        parts.append(_rule(f"reach {css}", x(one.low), x(one.high), 11, 11))
    parts.append(Markup('<circle class="mark {}" cx="{}" cy="11" r="4"/></svg>').format(css, x(one.value)))
    return Markup("").join(parts)
