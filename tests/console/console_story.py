"""A summer of flights as records: what the console shows in tests and screenshots."""

from __future__ import annotations

from msgspec.structs import replace

from noria.data.snapshot import Delivery
from noria.delivery.rollout_record import ASKS_APPROVAL, Analysis, GuardStatus, Interval, Rollout, RolloutState
from noria.kernel.event import Event
from noria.monitor.records import Alert, Window
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.releases.release import Release, ServedForm
from noria.serving.route import Route
from noria.serving.tallies import Tally
from noria.views.runtime_status import StatusContext
from noria.views.status import ClockView, EnvironmentView, RolloutView, StatusView

NOW = 1_763_700_000.0
PROJECT = "flight-delays"
DAY = 86_400.0
JULY = 1_372_636_800.0  # 2013-07-01


def release(number: int, auc: float, brier: float, barred: str | None = None) -> Release:
    metrics = {"roc_auc": auc, "brier": brier, "log_loss": brier * 3.1, "accuracy": 0.78}
    digest = f"{number:x}" * 64
    return Release(
        f"v{number}",
        digest[:64],
        PROJECT,
        f"run-{number}",
        f"turn-{number}",
        ServedForm.COMPILED,
        NOW - 4000 + number * 300,
        "c0ffee" * 6 + "abcd",
        metrics,
        barred,
    )


RELEASES = (
    release(4, 0.704, 0.1421),
    release(3, 0.698, 0.1502, "v3 rolled back: 14 of 212 requests failed, champion 0 of 4,031"),
    release(2, 0.692, 0.1533),
    release(1, 0.674, 0.1498),
)


def turn(
    number: int, trigger: str, outcome: TurnOutcome, reason: str, version: str | None = None, overhead: float | None = 0.61
) -> Turn:
    return Turn(
        f"turn-{number}",
        PROJECT,
        number,
        (f"trigger-{number}",),
        trigger,
        NOW - (9 - number) * 410,
        Stage.ROLLOUT,
        outcome,
        reason,
        f"run-{number}",
        version,
        None if outcome in (TurnOutcome.ROLLING_OUT, TurnOutcome.RUNNING) else NOW - (9 - number) * 410 + 9,
        7.2,
        overhead,
    )


TURNS = (
    turn(
        8,
        "breach: v2 brier 0.1712 against 0.1533 on its holdout",
        TurnOutcome.ROLLING_OUT,
        "v4 takes 25 % of production, beside v2",
        "v4",
        0.58,
    ),
    turn(
        7,
        "push: 9f2c41d speed up the features",
        TurnOutcome.ROLLED_BACK,
        "v3 rolled back: 14 of 212 requests failed, the champion 0 of 4,031; the guard allows 1 % more",
        "v3",
        0.66,
    ),
    turn(
        6,
        "push: 77ab01e drop the weather",
        TurnOutcome.GATE_FAILED,
        "roc_auc 0.641 is below champion - 0.01 = 0.682 (difference -0.051, 95 % bound -0.044, n = 6,012)",
        None,
        0.44,
    ),
    turn(5, "push: 1d00f2a tidy up", TurnOutcome.CHECK_FAILED, "`pytest -q tests` failed: 1 failed, 11 passed", None, 0.39),
    turn(
        4,
        "data: data/flights/2013-05.parquet",
        TurnOutcome.PROMOTED,
        "v2 serves all of production: all guards hold after 3 steps",
        "v2",
        0.71,
    ),
    turn(
        3,
        "data: data/flights/2013-05.parquet",
        TurnOutcome.QUARANTINED,
        "data/flights/2013-05.parquet quarantined: distance: 18,233 of 28,128 values lie above 5,000",
        None,
        0.33,
    ),
    turn(
        2,
        "data: data/flights/2013-04.parquet",
        TurnOutcome.NOT_ENOUGH_DATA,
        "worst(roc_auc, by=origin) 0.561 at LGA may lie below 0.55 (95 % bound 0.532, n = 812)",
        None,
        0.51,
    ),
    turn(1, "manual: the first turn", TurnOutcome.PROMOTED, "v1 serves all of production: first release", "v1", 0.93),
)


def _windows() -> tuple[Window, ...]:
    rows = []
    for week in range(13):
        version, reference = ("v1", 0.1498) if week < 4 else ("v2", 0.1533)
        value = reference + [0.001, -0.003, 0.002, 0.004, -0.002, 0.001, 0.003, 0.0, 0.006, 0.012, 0.018, 0.021, 0.017][week]
        p_value = 0.0002 if week >= 10 else 0.31
        rows.append(
            Window(
                PROJECT,
                "production",
                version,
                JULY + (week - 8) * 7 * DAY,
                JULY + (week - 7) * 7 * DAY,
                "brier",
                6400,
                6011,
                value,
                reference,
                p_value,
            )
        )
    return tuple(rows)


