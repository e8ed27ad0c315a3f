"""The grammar of gates.

    METRIC >= NUMBER                     roc_auc >= 0.60
    METRIC >= champion [+|- NUMBER]      brier <= champion + 0.005
    worst(METRIC, by=COLUMN) >= NUMBER   worst(roc_auc, by=origin) >= 0.55

``<=`` as well as ``>=``; each may end in ``at 90%``, the confidence of the bound (95 % unless told otherwise).
"""

from __future__ import annotations

import math
import re

from noria.config.document import nearest
from noria.domain.policy import Gate
from noria.domain.signature import Task
from noria.errors import ConfigError

ALWAYS = ("latency_p50_ms", "latency_p99_ms", "model_size_mb", "rows")
METRICS = {
    Task.BINARY: ("roc_auc", "average_precision", "brier", "log_loss", "accuracy", "precision", "recall", "f1"),
    Task.MULTICLASS: ("accuracy", "log_loss", "f1_macro"),
    Task.REGRESSION: ("mae", "rmse", "r2"),
}
HINT = "Write METRIC >= 0.6, METRIC >= champion - 0.01, or worst(METRIC, by=COLUMN) >= 0.5; `at 90%` may follow."
PATTERN = r"^\s*(\w+|worst\(.+\))\s*(>=|<=)\s*\S.*$"

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_GATE = re.compile(
    r"\s*(?:(?P<metric>\w+)|worst\(\s*(?P<worst>\w+)\s*,\s*by\s*=\s*(?P<by>[^)]*?)\s*\))"
    r"\s*(?P<op>>=|<=)\s*"
    rf"(?:(?P<number>[-+]?{_NUMBER})|(?P<champion>champion)(?:\s*(?P<sign>[-+])\s*(?P<margin>{_NUMBER}))?)"
    r"(?:\s+at\s+(?P<percent>[0-9]+(?:\.[0-9]+)?)\s*%)?\s*"
)


def parse_gate(text: str) -> Gate:
    """The gate that ``text`` says. Raises ConfigError when it is none, or names a metric nobody knows."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a gate", hint=HINT)
    found = match.groupdict()
    metric = found["metric"] or found["worst"]
    _demand_known(metric)
    if found["worst"] and (found["champion"] or not found["by"] or metric in ALWAYS):
        raise ConfigError(
            f"{text!r} is not a gate: worst() takes a metric of quality and a column, compared with a number", hint=HINT
        )
    if metric in ALWAYS and found["champion"]:
        raise ConfigError(f"{text!r} is not a gate: {metric} is compared with a number", hint=HINT)
    margin = float(found["margin"] or 0.0)
    if not math.isfinite(margin) or not math.isfinite(float(found["number"] or 0.0)):
        raise ConfigError(f"{text!r} is not a gate: the number is too large", hint=HINT)
    return Gate(
        text=" ".join(text.split()),
        metric=metric,
        at_least=found["op"] == ">=",
        value=float(found["number"]) if found["number"] else (-margin if found["sign"] == "-" else margin),
        champion=found["champion"] is not None,
        by=found["by"],
        confidence=_confidence(text, found["percent"]),
    )


def demand_task(gate: Gate, task: Task) -> None:
    """Raises ConfigError when the gate's metric is one of another task."""
    known = (*METRICS[task], *ALWAYS)
    if gate.metric not in known:
        raise ConfigError(f"{gate.metric} is not a metric of a {task} model", hint=nearest(gate.metric, known))


def _demand_known(metric: str) -> None:
    known = [name for names in METRICS.values() for name in names] + list(ALWAYS)
    if metric not in known:
        raise ConfigError(f"there is no metric {metric!r}", hint=nearest(metric, known))


def _confidence(text: str, percent: str | None) -> float:
    value = float(percent) / 100 if percent else 0.95
    if not 0.5 <= value < 1:
        raise ConfigError(f"{text!r}: a confidence lies between 50% and 100%", hint="Write `at 90%`.")
    return value
