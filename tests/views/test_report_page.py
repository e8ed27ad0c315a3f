"""The page of a report: whole in one file, small, and safe whatever a project is called; its figures for each task."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import report_story as story
from msgspec.structs import replace

from noria.cli import report_text
from noria.kernel.verdict import Outcome
from noria.stats.curve_records import Points
from noria.views import report_figures, report_markdown, report_page, svg
from noria.views.report_figures import difference_interval, gate_interval, slice_interval
from noria.views.report_records import Report

LOADS = re.compile(
    r"""(src|href|srcset|action|background|poster|data)\s*=|url\(|@import|<(script|link|iframe|object|embed|img)\b""", re.I
)
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Balance(HTMLParser):
    """Which elements there are, and that each one ends."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.wrong: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def read(page: str) -> Balance:
    found = Balance()
    found.feed(page)
    found.close()
    return found


@pytest.mark.parametrize("task", story.TASKS)
@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_page_is_whole_small_and_loads_nothing(task: str, outcome: Outcome) -> None:
    page = report_page.render(story.report(task, outcome))
    found = read(page)
    assert (found.open, found.wrong, found.handlers) == ([], [], [])
    assert LOADS.search(re.sub(r'aria-\w+="[^"]*"|data-name="', "", page)) is None
    assert "http" not in page.replace("http-equiv", "")
    assert len(page.encode()) < 300_000
    assert "Content-Security-Policy" in page
    assert "default-src 'none'; style-src 'sha256-" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("task", story.TASKS)
def test_every_figure_has_a_title_a_description_and_its_table(task: str) -> None:
    report = story.report(task)
    drawn = report_figures.figures(report)
    titles = [figure.title for figure in drawn]
    if task == "regression":
        assert titles == [
            "Predicted and observed", "Residuals", "Residuals by prediction, v8", "Residuals by prediction, v7", "Gain"
        ]  # fmt: skip
    elif task == "binary":
        assert titles == ["ROC", "Precision and recall", "Gain", "Calibration"]
    else:
        assert titles == [f"{kind}, kind = {name}" for name in ("c", "b", "a") for kind in ("ROC", "Precision and recall")] + [
            "Calibration"
        ]
    for figure in drawn:
        tree = ElementTree.fromstring(str(figure.picture))
        assert [child.tag for child in tree][:2] == ["title", "desc"]
        assert all(child.text for child in list(tree)[:2])
        assert tree.attrib["role"] == "img"
        assert "nan" not in str(figure.picture)
        assert all(len(row) == len(figure.head) for row in figure.rows)
        assert figure.rows


def test_the_table_of_a_curve_says_what_the_curve_shows() -> None:
    curve = Points((0.0, 0.0, 0.5, 1.0), (0.0, 0.4, 0.8, 1.0))
    assert [report_figures._at(curve, x) for x in (0.0, 0.25, 0.5, 1.0)] == [0.4, pytest.approx(0.6), 0.8, 1.0]


@pytest.mark.parametrize("render", [report_page.render, report_markdown.render])
def test_names_are_never_markup(render: Any) -> None:
    evil = '<script>alert("x")</script>'
    found = replace(
        story.report("binary"), project=evil, name=evil, champion=evil, champion_note=evil, afterwards=evil, holdout=evil
    )
    found = replace(
        found,
        remarks=(evil,),
        remedies=(evil,),
        gates=tuple(replace(gate, gate=evil, text=evil) for gate in found.gates),
        metrics=tuple(replace(metric, name=evil) for metric in found.metrics),
        slices=tuple(replace(one, column=evil, value=evil) for one in found.slices),
        data=tuple(replace(one, dataset=evil) for one in found.data),
        lineage=tuple(replace(fact, value=evil) for fact in found.lineage),
    )
    assert found.curves is not None
    curves = replace(found.curves, label=evil, classes=(evil, evil), champion_name=evil)
    page = render(replace(found, curves=curves))
    assert "script" in page
    assert re.search(r"(?<!\\)<script", page) is None


@pytest.mark.parametrize("render", [report_page.render, report_markdown.render, report_text.render])
def test_what_has_to_be_known_of_the_metrics_is_said(render: Any) -> None:
    said = render(story.report()).replace("\\", "")
    assert "rows come in 14 groups (by day); beside independent rows, bounds are wider by these factors: roc_auc 1.8" in said
    assert "nwrmsle has no value: it is NaN" in said
    assert "evaluate.lift" in said
    assert "accepted by cli:anna (the labels come late)" in said
    assert "look 3 of 20 at these 3,000 held-out rows" in said
    if render is not report_markdown.render:
        assert "about 2,300 more labelled rows" not in said
    assert "about 2,300 more labelled rows" in render(story.report(outcome=Outcome.NOT_ENOUGH_DATA))


def test_a_report_without_curves_or_champion_says_so() -> None:
    page = report_page.render(story.bare())
    assert "Curves were not recorded" in page
    assert "there was no champion to compare it with" in page
    assert read(page).open == []


def test_better_is_to_the_right_whatever_the_metric() -> None:
    def place(report: Report, name: str) -> float:
        metric = next(m for m in report.metrics if m.name == name)
        return float(re.findall(r'cx="([\d.]+)"', str(difference_interval(metric)))[0])

    report = story.report("binary")
    assert report.metrics[0].difference is not None
    for name in ("roc_auc", "brier"):
        assert place(report, name) > 90  # the middle, where the champion stands


def test_intervals_of_what_has_no_numbers_are_left_out() -> None:
    report = story.report("binary")
    assert gate_interval(replace(report.gates[0], numbers={})) == ""
    assert gate_interval(replace(report.gates[0], numbers={"value": math.nan, "threshold": 1.0})) == ""
    assert "interval" in gate_interval(report.gates[0])
    assert difference_interval(replace(report.metrics[0], difference=None)) == ""
    assert slice_interval(report.slices[0], report.slices, math.nan) == ""


def test_ticks_are_round_and_few() -> None:
    assert svg.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    for low, high in ((0, 1), (-3.2, 17), (1e-9, 3e-9), (0.98, 0.981), (-1e6, 5e7)):
        found = svg.ticks(low, high)
        assert 3 <= len(found) <= 8
        assert all(low - 1e-9 * abs(low) <= value <= high * (1 + 1e-9) + 1e-15 for value in found)
        assert np.allclose(np.diff(found), np.diff(found)[0])
