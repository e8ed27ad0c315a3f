"""Each figure that the README quotes from the page of benchmarks stands there, as it is, rounded, or as the sum of a column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
FIGURE = re.compile(r"(?<![\w.,-])(\d[\d,]*(?:\.\d+)?)(?: ?(ms|s|min|%)(?!\w))?")
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}


def figures(text: str) -> Iterator[tuple[str, float, str, float]]:
    """As it is written, its value, what it counts (seconds, per cent or nothing), and half of its last digit."""
    for found in FIGURE.finditer(text):
        digits, unit = found[1].replace(",", "").rstrip("."), found[2] or ""
        scale = SECONDS.get(unit, 1.0)
        last = 10.0 ** -len(digits.partition(".")[2])
        yield found[0], float(digits) * scale, "s" if unit in SECONDS else unit, last * scale / 2


def section(anchor: str) -> str:
    """The part of the page under a heading; the whole page without one."""
    for part in re.split(r"^(?=## )", PAGE, flags=re.MULTILINE):
        if anchor and part.startswith("## ") and part.splitlines()[0][3:].lower().replace(" ", "-") == anchor:
            return part
    assert not anchor, f"the page has no section {anchor}"
    return PAGE


def totals(part: str) -> list[float]:
    """The sums of the columns of its tables."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", part, flags=re.MULTILINE):
        rows = [[cell.strip().replace(",", "") for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
        for column in zip(*rows, strict=True):
            if all(cell.isdigit() for cell in column):
                found.append(float(sum(map(int, column))))
    return found


def quotes() -> list[tuple[str, str]]:
    """Each passage of the README that refers to the page (a row, a point of a list), with the section that it names; and the rows
    of the table that is said to be from there."""
    found = []
    for block in re.split(r"\n\n", README):
        points = re.split(r"\n(?=[|-])", block)
        found += [(point, anchor or "") for point in points for anchor in re.findall(r"benchmarks\.md(?:#([\w-]+))?\)", point)]
    _, _, after = README.partition("And beside tools that do one part")
    table = after.split("\n\n")[1]
    assert table.startswith("| work | Noria |")
    return found + [(row, "") for row in table.splitlines()[2:]]


def is_there(value: float, kind: str, half: float, part: str) -> bool:
    known = [other for _, other, counts, _ in figures(part) if counts == kind] + (totals(part) if not kind else [])
    return any(abs(other - value) <= half * 1.0001 for other in known)


@pytest.mark.parametrize(("passage", "anchor"), quotes(), ids=lambda text: text[:40])
def test_each_figure_of_the_readme_stands_on_the_page(passage: str, anchor: str) -> None:
    part = section(anchor)
    missing = [text for text, value, kind, half in figures(passage) if not is_there(value, kind, half, part)]
    assert missing == [], f"docs/benchmarks.md does not say so: {passage}"


def test_a_figure_that_is_not_there_is_found() -> None:
    assert len(quotes()) >= 7
    assert is_there(0.006, "s", 0.0005, "5.7 ms")
    assert not is_there(0.007, "s", 0.0005, "5.7 ms")
    assert not is_there(5.7, "", 0.05, "5.7 ms")
    assert is_there(3.0, "", 0.5, "| a |\n|---|\n| 1 |\n| 2 |\n")
