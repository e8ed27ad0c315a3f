"""How well the rows of each query are ordered: one value for each query that has a relevant row (a label above 0).

Rows with equal scores have no order: NDCG, recall and MRR take the mean over all orders of them (McSherry and Najork, Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores, ECIR 2008), average precision reaches them
together, as scikit-learn's does. The gain of a row in NDCG is its label (Järvelin and Kekäläinen, ACM TOIS 2002).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from noria.stats.metrics import Floats, Undefined

Ids = NDArray[np.intp]


class Ranked:
    """The rows of all queries by falling score, query after query."""

    def __init__(self, y: Floats, score: Floats, queries: Ids) -> None:
        if (y < 0).any():
            raise Undefined(f"{int((y < 0).sum()):,} of {len(y):,} labels are below 0: a ranking takes grades from 0 on")
        _, self.queries, sizes = np.unique(queries, return_inverse=True, return_counts=True)
        self.order = np.lexsort((-score, self.queries))
        self.query = self.queries[self.order]
        self.y, self.relevant = y[self.order], y[self.order] > 0
        self.starts = np.cumsum(sizes) - sizes
        self.places = np.arange(len(y)) - self.starts[self.query]
        ordered = score[self.order]
        first = np.append(True, (self.query[1:] != self.query[:-1]) | (ordered[1:] != ordered[:-1]))
        ends = np.append(np.flatnonzero(first)[1:], len(y))
        tie = np.cumsum(first) - 1  # the group of equal scores of each row
        self.tie_start = self.places[np.flatnonzero(first)][tie]
        self.tie_size = np.diff(np.append(np.flatnonzero(first), len(y)))[tie]
        self.tie_last = ends[tie] - 1
        self.positives = self.per_query(self.relevant.astype(np.float64))
        self.longest = int(sizes.max())
        if not self.relevant.any():
            raise Undefined(f"none of the {len(sizes):,} queries has a row whose label is above 0")

    def per_query(self, values: Floats) -> Floats:
        sums: Floats = np.bincount(self.query, weights=values, minlength=len(self.starts)).astype(np.float64)
        return sums

    def weigh(self, weights: Floats) -> Floats:
        """Of each row the mean weight of the places that it may have."""
        sums = np.append(0.0, np.cumsum(weights))
        found: Floats = (sums[self.tie_start + self.tie_size] - sums[self.tie_start]) / self.tie_size
        return found

    def answer(self, values: Floats) -> tuple[Floats, Ids]:
        """The values of the queries that have a relevant row, and the first row of each."""
        asked = self.positives > 0
        first = np.unique(self.queries, return_index=True)[1]
        return values[asked], first[asked]

    def share(self, top: Floats, bottom: Floats) -> tuple[Floats, Ids]:
        return self.answer(np.divide(top, bottom, out=np.zeros_like(top), where=self.positives > 0))


def ndcg(y: Floats, score: Floats, queries: Ids, k: int) -> tuple[Floats, Ids]:
    """NDCG of the first ``k`` rows of each query."""
    ranked = Ranked(y, score, queries)
    discounts = np.where(np.arange(ranked.longest) < k, 1 / np.log2(np.arange(ranked.longest) + 2.0), 0.0)
    best = y[np.lexsort((-y, ranked.queries))]  # the queries stand in the same places
    return ranked.share(ranked.per_query(ranked.y * ranked.weigh(discounts)), ranked.per_query(best * discounts[ranked.places]))


def recalls(y: Floats, score: Floats, queries: Ids, k: int) -> tuple[Floats, Ids]:
    """The share of a query's relevant rows that are among its first ``k``."""
    ranked = Ranked(y, score, queries)
    reached = ranked.weigh((np.arange(ranked.longest) < k).astype(np.float64))
    return ranked.share(ranked.per_query(ranked.relevant * reached), ranked.positives)


def average_precisions(y: Floats, score: Floats, queries: Ids) -> tuple[Floats, Ids]:
    """Average precision of each query; their mean is MAP."""
    ranked = Ranked(y, score, queries)
    hits = np.cumsum(ranked.relevant)
    before = np.append(0, hits)[ranked.starts][ranked.query]
    precision = (hits[ranked.tie_last] - before) / (ranked.tie_start + ranked.tie_size)
    return ranked.share(ranked.per_query(ranked.relevant * precision), ranked.positives)


def reciprocal_ranks(y: Floats, score: Floats, queries: Ids) -> tuple[Floats, Ids]:
    """1 by the place of the first relevant row of each query."""
    ranked = Ranked(y, score, queries)
    rows = np.flatnonzero(ranked.relevant)
    rows = rows[np.unique(ranked.query[rows], return_index=True)[1]]  # the first relevant one of each query
    found = np.zeros(len(ranked.starts))
    hits = np.append(0, np.cumsum(ranked.relevant))
    sizes, starts = ranked.tie_size[rows], ranked.tie_start[rows]
    relevant = hits[ranked.tie_last[rows] + 1] - hits[ranked.tie_last[rows] + 1 - sizes]
    each = zip(starts.tolist(), sizes.tolist(), relevant.tolist(), strict=True)
    found[ranked.query[rows]] = [_first_of_tied(*one) for one in each]
    return ranked.answer(found)


@cache
def _first_of_tied(before: int, size: int, relevant: int) -> float:
    """The mean of 1 / place of the first relevant row among ``size`` rows in any order that follow ``before`` others."""
    chance, value = relevant / size, 0.0
    for at in range(1, size - relevant + 2):
        value += chance / (before + at)
        chance *= (size - relevant - at + 1) / max(size - at, 1)
    return value
