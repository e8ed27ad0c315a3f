"""Made-up histories of files: how often a file is called unusual over nothing, and how often a named shift is found.

Played out by `make tables` (benchmarks/evidence.py); the tests check the same at a smaller size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noria.data import judge_anomalies
from noria.data.batch_facts import BatchColumn, BatchFacts, PastBatch
from noria.kernel.verdict import Outcome

KINDS = {  # of what moves the numbers of a file beside the chance of its rows
    "independent": "independent, normal",
    "skewed": "independent, skewed (exponential)",
    "heavy": "independent, heavy tails (t with 3 degrees of freedom)",
    "autocorrelated": "autocorrelated, 0.5",
    "strongly": "autocorrelated, 0.9",
    "trend": "a trend of 0.3 standard deviations per file",
    "weekly": "a weekly rhythm: two days 3 standard deviations higher",
}
SHIFTS = ("nulls 1 % to 5 %", "mean +0.5 sd", "volume halved", "a new category in 5 % of rows", "duplicates 0 to 3 %")
SIZES = (8, 20, 50, 100)
NUMBERS, TEXTS, ROWS = 4, 2, 1000
FALSE_ALARM = 0.01


def effects(rng: np.random.Generator, kind: str, count: int) -> NDArray[np.float64]:
    """What moves one measure from file to file, in standard deviations."""
    drawn = rng.normal(size=count)
    match kind:
        case "skewed":
            return rng.exponential(size=count) - 1
        case "heavy":
            return rng.standard_t(3, size=count)
        case "autocorrelated" | "strongly":
            rho = 0.5 if kind == "autocorrelated" else 0.9
            for at in range(1, count):
                drawn[at] = rho * drawn[at - 1] + np.sqrt(1 - rho**2) * drawn[at]
            return drawn
        case "trend":
            return drawn + 0.3 * np.arange(count)
        case "weekly":
            return drawn + 3.0 * (np.arange(count) % 7 >= 5)
    return drawn


def batches(rng: np.random.Generator, kind: str, count: int, shift: str = "") -> list[BatchFacts]:
    """Files of about 1,000 rows; of the last one something is shifted. Their volume varies by 10 %, means by 0.1 sd."""
    volume = np.clip(0.1 * effects(rng, kind, count), -2, 2)
    moved = {c: [effects(rng, kind, count) for _ in range(3)] for c in range(NUMBERS + TEXTS)}
    found = []
    for at in range(count):
        now = shift if at == count - 1 else ""
        rows = max(30, int(ROWS * np.exp(volume[at]) * (0.5 if now == "volume halved" else 1)))
        columns = {}
        for c, (nulls, mean, sd) in moved.items():
            share = 0.05 if c == 0 and now.startswith("nulls") else 0.01
            filled = rows - int(rng.binomial(rows, min(0.9, share * np.exp(np.clip(0.2 * nulls[at], -3, 3)))))
            if c < NUMBERS:
                drawn = rng.exponential(size=filled) if kind == "skewed" else rng.normal(size=filled)
                centre = float(drawn.mean() + 0.1 * mean[at] + (0.5 if c == 1 and now.startswith("mean") else 0.0))
                columns[f"n{c}"] = BatchColumn(filled, centre, float(drawn.std() * np.exp(np.clip(0.05 * sd[at], -1, 1))))
            else:
                columns[f"t{c}"] = _texts(rng, filled, 0.05 if c == NUMBERS and now.startswith("a new") else 0.0)
        found.append(BatchFacts(rows, int(rng.binomial(rows, 0.03 if now.startswith("dup") else 0.0)), columns))
    return found


def _texts(rng: np.random.Generator, filled: int, new: float) -> BatchColumn:
    weights = np.array([0.4, 0.3, 0.2, 0.08, 0.02]) * np.exp(0.2 * rng.normal(size=5))
    counts = rng.multinomial(filled, np.append(weights / weights.sum() * (1 - new), new))
    seen = {f"k{i}": int(rows) for i, rows in enumerate(counts) if rows}
    return BatchColumn(filled, categories=len(seen), seen=seen)


def is_alarm(files: list[BatchFacts], false_alarm: float = FALSE_ALARM) -> bool:
    """Whether the last file is called unusual beside the others, none of which was."""
    history = [PastBatch(one) for one in files[:-1]]
    return judge_anomalies.judge(files[-1], history, false_alarm).outcome is Outcome.FAIL


def rate(kind: str, size: int, shift: str, histories: int, seed: int) -> int:
    """How many of so many histories end with an alarm."""
    rng = np.random.default_rng([seed, size])
    return sum(is_alarm(batches(rng, kind, size + 1, shift)) for _ in range(histories))
