"""How often gates are wrong, and how often they pass what is good: samples of held-out rows, judged as a turn judges them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from noria.config import parse_gate
from noria.evaluation import judge_gate
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats import intervals, metrics
from noria.stats.groups import Grouping
from noria.stats.measures import Comparison
from noria.stats.metrics import Floats

Rows = tuple[np.ndarray, Floats, Floats, Floats]  # groups, labels, the candidate's and the champion's probabilities
METRICS = ("brier", "log_loss", "roc_auc", "average_precision", "accuracy", "recall", "f1")
TRUE_ROWS, TRUE_DRAWS = 1_000_000, 10  # rows, and how often they are drawn: their mean difference is taken for the true one
LOGNORMAL = [int(size) for size in np.ceil(np.random.default_rng(7).lognormal(4.0, 1.0, 40))]
KINDS: dict[str, tuple[list[int], float, float]] = {  # sizes of groups, how much these shift, the level of the outcome
    "5,000 independent rows": ([1] * 5000, 0.0, -1.0),
    "5,000 independent rows, 1 % positive": ([1] * 5000, 0.0, -5.3),
    "60 groups of 50": ([50] * 60, 1.0, -1.0),
    "7 days of 1,000": ([1000] * 7, 0.15, -1.0),
    "14 days of 400": ([400] * 14, 0.15, -1.0),
    "14 days of 400, independent": ([400] * 14, 0.0, -1.0),
    "5 days of 400": ([400] * 5, 0.15, -1.0),
    "40 groups, lognormal sizes": (LOGNORMAL, 1.0, -1.0),
}
POWER: dict[str, tuple[list[int], float, float]] = {
    "1,000 independent rows": ([1] * 1000, 0.0, -1.0),
    "5,000": ([1] * 5000, 0.0, -1.0),
    "20,000": ([1] * 20_000, 0.0, -1.0),
    "20,000, 1 % positive": ([1] * 20_000, 0.0, -5.3),
    "60 groups of 50": ([50] * 60, 1.0, -1.0),
    "14 days of 400": ([400] * 14, 0.15, -1.0),
}
MARGINS = {  # of the power table
    "brier": 0.01,
    "log_loss": 0.03,
    "roc_auc": 0.02,
    "average_precision": 0.05,
    "accuracy": 0.02,
    "recall": 0.05,
    "f1": 0.05,
}
SLICE_ROWS = 200
# (accuracy of the slices in words, the outcome that is counted): accuracy of each slice, the gate
SLICES: dict[tuple[str, str], tuple[list[float], str]] = {
    ("ten slices, 0.80 in each (5 % stated)", "fails"): ([0.80] * 10, "worst(accuracy, by=shop) >= 0.8"),
    ("ten slices, 0.83 in each", "fails"): ([0.83] * 10, "worst(accuracy, by=shop) >= 0.8"),
    ("nine at 0.83, one at 0.72", "fails"): ([0.83] * 9 + [0.72], "worst(accuracy, by=shop) >= 0.8"),
    ("nine at 0.83, one at 0.65", "fails"): ([0.83] * 9 + [0.65], "worst(accuracy, by=shop) >= 0.8"),
    ("fifty slices, 0.80 in each (5 % stated)", "fails"): ([0.80] * 50, "worst(accuracy, by=shop) >= 0.8"),
    ("nine at 0.97, one at 0.80 (5 % stated)", "passes"): ([0.97] * 9 + [0.80], "worst(accuracy, by=shop) >= 0.8 at 95%"),
    ("ten slices, 0.90 in each", "passes"): ([0.90] * 10, "worst(accuracy, by=shop) >= 0.8 at 95%"),
    ("two slices, 0.85 and 0.80 (5 % stated)", "fails"): ([0.85, 0.80], "gap(accuracy, by=shop) <= 0.05"),
    ("six, three at 0.85 and three at 0.80 (5 % stated)", "fails"): ([0.85, 0.80] * 3, "gap(accuracy, by=shop) <= 0.05"),
    ("two slices, 0.85 and 0.65", "fails"): ([0.85, 0.65], "gap(accuracy, by=shop) <= 0.05"),
    ("two slices, 0.97 and 0.92 (5 % stated)", "passes"): ([0.97, 0.92], "gap(accuracy, by=shop) <= 0.05 at 95%"),
    ("two slices, 0.97 in each", "passes"): ([0.97, 0.97], "gap(accuracy, by=shop) <= 0.05 at 95%"),
}


def table(samples: int) -> str:
    """How often what is worse by exactly the margin passes."""
    lines = [
        f"How often a gate on the champion passed what is worse by exactly its margin (5 % stated), {samples:,} samples of each",
        f"kind (two standard errors at 5 %: {200 * math.sqrt(0.0475 / samples):.1f}), by bounds of rows and, where rows come in",
        "groups, by those that gates take. Outcomes and both models' errors shift by group.",
        "",
        f"| rows | bounds | {' | '.join(f'`{name}`' for name in METRICS)} |",
        f"|---|---|{'---|' * len(METRICS)}",
    ]
    for at, (name, (sizes, shift, level)) in enumerate(KINDS.items()):
        true = _true_differences(sizes, shift, level, at)
        found = [_passed(sizes, shift, level, metric, samples, at, true[metric]) for metric in METRICS]
        lines.append(f"| {name} | of rows | {' | '.join(f'{100 * rows / samples:.1f} %' for rows, _ in found)} |")
        if max(sizes) > 1:
            lines.append(f"| | of groups | {' | '.join(f'{100 * groups / samples:.1f} %' for _, groups in found)} |")
    return "\n".join(lines)


def power(samples: int) -> str:
    """How often what is as good as the champion passes a gate with a margin."""
    gates = " | ".join(
        f"`{name}` {'-' if Task.BINARY.definition.metrics[name].greater_is_better else '+'} {margin:g}"
        for name, margin in MARGINS.items()
    )
    lines = [
        f"How often a gate with a margin passed a candidate that is as good as the champion, {samples:,} samples of each kind.",
        "What does not pass is not enough data.",
        "",
        f"| rows | {gates} |",
        f"|---|{'---|' * len(MARGINS)}",
    ]
    for at, (name, (sizes, shift, level)) in enumerate(POWER.items()):
        found = [_equals_passed(sizes, shift, level, metric, samples, at) for metric in MARGINS]
        lines.append(f"| {name} | {' | '.join(f'{100 * passed / samples:.0f} %' for passed in found)} |")
    return "\n".join(lines)


def slices(samples: int) -> str:
    """How often `worst` fails or passes models whose slices are known."""
    lines = [
        f"Slices of {SLICE_ROWS} rows, {samples:,} samples of each kind.",
        "",
        "| accuracy of the slices | gate | |",
        "|---|---|---|",
    ]
    for at, ((name, outcome), (shares, text)) in enumerate(SLICES.items()):
        gates, wanted = [parse_gate(text)], Outcome.FAIL if outcome == "fails" else Outcome.PASS
        found = [judge_gate.judge(gates, _sliced(np.random.default_rng([at, run]), shares)).outcome for run in range(samples)]
        lines.append(f"| {name} | `{text}` | {outcome} in {100 * found.count(wanted) / samples:.1f} % |")
    refused = sum(_refused(np.random.default_rng([99, run])) for run in range(samples))
    text = "five metrics, independent of each other, of a candidate as good (5 % stated)"
    lines.append(f"| {text} | `no worse than champion` for each | fails in {100 * refused / samples:.1f} % |")
    return "\n".join(lines)


def _sliced(rng: np.random.Generator, shares: Sequence[float]) -> Evaluation:
    """Slices of which a model calls such shares of rows rightly."""
    found = {}
    for at, share in enumerate(shares):
        y = np.tile([0.0, 1.0], SLICE_ROWS // 2)
        calls = np.where(rng.random(SLICE_ROWS) < share, y, 1 - y)
        found[f"s{at}"] = {"accuracy": intervals.measure("accuracy", Task.BINARY, y, calls)}
    rows = SLICE_ROWS * len(shares)
    return Evaluation(rows, rows // 2, {}, slices={"shop": found})


def _refused(rng: np.random.Generator) -> bool:
    """Whether gates on five metrics, of which each is measured as good but for chance, refuse the candidate."""
    names, reach = METRICS[:5], 1.6449 * 0.01
    found = dict(zip(names, 0.01 * rng.normal(size=5), strict=True))
    versus = {name: Comparison(0.7, value, value - reach, value + reach, 5000) for name, value in found.items()}
    gates = [parse_gate(f"{name} no worse than champion") for name in names]
    return judge_gate.judge(gates, Evaluation(5000, 2000, {}, versus, champion="v1")).outcome is Outcome.FAIL


def _equals_passed(sizes: list[int], shift: float, level: float, metric: str, samples: int, seed: int) -> int:
    greater, margin = Task.BINARY.definition.metrics[metric].greater_is_better, MARGINS[metric]
    passed = 0
    for sample in range(samples):
        ids, y, candidate, champion = _draw(np.random.default_rng([seed, 2, sample]), sizes, shift, level, worse=0.2)
        groupings = [Grouping("group", ids)] if max(sizes) > 1 else []
        found = intervals.compare(metric, Task.BINARY, y, candidate, champion, groupings=groupings)
        passed += found.low > -margin if greater else found.high < margin
    return passed


def _true_differences(sizes: list[int], shift: float, level: float, seed: int) -> dict[str, float]:
    """By how much the candidate's metrics differ from the champion's, in the mean over many rows."""
    total = dict.fromkeys(METRICS, 0.0)
    for draw in range(TRUE_DRAWS):
        many = sizes * -(-TRUE_ROWS // sum(sizes))
        _, y, candidate, champion = _draw(np.random.default_rng([seed, 0, draw]), many, shift, level)
        for name in METRICS:
            total[name] += metrics.compute(name, Task.BINARY, y, candidate) - metrics.compute(name, Task.BINARY, y, champion)
    return {name: value / TRUE_DRAWS for name, value in total.items()}


def _passed(sizes: list[int], shift: float, level: float, metric: str, samples: int, seed: int, true: float) -> tuple[int, int]:
    greater = Task.BINARY.definition.metrics[metric].greater_is_better
    beyond: Callable[[float, float], bool] = (lambda low, _: low > true) if greater else (lambda _, high: high < true)
    rows = groups = 0
    for sample in range(samples):
        ids, y, candidate, champion = _draw(np.random.default_rng([seed, 1, sample]), sizes, shift, level)
        plain = intervals.compare(metric, Task.BINARY, y, candidate, champion)
        rows += beyond(plain.low, plain.high)
        if max(sizes) > 1:
            found = intervals.compare(metric, Task.BINARY, y, candidate, champion, groupings=[Grouping("group", ids)])
            groups += beyond(found.low, found.high)
    return rows, groups


def _draw(rng: np.random.Generator, sizes: list[int], shift: float, level: float, worse: float = 0.5) -> Rows:
    """The candidate sees what the champion sees with more noise, or with ``worse`` 0.2 with as much."""
    ids = np.repeat(np.arange(len(sizes)), sizes)
    outcome, mine, other = (shift * rng.normal(size=len(sizes))[ids] for _ in range(3))
    seen = level + 1.2 * rng.normal(size=len(ids))
    y = (rng.random(len(ids)) < _squash(seen + outcome)).astype(np.float64)
    candidate, champion = (_squash(seen + by + sd * rng.normal(size=len(ids))) for by, sd in ((mine, worse), (other, 0.2)))
    return ids, y, candidate, champion


def _squash(score: Floats) -> Floats:
    squashed: Floats = 1 / (1 + np.exp(-score))
    return squashed
