"""The keys of a rollout: how a release takes over an environment, and what sends it back."""

from __future__ import annotations

from noria.config.scalars import STEP_SCALAR
from noria.config.shapes import CHANCE, DURATION, POSITIVE, SOME_SHARE, Choice, ConfigKey, ListOf, Record, ScalarOr, whole
from noria.kernel.policy import Assign
from noria.kernel.tasks import guarded_metrics

P99 = Record(
    "a mapping with by",
    (ConfigKey("by", DURATION, "How much later the candidate's 99th percentile may be.", required=True),),
    short="by",
)
LATENCY = Record(
    "a mapping with over and by",
    (
        ConfigKey("over", DURATION, "An answer later than this is slow.", "100ms"),
        ConfigKey("by", CHANCE, "How much larger a share of slow answers is too much.", "2%"),
        ConfigKey("p99", P99, "A further guard: how much later the 99th percentile may be, as in `p99: 20ms`.", "none"),
    ),
)
MAE = Record(
    "a mapping with by and bound",
    (
        ConfigKey("by", POSITIVE, "How much greater the mean absolute error may be, in the label's unit.", required=True),
        ConfigKey("bound", POSITIVE, "Errors are capped at this value, so that one outlier decides nothing.", required=True),
    ),
)
GUARD = Record(
    "a mapping",
    (
        ConfigKey("errors", CHANCE, "How much larger a share of failed requests is too much.", "1%"),
        ConfigKey(
            "failing",
            CHANCE,
            "A candidate that fails a larger share of its requests does not advance, even if the champion fails, too.",
            "50%",
        ),
        ConfigKey("latency", LATENCY, "When an answer is slow, and how many more are too many.", "over: 100ms, by: 2%"),
        *(ConfigKey(m.name, MAE if m.high is None else CHANCE, m.guard, "none") for m in guarded_metrics().values()),
    ),
)
ROLLOUT_STEP = ScalarOr(
    STEP_SCALAR,
    Record(
        "a mapping with one of shadow, pause, approve",
        (
            ConfigKey("shadow", SOME_SHARE, "The candidate also scores this share of requests; the champion answers all."),
            ConfigKey("pause", DURATION, "The share stays the same for this long; project clock."),
            ConfigKey(
                "approve",
                whole("a number of people from 1 to 20", 1, 20),
                "The share stays the same until this many people approve.",
            ),
        ),
    ),
)
REPLAY = ScalarOr(
    whole("a number of requests from 0 to 100000, or {last: N, differ: SHARE}", 0, 100_000),
    Record(
        "a mapping",
        (
            ConfigKey(
                "last", whole("a number of requests from 0 to 100000", 0, 100_000), "How many logged requests to replay.", "500"
            ),
            ConfigKey("differ", CHANCE, "Mean difference from the champion's answers that stops the rollout.", "25%"),
        ),
    ),
)
ROLLOUT = Record(
    "a mapping",
    (
        ConfigKey(
            "steps",
            ListOf(ROLLOUT_STEP, "a list of steps"),
            "The candidate's share of the traffic, growing to 100%; also `shadow`, `{pause: 10m}`, `{approve: 1}`.",
            required=True,
        ),
        ConfigKey(
            "replay", REPLAY, "How many of the newest logged requests the candidate answers before any live one; 0: none.", "500"
        ),
        ConfigKey("guard", GUARD, "How much worse than the champion is too much."),
        ConfigKey(
            "false_alarm", CHANCE, "The probability of rolling back without cause, over all guards, steps and analyses.", "1%"
        ),
        ConfigKey("missed", CHANCE, "The probability of promoting a harm of the guard's size.", "5%"),
        ConfigKey(
            "patience", DURATION, "Without a verdict by then, the rollout is held and a person decides; project clock.", "1h"
        ),
        ConfigKey(
            "probation",
            DURATION,
            "How long after promotion the previous release may take over; project clock.",
            "1d where quality is guarded, else none",
        ),
        ConfigKey(
            "assign",
            Choice(tuple(str(choice) for choice in Assign)),
            "By `request`, or by `key`: requests of a key always go to the same release.",
            "request",
        ),
        ConfigKey("pairs", SOME_SHARE, "The share of requests that both releases score, for quality and probation.", "10%"),
    ),
)
