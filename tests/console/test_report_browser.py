"""The page of a report in a real browser, under its own content policy: on a desk, on a phone, in the dark, on paper."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
import report_story as story
from msgspec.structs import replace
from test_console_browser import OVERFLOWING

from noria.kernel.verdict import Outcome
from noria.views import report_page

PROGRAM = chromium.found()
PICTURES = os.environ.get("NORIA_PICTURES")  # a folder: pictures are put there, for a person to look at

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here (.ci/run installs it): the page is not looked at")

CONTRAST = """(() => {
  const part = x => x / 255 <= .03928 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const written = e => e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll("body *")].filter(written).flatMap(e => {
    const style = getComputedStyle(e), ink = light(e.closest("svg") ? style.fill : style.color), back = light(ground(e));
    const ratio = (Math.max(ink, back) + .05) / (Math.min(ink, back) + .05);
    return ratio < 4.5 ? [`${e.tagName}.${e.getAttribute("class")} ${ratio.toFixed(2)}: ${e.textContent.slice(0, 40)}`] : [];
  });
})()"""  # what is written with less than 4.5 to 1, as WCAG 2 reckons it
SCROLLED = OVERFLOWING.replace('"body *"', '"body *:not(.scroll *)"')  # wide tables scroll inside of the page


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    assert PROGRAM is not None
    with chromium.Browser(PROGRAM) as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("task", story.TASKS)
def test_nothing_overflows_is_refused_or_hard_to_read(browser: chromium.Browser, tmp_path: Path, task: str, width: int) -> None:
    report = replace(story.report(task, Outcome.NOT_ENOUGH_DATA), name="the candidate of turn 14")
    page = tmp_path / "report.html"
    page.write_text(report_page.render(report))
    browser.complaints.clear()
    for dark in (False, True):
        browser.show(width, dark=dark)
        browser.open(page.as_uri())
        assert browser.ask(SCROLLED) == []
        assert browser.ask(CONTRAST) == []
        if PICTURES:
            browser.picture(Path(PICTURES) / f"report-{task}-{width}{'-dark' if dark else ''}.png")
    assert browser.ask("getComputedStyle(document.body).fontSize") == "15px"  # its style is not refused
    assert browser.complaints == []


def test_it_prints(browser: chromium.Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_page.render(story.report()))
    browser.open(page.as_uri())
    printed = base64.b64decode(browser.print())
    assert printed.startswith(b"%PDF")
    assert 1 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 5
