"""How many rows a gate needs, and how many more would decide one that has too few."""

from __future__ import annotations

import math

from noria.kernel.policy import Gate
from noria.kernel.words import lasting, plural, plurals
from noria.releases.evidence import Evaluation
from noria.stats.measures import DAY, LEAST_GROUPS, STRETCH, Comparison

POWER = 0.842  # the normal quantile of 80 %: a candidate that is as good passes in four of five cases
AT_95 = 1.645
DAY_S = 86400.0

MOST = 1000  # times the rows of now: more is no plan, and what the estimate says of it is hardly true
LEAST_GAP = 1e-12
NEVER = "no number of rows would decide: the value lies on the threshold"


def rows_to_decide(value: float, threshold: float, low: float, high: float, n: int) -> int | None:
    """The rows that decide on which side of the threshold the value lies, if value and spread stay as they are.

    A bound nears the value with the root of the number of rows. None where no number of rows would, or more than MOST times n.
    """
    gap = abs(value - threshold)
    reach = value - low if value > threshold else high - value
    if gap <= LEAST_GAP * max(abs(threshold), abs(value), 1.0):
        return None
    needed = n * (reach / gap) ** 2
    return math.ceil(needed) if needed <= MOST * n else None


def bounds_remedy(value: float, threshold: float, low: float, high: float, units: int, noun: str = "labelled row") -> str:
    """``about 2,300 more labelled rows, if value and spread stay as they are``; of rows in groups, how many more of those."""
    gap = abs(value - threshold)
    if gap <= LEAST_GAP * max(abs(threshold), abs(value), 1.0):
        return NEVER
    needed = rows_to_decide(value, threshold, low, high, units)
    if needed is None:
        return f"more than {MOST:,} times as many {plurals(noun)}: the value lies close to the threshold"
    return f"about {_more(needed - units, noun)}, if value and spread stay as they are"


def groups_remedy(groups: int, least: int, noun: str) -> str:
    return f"labelled rows of {_more(least - groups, noun)}"


def counts_remedy(n: int, positives: int | None, rows: int, each_class: int) -> str:
    """The rows that are missing for a gate that needs ``rows``, and ``each_class`` of either class at the share of today."""
    missing = max(rows - n, 0)
    if positives is not None and n > 0:
        rare = min(positives, n - positives)
        if rare == 0:
            return f"labelled rows of both classes, {each_class} of each"
        missing = max(missing, math.ceil(each_class * n / rare) - n)
    return f"about {_more(missing, 'labelled row')}" if missing > 0 else ""


def _more(count: int, noun: str) -> str:
    """Two digits of what is an estimate, rounded up."""
    return _rounded(count, f"more {noun}")


def _rounded(count: int, noun: str) -> str:
    count = max(count, 1)
    step = 10 ** max(len(str(count)) - 2, 0)
    return plural(-(-count // step) * step, noun)


def units_needed(versus: Comparison, margin: float, *, at_least: bool) -> int | None:
    """The rows, or groups where rows come in groups, from which a gate passes a candidate as good as the champion in four of five
    cases: its bound and the chance of its value together are as wide as the margin. None where nothing may be lost."""
    allowed = -margin if at_least else margin
    reach = versus.difference - versus.low if at_least else versus.high - versus.difference
    if allowed <= 0 or not math.isfinite(reach):
        return None
    count = versus.groups if versus.groups is not None and versus.unit != STRETCH else versus.n
    return max(1, math.ceil(count * (reach * (1 + POWER / AT_95) / allowed) ** 2))


def outlook(gate: Gate, evaluation: Evaluation) -> tuple[str, bool] | None:
    """What a gate on the champion needs, by the spread of the newest comparison, beside what that had; and whether it is enough.

    None for another gate, or where nothing was compared yet.
    """
    found = evaluation.versus_best if gate.best and evaluation.best is not None else evaluation.versus
    versus = found.get(gate.metric)
    if not gate.champion or gate.no_worse or versus is None:
        return None
    needed = units_needed(versus, gate.value * abs(versus.champion) if gate.relative else gate.value, at_least=gate.at_least)
    if needed is None:
        return None
    in_groups = versus.groups is not None and versus.unit != STRETCH
    count, noun = (
        (versus.groups or 0, "day" if versus.unit == DAY else "group") if in_groups else (versus.n, f"labelled {versus.counts}")
    )
    text = f"needs about {_rounded(needed, noun)} to pass a candidate as good as {evaluation.champion} in 4 of 5 cases; "
    return f"{text}the last holdout had {count:,}", count >= needed


def short_holdout(last_s: float | None) -> str:
    """What a holdout by time of few days cannot tell; empty where it has enough."""
    if last_s is None or last_s >= (LEAST_GROUPS - 1) * DAY_S:
        return ""
    return (
        f"the holdout is the last {lasting(last_s)}: how days differ is seen from {LEAST_GROUPS} days on, "
        "so its bounds hold for such days alone"
    )
