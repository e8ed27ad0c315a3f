"""The split: sound on every side, or a clear refusal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.errors import DataError
from noria.models.split import draw_by_hash, seconds, split

START = datetime(2013, 3, 1, tzinfo=UTC)


def table(n: int = 100, **columns: Any) -> pl.DataFrame:
    made = {
        "id": [f"k{i}" for i in range(n)],
        "at": [START + timedelta(hours=6 * i) for i in range(n)],
        "x": [float(i) for i in range(n)],
        "late": [i % 3 == 0 for i in range(n)],
    }
    return pl.DataFrame(made | columns)


def model(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "key": "id", "event_time": "at", "task": "binary", "inputs": ["x"], "label": "late",
        "slices": [], "project": "flights", "holdout": {"last_s": 7 * 86400, "fraction": None},
    }  # fmt: skip
    return facts | changes


def test_the_newest_days_are_held_out() -> None:
    made = split(table(), model())
    newest = START + timedelta(hours=6 * 99)
    assert made.train.height + made.holdout.height == 100
    assert made.holdout.height == 28  # four a day; the row exactly seven days before the newest trains
    assert made.train["at"].max() == newest - timedelta(days=7)
    assert made.facts["holdout_from"] == (newest - timedelta(days=7)).timestamp()
    assert made.facts["train_until"] == made.facts["holdout_from"]
    assert made.facts["sentence"] == "last 7 days: 2013-03-19 to 2013-03-25, 28 rows"


def test_rows_without_a_label_are_dropped_and_counted() -> None:
    late = [None if i < 10 else float(i % 2) for i in range(99)] + [float("nan")]
    made = split(table(late=late), model())
    assert made.facts["dropped_rows"] == 11
    assert made.train.height + made.holdout.height == 89


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text(min_size=1, max_size=8), min_size=100, max_size=200), st.sampled_from([0.2, 0.3, 0.5]))
def test_a_key_never_changes_sides(keys: set[str], fraction: float) -> None:
    ordered = sorted(keys)
    facts = model(holdout={"last_s": None, "fraction": fraction}, event_time=None)
    small = table(len(ordered), id=ordered)
    grown = pl.concat([small.reverse(), table(50, id=[f"\x00new{i}" for i in range(50)])])
    first, second = split(small, facts), split(grown, facts)
    assert set(first.holdout["id"]) <= set(second.holdout["id"])
    assert set(first.train["id"]) <= set(second.train["id"])


NO_KEY = {"key": None, "event_time": None, "holdout": {"last_s": None, "fraction": 0.3}}


def test_without_a_key_a_row_is_what_it_holds() -> None:
    rows = table(200, raw=[bytes([i, 255]) for i in range(200)], parts=[[i, None] for i in range(200)])
    doubled = pl.concat([rows, rows.reverse()]).select(sorted(rows.columns, reverse=True))
    first, second = split(rows, model(**NO_KEY)), split(doubled, model(**NO_KEY))
    assert 0 < first.holdout.height < 200
    assert first.facts["kind"] == second.facts["kind"]
    for one, two in ((first.train, second.train), (first.holdout, second.holdout)):
        assert two.height == 2 * one.height
        assert set(two["id"]) == set(one["id"]), "equal rows stay on one side, in any order"


def test_another_identity_is_another_split() -> None:
    other = {"holdout": NO_KEY["holdout"], "event_time": None}
    kinds = [
        split(rows, facts).facts["kind"]
        for rows, facts in [
            (table(), model(**other)),
            (table(other=[str(i) for i in range(100)]), model(**other, key="other")),
            (table(), model(**NO_KEY)),
            (table(more=list(range(100))), model(**NO_KEY)),
            (table(x=[str(i) for i in range(100)]), model(**NO_KEY)),
        ]
    ]
    assert len(set(kinds)) == len(kinds), "a champion split otherwise may have trained on these rows"


def test_the_hash_takes_its_share_and_depends_on_the_salt() -> None:
    keys = [str(i) for i in range(20_000)]
    here, there = draw_by_hash(keys, "a", 0.1), draw_by_hash(keys, "b", 0.1)
    assert abs(sum(here) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    both = sum(x and y for x, y in zip(here, there, strict=True))
    assert abs(both - 200) < 4 * 200**0.5  # independent


@pytest.mark.parametrize(
    ("rows", "facts", "said"),
    [
        (table(), model(label="lat"), "no column 'lat' (did you mean 'late'?)"),
        (table(), model(inputs=["x", "wind"]), "no column 'wind'"),
        (table(), model(inputs=["late"]), "is among the inputs"),
        (table(id=["a"] * 100), model(), "the key id is not unique: 100 of 100 rows share theirs (rows 1, 2, 3, ...)"),
        (table(id=[None, *map(str, range(99))]), model(), "the key id is empty in 1 of 100 rows"),
        (table(late=pl.Series([None] * 100, dtype=pl.Boolean)), model(), "no row has a label: late is empty in all 100 rows"),
        (table(late=[True] * 100), model(), "has one class in all 72 training rows: 1"),
        (table(late=[i % 5 for i in range(100)]), model(), "has 5 classes: `task: binary` needs two"),
        (table(late=["a"] * 100), model(task="regression"), "a regression needs numbers"),
        (table(30), model(), "too few rows: the training side has 2"),
        (table(), model(holdout={"last_s": 3600.0}), "too few rows: the holdout side has 1"),
        (table(at=["yesterday"] * 100), model(), "the event time at is empty or not a time in 100 of 100 rows"),
        (table(at=[True] * 100), model(), "the event time at is Boolean, not a time"),
    ],
)
def test_what_cannot_be_split_is_refused(rows: pl.DataFrame, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        split(rows, facts)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "times",
    [
        pl.Series("at", [datetime(2013, 1, 1), datetime(2013, 1, 2)]),
        pl.Series("at", [datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series("at", ["2013-01-01T00:00:00+00:00", "2013-01-02T01:00:00+01:00"]),
        pl.Series("at", [datetime(2013, 1, 1), datetime(2013, 1, 2)]).dt.date(),
        pl.Series("at", [1356998400, 1357084800]),
    ],
    ids=["naive", "zone", "text", "date", "number"],
)
def test_a_time_is_read_in_every_form(times: pl.Series) -> None:
    assert seconds(times).to_list() == [1356998400.0, 1357084800.0]
