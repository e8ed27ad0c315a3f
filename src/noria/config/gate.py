"""The grammar of gates.

    METRIC >= NUMBER                     roc_auc >= 0.60
    METRIC >= champion [+|- NUMBER[%]]   brier <= champion + 0.005, mae <= best + 5%
    METRIC no worse than champion        roc_auc no worse than champion, log_loss no worse than best by 2%
    worst(METRIC, by=COLUMN) >= NUMBER   worst(roc_auc, by=origin) >= 0.55
    gap(METRIC, by=COLUMN) <= NUMBER     gap(recall, by=sex) <= 0.05
    STEP.METRIC >= NUMBER                simulate.profit >= 0, of a metric that a step of the project writes

``<=`` as well as ``>=``, ``best`` (the best release so far) as well as ``champion``. Each may end in ``at 90%``, the confidence
of the bound: 95 % of a comparison unless told otherwise; a threshold is asked of the value, or, with ``at``, of its bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from noria.config.document import nearest
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Gate
from noria.kernel.task import Task
from noria.kernel.tasks import DEFINITIONS, find_metric

ALWAYS = ("latency_p50_ms", "latency_p99_ms", "model_size_mb", "rows")
FORMS = (
    ("roc_auc >= 0.6", "if the measured value is at least that"),
    ("roc_auc >= 0.5 at 95%", "if its lower bound is; if the value is but the bound is not, there is not enough data"),
    ("roc_auc no worse than champion", "unless it is shown to be worse; `by 2%` or `by 0.01` allows it to be that much worse"),
    (
        "roc_auc >= champion - 0.01",
        "if it is shown to be at most that far behind, and at most twice as far behind the best release so far; "
        "`mae <= champion + 5%` is a share of the error",
    ),
    ("roc_auc >= best - 0.02", "the same against the best release so far alone"),
    (
        "worst(roc_auc, by=origin) >= 0.55",
        "unless a slice is shown to be below, counting how many slices there are; small ones are judged together",
    ),
    ("worst(roc_auc, by=origin) >= 0.55 at 95%", "if each slice is shown to reach it"),
    (
        "gap(recall, by=sex) <= 0.05",
        "unless two slices are shown to differ by more, counting how many pairs there are: fairness between groups",
    ),
    ("gap(recall, by=sex) <= 0.05 at 95%", "if each two slices are shown to differ by no more"),
    ("simulate.profit >= 0", "if the metric `profit` that the step `simulate` wrote in this run is"),
    (
        "latency_p99_ms <= 50",
        "if the median of five rounds over HTTP is, measured for this verdict; of ten rounds if the verdict depends on it",
    ),
)
HINT = (
    "Write METRIC >= 0.6, METRIC >= champion - 0.01, METRIC no worse than champion, "
    "worst(METRIC, by=COLUMN) >= 0.5, or gap(METRIC, by=COLUMN) <= 0.05; "
    "`best` may stand for `champion`, and `at 90%` may follow."
)
PATTERN = r"^\s*(\w+(@[0-9]+)?|[a-z][\w-]*(\.\w+)+|(worst|gap)\(.+\))\s*(>=|<=|no\s+worse\s+than\s)\s*\S.*$"

NONE: Mapping[str, bool] = MappingProxyType({})

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_GATE = re.compile(
    r"\s*(?:(?P<metric>\w+(?:@[0-9]+)?|[a-z][\w-]*(?:\.\w+)+)"
    r"|(?P<over>worst|gap)\(\s*(?P<sliced>\w+(?:@[0-9]+)?)\s*,\s*by\s*=\s*(?P<by>[^)]*?)\s*\))"
    r"\s*(?P<op>>=|<=)\s*"
    rf"(?:(?P<number>[-+]?{_NUMBER})|(?P<other>champion|best)(?:\s*(?P<sign>[-+])\s*(?P<margin>{_NUMBER})(?P<share>\s*%)?)?)"
    r"(?:\s+at\s+(?P<percent>[0-9]+(?:\.[0-9]+)?)\s*%)?\s*"
)
_NO_WORSE = re.compile(
    r"\s*(?P<metric>\w+(?:@[0-9]+)?)\s+no\s+worse\s+than\s+(?P<other>champion|best)"
    rf"(?:\s+by\s+(?P<margin>{_NUMBER})(?P<share>\s*%)?)?(?:\s+at\s+(?P<percent>[0-9]+(?:\.[0-9]+)?)\s*%)?\s*"
)


def is_step_metric(name: str) -> bool:
    """Whether it is ``STEP.METRIC``, what a step of the project writes."""
    return "." in name


def parse_gate(text: str, own: Mapping[str, bool] = NONE) -> Gate:
    """The gate that ``text`` says; ``own`` as for ``resolve_gate``. Raises ConfigError when it is none, or for its metric."""
    return resolve_gate(read_gate(text), own)


def read_gate(text: str) -> Gate:
    """The gate as it is written, whatever its metric. Raises ConfigError when the text is none."""
    if (plain := _NO_WORSE.fullmatch(text)) is not None:
        return _no_worse(text, plain)
    match = _GATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a gate", hint=HINT)
    found = match.groupdict()
    metric, over = found["metric"] or found["sliced"], found["over"]
    if over and (found["other"] or not found["by"] or metric in ALWAYS):
        raise ConfigError(
            f"{text!r} is not a gate: {over}() takes a metric of quality and a column, compared with a number", hint=HINT
        )
    if over == "gap" and (found["op"] == ">=" or float(found["number"]) < 0):
        raise ConfigError(f"{text!r} is not a gate: gap() is at most a number, and never below 0", hint=HINT)
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
        gap=over == "gap",
    )


def resolve_gate(gate: Gate, own: Mapping[str, bool], steps: Iterable[str] = ()) -> Gate:
    """The gate with the direction of its metric. ``own``: the project's own metrics, and whether greater is better.

    ``steps``: those of the project.
    Raises ConfigError for a metric that is not known, or that is not compared with another release.
    """
    if is_step_metric(gate.metric):
        _demand_step(gate, list(steps))
        return gate
    _demand_known(gate.metric, own)
    if gate.metric in own and gate.by is not None:
        over = "gap" if gate.gap else "worst"
        raise ConfigError(
            f"{gate.text!r} is not a gate: {over}() takes a metric of Noria, and {gate.metric} is the project's own"
        )
    if not gate.no_worse:
        return gate
    known = find_metric(gate.metric)
    if known is None and gate.metric not in own:
        raise ConfigError(f"{gate.text!r} is not a gate: {gate.metric} is compared with a number", hint=HINT)
    at_least = own[gate.metric] if known is None else known.greater_is_better
    return replace(gate, at_least=at_least, value=-gate.value if at_least else gate.value)


def _no_worse(text: str, found: re.Match[str]) -> Gate:
    return Gate(
        text=" ".join(text.split()),
        metric=found["metric"],
        at_least=False,
        value=float(found["margin"] or 0.0) / (100 if found["share"] else 1),
        champion=True,
        confidence=_confidence(text, found["percent"]),
        best=found["other"] == "best",
        relative=found["share"] is not None,
        no_worse=True,
    )


def demand_task(gate: Gate, task: Task, own: Iterable[str] = ()) -> None:
    """Raises ConfigError when the gate's metric is one of another task."""
    known = (*task.definition.gate_metrics, *own, *ALWAYS)
    if gate.metric not in known and not is_step_metric(gate.metric):
        raise ConfigError(f"{gate.metric} is not a metric of a {task} model", hint=nearest(gate.metric, known))


def _demand_step(gate: Gate, steps: list[str]) -> None:
    step = gate.metric.partition(".")[0]
    if step not in steps:
        raise ConfigError(f"there is no step {step!r}", hint=nearest(step, steps))
    if gate.champion or gate.bound:
        raise ConfigError(
            f"{gate.text!r} is not a gate: what a step writes has no bounds, and is compared with a number", hint=HINT
        )


def built_in_metrics() -> list[str]:
    """The names that the project's own metrics may not have."""
    return [name for definition in DEFINITIONS.values() for name in definition.gate_metrics] + list(ALWAYS)


def _demand_known(metric: str, own: Iterable[str]) -> None:
    known = [*built_in_metrics(), *own]
    if metric not in known:
        raise ConfigError(f"there is no metric {metric!r}", hint=nearest(metric, known))


def _confidence(text: str, percent: str | None) -> float:
    value = float(percent) / 100 if percent else 0.95
    if not 0.5 <= value < 1:
        raise ConfigError(f"{text!r}: a confidence lies between 50% and 100%", hint="Write `at 90%`.")
    return value
