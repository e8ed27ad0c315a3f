"""Classes by their names: what a label of any library's type means; and seeds that make code's own draws come again."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.models.seeds import seed_everything
from noria.models.signature import MATRIX, Input, Kind, Signature, class_code, class_text, is_matrix

LABELS = st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=5), st.floats(-1e9, 1e9).filter(lambda x: not x.is_integer()))


@settings(max_examples=80)
@given(
    labels=st.lists(
        LABELS,
        min_size=1,
        max_size=5,
        unique_by=lambda label: {"true": "1", "false": "0"}.get(class_text(label).lower(), class_text(label)),
    )
)
def test_each_label_is_the_class_that_it_names(labels: list[Any]) -> None:
    classes = [class_text(label) for label in labels]
    assert [class_code(label, classes) for label in labels] == list(range(len(labels)))
    assert [class_code(text, classes) for text in classes] == list(range(len(labels)))


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (1, "1"), (1.0, "1"), (True, "1"), (False, "0"), (-0.0, "0"), (0, "0"), (1.5, "1.5"), ("1", "1"), ("1.0", "1.0"),
        ("", ""),
        (np.int64(7), "7"), (np.float32(7), "7"), (np.float64(0.1), "0.1"), (np.bool_(True), "1"), (np.str_("a"), "a"),
        (Decimal("2.0"), "2"), (Fraction(4, 2), "2"), (2**53, str(2**53)), (1e15, "1000000000000000"), (float("nan"), "nan"),
        (float("inf"), "inf"), ("ä b", "ä b"),
    ],
)  # fmt: skip
def test_a_class_is_written_in_one_way(label: Any, text: str) -> None:
    assert class_text(label) == text


@pytest.mark.parametrize(
    ("label", "classes", "place"),
    [
        (True, ("0", "1"), 1), ("true", ("0", "1"), 1), ("True", ("0", "1"), 1), ("FALSE", ("0", "1"), 0),
        (1, ("false", "true"), 1),
        (0.0, ("False", "True"), 0), ("1", ("false", "true"), 1), (None, ("0", "1"), None), (2, ("0", "1"), None),
        ("yes", ("0", "1"), None),
        ("", ("", "x"), 0), ("a", ("b", "a"), 1), ("A", ("b", "a"), None), (1, (), None),
    ],
)  # fmt: skip
def test_true_is_one_and_false_is_zero_and_nothing_else_is_alike(label: Any, classes: tuple[str, ...], place: int | None) -> None:
    assert class_code(label, classes) == place


@pytest.mark.parametrize(
    "series", [pl.Series([1, 0, 1]), pl.Series([True, False, True]), pl.Series([1.0, 0.0, 1.0]), pl.Series(["1", "0", "1"])]
)
def test_a_label_means_the_same_in_every_column_type(series: pl.Series) -> None:
    assert [class_code(label, ("0", "1")) for label in series.to_list()] == [1, 0, 1]
    assert [class_code(label, ("0", "1")) for label in series.to_numpy()] == [1, 0, 1]


@pytest.mark.parametrize(
    ("inputs", "matrix"),
    [
        ((("a", Kind.NUMBER), ("b", Kind.BOOLEAN)), True),
        ((("a", Kind.STRING),), False),
        (((MATRIX, Kind.NUMBER),), False),
        ((), True),
    ],
)
def test_inputs_are_one_matrix_where_none_is_text(inputs: tuple[tuple[str, Kind], ...], matrix: bool) -> None:
    from noria.kernel.task import Task

    assert is_matrix(Signature(tuple(Input(name, kind) for name, kind in inputs), Task.REGRESSION)) is matrix


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_seed_makes_draws_come_again(seed: int) -> None:
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        drawn = []
        for _ in range(2):
            seed_everything(seed)
            drawn.append((random.random(), np.random.rand(3).tolist(), np.random.permutation(5).tolist()))
        assert drawn[0] == drawn[1]
        assert drawn[0][1] == np.random.RandomState(seed).rand(3).tolist(), "that of NumPy's own generator"
        assert drawn[0][0] == random.Random(seed).random()
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
