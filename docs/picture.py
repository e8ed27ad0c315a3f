"""`make picture`: write console.webp, the console in the middle of a rollout. It needs Chromium, and about three minutes.

The picture is of a real one: the first scenes of `noria demo` are played in a folder of their own, and the page is
photographed while a canary of real flights is judged.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from noria.cli.demo import check_needs, example_folder, story
from noria.cli.demo.theatre import DemoStage, closing

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "console"))
import chromium  # noqa: E402  the browser of the console's tests

WIDTH, HEIGHT = 1100, 1150
MOST_BYTES = 150_000


def canary(theatre: DemoStage) -> bool:
    """Whether a candidate answers real requests, and was judged at least once."""
    found = theatre.serving().get("canary") or {}
    return bool(found.get("look")) and found["share"] > 0.0


def photograph(theatre: DemoStage, browser: chromium.Browser, path: Path) -> None:
    """Play April and a broken May; keep the last picture that was taken while a canary went on."""
    told = ThreadPoolExecutor(1).submit(lambda: (story.april(theatre), story.broken_may(theatre)))
    browser.show(WIDTH, height=HEIGHT)
    browser.open(f"{theatre.addresses['console']}/?token={(theatre.state / 'token').read_text().strip()}")
    fresh = path.with_name(f"{path.stem}.part{path.suffix}")
    taken = False
    while not told.done():
        if canary(theatre):
            browser.open(theatre.addresses["console"])
            browser.picture(fresh, whole=False)
            if canary(theatre):
                fresh.replace(path)
                taken = True
        time.sleep(0.2)
    fresh.unlink(missing_ok=True)
    told.result()
    if not taken:
        raise SystemExit("no canary was met: there is no new picture")


def main() -> None:
    program = chromium.found()
    if program is None:
        raise SystemExit("the picture needs Chromium, and there is none on PATH")
    check_needs()
    path = HERE / "console.webp"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        closing(DemoStage(Path(folder) / "demo", example_folder(), Console())) as theatre,
        chromium.Browser(program) as browser,
    ):
        story.first_release(theatre)
        photograph(theatre, browser, path)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path.name} has {path.stat().st_size:,} bytes, and more than {MOST_BYTES:,} are too many for a page")


if __name__ == "__main__":
    main()
