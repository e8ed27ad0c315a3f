"""Holm's correction, against published values and by the chance of any false alarm."""

from __future__ import annotations

import numpy as np
import pytest

from noria.stats import holm


def rejected(p_values: list[float], alpha: float) -> list[bool]:
    levels = holm.levels(p_values, [alpha] * len(p_values))
    return [p < level for p, level in zip(p_values, levels, strict=True)]


# R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") is 0.05 0.08 0.09 0.09 0.09; that of c(0.01, 0.005, 0.03, 0.04) is
# 0.03 0.02 0.06 0.06
@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]), ([0.01, 0.005, 0.03, 0.04], [0.03, 0.02, 0.06, 0.06])],
)
def test_what_is_rejected_is_what_adjusted_p_values_say(p_values: list[float], adjusted: list[float]) -> None:
    for alpha in (0.015, 0.025, 0.035, 0.055, 0.07, 0.085, 0.1):
        assert rejected(p_values, alpha) == [each < alpha for each in adjusted]


def test_one_test_keeps_its_level_and_tests_may_have_levels_of_their_own() -> None:
    assert holm.levels([0.3], [0.05]) == [0.05]
    assert holm.levels([], []) == []
    assert holm.levels([0.003, 0.02], [0.01, 0.05]) == [0.005, 0.05]


def test_any_false_alarm_has_the_stated_chance() -> None:
    rng = np.random.default_rng(3)
    alarms = sum(any(rejected(rng.random(10).tolist(), 0.05)) for _ in range(4000))
    assert 0.04 < alarms / 4000 < 0.06
    with_one_true = sum(any(rejected([0.0, *rng.random(9).tolist()], 0.05)[1:]) for _ in range(4000))
    assert 0.04 < with_one_true / 4000 < 0.06
