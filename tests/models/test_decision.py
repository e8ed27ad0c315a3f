"""The rule by which a model's own classes follow from its probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from noria.models.judge_decision import decided_classes, follows, rule_of
from noria.models.signature import Decision

RNG = np.random.default_rng(3)
P = np.sort(RNG.random(4000))
TWO = np.column_stack([1 - P, P])


@pytest.mark.parametrize(
    ("own", "hints", "due"),
    [
        (P >= 0.5, (), None),
        (P >= 0.3, (), Decision(0.3)),
        (P > 0.3, (), Decision(0.3)),
        (P >= 0.25, (0.25,), Decision(0.25)),
        (P >= 0.36019467, (0.36019467,), Decision(0.36019467)),
        (P >= 0.36019467, (0.9,), Decision()),  # a threshold, but none that is known: the model decides
        (P >= 2.0, (), Decision()),
        (P >= 2.0, (1.5,), Decision(1.5)),
        (RNG.random(4000) > 0.5, (), Decision()),
    ],
)
def test_a_threshold_is_found_or_the_model_decides(own: object, hints: tuple[float, ...], due: Decision | None) -> None:
    """Number 28: 0.5 is the rule only where the model's own classes follow it."""
    found = rule_of(TWO, np.asarray(own).astype(np.intp), hints)
    assert found == due
    if due is None or due.threshold is not None:
        assert follows(found, TWO, np.asarray(own).astype(np.intp), 1e-9)


def test_few_rows_prove_no_round_number() -> None:
    some = TWO[::400]
    assert rule_of(some, (some[:, 1] >= 0.3).astype(np.intp)) == Decision()


def test_a_tie_is_what_the_model_says_it_is() -> None:
    """Number 28: scikit-learn calls a tie the first class, where 0.5 would be the second."""
    tied = np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    found = rule_of(tied, np.array([0, 1, 0]))
    assert found == Decision(math.nextafter(0.5, 1.0))
    assert decided_classes(found, tied).tolist() == [0, 1, 0]
    assert rule_of(tied, np.array([1, 1, 0])) is None
    almost = np.array([[0.5 + 1e-12, 0.5 - 1e-12], [0.2, 0.8]])
    assert rule_of(almost, np.array([1, 1])) is None  # arithmetic, and no rule


def test_of_several_classes_it_is_the_likeliest_or_the_model_decides() -> None:
    three = np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2], [0.4, 0.4, 0.2]])
    assert rule_of(three, np.array([1, 0, 0])) is None
    assert rule_of(three, np.array([1, 0, 1])) is None  # a tie
    assert rule_of(three, np.array([2, 0, 0])) == Decision()
    assert not follows(None, three, np.array([2, 0, 0]), 1e-9)