WINDOWS = _windows()
DELIVERIES = (
    Delivery(
        "delivery-3",
        "flights",
        "data/flights/2013-05.parquet",
        "a" * 64,
        28_128,
        28_128,
        0,
        True,
        "28,128 rows meet the contract",
        at=NOW - 2000,
    ),
    Delivery(
        "delivery-2",
        "flights",
        "data/flights/2013-05.parquet",
        "b" * 64,
        28_128,
        0,
        28_128,
        False,
        "distance: 18,233 of 28,128 values lie above 5,000",
        18_233,
        "d" * 64,
        NOW - 2400,
    ),
    Delivery(
        "delivery-1",
        "flights",
        "data/flights/2013-04.parquet",
        "c" * 64,
        27_429,
        27_429,
        0,
        True,
        "27,429 rows meet the contract",
        at=NOW - 2800,
    ),
)
ALERTS = (
    Alert(
        "alert-1",
        PROJECT,
        "quality",
        "v2",
        "brier 0.1712 over 6,011 labelled flights against 0.1533 on its holdout (p = 0.0002)",
        JULY + 3 * 7 * DAY,
        "trigger-8",
    ),
)
PLAN = ("5 % of traffic", "25 % of traffic", "100 % of traffic")
STANDS = (
    GuardStatus(
        "errors", "1 of 1 events on the canary at 5 % to 25 % of traffic in 1,942 of its requests", 3.1, 400.0, 34.6, 10.0
    ),
    GuardStatus(
        "slow answers", "4 of 31 events on the canary at 5 % to 25 % of traffic in 1,942 of its requests", 0.62, 400, 7.4, 10
    ),
    GuardStatus("brier", "-0.0061 (-0.0214 to +0.0092) on 512 labelled of 962 pairs", 0.08, 400.0, 4.9, 10.0),
)
LOOK = Analysis(
    NOW - 3,
    "slow answers: 4 of 31 events on the canary at 5 % to 25 % of traffic in 1,942 of its requests; for safety 7.4 of 10, "
    "for harm 0.62 of 400; brier: -0.0061 (-0.0214 to +0.0092) on 512 labelled of 962 pairs; for safety 4.9 of 10, "
    "for harm 0.08 of 400",
    STANDS,
)
ROLLOUT = Rollout(
    "rollout-4",
    PROJECT,
    "production",
    "turn-8",
    "v4",
    RELEASES[0].digest,
    RolloutState.CANARY,
    1,
    NOW - 95,
    None,
    "v4 goes from 5 % to 25 %: errors and slow answers stay within the guard after 640 requests",
    (Interval(0.05, Tally(12_160, 0, 21), Tally(640, 0, 1), 5), Interval(0.25, Tally(3_911, 0, 6), Tally(1_302, 1, 3), 6)),
    before="v2",
    look=LOOK,
    plan=PLAN,
)
ROUTE = Route(
    PROJECT, "production", 6, RELEASES[2].digest, "v2", RELEASES[0].digest, "v4", 0.25, RELEASES[3].digest, "v1", "rollout-4"
)
EVENTS = tuple(
    Event(48 - i, PROJECT, NOW - 60 * i - 20, JULY + 22 * DAY, 86_400.0, actor, kind, "subject", text)
    for i, (actor, kind, text) in enumerate(
        (
            (
                "engine",
                "rollout.advanced",
                "v4 goes from 5 % to 25 %: errors and slow answers stay within the guard after 640 requests",
            ),
            ("engine", "rollout.started", "v4 takes 5 % of production, beside v2"),
            ("engine", "release.sealed", "v4 sealed: compiled, 444444444444, commit c0ffeec0ff"),
            (
                "engine",
                "gate.pass",
                "gate: roc_auc 0.704 >= 0.60; roc_auc 0.704 >= champion - 0.01 (difference +0.012, 95 % bound +0.006)",
            ),
            ("engine", "turn.started", "turn 8: breach: v2 brier 0.1712 against 0.1533 on its holdout"),
            ("engine", "monitor.quality", "v2: brier 0.1712 over 6,011 labelled flights against 0.1533 on its holdout"),
            ("cli:anna", "environment.rolled_back", "production rolled back from v2 to v1: tried by hand"),
            ("engine", "rollout.rolled_back", "v3 rolled back: 14 of 212 requests failed, champion 0 of 4,031"),
        )
    )
)
REASONS = {
    RolloutState.ROLLED_BACK: "v3 rolled back: errors: 14 of 14 events on the canary at 5 % of traffic in 212 of its requests; "
    "evidence >1,000,000, needed 400: roll back",
    RolloutState.PROMOTED: "v2 serves production: probation is over, no harm was found: brier: -0.004 (-0.009 to +0.001) on "
    "4,011 labelled of 5,120 pairs; for safety 812 of 100, for harm 0.02 of 400",
    RolloutState.SUPERSEDED: "v1 superseded: v2 took its place",
}
ENDED = tuple(
    Rollout(
        id=f"rollout-{number}",
        project=PROJECT,
        environment="production",
        turn_id=f"turn-{number}",
        release=f"v{number}",
        digest=f"{number}" * 64,
        state=state,
        step=0,
        started_at=NOW - 2_000 * (4 - number),
        ended_at=NOW - 2_000 * (4 - number) + 95,
        reason=reason,
        before="v1",
    )
    for number, (state, reason) in zip((3, 2, 1), REASONS.items(), strict=True)
)
AROUND = StatusContext(
    goal="Warn a passenger, before departure, of an arrival more than 15 minutes late.",
    environments=("staging", "production"),
    steps={"production": (0.05, 0.25, 1.0)},
    addresses={"staging": "http://127.0.0.1:8000", "production": "http://127.0.0.1:8001", "console": "http://127.0.0.1:8080"},
    daemon=True,
    server=True,
)


