"""The threshold that wrong calls ask for: the cheapest of all there are, near the one of true probabilities."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.models import table_arguments, training
from noria.models.judge_cost import WrongCallCosts, choose_threshold

MODULE = """
import numpy as np
from sklearn.linear_model import LogisticRegression

def train(features, label):
    return LogisticRegression(C=1000).fit(features.to_pandas(), label.to_numpy())
"""


def cost_of(threshold: float, probability: Any, positive: Any, costs: WrongCallCosts) -> float:
    called = probability >= threshold
    return float((called & ~positive).sum()) * costs.false_positive + float((~called & positive).sum()) * costs.false_negative


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0]), st.booleans()), min_size=30, max_size=120),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
)
def test_no_other_threshold_costs_less(rows: list[tuple[float, bool]], low: float, high: float) -> None:
    probability = np.array([p for p, _ in rows])
    positive = np.array([y for _, y in rows])
    costs = WrongCallCosts(low, high)
    chosen = choose_threshold(probability, positive, costs)
    if min(positive.sum(), (~positive).sum()) < 10:
        assert chosen.threshold == pytest.approx(low / (low + high))
        return
    assert 0 < chosen.threshold <= 1
    every = [cost_of(t, probability, positive, costs) for t in np.linspace(0.0005, 1, 2000)]
    assert chosen.cost is not None
    assert chosen.cost * len(rows) == pytest.approx(min(every))
    assert cost_of(chosen.threshold, probability, positive, costs) == pytest.approx(min(every))


def test_of_true_probabilities_it_is_near_elkans() -> None:
    draw = np.random.default_rng(3)
    probability = draw.beta(1, 6, 400_000)
    positive = draw.random(400_000) < probability
    chosen = choose_threshold(probability, positive, WrongCallCosts(1, 9))
    assert chosen.calibrated == 0.1
    assert chosen.threshold == pytest.approx(0.1, abs=0.02)
    assert chosen.cost is not None
    assert chosen.cost_at_half is not None
    assert chosen.cost < 0.8 * chosen.cost_at_half


def test_too_few_of_a_class_give_the_threshold_of_true_probabilities_and_say_so() -> None:
    chosen = choose_threshold(np.linspace(0, 1, 100), np.arange(100) < 9, WrongCallCosts(1, 3))
    assert (chosen.threshold, chosen.cost, chosen.rows, chosen.positives) == (0.25, None, 100, 9)
    assert "too few to choose by" in chosen.sentence


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cost_under_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("cost_under_test", None)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("holdout", [{"last_s": None, "fraction": 0.2}, {"last_s": 3600.0 * 400, "fraction": None}])
def test_training_seals_the_cheapest_threshold(tmp_path: Path, holdout: dict[str, Any]) -> None:
    draw = np.random.default_rng(0)
    a = draw.normal(size=3000)
    y = (draw.random(3000) < 1 / (1 + np.exp(3 - a))).astype(int)
    table_arguments.write_arrow(
        pl.DataFrame({"id": np.arange(3000), "at": np.arange(3000) * 3600, "a": a, "y": y}), tmp_path / "rows.arrow"
    )
    model = {
        "key": "id", "event_time": "at", "task": "binary", "inputs": ["a"], "label": "y", "features": None, "slices": [],
        "train": "cost_under_test:train", "project": "p", "holdout": holdout, "costs": [1.0, 20.0],
    }  # fmt: skip
    argument = {"kind": "output", "path": str(tmp_path / "rows.arrow"), "format": "arrow"}
    told = training.run({"rows": argument, "model": model, "params": {}, "seed": 1, "folder": str(tmp_path)})
    assert told["signature"]["decision"] == {"threshold": told["decision"]["threshold"], "told": True}
    assert told["decision"]["threshold"] == pytest.approx(1 / 21, abs=0.05)
    assert told["decision"]["cost"] < told["decision"]["cost_at_half"]
    assert 300 < told["decision"]["rows"] < 600  # of the training side alone
