"""Rows, sections, and the page that they make."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TITLE = "# Benchmarks"
PREFACE = (
    "Made by `make bench`; `make bench ONLY=chain` renews one section. Within a section everything is measured in the same run,\n"
    "each command in its turn, and figures are medians. Seconds belong to one machine: look at the ratios. What exactly\n"
    "is measured is said in `benchmarks/`, where each peer's project is made and where it is checked that the work was done.\n"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """A peer at the same work. ``seconds`` is None when it was not measured."""

    name: str
    seconds: float | None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    work: str
    seconds: float | None  # None: not measured
    beside: tuple[Beside, ...] = ()
    goal: str = ""
    reached: bool | None = None  # None: no goal, or it cannot be told
    said: str = ""  # what else was measured

    @property
    def verdict(self) -> str:
        return {None: "–", True: "yes", False: "no"}[self.reached]


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    title: str
    rows: tuple[Row, ...]
    rounds: int
    said: str = ""
    load: float | None = None  # of the machine before it began, by other work

    def text(self) -> str:
        often = f"medians of {self.rounds}" if self.rounds > 1 else "measured once"
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%B %Y')}; {often}"
        if self.load is not None:
            machine += f"; load before it began {self.load:.1f}"
        lines = [f"## {self.title}", "", f"{machine}. {self.said}".rstrip(), ""]
        lines += ["| work | Noria | beside it | to reach | reached |", "|---|---|---|---|---|"]
        lines += [_line(row) for row in self.rows]
        return "\n".join(lines) + "\n"


def faster(seconds: float | None, than: float | None, times: float) -> bool | None:
    """Whether ``than`` took at least ``times`` as long; None when one of them was not measured."""
    return None if seconds is None or than is None else than >= times * seconds


def shown(seconds: float | None) -> str:
    """At least two digits that mean something, in the unit that fits."""
    if seconds is None:
        return "not measured"
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s" if seconds < 99.5 else f"{seconds:.0f} s"


def times(seconds: float | None, than: float | None) -> str:
    """``than`` as a multiple of ``seconds``."""
    if not seconds or than is None:
        return ""
    ratio = than / seconds
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×" if ratio >= 0.95 else f"{ratio:.2f}×"


def _line(row: Row) -> str:
    besides = []
    for other in row.beside:
        ratio = times(row.seconds, other.seconds)
        notes = "; ".join(part for part in (ratio, other.said) if part)
        besides.append(f"{other.name} {shown(other.seconds)}" + (f" ({notes})" if notes else ""))
    ours = shown(row.seconds) + (f"; {row.said}" if row.said else "")
    cells = [row.work, ours, ", ".join(besides) or "–", row.goal or "–", row.verdict]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def renew(page: Path, sections: Sequence[Section], order: Sequence[str]) -> None:
    """Put the sections into the page, in place of those of the same title; the others stay. ``order``: titles."""
    kept = _sections(page.read_text()) if page.exists() else {}
    kept |= {section.title: section.text() for section in sections}
    body = [kept[title].strip() for title in order if title in kept]
    page.write_text("\n\n".join([TITLE, PREFACE.strip(), *body]) + "\n")


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].strip(): "## " + part for part in parts}
