"""The grammar of gates.

    METRIC >= NUMBER                     roc_auc >= 0.60
    METRIC >= champion [+|- NUMBER[%]]   brier <= champion + 0.005, mae <= best + 5%
    METRIC no worse than champion        roc_auc no worse than champion, log_loss no worse than best by 2%
    worst(METRIC, by=COLUMN) >= NUMBER   worst(roc_auc, by=origin) >= 0.55

``<=`` as well as ``>=``, ``best`` (the best release so far) as well as ``champion``. Each may end in ``at 90%``, the confidence
of the bound: 95 % of a comparison unless told otherwise; a threshold is asked of the value, or, with ``at``, of its bound.
"""

from __future__ import annotations

import math
import re

from noria.config.document import nearest
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Gate
from noria.kernel.task import Task
from noria.kernel.tasks import DEFINITIONS, find_metric

ALWAYS = ("latency_p50_ms", "latency_p99_ms", "model_size_mb", "rows")
FORMS = (
    ("roc_auc >= 0.6", "when the measured value is at least that"),
    ("roc_auc >= 0.5 at 95%", "when its lower bound is; between the bounds there is not enough data"),
    ("roc_auc no worse than champion", "unless it is shown to be worse; `by 2%` or `by 0.01` lets it be worse by so much"),
    ("roc_auc >= champion - 0.01", "when shown to be at most so far behind; `mae <= champion + 5%` is a share of the error"),
    ("roc_auc >= best - 0.02", "the same against the best release so far: small steps down do not add up"),
    ("worst(roc_auc, by=origin) >= 0.55", "when the worst slice that has rows enough reaches it"),
    (
        "latency_p99_ms <= 50",
        "when the median of five rounds is, asked over HTTP for this verdict; of ten where it hangs on them",
    ),
)
HINT = (
    "Write METRIC >= 0.6, METRIC >= champion - 0.01, METRIC no worse than champion, or worst(METRIC, by=COLUMN) >= 0.5; "
    "`best` may stand for `champion`, and `at 90%` may follow."
)
PATTERN = r"^\s*(\w+|worst\(.+\))\s*(>=|<=|no\s+worse\s+than\s)\s*\S.*$"

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_GATE = re.compile(
    r"\s*(?:(?P<metric>\w+)|worst\(\s*(?P<worst>\w+)\s*,\s*by\s*=\s*(?P<by>[^)]*?)\s*\))"
    r"\s*(?P<op>>=|<=)\s*"
    rf"(?:(?P<number>[-+]?{_NUMBER})|(?P<other>champion|best)(?:\s*(?P<sign>[-+])\s*(?P<margin>{_NUMBER})(?P<share>\s*%)?)?)"
    r"(?:\s+at\s+(?P<percent>[0-9]+(?:\.[0-9]+)?)\s*%)?\s*"
)
_NO_WORSE = re.compile(
    r"\s*(?P<metric>\w+)\s+no\s+worse\s+than\s+(?P<other>champion|best)"
    rf"(?:\s+by\s+(?P<margin>{_NUMBER})(?P<share>\s*%)?)?(?:\s+at\s+(?P<percent>[0-9]+(?:\.[0-9]+)?)\s*%)?\s*"
)


def parse_gate(text: str) -> Gate:
    """The gate that ``text`` says. Raises ConfigError when it is none, or names a metric nobody knows."""
    if (plain := _NO_WORSE.fullmatch(text)) is not None:
        return _no_worse(text, plain)
    match = _GATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a gate", hint=HINT)
    found = match.groupdict()
    metric = found["metric"] or found["worst"]
    _demand_known(metric)
    if found["worst"] and (found["other"] or not found["by"] or metric in ALWAYS):
        raise ConfigError(
            f"{text!r} is not a gate: worst() takes a metric of quality and a column, compared with a number", hint=HINT
        )
    if metric in ALWAYS and found["other"]:
        raise ConfigError(f"{text!r} is not a gate: {metric} is compared with a number", hint=HINT)
    margin = float(found["margin"] or 0.0) / (100 if found["share"] else 1)
    if not math.isfinite(margin) or not math.isfinite(float(found["number"] or 0.0)):
        raise ConfigError(f"{text!r} is not a gate: the number is too large", hint=HINT)
    return Gate(
        text=" ".join(text.split()),
        metric=metric,
        at_least=found["op"] == ">=",
        value=float(found["number"]) if found["number"] else (-margin if found["sign"] == "-" else margin),
        champion=found["other"] is not None,
        by=found["by"],
        confidence=_confidence(text, found["percent"]),
        best=found["other"] == "best",
        relative=found["share"] is not None,
        bound=found["percent"] is not None and found["other"] is None,
    )


def _no_worse(text: str, found: re.Match[str]) -> Gate:
    metric, margin = found["metric"], float(found["margin"] or 0.0) / (100 if found["share"] else 1)
    _demand_known(metric)
    known = find_metric(metric)
    if known is None:
        raise ConfigError(f"{text!r} is not a gate: {metric} is compared with a number", hint=HINT)
    at_least = known.greater_is_better
    return Gate(
        text=" ".join(text.split()),
        metric=metric,
        at_least=at_least,
        value=-margin if at_least else margin,
        champion=True,
        confidence=_confidence(text, found["percent"]),
        best=found["other"] == "best",
        relative=found["share"] is not None,
        no_worse=True,
    )


def demand_task(gate: Gate, task: Task) -> None:
    """Raises ConfigError when the gate's metric is one of another task."""
    known = (*task.definition.metrics, *ALWAYS)
    if gate.metric not in known:
        raise ConfigError(f"{gate.metric} is not a metric of a {task} model", hint=nearest(gate.metric, known))


def _demand_known(metric: str) -> None:
    known = [name for definition in DEFINITIONS.values() for name in definition.metrics] + list(ALWAYS)
    if metric not in known:
        raise ConfigError(f"there is no metric {metric!r}", hint=nearest(metric, known))


def _confidence(text: str, percent: str | None) -> float:
    value = float(percent) / 100 if percent else 0.95
    if not 0.5 <= value < 1:
        raise ConfigError(f"{text!r}: a confidence lies between 50% and 100%", hint="Write `at 90%`.")
    return value
