"""The year, scene by scene. Nothing is staged: every verdict is the product's own, and what the data says is what is told."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl

from noria.cli.demo import commits
from noria.cli.demo.theatre import Answer, DemoStage, shorten
from noria.predictions import writer

CALM = 12_000.0  # project seconds a second while something is decided: nearly every flight is asked for
BUSY_RATE = 180.0  # requests a second
FLIPS = 20


class Findings(msgspec.Struct):
    """What the story learned; the closing table and story.json are made of it."""

    rollback_ms: list[float] = []
    reproduced: bool = False
    reproduced_text: str = ""
    notes: dict[str, str] = {}


def day(month: int, number: int, hour: int = 10) -> datetime:
    """A moment of 2013; ten o'clock UTC is five in the morning in New York, before the first departure."""
    return datetime(2013, month, number, hour, tzinfo=UTC)


def tell(theatre: DemoStage) -> Findings:
    """The whole story."""
    found = Findings()
    first_release(theatre)
    april(theatre)
    broken_may(theatre)
    bad_commits(theatre)
    misbehaving_commit(theatre)
    rollbacks(theatre, found)
    kills(theatre)
    summer(theatre, found)
    rest_of_the_year(theatre)
    reproduce(theatre, found)
    return found


def first_release(theatre: DemoStage) -> None:
    theatre.scene(1, "January to March arrive: the first release")
    theatre.set_up()
    theatre.up()
    theatre.replay(day(4, 1), 0.0, 0.0)
    theatre.arrive(*[path for month in (1, 2, 3) for path in theatre.month(month)])
    turn = theatre.wait_for_turn(0)
    while turn["release"] is None:  # the project's first commit may have turned the wheel before its data came
        turn = theatre.wait_for_turn(turn["number"])
    theatre.board()
    example = theatre.noria("predict", commits.REQUEST)
    theatre.say(f"one prediction, by hand: {example['predictions'][0]} from {example['release']}")


def april(theatre: DemoStage) -> None:
    theatre.scene(2, "April flies, then its file arrives: retrain, compare, canary under live traffic")
    theatre.replay(day(4, 1), CALM, BUSY_RATE)
    month_ends(theatre, 4)


def month_ends(theatre: DemoStage, month: int, seconds: float = 6.0) -> dict[str, Any]:
    """The passengers fly to the end of the month; its files arrive; the wheel turns by itself."""
    to_month_end(theatre, month, seconds)
    number = theatre.last_turn
    theatre.arrive(*theatre.month(month))
    return report_turn(theatre, theatre.wait_for_turn(number))


def to_month_end(theatre: DemoStage, month: int, seconds: float) -> None:
    assert theatre.passengers is not None
    theatre.travel(day(month + 1, 1), seconds, BUSY_RATE, after=(CALM, BUSY_RATE))


def report_turn(theatre: DemoStage, turn: dict[str, Any]) -> dict[str, Any]:
    theatre.news()
    why = "" if turn["outcome"] == "promoted" else f": {shorten(turn['reason'].splitlines()[0])}"
    theatre.say(f"turn {turn['number']} ({brief(turn['trigger'])}) {turn['outcome']}{why}", "bold")
    return turn


def brief(trigger: str) -> str:
    """A turn's triggers in a few words: `data: flights-2013-04.parquet, weather-2013-04.parquet`."""
    parts: dict[str, list[str]] = {}
    for part in trigger.splitlines()[0].split("; "):
        kind, _, what = part.partition(": ")
        parts.setdefault(kind, []).append(what.removeprefix("data/").removesuffix(" arrived"))
    return "; ".join(f"{kind}: {', '.join(what)}" for kind, what in parts.items())


def broken_may(theatre: DemoStage) -> None:
    theatre.scene(3, "May arrives with its distances in kilometres, then repaired")
    to_month_end(theatre, 5, 6.0)
    before = theatre.serving()["release"]
    weather, flights = theatre.month(5)
    broken = theatre.folder / flights.name
    pl.read_parquet(flights).with_columns(pl.col("distance") * 1.609344).write_parquet(broken)
    number = theatre.last_turn
    theatre.arrive(weather, broken)
    report_turn(theatre, theatre.wait_for_turn(number))
    theatre.say(f"production is untouched: {theatre.serving()['release']} serves, as before ({before})")
    number = theatre.last_turn
    theatre.arrive(flights)
    report_turn(theatre, theatre.wait_for_turn(number))


def bad_commits(theatre: DemoStage) -> None:
    theatre.scene(4, "A commit whose tests fail, and one that makes the model worse")
    for change in (commits.failing_tests, commits.worse_model):
        number = theatre.last_turn
        change(theatre)
        report_turn(theatre, theatre.wait_for_turn(number))
        revert(theatre)


