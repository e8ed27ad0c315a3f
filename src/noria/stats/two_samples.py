"""How far two samples lie apart, and whether chance alone would part them so.

Distances: Kolmogorov-Smirnov and Wasserstein (numbers), total variation and Jensen-Shannon (categories). Their tests:
Kolmogorov-Smirnov with Stephens' correction for small samples (JRSS B 32, 1970); Pearson's chi-square of homogeneity, where
categories that are expected in fewer than five rows count as one (Cochran, Biometrics 10, 1954); Fisher's exact test of two
shares; the conditional test of two Poisson counts (Przyborowski and Wilenski, Biometrika 31, 1940). Holm's procedure
(Scandinavian Journal of Statistics 6, 1979) judges several at once.

Rows that both samples hold make them agree. The difference of two shares p of samples of n and m rows with k in common has the
variance p(1 - p)(1/n + 1/m - 2k/nm); ``effective_rows`` is the inverse of the second factor, and takes the place of nm/(n + m) in
the tests of Kolmogorov-Smirnov and Pearson.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EXPECTED_LEAST = 5.0  # rows that a category of Pearson's test is expected in
MEAN_OF_KOLMOGOROV = math.sqrt(math.pi / 2) * math.log(2)  # of its limiting distribution


def effective_rows(before: int, after: int, shared: int = 0) -> float:
    """As many rows as a single sample would have whose shares vary as much as the difference does; infinite for the same rows."""
    if before == 0 or after == 0:
        return 0.0
    inverse = 1 / before + 1 / after - 2 * shared / (before * after)
    return 1 / inverse if inverse > 1e-15 else math.inf


def kolmogorov_smirnov(before: Floats, after: Floats) -> float:
    """The largest difference between the two shares of values below any bound, 0 to 1; infinities are values too."""
    points = np.unique(np.concatenate([before, after]))
    shares = [np.searchsorted(np.sort(one), points, side="right") / len(one) for one in (before, after)]
    return float(np.abs(shares[0] - shares[1]).max())


def kolmogorov_smirnov_p_value(distance: float, rows: float) -> float:
    """The probability of such a distance, or a larger one, by chance; ``rows``: effective ones."""
    from scipy.special import kolmogorov  # heavy: kept out of start-up

    if distance <= 0 or rows <= 0 or not math.isfinite(rows):
        return 1.0
    root = math.sqrt(rows)
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))


def chance_of_kolmogorov_smirnov(rows: float) -> float:
    """The distance that chance alone gives on average."""
    return min(1.0, MEAN_OF_KOLMOGOROV / math.sqrt(rows)) if rows > 0 else 1.0


def wasserstein(before: Floats, after: Floats) -> float:
    """How far a value moves on average, in its own unit, when one sample is turned into the other in the cheapest way."""
    points = np.unique(np.concatenate([before, after]))
    shares = [np.searchsorted(np.sort(one), points[:-1], side="right") / len(one) for one in (before, after)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(points)).sum())


def total_variation(before: Floats, after: Floats) -> float:
    """The share of rows that would have to change their category, 0 to 1; of two vectors of counts."""
    return float(np.abs(before / before.sum() - after / after.sum()).sum() / 2)


def chance_of_total_variation(before: Floats, after: Floats, rows: float) -> float:
    """The distance that chance alone gives on average, as the categories are distributed in both together."""
    if rows <= 0:
        return 1.0
    share = (before + after) / (before.sum() + after.sum())
    return min(1.0, float(np.sqrt(share * (1 - share) / rows * 2 / math.pi).sum()) / 2)


def jensen_shannon(before: Floats, after: Floats) -> float:
    """Jensen-Shannon distance: the root of the divergence in bits, 0 to 1; of two vectors of counts."""
    p, q = before / before.sum(), after / after.sum()
    middle = (p + q) / 2
    bits = [float((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum()) for x in (p, q)]
    return math.sqrt(min(1.0, max(0.0, sum(bits) / 2)))


def homogeneity_p_value(before: Floats, after: Floats, rows: float) -> float:
    """The probability that two samples of one source differ so in their counts, or more; ``rows``: effective ones."""
    from scipy.special import chdtrc  # heavy: kept out of start-up

    sizes = float(before.sum()), float(after.sum())
    if min(sizes) == 0 or not math.isfinite(rows):
        return 1.0
    expected = (before + after) * min(sizes) / sum(sizes)
    rare = expected < EXPECTED_LEAST
    if (~rare).sum() + rare.any() < 2:  # so few rows: the most frequent, and the rest
        rare = np.arange(len(expected)) != int(expected.argmax())
    first, second = (np.append(one[~rare], one[rare].sum()) for one in (before, after))
    there = first + second > 0
    first, second = first[there], second[there]
    if len(first) < 2:
        return 1.0
    if len(first) == 2 and float(((first + second) * min(sizes) / sum(sizes)).min()) < EXPECTED_LEAST:
        return exact_p_value((int(first[0]), int(sizes[0])), (int(second[0]), int(sizes[1])))
    pooled = (first + second) / sum(sizes)
    statistic = rows * float(((first / sizes[0] - second / sizes[1]) ** 2 / pooled).sum())
    return float(chdtrc(len(first) - 1, statistic))


def share_p_value(before: tuple[int, int], after: tuple[int, int], rows: float) -> float:
    """The probability that two shares (hits, of how many) differ so, or more, by chance: Pearson's, of few rows Fisher's."""
    counts = [np.array([hits, total - hits], dtype=np.float64) for hits, total in (before, after)]
    return homogeneity_p_value(counts[0], counts[1], rows)


def exact_p_value(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Fisher's exact test of two shares, two-sided: the probability of all tables that are at most as likely as this one."""
    from scipy.special import gammaln  # heavy: kept out of start-up

    (hits, n), (others, m) = before, after
    total = hits + others
    if total in (0, n + m):
        return 1.0
    support = np.arange(max(0, total - m), min(n, total) + 1, dtype=np.float64)

    def log_choose(size: int, part: Floats) -> Floats:
        return np.asarray(gammaln(size + 1) - gammaln(part + 1) - gammaln(size - part + 1), dtype=np.float64)

    logs = log_choose(n, support) + log_choose(m, total - support)
    weights = np.exp(logs - logs.max())
    seen = weights[hits - int(support[0])]
    return min(1.0, float(weights[weights <= seen * (1 + 1e-9)].sum() / weights.sum()))


def count_p_value(before: int, after: int) -> float:
    """The probability that two counts of events of one rate differ so, or more (Poisson, given their sum)."""
    from scipy.special import bdtr  # heavy: kept out of start-up

    return min(1.0, 2 * float(bdtr(min(before, after), before + after, 0.5))) if before + after else 1.0


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of the differences are no chance: the probability that any of them is one is at most ``alpha``."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    found = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > alpha / (len(p_values) - rank):
            break
        found[place] = True
    return found
