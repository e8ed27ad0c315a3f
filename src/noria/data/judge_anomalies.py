"""Is a file unusual beside the files accepted before it? One false-alarm rate per file, over all columns and measures. Pure.

For each measure (rows, duplicate rows; nulls, mean, standard deviation, categories, new categories of each column)
the file is held against prediction intervals of a normal regression on the history (externally studentized residuals;
Cook and Weisberg 1982, section 2.2.1), after a transformation that stabilises the variance (Anscombe 1948 for shares,
logarithms for counts and spreads): at one level, on a line, from 21 files on with a rhythm of seven, and, unless at
least 20 files show no likeness of neighbours, as a random walk. It counts as far off as under the model that explains
it best. The largest deviation over all measures is an alarm when it exceeds three thresholds: Bonferroni's over all
measures; what an extreme-value law (Frechet's, by moments of the logarithms; Gumbel 1958) predicts from the history's
own deviations, each file held against the others; and the conformal rank among these (Vovk, Gammerman and Shafer
2005, section 2.1), which alone decides nothing below 99 files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from blake3 import blake3
from numpy.typing import NDArray

from noria.data.batch_facts import HISTORY_MOST, BatchColumn, BatchFacts, PastBatch
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import number, percent
from noria.stats import student

CODE = "contract.anomaly"
HISTORY_LEAST = 8
CATEGORIES_MOST = 100
COLUMNS_MOST = 200  # further columns are not measured
WEEKLY_FROM = 21
WALK_UNTIL = 20  # files; from then on a random walk is thought of only where neighbours are alike
ALIKE = 1.6  # variance of steps over that of values: 2 without autocorrelation, 1.6 at 0.2
TOLD_MOST = 5
Array = NDArray[np.float64]


class BatchMeasure(msgspec.Struct, frozen=True):
    """One number of a file: as people read it, transformed, and how much chance moves that when rows are drawn anew."""

    value: float
    at: float
    floor: float
    share: bool = False


# --- what is kept of a file


def measure(table: pl.DataFrame) -> BatchFacts:
    """The facts of a table; nested columns are left out."""
    flat = [column for column in table.get_columns() if not column.dtype.is_nested() and column.dtype != pl.Object]
    distinct = pl.DataFrame(flat).hash_rows().n_unique() if flat and table.height else table.height
    return BatchFacts(table.height, table.height - distinct, {column.name: _of_column(column) for column in flat[:COLUMNS_MOST]})


def _of_column(column: pl.Series) -> BatchColumn:
    known = column.drop_nulls()
    if known.dtype.is_numeric() or known.dtype == pl.Boolean:
        numbers = known.cast(pl.Float64)
        numbers = numbers.filter(numbers.is_finite())
        mean, sd = numbers.mean(), numbers.std(ddof=0)
        if not isinstance(mean, float) or not isinstance(sd, float) or not math.isfinite(mean) or not math.isfinite(sd):
            return BatchColumn(len(numbers))
        return BatchColumn(len(numbers), mean, sd, known.dtype == pl.Boolean)
    if known.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return BatchColumn(len(known))
    counts = known.cast(pl.String).alias("value").value_counts(name="rows")
    if counts.height > CATEGORIES_MOST:
        return BatchColumn(len(known), categories=counts.height)
    seen = {_hash(column.name, value): rows for value, rows in counts.sort("value").iter_rows()}
    return BatchColumn(len(known), categories=counts.height, seen=seen)


def _hash(column: str, value: str) -> str:
    return blake3(f"{column}\0{value}".encode()).hexdigest()[:10]


# --- measures of a file beside others


def _share(count: float, of: float) -> BatchMeasure:
    return BatchMeasure(
        count / of if of else 0.0, math.asin(math.sqrt((count + 0.375) / (of + 0.75))), 0.5 / math.sqrt(of + 0.5), True
    )


def measures_of(facts: BatchFacts, unseen: dict[str, int]) -> dict[str, BatchMeasure]:
    """By name. ``unseen``: rows of a column with a category that no other file has."""
    found = {"rows": BatchMeasure(facts.rows, math.log(max(facts.rows, 0.5)), 1 / math.sqrt(max(facts.rows, 1)))}
    found["duplicate rows"] = _share(facts.duplicates, facts.rows)
    for name, column in facts.columns.items():
        found[f"nulls of {name}"] = _share(facts.rows - column.filled, facts.rows)
        if column.mean is not None and column.sd is not None and column.filled > 1:
            root, scale = math.sqrt(column.filled), 1e-3 * abs(column.mean)
            if column.truth:
                found[f"true in {name}"] = _share(column.mean * column.filled, column.filled)
                continue
            found[f"mean of {name}"] = BatchMeasure(column.mean, column.mean, max(column.sd / root, scale))
            found[f"standard deviation of {name}"] = BatchMeasure(column.sd, math.log(column.sd + scale + 1e-12), 1 / root)
        if column.categories is not None:
            count = column.categories
            found[f"categories of {name}"] = BatchMeasure(count, math.log(count + 1), 1 / math.sqrt(count + 1))
            if name in unseen:
                found[f"rows with a new category of {name}"] = _share(unseen[name], max(column.filled, 1))
    return found


def _unseen(batches: Sequence[BatchFacts], counted: int) -> list[dict[str, int]]:
    """Of each batch the rows of each column whose category no other has, among the first ``counted`` and itself."""
    columns = [name for name in batches[-1].columns if all((c := b.columns.get(name)) and c.seen is not None for b in batches)]
    found = [dict[str, int]() for _ in batches]
    for name in columns:
        seen = [batch.columns[name].seen or {} for batch in batches]
        files = Counter(key for one in seen[:counted] for key in one)
        for at, one in enumerate(seen):
            own = at < counted
            found[at][name] = sum(rows for key, rows in one.items() if files[key] <= own)
    return found


# --- how far off each is


def _p_values(t: Array, df: float) -> Array:
    from scipy.special import stdtr  # heavy: a file without enough history needs none of it

    result: Array = 2 * stdtr(df, -np.abs(t))
    return result


def _studentized(error: Array, variance: Array) -> Array:
    """Deviations in standard errors; none where nothing ever varied and nothing does now."""
    tiny = np.abs(error) <= 1e-9
    return np.where(tiny, 0.0, error / np.sqrt(np.maximum(variance, 1e-300)))


def _by_regression(design: Array, ahead: Array, y: Array, new: Array, chance: Array, chance_new: Array) -> tuple[Array, Array]:
    """p-values of each file of the history held against the others, and of the new one against all; by measure."""
    n, k = design.shape
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)[:, None]
    errors = y - design @ beta
    sse = (errors**2).sum(axis=0)
    mean = chance.mean(axis=0)
    without = np.maximum(sse - errors**2 / (1 - leverage), 0.0) / (n - k - 1)
    variance = np.maximum(without / (1 - leverage) + np.maximum(chance - mean, 0.0), chance + mean / n)
    past = _p_values(_studentized(errors / (1 - leverage), variance), n - k - 1)
    spread = sse / (n - k) * (1 + ahead @ inverse @ ahead)
    variance_new = np.maximum(spread + np.maximum(chance_new - mean, 0.0), chance_new + mean / n)
    return past, _p_values(_studentized(new - ahead @ beta, variance_new), n - k)


def _as_walk(y: Array, new: Array, chance: Array, chance_new: Array) -> tuple[Array, Array]:
    """The same for steps from one file to the next; the first file has none."""
    steps, step = np.diff(y, axis=0), new - y[-1]
    n, total = len(steps), (np.diff(y, axis=0) ** 2).sum(axis=0)
    variance = np.maximum((total - steps**2) / (n - 1), chance[1:] + chance[:-1])
    past = np.vstack([np.zeros_like(new), _p_values(_studentized(steps, variance), n - 1)])
    ahead = _p_values(_studentized(step, np.maximum(total / n, chance_new + chance[-1])), n)
    fits = (total / n <= ALIKE * y.var(axis=0, ddof=1)) | (n < WALK_UNTIL - 1)
    return past * fits, ahead * fits


def _deviations(y: Array, new: Array, chance: Array, chance_new: Array) -> tuple[Array, Array]:
    """-log p under the model that explains each value best: of the history by file and measure, and of the new file."""
    n = len(y)
    level, at = np.ones((n, 1)), np.arange(n, dtype=float)[:, None]
    models = [(level, np.ones(1)), (np.hstack([level, at]), np.array([1.0, n]))]
    if n >= WEEKLY_FROM:
        phases = np.arange(7)
        models.append((np.equal(at % 7, phases).astype(float), np.equal(n % 7, phases).astype(float)))
    found = [_by_regression(design, ahead, y, new, chance, chance_new) for design, ahead in models]
    found.append(_as_walk(y, new, chance, chance_new))
    past = np.max([one for one, _ in found], axis=0)
    ahead_p = np.max([one for _, one in found], axis=0)
    return -np.log(np.maximum(past, 1e-300)), -np.log(np.maximum(ahead_p, 1e-300))


def threshold(past: Array, measures: int, false_alarm: float) -> float:
    """What the largest deviation of a file must exceed, given those of the history."""
    n = len(past)
    bonferroni = math.log(measures / false_alarm)
    quantile = (-math.log(-math.log1p(-false_alarm)) - np.euler_gamma) * math.sqrt(6) / math.pi  # of Gumbel's law, standardized
    few = student.quantile(1 - false_alarm, n - 1) / student.quantile(1 - false_alarm)
    # how calm the calm files are tells nothing of the others
    logs = np.log(np.maximum(past, max(math.log(measures) / 2, 0.1)))
    extreme = math.exp(min(logs.mean() + logs.std(ddof=1) * math.sqrt(1 + 1 / n) * quantile * max(few, 1.0), 700.0))
    rank = min(n, math.ceil((1 - false_alarm) * (n + 1)))
    return max(bonferroni, extreme, float(np.sort(past)[rank - 1]))


# --- the verdict


def usual(history: Sequence[PastBatch]) -> list[BatchFacts]:
    """The history without its few unusual files; with them where they are many, for then things have changed."""
    newest = list(history[-HISTORY_MOST:])
    odd = sum(one.unusual for one in newest)
    kept = [one.facts for one in newest if not one.unusual]
    return kept if odd <= max(1, len(newest) // 10) and len(kept) >= HISTORY_LEAST else [one.facts for one in newest]


def judge(new: BatchFacts, history: Sequence[PastBatch], false_alarm: float) -> Reason:
    """FAIL for an unusual file, NOT_ENOUGH_DATA below eight accepted ones. ``history``: the oldest first."""
    if len(history) < HISTORY_LEAST:
        text = f"not enough history: {len(history)} of {HISTORY_LEAST} batches"
        return Reason(CODE, text, Outcome.NOT_ENOUGH_DATA, {"batches": float(len(history))})
    before = usual(history)
    n = len(before)
    unseen = _unseen([*before, new], n)
    past = [measures_of(facts, rows) for facts, rows in zip(before, unseen, strict=False)]
    ours = measures_of(new, unseen[-1])
    names = [name for name in ours if all(name in one for one in past)]
    y, chance = (np.array([[pick(one[name]) for name in names] for one in past]) for pick in (_at, _chance))
    at, chance_new = (np.array([pick(ours[name]) for name in names]) for pick in (_at, _chance))
    deviations, ahead = _deviations(y, at, chance, chance_new)
    limit = threshold(deviations.max(axis=1), len(names), false_alarm)
    odd = [i for i in np.argsort(-ahead, kind="stable") if ahead[i] > limit]
    if not odd:
        return Reason(CODE, f"not unusual beside {n} accepted batches", Outcome.PASS, {"batches": float(n)})
    told = [_words(names[i], ours[names[i]], [one[names[i]] for one in past]) for i in odd[:TOLD_MOST]]
    more = f"; and {len(odd) - TOLD_MOST} more" if len(odd) > TOLD_MOST else ""
    text = f"unusual beside {n} accepted batches: {'; '.join(told)}{more}"
    return Reason(CODE, text, Outcome.FAIL, {"batches": float(n), "measures": float(len(names)), "unusual": float(len(odd))})


def _at(one: BatchMeasure) -> float:
    return one.at


def _chance(one: BatchMeasure) -> float:
    return one.floor**2


def _words(name: str, now: BatchMeasure, before: Sequence[BatchMeasure]) -> str:
    say = percent if now.share else number
    low, high = min(one.value for one in before), max(one.value for one in before)
    span = say(low) if low == high else f"{say(low)} to {say(high)}"
    return f"{name}: {say(now.value)}, before {span}"