def revert(theatre: DemoStage) -> None:
    """Take the last commit back, as a team would; the wheel finds that nothing is new."""
    number = theatre.last_turn
    theatre.git("revert", "--no-edit", "HEAD")
    report_turn(theatre, theatre.wait_for_turn(number))


def misbehaving_commit(theatre: DemoStage) -> None:
    theatre.scene(5, "A commit that passes every test and every gate, and fails on some live requests")
    assert theatre.passengers is not None
    theatre.travel(day(6, 23), 8.0, BUSY_RATE, after=(CALM, BUSY_RATE))
    number = theatre.last_turn
    commits.muggy(theatre)
    turn = report_turn(theatre, theatre.wait_for_turn(number))
    answers = theatre.passengers.read()
    fallback = [a for a in answers if a.variant == "fallback"]
    wrong = [a for a in answers if a.status != 200]
    if turn["release"] is None:
        theatre.say("a gate stopped it before it became a release: no passenger met it")
    elif "before any live request" in turn["reason"]:
        theatre.say(f"no passenger met it: logged requests were enough to tell; failed for a passenger: {len(wrong)}")
    else:
        theatre.say(
            f"{len(fallback)} requests met the failing candidate; each was answered by the champion; "
            f"failed for a passenger: {len(wrong)}"
        )
        if turn["outcome"] != "rolled back":
            theatre.say("the canary did not meet enough warm, damp days to judge: that is what the data says")
    revert(theatre)


