"""Windows are the same whatever the order in which the log is read, its pieces, and how often the monitor begins anew."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watch_bench import DAY_S, MONDAY, Bench, bench, days_of

from noria.monitor.accumulator import RunningMoments
from noria.predictions.records import Prediction

floats = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=40)
@given(st.lists(st.lists(floats, max_size=20), max_size=8), st.randoms())
def test_moments_of_parts_are_those_of_the_whole_in_any_order(parts: list[list[float]], chance: random.Random) -> None:
    whole = np.array([value for part in parts for value in part])
    chance.shuffle(parts)
    found = RunningMoments()
    for part in parts:
        found.add(RunningMoments.of(np.array(part)))
    assert found.n == len(whole)
    if len(whole):
        assert found.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-6)
    if len(whole) > 1:
        assert found.sd == pytest.approx(whole.std(ddof=1), rel=1e-6, abs=1e-4)


def windows(made: Bench) -> list[tuple[float, float, int, int, float]]:
    return [(w.start, w.end, w.predictions, w.labelled, round(w.value, 9)) for w in made.windows()]


def judged(seed: int | None, pieces: int, restarts: bool) -> list[tuple[float, float, int, int, float]]:
    """The windows of the same three days, their records in an order of that seed; None: as they came."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        made = bench(Path(folder))
        made.release("v1")
        made.clock(MONDAY)
        records = list(days_of(made, 0, 3, 40))
        if seed is not None:
            place = {record.id: chance.random() for record in records if isinstance(record, Prediction)}
            # while one monitor lives, a label may be read long before its prediction; notes keep such labels for a while only
            later = 1.0 if restarts else -1.0
            records.sort(key=lambda r: place[r.id] if isinstance(r, Prediction) else place[r.id] + later * chance.random())
        size = max(1, len(records) // pieces)
        for first in range(0, len(records), size):
            made.write(*records[first : first + size])
            made.look(MONDAY + DAY_S / 2)  # before any is due
            if restarts:
                if made.monitor is not None and chance.random() < 0.5:
                    made.monitor.save(now=True)
                made.restarted()
        made.look(MONDAY + 5 * DAY_S)
        found = windows(made)
        made.context.ledger.close()
    return found


@pytest.fixture(scope="module")
def plain() -> list[tuple[float, float, int, int, float]]:
    return judged(None, 1, False)


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), pieces=st.integers(1, 9), restarts=st.booleans())
def test_orders_pieces_and_restarts_do_not_matter(
    plain: list[tuple[float, float, int, int, float]], seed: int, pieces: int, restarts: bool
) -> None:
    assert [(n, labelled) for _, _, n, labelled, _ in plain] == [(40, 40), (40, 80), (40, 120)]
    assert judged(seed, pieces, restarts) == plain
