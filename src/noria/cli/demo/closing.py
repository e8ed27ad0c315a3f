"""The closing table."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from noria.cli.demo.story import brief
from noria.cli.demo.theatre import DemoStage, shorten
from noria.kernel.words import duration

GOOD = {"promoted": "green", "released": "green", "rolling out": "cyan", "nothing changed": "dim"}


def table(theatre: DemoStage, facts: dict[str, Any]) -> None:
    """Turns with trigger, verdict, release and overhead; then the year in numbers."""
    theatre.scene(9, "The year in one table")
    turns = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("turn", "trigger", "verdict", "release", "overhead"):
        turns.add_column(name, justify="right" if name in ("turn", "overhead") else "left", no_wrap=name != "trigger")
    for turn in facts["turns"]:
        trigger = brief(turn["trigger"])
        overhead = duration(turn["overhead_s"])
        style = GOOD.get(turn["verdict"], "yellow")
        turns.add_row(
            str(turn["number"]), shorten(trigger, 66), f"[{style}]{turn['verdict']}[/]", turn["release"] or "", overhead
        )
    theatre.console.print(turns)
    numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 3))
    for name, value in _numbers(facts):
        numbers.add_row(name, value)
    theatre.console.print(numbers)
    token = (theatre.state / "token").read_text().strip()
    theatre.console.print(f"\n   status page: {theatre.addresses['console']}/?token={token}", highlight=False, soft_wrap=True)
    theatre.console.print(
        f"   story: {theatre.folder / 'story.json'}   project: {theatre.home}\n", highlight=False, soft_wrap=True
    )


def _numbers(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("requests", f"{facts['requests']:,} answered by the model server"),
        ("failed", f"{facts['failed']} (broken connections sent once more: {facts['retried']})"),
        ("lost", f"{facts['lost']} predictions missing from the log"),
        ("rescued", f"{facts['answered_by_champion_for_candidate']} answered by the champion for a failing candidate"),
        ("rollback", f"{facts['rollback_ms']} ms, the worst of {facts['rollbacks']}, under load"),
        ("quarantined", f"{facts['quarantined_rows']:,} rows"),
        ("reproduced", facts["reproduced_text"]),
        ("time", duration(facts["seconds"])),
    ]