def rollbacks(theatre: DemoStage, found: Findings) -> None:
    theatre.scene(6, f"Roll back by hand and forward again, {FLIPS} times, under load")
    current = theatre.serving()["release"]
    theatre.say(theatre.noria("rollback")["text"])
    theatre.say(theatre.noria("promote", current)["text"])
    asked: list[tuple[float, str]] = []
    for _ in range(FLIPS // 2):
        asked.append((time.time(), theatre.serving()["release"]))
        theatre.post("/api/rollback", {"environment": "production"})
        time.sleep(0.25)  # the load goes on between two flips
        asked.append((time.time(), theatre.serving()["release"]))
        theatre.post("/api/promote", {"release": current, "environment": "production"})
        time.sleep(0.25)
    assert theatre.passengers is not None
    found.rollback_ms = flip_times(theatre.passengers.read(), asked)
    theatre.hush()
    theatre.say(f"from the request to the last answer of the old release: worst {max(found.rollback_ms):.0f} ms of {len(asked)}")


def flip_times(answers: list[Answer], asked: list[tuple[float, str]]) -> list[float]:
    """Milliseconds from each request for a flip to the last answer that the old release gave before the next flip."""
    times = []
    for i, (at, old) in enumerate(asked):
        until = asked[i + 1][0] if i + 1 < len(asked) else at + 0.25
        late = [a.answered - at for a in answers if a.release == old and at <= a.answered < until]
        times.append(max(late, default=0.0) * 1000)
    return times


def kills(theatre: DemoStage) -> None:
    assert theatre.passengers is not None
    assert theatre.daemon is not None
    victim = theatre.workers()[0]
    os.kill(victim, signal.SIGKILL)
    theatre.say(f"kill -9 of server worker {victim}", "bold")
    theatre.wait_until("a new worker", lambda: len(theatre.workers()) >= 2 and victim not in theatre.workers(), 20)
    theatre.daemon.kill()
    theatre.daemon.wait()
    sent = theatre.passengers.sent
    theatre.say(f"kill -9 of the daemon (process {theatre.daemon.pid})", "bold")
    theatre.wait_until("answers without a daemon", lambda: theatre.passengers and theatre.passengers.sent > sent + 100, 20)
    theatre.up()
    failed = [a for a in theatre.passengers.read() if a.status != 200]
    retried = [a for a in theatre.passengers.read() if a.retried]
    theatre.say(
        f"a new daemon adopted the server; meanwhile it answered {theatre.passengers.sent - sent} requests; "
        f"broken connections retried once: {len(retried)}, failed: {len(failed)}"
    )


def summer(theatre: DemoStage, found: Findings) -> None:
    theatre.scene(7, "Summer: quality with late labels")
    assert theatre.passengers is not None
    number = theatre.last_turn
    theatre.travel(day(7, 1), 4.0, BUSY_RATE, after=(CALM, BUSY_RATE))
    breach = breach_turn(theatre, number)
    if breach is None:
        found.notes["summer"] = "no breach: the labels of June do not show quality sunk beyond chance"
        theatre.say(found.notes["summer"])
    else:
        found.notes["summer"] = breach["reason"]
        report_turn(theatre, breach)
        report_comparison(theatre, breach)
    month_files(theatre, 6)


def breach_turn(theatre: DemoStage, number: int) -> dict[str, Any] | None:
    """The turn that the monitor asked for, once decided; None when two more project days bring none."""
    assert theatre.passengers is not None
    passengers = theatre.passengers
    until = max(day(7, 3), passengers.now + timedelta(days=2))

    def settled() -> list[dict[str, Any]] | None:
        newer = [t for t in theatre.turns() if t["number"] > number]
        if newer and all(t["outcome"] not in ("running", "rolling out") for t in newer):
            return newer
        return [] if not newer and passengers.now > until else None

    newer = theatre.wait_until("the monitor's verdict", lambda: (found := settled()) is not None and [found], 120, news=True)[0]
    breaches = [t for t in newer if "breach" in t["trigger"]]
    return breaches[0] if breaches else None


def report_comparison(theatre: DemoStage, turn: dict[str, Any]) -> None:
    """What the release of the retrain and the one it replaces score on the newest labelled flights."""
    if turn["release"] is None:
        theatre.say(f"the retrain brought no release: {turn['reason'].splitlines()[0]}")
        return
    evaluation = theatre.noria("show", turn["release"])["evaluation"]
    for metric, versus in evaluation["versus"].items():
        value = evaluation["metrics"][metric]["value"]
        theatre.say(
            f"{metric}: {turn['release']} {value:.4f}, {evaluation['champion']} {versus['champion']:.4f}, difference "
            f"{versus['difference']:+.4f} (95 % bounds {versus['low']:+.4f}, {versus['high']:+.4f}) on {evaluation['holdout']}"
        )


def month_files(theatre: DemoStage, month: int) -> dict[str, Any]:
    number = theatre.last_turn
    theatre.arrive(*theatre.month(month))
    return report_turn(theatre, theatre.wait_for_turn(number))


def rest_of_the_year(theatre: DemoStage) -> None:
    for month, name in ((7, "July"), (8, "August"), (9, "September"), (10, "October"), (11, "November")):
        theatre.console.print(f"\n   [bold]{name}[/]", highlight=False)
        month_ends(theatre, month, 5.0)
    theatre.console.print("\n   [bold]December[/]", highlight=False)
    theatre.say(
        "December flies; its file would arrive in January 2014, where the data ends: no flights are left to judge a canary"
    )
    assert theatre.passengers is not None
    theatre.travel(day(12, 20), 5.0, BUSY_RATE, after=(CALM, BUSY_RATE))
    open_states = ("running", "rolling out")
    theatre.wait_until(
        "nothing is left open", lambda: all(t["outcome"] not in open_states for t in theatre.turns()), 60, news=True
    )


def reproduce(theatre: DemoStage, found: Findings) -> None:
    theatre.scene(8, "Reproduce v1: from the recorded commit, data, parameters, environment, with every cache off")
    assert theatre.passengers is not None
    theatre.passengers.stop()
    result = theatre.noria("reproduce", "v1", "--into", str(theatre.folder / "reproduced"))
    found.reproduced = bool(result.get("agrees"))
    found.reproduced_text = result.get("text", str(result))
    theatre.say(found.reproduced_text)


def count_lost(theatre: DemoStage, answers: list[Answer]) -> int:
    """Prediction ids that the passengers hold and the log does not."""
    logged = {r.id for r in writer.read_all(theatre.state / "log" / "production") if isinstance(r, writer.Prediction)}
    return len({a.id for a in answers if a.id is not None} - logged)


def facts(theatre: DemoStage, found: Findings) -> dict[str, Any]:
    """story.json."""
    assert theatre.passengers is not None
    answers = theatre.passengers.read()
    status = theatre.get("/api/status")
    return {
        "turns": [
            {
                "number": t["number"],
                "trigger": t["trigger"],
                "verdict": t["outcome"],
                "release": t["release"],
                "reason": t["reason"],
                "overhead_s": t["overhead_s"],
                "user_s": t["user_s"],
            }
            for t in theatre.turns()
        ],
        "requests": len(answers),
        "failed": sum(a.status != 200 for a in answers),
        "retried": sum(a.retried for a in answers),
        "answered_by_champion_for_candidate": sum(a.variant == "fallback" for a in answers),
        "lost": count_lost(theatre, answers),
        "rollback_ms": round(max(found.rollback_ms), 1),
        "rollbacks": len(found.rollback_ms),
        "quarantined_rows": status["quarantined_rows"],
        "reproduced": found.reproduced,
        "reproduced_text": found.reproduced_text,
        "summer": found.notes.get("summer", ""),
        "seconds": round(time.monotonic() - theatre.begun, 1),
        "addresses": theatre.addresses,
    }
