"""The page in a real browser, over HTTP and under its own content policy: nothing overflows, on a desk or on a phone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import chromium
import console_story as story
import pytest
import uvicorn
from test_console_app import TOKEN, Desk

PROGRAM = chromium.found()
PICTURES = os.environ.get("NORIA_PICTURES")  # a folder: pictures are put there, for a person to look at

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here (.ci/run installs it): the page is not looked at")

OVERFLOWING = """(() => {
  const wide = document.documentElement.clientWidth, found = [];
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect();
    if (box.width && (box.right > wide + 0.5 || box.left < -0.5)) found.push(`${e.tagName}.${e.className}: ${e.textContent}`);
  }
  if (document.documentElement.scrollWidth > wide) found.push("the page scrolls sideways");
  return found.map(text => text.slice(0, 120));
})()"""
CLIPPED = """[...document.querySelectorAll(".rollout *, .ended *")].filter(e => !e.closest("svg, .plan")
  && e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.className + ": " + e.textContent.slice(0, 80))"""


@dataclass
class Stage:
    browser: chromium.Browser
    desk: Desk
    address: str


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One browser, signed in at one real server."""
    desk = Desk(frozenset({"127.0.0.1"}))
    server = uvicorn.Server(uvicorn.Config(desk.app, port=0, log_level="warning", lifespan="off"))
    listening = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert PROGRAM is not None
    with chromium.Browser(PROGRAM) as browser:
        browser.open(f"{address}/?token={TOKEN}")
        yield Stage(browser, desk, address)
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scene", ["view", "every_state"])
def test_nothing_overflows_and_nothing_is_refused(stage: Stage, width: int, scene: str) -> None:
    stage.desk.view = getattr(story, scene)()
    for dark in (False, True):
        stage.browser.show(width, dark=dark)
        stage.browser.open(stage.address)
        assert stage.browser.ask(OVERFLOWING) == []
        assert stage.browser.ask(CLIPPED) == []
        if PICTURES:
            stage.browser.picture(Path(PICTURES) / f"{scene}-{width}{'-dark' if dark else ''}.png")
    assert stage.browser.complaints == []


def test_bars_reach_as_far_as_the_evidence(stage: Stage) -> None:
    """What a person sees: the bar passes the mark exactly where the guard is decided."""
    stage.desk.view = story.every_state()
    stage.browser.show(1280)
    stage.browser.open(stage.address)
    for state in ("canary", "held", "probation"):
        shown = stage.browser.ask(
            f"""[...document.querySelectorAll("section.rollout.{state} .stands li")].map(li =>
            [...li.querySelectorAll("svg")].map(svg => {{
              const [fill, mark] = [svg.querySelector(".fill"), svg.querySelector(".mark")].map(e => e.getBoundingClientRect());
              return fill.right >= mark.left - 0.01 && fill.width > 0;
            }}))"""
        )
        found = next(e for e in stage.desk.view.environments if e.name == state)
        canary = found.canary or found.probation
        assert canary is not None
        assert canary.rollout.look is not None
        assert shown == [[s.cleared, s.harmful] for s in canary.rollout.look.stands]
        assert len(shown) == 3


def test_a_rollout_that_moves_on_is_seen_without_a_reload(stage: Stage) -> None:
    stage.desk.view = story.view()
    stage.browser.show(390)
    stage.browser.open(stage.address)
    assert stage.browser.ask("document.querySelector('.plan .here').textContent") == "25 % of traffic"
    stage.desk.view = story.every_state()
    moved = """new Promise(done => { const timer = setInterval(() => {
      if (document.querySelectorAll('.plan .here').length >= 4) { clearInterval(timer); done(true); } }, 20); })"""
    assert stage.browser.ask(moved) is True
