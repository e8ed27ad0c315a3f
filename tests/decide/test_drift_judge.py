"""Which columns have drifted."""

from __future__ import annotations

import numpy as np
import polars as pl

from noria.decide import drift
from noria.domain.profile import Profile
from noria.domain.verdict import Outcome
from noria.stats import profile


def table(rows: int, moved: float, origins: tuple[str, ...] = ("EWR", "JFK", "LGA"), seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({
        "distance": rng.normal(moved, 1, rows),
        "hour": rng.integers(0, 24, rows),
        "origin": rng.choice(origins, rows),
    })  # fmt: skip


REFERENCE = profile.build(table(5_000, 0.0), ["distance", "hour", "origin"])


def seen(rows: pl.DataFrame) -> Profile:
    return profile.summarise(rows, REFERENCE)


def test_the_same_inputs_are_steady() -> None:
    ruling = drift.judge(REFERENCE, seen(table(1_000, 0.0, seed=2)), 0.25)
    assert ruling.verdict.passed
    assert set(ruling.scores) == {"distance", "hour", "origin"}
    assert ruling.scores[ruling.worst] == max(ruling.scores.values()) < 0.05
    assert f"({ruling.worst}) over 1,000 rows, at most 0.25 is allowed" in ruling.verdict.sentence()


def test_a_moved_column_is_named_with_its_index() -> None:
    ruling = drift.judge(REFERENCE, seen(table(1_000, 1.5, seed=3)), 0.25)
    assert (ruling.verdict.outcome, ruling.worst) == (Outcome.FAIL, "distance")
    score = ruling.scores["distance"]
    assert score > 1  # 1.5 standard deviations: the index of two normals is (1.5)^2 = 2.25, less what the bins lose
    assert ruling.verdict.sentence() == (
        f"distance drifted: stability index {score:.3f} over 1,000 rows, at most 0.25 is allowed"
    )


def test_every_drifted_column_is_named_worst_first() -> None:
    ruling = drift.judge(REFERENCE, seen(table(1_000, 1.5, ("EWR",), seed=4)), 0.25)
    names = [r.text.split()[0] for r in ruling.verdict.reasons]
    assert sorted(names) == ["distance", "origin"]
    assert names == sorted(names, key=lambda n: -ruling.scores[n])
    assert ruling.worst == names[0]


def test_few_rows_decide_nothing() -> None:
    moved = seen(table(199, 3.0))
    assert drift.judge(REFERENCE, moved, 0.25).verdict.sentence() == "inputs: 199 rows are too few; 200 are needed"
    assert drift.judge(REFERENCE, moved, 0.25).verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert drift.judge(REFERENCE, moved, 0.25, min_rows=199).verdict.outcome is Outcome.FAIL


def test_nothing_in_common_decides_nothing() -> None:
    ruling = drift.judge(REFERENCE, Profile(1_000), 0.25)
    assert (ruling.verdict.outcome, ruling.worst, ruling.scores) == (Outcome.NOT_ENOUGH_DATA, "", {})
