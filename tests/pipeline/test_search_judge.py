"""Pruning against Optuna's own pruner; the best, and what is said when there is none."""

from __future__ import annotations

from statistics import median

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.pipeline.judge_search import STARTUP, Trial, TrialState, best, hopeless, prune, running_means, sentence, why_none

DONE, PRUNED, FAILED = TrialState.DONE, TrialState.PRUNED, TrialState.FAILED
values = st.floats(-10, 10, allow_nan=False).map(lambda v: round(v, 3))


def trial(number: int, *means: float, state: TrialState = DONE, reason: str = "") -> Trial:
    return Trial(number, "a", {}, state, means, reason)


@given(others=st.lists(values, max_size=12), mine=values, higher=st.booleans())
def test_after_one_fold_it_judges_as_the_median_pruner_does(others: list[float], mine: float, higher: bool) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    for value in others:
        study.add_trial(optuna.trial.create_trial(value=value, intermediate_values={0: value}))
    asked = study.ask()
    asked.report(mine, 0)
    theirs = optuna.pruners.MedianPruner(n_startup_trials=STARTUP).prune(study, study.trials[-1])
    ours = prune([mine], [trial(i, value, value) for i, value in enumerate(others)], "m", higher_is_better=higher)
    assert (ours is not None) == theirs


@given(others=st.lists(st.tuples(values, values, values), min_size=STARTUP, max_size=9), mine=st.tuples(values, values))
def test_a_later_fold_is_compared_with_the_same_fold_of_others(
    others: list[tuple[float, float, float]], mine: tuple[float, float]
) -> None:
    told = [trial(i, *running_means(v)) for i, v in enumerate(others)]
    means = running_means(mine)
    expected = (mine[0] + mine[1]) / 2 > median((a + b) / 2 for a, b, _ in others)
    assert (prune(means, told, "brier", higher_is_better=False) is not None) == expected


def test_pruned_and_failed_trials_set_no_standard() -> None:
    told = [trial(i, 0.1, state=state) for i, state in enumerate([PRUNED] * 9 + [FAILED] * 9)]
    assert prune([5.0], told, "brier", higher_is_better=False) is None
    found = prune([5.0], told + [trial(20 + i, 0.1) for i in range(STARTUP)], "brier", higher_is_better=False)
    assert found is not None
    assert found.text == "pruned after 1 fold: brier 5 is worse than 0.1, the median of 5 trials"


@pytest.mark.parametrize(("higher", "number"), [(True, 1), (False, 2)])
def test_the_best_is_a_trial_that_went_to_its_end_and_the_first_of_equals(higher: bool, number: int) -> None:
    told = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.1), trial(3, 0.9), trial(4, 0.1), trial(5, 2.0, state=PRUNED)]
    found = best(told, higher_is_better=higher)
    assert found is not None
    assert found.number == number
    assert best([trial(0, 1.0, state=PRUNED)], higher_is_better=higher) is None


def test_it_says_what_most_trials_failed_of() -> None:
    told = [trial(i, state=FAILED, reason=f"fold 1: {'no' if i % 3 else 'other'} 0.{i}\ntail {i}") for i in range(7)]
    assert why_none(told).text == "all 7 trials failed, 4 of them the same way: fold 1: no 0.1\ntail 1"
    assert why_none(told[:1]).text == "the only trial failed: fold 1: other 0.0\ntail 0"
    assert "timeout" in why_none([]).text


def test_a_search_is_hopeless_when_every_algorithm_had_its_try_and_all_failed() -> None:
    failed = [trial(i, state=FAILED) for i in range(20)]
    assert not hopeless(failed[:5], 1)
    assert hopeless(failed[:6], 1)
    assert not hopeless(failed[:9], 10)
    assert not hopeless([*failed, trial(30, 1.0)], 1)


def test_the_sentence_counts() -> None:
    told = [trial(0, 0.2), trial(1, 0.5, state=PRUNED), trial(2, state=FAILED)]
    assert sentence(told, told[0], 3, "brier", True) == (
        "trial 1, a, is the best of 3 trials (1 pruned, 1 failed): brier 0.2 on validation rows"
    )
    assert sentence(told, told[0], 9, "brier", False).endswith("; stopped by its timeout, 9 were requested")
