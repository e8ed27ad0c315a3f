"""Several tests at once: the level at which each is judged so that the chance of any false alarm stays at one level.

Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (Scandinavian Journal of Statistics 1979, 6: 65-70), with
weights (its section 3) where tests have levels of their own.
"""

from __future__ import annotations

from collections.abc import Sequence


def levels(p_values: Sequence[float], alphas: Sequence[float]) -> list[float]:
    """The level for each: a test rejects when its p-value is below. ``alphas``: the level of each if it stood alone."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at] / alphas[at])
    found, remaining = [0.0] * len(p_values), len(p_values)
    for at in order:
        found[at] = alphas[at] / remaining
        if p_values[at] < found[at]:
            remaining -= 1
    return found