def view() -> StatusView:
    """The whole story: a canary in flight, a quarantine, an alert, and eight turns."""
    staging = Route(PROJECT, "staging", 4, RELEASES[0].digest, "v4", previous=RELEASES[2].digest, previous_version="v2")
    champion, candidate = Tally(16_071, 0, 27), Tally(1_942, 1, 4)
    return StatusView(
        PROJECT,
        NOW,
        AROUND,
        ClockView(JULY + 22 * DAY, 86_400.0, False),
        (
            EnvironmentView("staging", AROUND.addresses["staging"], staging, RELEASES[0], None),
            EnvironmentView(
                "production",
                AROUND.addresses["production"],
                ROUTE,
                RELEASES[2],
                RolloutView(ROLLOUT, 0.25, (0.05, 0.25, 1.0), champion, candidate),
            ),
        ),
        TURNS,
        RELEASES,
        WINDOWS,
        DELIVERIES,
        28_128,
        0,
        ALERTS,
        EVENTS,
        ENDED,
    )


def under_way(state: RolloutState, **changes: object) -> RolloutView:
    """The rollout of v4 in one of the states in which it is judged or waits."""
    rollout = replace(ROLLOUT, state=state, environment=state.name.lower(), **changes)  # type: ignore[arg-type]
    share = 0.25 if state in (RolloutState.CANARY, RolloutState.HELD) else 0.0
    shadow = 0.0 if state in (RolloutState.WAITING, RolloutState.REPLAY) else 0.2
    none = share == shadow == 0.0
    counts = (Tally(), Tally()) if none else (Tally(16_071, 0, 27), Tally(1_942, 1, 4))
    return RolloutView(rollout, share, (0.05, 0.25, 1.0) if share else (), *counts, shadow)


def every_state() -> StatusView:
    """One environment in each state of a rollout, named after it; in the last one harm is shown."""
    harm = replace(
        STANDS[0], text="9 of 9 events on the canary at 25 % of traffic in 412 of its requests", harm=2.6e5, safe=0.003
    )
    waits = "v4 waits for 1 approval for production (`noria approve v4`)"
    probation = "on probation for 3 d 4 h more: brier: -0.0061 (-0.0214 to +0.0092) on 512 labelled of 962 pairs; for safety 4.9 "
    held = f"v4 held at 25 %: no verdict within 2 h: {LOOK.text}"
    found = {
        RolloutState.WAITING: under_way(
            RolloutState.WAITING, reason=waits, look=Analysis(NOW, waits, code=ASKS_APPROVAL), step=0
        ),
        RolloutState.REPLAY: under_way(
            RolloutState.REPLAY, reason="v4 answers logged requests of production before any live one", look=None, step=0
        ),
        RolloutState.CANARY: under_way(RolloutState.CANARY, look=replace(LOOK, stands=(harm, *STANDS[1:]))),
        RolloutState.HELD: under_way(RolloutState.HELD, reason=held, resumes=RolloutState.CANARY),
        RolloutState.PROBATION: under_way(
            RolloutState.PROBATION,
            reason=f"v4 serves all of production: {LOOK.text}: harm of the guards' size is ruled out, promote",
            look=Analysis(NOW - 1, probation + "of 100, for harm 0.08 of 400", STANDS),
            step=2,
        ),
    }
    whole = view()
    served = replace(ROUTE, champion_version="v4", previous_version="v2", candidate=None, candidate_version=None, share=0.0)
    seats: dict[RolloutState, tuple[Route | None, Release | None]] = {
        RolloutState.WAITING: (None, None),
        RolloutState.PROBATION: (served, RELEASES[0]),
    }
    environments = tuple(
        EnvironmentView(
            state.name.lower(),
            AROUND.addresses["production"],
            *seats.get(state, (ROUTE, RELEASES[2])),
            canary=None if state is RolloutState.PROBATION else canary,
            probation=canary if state is RolloutState.PROBATION else None,
        )
        for state, canary in found.items()
    )
    return replace(whole, environments=environments)
