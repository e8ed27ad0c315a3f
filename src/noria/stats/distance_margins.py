"""How far a distance of two samples may lie from that of their distributions, whatever these are and however few the rows.

Kolmogorov-Smirnov: the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (Annals of Probability 18, 1990).
Total variation of a fixed number of categories: Weissman, Ordentlich, Seroussi, Verdu and Weinberger (HP Laboratories, technical
report HPL-2003-97, 2003). Each is of one sample; by the triangle inequality the margins of two add up.
"""

from __future__ import annotations

import math


def kolmogorov_smirnov_margin(rows: int, error: float) -> float:
    """What the distance of a sample from its distribution exceeds with at most the probability ``error``. No rows: infinite."""
    return math.sqrt(math.log(2 / error) / (2 * rows)) if rows > 0 else math.inf


def total_variation_margin(rows: int, categories: int, error: float) -> float:
    """The same of the total variation of so many categories, which are chosen without a look at the sample."""
    if categories < 2:
        return 0.0
    sets = categories * math.log(2) + math.log1p(-(2.0 ** (1 - categories)))  # log(2^k - 2): those that can be too frequent
    return math.sqrt((sets - math.log(error)) / (2 * rows)) if rows > 0 else math.inf
