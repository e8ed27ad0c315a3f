"""Users who try candidate after candidate against one holdout, played out: how often one is released that should not be.

Every candidate is worse than the champion by exactly the gate's margin. Its true area under the curve is known, for its scores
are those of a signal and of noise that has nothing to do with the labels. What users do is choose the noise. Comparisons come
from `noria.stats.intervals`, verdicts from `noria.evaluation.judge_holdout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist, median

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.config.gate import parse_gate
from noria.evaluation import judge_holdout
from noria.evaluation.records import HoldoutBudget
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome, combine
from noria.releases.evidence import Evaluation
from noria.stats import intervals
from noria.stats.measures import Measure

Noise = NDArray[np.float64]
Chooser = Callable[[np.random.Generator, list[Noise], list[float]], Noise]

MARGIN = 0.02
GATE = parse_gate(f"roc_auc >= champion - {MARGIN}")
CHAMPION_AREA, POSITIVES, ALIKE = 0.8, 0.4, 0.9
STEP = 0.6  # how much noise of its own a changed candidate has
FLIPPED = 0.5  # of a window that moves: the share of the rows that is fresh then


class Released(msgspec.Struct, frozen=True):
    """The first false release of a history: which look it was, and how much its measured area overstates the true one."""

    look: int
    overstated: float


class Rule(msgspec.Struct, frozen=True):
    """What judges: ``budget`` None is the gate alone, at each look anew."""

    budget: int | None
    looks: int  # that the user takes at most


def independent(rng: np.random.Generator, before: list[Noise], told: list[float]) -> Noise:
    """Tries variants that have nothing to do with each other."""
    return _noise(rng, _length(before))


def keeps_better(rng: np.random.Generator, before: list[Noise], told: list[float]) -> Noise:
    """Changes what measured best so far a little, as who tunes by the holdout does."""
    best = before[int(np.argmax(told))]
    return _unit(best + STEP * _noise(rng, len(best)), math.hypot(1.0, STEP))


def weighs_all(rng: np.random.Generator, before: list[Noise], told: list[float]) -> Noise:
    """Probes with fresh variants at odd looks; at even ones submits all probes, each weighted by what it measured."""
    probes, values = before[::2], np.array(told[::2])
    if len(before) % 2 == 0 or len(probes) < 2:
        return _noise(rng, _length(before))
    weights = values - values.mean()
    return _unit(np.sum([w * probe for w, probe in zip(weights, probes, strict=True)], axis=0), float(np.linalg.norm(weights)))


USERS: dict[str, Chooser] = {
    "tries variants": independent,
    "changes the best so far a little": keeps_better,
    "weighs all that was tried": weighs_all,
}


def _noise(rng: np.random.Generator, rows: int) -> Noise:
    return rng.normal(size=rows)


def _unit(noise: Noise, length: float) -> Noise:
    """Of variance 1 in the population, whatever it is on these rows."""
    return noise / (length or 1.0)


def _length(before: list[Noise]) -> int:
    return len(before[0])


def history(
    rng: np.random.Generator, choose: Chooser, rows: int, rules: list[Rule], moves: int | None = None
) -> list[Released | None]:
    """One user's history, judged by each of ``rules``: the first release of each.

    ``moves``: after so many looks the window moves on, and half of its rows are fresh.
    """
    found: list[Released | None] = [None] * len(rules)
    longest = max(rule.looks for rule in rules)
    fresh = int(FLIPPED * rows)
    every = rows + fresh * (0 if moves is None else longest // moves)
    labels = (rng.random(every) < POSITIVES).astype(int)
    shared = rng.normal(size=every)
    champion = _scores(labels, shared, _noise(rng, every), CHAMPION_AREA)
    before, told, starts = [_noise(rng, every)], list[float](), list[int]()
    for look in range(1, longest + 1):
        start = 0 if moves is None else fresh * ((look - 1) // moves)
        starts.append(start)
        if look > 1:
            before.append(choose(rng, before, told))
        scores = _scores(labels, shared, before[-1], CHAMPION_AREA - MARGIN)
        at = slice(start, start + rows)
        evaluation = _evaluate(labels[at], scores[at], champion[at])
        told.append(evaluation.versus["roc_auc"].difference)
        looks = sum(max(0.0, 1.0 - (start - other) / rows) for other in starts)
        for place, rule in enumerate(rules):
            if found[place] is None and look <= rule.looks:
                holdout = HoldoutBudget(looks, rule.budget, rows, 0)
                if combine(judge_holdout.judge([GATE], evaluation, holdout)).outcome is Outcome.PASS:
                    found[place] = Released(look, evaluation.metrics["roc_auc"].value - (CHAMPION_AREA - MARGIN))
        if all(one is not None or look >= _last(rule) for one, rule in zip(found, rules, strict=True)) and moves is None:
            break
    return found


def _last(rule: Rule) -> int:
    return rule.looks if rule.budget is None else min(rule.looks, rule.budget)


def _scores(labels: NDArray[np.int_], shared: Noise, own: Noise, area: float) -> NDArray[np.float64]:
    """Probabilities whose true area is ``area``: two normal scores that far apart."""
    apart = NormalDist().inv_cdf(area) * math.sqrt(2)
    raw = apart * labels + ALIKE * shared + math.sqrt(1 - ALIKE**2) * own
    return np.asarray(1 / (1 + np.exp(-raw)))


def _evaluate(labels: NDArray[np.int_], scores: NDArray[np.float64], champion: NDArray[np.float64]) -> Evaluation:
    versus = intervals.compare("roc_auc", Task.BINARY, labels, scores, champion)
    value = versus.champion + versus.difference
    measure = Measure(value, value, value, len(labels), int(labels.sum()))
    return Evaluation(len(labels), int(labels.sum()), {"roc_auc": measure}, champion="v1", versus={"roc_auc": versus})


def play(
    choose: Chooser, rows: int, rules: list[Rule], histories: int, seed: int, moves: int | None = None
) -> list[list[Released]]:
    """The first false releases of each rule, over so many histories."""
    every = [history(np.random.default_rng([seed, number]), choose, rows, rules, moves) for number in range(histories)]
    return [[one[place] for one in every if one[place] is not None] for place in range(len(rules))]  # type: ignore[misc]  # filtered


def table(histories: int, seed: int, rows: int = 1000) -> str:
    """The table of false releases, without a budget and with one."""
    rules = [Rule(None, 20), Rule(None, 200), Rule(10, 200), Rule(20, 200), Rule(30, 200)]
    lines = [
        f"A holdout of {rows:,} rows and users of up to 200 candidates, {histories:,} histories of each kind. Every candidate",
        f"is worse than the champion (area {CHAMPION_AREA:g}) by the margin of its gate, `{GATE.text}`: each release is false,",
        "and the gate may err in 5 %. Shown is in how many histories there was one, and in parentheses by how much the measured",
        "area of the first overstates its true one, at the median.",
        "",
        "| the user | no budget, 20 candidates | no budget, 200 | `budget: 10` | `budget: 20` | `budget: 30` |",
        "|---|---|---|---|---|---|",
    ]
    for place, (name, choose) in enumerate(USERS.items()):
        found = play(choose, rows, rules, histories, seed + place)
        lines.append(f"| {name} | {' | '.join(_told(one, histories) for one in found)} |")
    (moved,) = play(keeps_better, rows, [Rule(30, 24)], histories, seed + 9, moves=8)
    lines += [
        "",
        "With `budget: 30` and a window of which half is fresh after each 8 of 24 candidates, the user who changes the best so",
        f"far a little had a false release in {_told(moved, histories)}.",
    ]
    return "\n".join(lines)


def cost() -> str:
    """What a look costs: how far the bound lies at which the gate is judged, and how many times the rows that takes."""
    lines = [
        "| look | a gate at 95 % is judged at | standard errors, not 1.64 | rows for the same width |",
        "|---|---|---|---|",
    ]
    usual = NormalDist().inv_cdf(0.95)
    for look in (1, 2, 3, 5, 10, 20, 30):
        alpha = judge_holdout.level(0.05, look)
        wide = -NormalDist().inv_cdf(alpha)
        lines.append(f"| {look} | 1 in {float(f'{1 / alpha:.2g}'):,.0f} | {wide:.2f} | {(wide / usual) ** 2:.1f} times |")
    return "\n".join(lines)


def _told(found: list[Released], histories: int) -> str:
    rate = len(found) / histories
    over = f" (+{median(one.overstated for one in found):.3f})" if found else ""
    return f"{100 * rate:.1f} % ± {200 * math.sqrt(max(rate, 1 / histories) * (1 - rate) / histories):.1f}{over}"
