"""Measure, and write the table that the docs show.

    python -m benchmarks.run [--only chain] [--small] [--rounds 3] [--no-peers] [--page FILE]

Everything is made below .bench/ and removed afterwards; the peers' environments stay there. A section that fails, or for which no
time is left, is named, and the page keeps what it said about it before: no figure is made up.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import chain, contracts, experiments, peers, serving, snapshot, soak, survival, swaps, table, wheel
from benchmarks.clock import BenchError, remove
from benchmarks.peers import Peers
from benchmarks.table import Section

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
TITLES = {
    "wheel": wheel.TITLE,
    "serving": serving.TITLE,
    "swaps": swaps.TITLE,
    "survival": survival.TITLE,
    "soak": soak.TITLE,
    "chain": chain.TITLE,
    "snapshot": snapshot.TITLE,
    "experiments": experiments.TITLE,
    "contracts": contracts.TITLE,
}
NEEDED = {
    "wheel": (),
    "serving": ("mlserver", "litserve", "bentoml", "mlflow"),
    "swaps": ("mlserver", "litserve"),
    "survival": (),
    "soak": (),
    "chain": ("dvc", "pytask"),
    "snapshot": ("dvc",),
    "experiments": ("mlflow",),
    "contracts": ("pandera", "great-expectations", "pointblank"),
}
APART = ("soak",)  # too long to be measured unasked
ROUNDS = 3
TURNS = 10  # rounds of the wheel


def main() -> int:
    given = _arguments()
    names = [given.only] if given.only else [name for name in TITLES if name not in APART]
    folder = (given.folder or ROOT / ".bench").absolute()
    others = Peers(None if given.no_peers else folder)
    others.install(tuple(p for p in peers.NAMES if any(p in NEEDED[n] for n in names)))
    work = folder / "work"
    begun, sections, failed = time.monotonic(), [], []
    for name in names:
        if time.monotonic() - begun > given.minutes * 60:
            failed.append(f"{name}: {given.minutes:g} minutes are over")
            continue
        remove(work)
        work.mkdir(parents=True)
        print(f"{TITLES[name]} ...", flush=True)
        try:
            load = os.getloadavg()[0]
            sections.append(replace(_measure(name, work, others, given), load=load))
            if given.page:
                table.renew(given.page, sections[-1:], list(TITLES.values()))
        except BenchError as error:
            failed.append(f"{name}: {error}")
        finally:
            remove(work)
    print("\n".join(section.text() for section in sections))
    print(f"{time.monotonic() - begun:.0f} s")
    for line in failed:
        print(f"not measured: {line}", file=sys.stderr)
    return 1 if failed else 0


def _measure(name: str, work: Path, others: Peers, given: argparse.Namespace) -> Section:
    if name == "wheel":
        return wheel.section(work, min(given.rounds or TURNS, TURNS))
    if name == "soak":
        return soak.measure(work, given.soak_minutes, given.small)
    parts: dict[str, Callable[[Path, Peers, int, bool], Section]] = {
        "serving": serving.measure,
        "swaps": swaps.measure,
        "survival": survival.measure,
        "chain": chain.measure,
        "snapshot": snapshot.measure,
        "experiments": experiments.measure,
        "contracts": contracts.measure,
    }
    return parts[name](work, others, given.rounds or ROUNDS, given.small)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(TITLES), help="this section")
    parser.add_argument("--small", action="store_true", help="a try with few and small things; the page stays as it is")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, and {TURNS} of the wheel")
    parser.add_argument("--no-peers", action="store_true", help="Noria alone")
    parser.add_argument("--minutes", type=float, default=25.0, help="no section begins later than this")
    parser.add_argument("--soak-minutes", type=float, default=soak.MINUTES, help=f"length of the soak; {soak.MINUTES:g}")
    parser.add_argument("--folder", type=Path, help="where to work; .bench")
    parser.add_argument("--page", type=Path, help="the page to renew; docs/benchmarks.md, and none with --small or --no-peers")
    given = parser.parse_args()
    if given.page is None and not given.small and not given.no_peers:
        given.page = PAGE
    return given


if __name__ == "__main__":
    raise SystemExit(main())
