"""Bounds of shares: against published values, against others' formulas, and against their promise in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from noria.kernel.task import Task
from noria.stats import intervals, proportions
from noria.stats.metrics import Floats


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Bentur 2009 in Fagerland, Lydersen and Laake (Statistics in Medicine 2014), table II
        (12, 2, 50, 0.061, 0.345),  # Newcombe (Statistics in Medicine 1998, 17: 2635-2650), as Tango's score interval has it
    ],
)
def test_tangos_interval_is_the_published_one(gained: int, lost: int, n: int, low: float, high: float) -> None:
    """Number 40: two-sided at 95 %, one-sided at 97.5 %."""
    found = -proportions.tango(lost, gained, n, 0.975), proportions.tango(gained, lost, n, 0.975)
    assert found == pytest.approx((low, high), abs=5.5e-4)


@given(gained=st.integers(0, 40), lost=st.integers(0, 40), alike=st.integers(1, 400), confidence=st.floats(0.8, 0.995))
def test_tangos_bound_solves_the_quartic_of_yang(gained: int, lost: int, alike: int, confidence: float) -> None:
    """Yang, Sun and Hardin (Statistics in Medicine 2013) wrote it without iteration: both bounds are roots of one quartic."""
    n, g, d = gained + lost + alike, norm.ppf(confidence) ** 2, gained - lost
    s = gained + lost
    roots = np.roots(
        [
            n**2 * (n / g + 1) ** 2,
            -n * d * (n / g + 1) * (4 * n / g + 1),
            2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
            n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
            d**2 * (d**2 / g - s) / g,
        ]
    )
    found = proportions.tango(gained, lost, n, confidence)
    assert min(abs(roots - found)) < 1e-4


def test_exact_bounds_are_those_of_clopper_and_pearson() -> None:
    low, high = proportions.exact(3, 20, 0.95)
    assert binom.sf(2, 20, low) == pytest.approx(0.05)
    assert binom.cdf(3, 20, high) == pytest.approx(0.05)
    assert proportions.exact(0, 100, 0.95) == (0.0, pytest.approx(1 - 0.05**0.01))  # about three in a hundred
    assert proportions.exact(20, 20, 0.95)[1] == 1.0


@pytest.mark.parametrize("differing", range(6))
def test_a_handful_of_rows_never_shows_which_is_better(differing: int) -> None:
    """Number 40: three rows that differ are not enough data."""
    low, high = proportions.paired_bounds(differing, 0, 1_000, 0.95)
    assert low < 0 < high
    assert -proportions.paired_bounds(0, differing, 1_000, 0.95)[1] == pytest.approx(low)
    assert proportions.paired_bounds(10, 0, 1_000, 0.95)[0] > 0


def drawn(rng: np.random.Generator, n: int, chances: dict[tuple[int, int, int], float]) -> tuple[Floats, Floats, Floats]:
    """Rows of (label, the candidate's call, the champion's call)."""
    cells = np.array(list(chances), dtype=float)
    rows = cells[rng.choice(len(cells), n, p=list(chances.values()))]
    return rows[:, 0], rows[:, 1], rows[:, 2]


def worse(rare: float, right: float, lost: float, gained: float, alarms: float) -> dict[tuple[int, int, int], float]:
    """Chances where the candidate misses ``lost`` more of the positives and raises ``alarms`` more false alarms."""
    plain = 1 - rare
    return {
        (1, 1, 1): rare * (right - lost),
        (1, 0, 1): rare * lost,
        (1, 1, 0): rare * gained,
        (1, 0, 0): rare * (1 - right - gained),
        (0, 1, 0): plain * alarms,
        (0, 0, 0): plain * (0.97 - alarms),
        (0, 1, 1): plain * 0.03,
    }


def value(name: str, chances: dict[tuple[int, int, int], float], model: int) -> float:
    rates = {(y, call): sum(p for c, p in chances.items() if (c[0], c[model]) == (y, call)) for y in (0, 1) for call in (0, 1)}
    hit, missed, alarm = rates[1, 1], rates[1, 0], rates[0, 1]
    return {
        "accuracy": hit + rates[0, 0],
        "recall": hit / (hit + missed),
        "precision": hit / (hit + alarm),
        "f1": 2 * hit / (2 * hit + missed + alarm),
    }[name]


FEW_DIFFER = {
    "a rare class": (500, worse(0.1, 0.8, 0.05, 0.0, 0.0)),
    "a very rare class": (3_000, worse(0.01, 0.6, 0.05, 0.0, 0.0)),
    "false alarms": (500, worse(0.1, 0.8, 0.0, 0.0, 0.01)),
    "few rows": (150, worse(0.5, 0.9, 0.02, 0.0, 0.01)),
    "both ways": (500, worse(0.1, 0.7, 0.1, 0.05, 0.005)),
}


@pytest.mark.parametrize("name", ["accuracy", "recall", "precision", "f1"])
@pytest.mark.parametrize("setting", FEW_DIFFER)
def test_a_gate_on_counts_seldom_passes_what_is_worse_by_its_margin(name: str, setting: str) -> None:
    """Number 40: 13 to 60 % passed, where 5 % is stated. Of 300, 37 would pass with a probability below 1e-6."""
    n, chances = FEW_DIFFER[setting]
    margin = value(name, chances, 1) - value(name, chances, 2)
    if margin >= 0:
        pytest.skip("the setting does not make this metric worse")
    passed = 0
    for i in range(300):
        y, mine, other = drawn(np.random.default_rng([40, i]), n, chances)
        if y.sum() > 0:
            passed += intervals.compare(name, Task.BINARY, y, mine, other).low >= margin
    assert passed < 37


def test_many_classes() -> None:
    """Number 40: one row more that is wrong leaves f1_macro a width on both sides, where the bootstrap had next to none."""
    y = np.repeat([0, 1, 2], 100)
    right = np.eye(3)[y] * 0.8 + 0.1
    one = right.copy()
    one[0] = [0.1, 0.8, 0.1]
    found = intervals.compare("f1_macro", Task.MULTICLASS, y, one, right)
    assert found.differing == 1
    assert found.low < -0.01
    assert found.high > 0
    alone = intervals.measure("f1_macro", Task.MULTICLASS, y, right)
    assert alone.value == 1 == alone.high
    assert 0.9 < alone.low < 0.99
    assert math.isfinite(alone.low)
