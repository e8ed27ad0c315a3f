"""Errors on pairs, on probation and of keys that come often: who is blamed for nothing, and that harm is found all the same."""

from __future__ import annotations

import math
from functools import partial

import pytest
from benchmarks import pairs
from benchmarks.pairs import Failing, Play

from noria.delivery import judge_guards

ROLLOUTS = 150
ALLOWED = pairs.FALSE_ALARM / pairs.GUARDS
MOST = ALLOWED * ROLLOUTS + 3 * math.sqrt(ALLOWED * (1 - ALLOWED) * ROLLOUTS)
BOTH_1, HOSTILE, BOTH_10 = Failing(0.01, 0.01), Failing(0.01, 0.01, both=0.05), Failing(0.1, 0.1)
INNOCENT: dict[str, Play] = {
    "shadow": lambda rng: pairs.shadowed(rng, BOTH_1, 20_000),
    "shadow, hostile": lambda rng: pairs.shadowed(rng, HOSTILE, 20_000),
    **{f"probation {s}": partial(pairs.probation, failing=BOTH_1, n=20_000, drawn=s) for s in (0.05, 0.1, 0.5)},
    **{f"probation {s}, hostile": partial(pairs.probation, failing=HOSTILE, n=20_000, drawn=s) for s in (0.05, 0.1, 0.5)},
    **{
        f"probation, {d} dropped": partial(pairs.probation, failing=BOTH_10, n=5_000, drawn=0.1, dropped=d)
        for d in (0.1, 0.3, 0.6, 0.9)
    },
    "few heavy users": lambda rng: pairs.sticky(rng, 0.05, 20_000, 500),
    "many heavy users": lambda rng: pairs.sticky(rng, 0.5, 20_000, 20_000),
}


@pytest.mark.parametrize("name", INNOCENT)
def test_who_is_no_worse_is_seldom_blamed_however_errors_are_counted(name: str) -> None:
    assert pairs.blamed(INNOCENT[name], ROLLOUTS, 12) <= MOST


def test_each_request_of_a_heavy_user_counted_would_blame_many() -> None:
    assert pairs.blamed(lambda rng: pairs.sticky(rng, 0.5, 20_000, 500, once=False), 40, 1) > 10


@pytest.mark.parametrize(
    ("new", "dropped"), [(1.0, 0.0), (1.0, 0.9), (1.0, 1.0), (0.999, 0.5), (0.999, 0.9), (0.5, 0.0), (0.5, 0.5)]
)
def test_harm_on_probation_is_found_though_pairs_are_dropped(new: float, dropped: float) -> None:
    """One that always fails has no pairs: nothing was dropped then."""
    found = pairs.blamed(lambda rng: pairs.probation(rng, Failing(0.01, new), 1_000, 0.1, dropped), 30, 2)
    assert found == 30


def test_the_share_on_probation() -> None:
    assert judge_guards.share_on_probation(0.1, 0, 0) == pytest.approx(1 / 1.1)
    assert judge_guards.share_on_probation(0.1, 1000, 100) == pytest.approx(1 / 1.1)
    assert judge_guards.share_on_probation(0.1, 1000, 90) == pytest.approx(1 / 1.1)  # chance alone
    assert judge_guards.share_on_probation(0.1, 1000, 50) == pytest.approx(1 / 1.05)
    assert judge_guards.share_on_probation(0.1, 1000, 0) == 1.0  # nobody to compare with
