"""Personal data are found in columns of their own and inside text, by kind, and other columns are left alone."""

from __future__ import annotations

import random

import personal_corpus as corpus
import polars as pl
import pytest

from noria.data import judge_personal_data as judge
from noria.data.judge_personal_data import PersonalDataFinding
from noria.data.personal_kinds import PersonalDataKind as Kind
from noria.data.personal_kinds import is_named


def kinds(table: pl.DataFrame) -> set[Kind]:
    return {found.kind for found in judge.find(table)}


@pytest.mark.parametrize(("name", "kind", "make"), corpus.OWN, ids=[f"{kind}-{name}" for name, kind, _ in corpus.OWN])
def test_a_column_of_its_own_is_found_as_its_kind_and_no_other(name: str, kind: Kind, make: corpus.Maker) -> None:
    assert kinds(corpus.column(name, make, 0, 0.9).to_frame()) == {kind}


@pytest.mark.parametrize("at", range(len(corpus.INSIDE)))
def test_what_stands_inside_text_is_found(at: int) -> None:
    column, kind = corpus.inside(at, 0, 0.3)
    (found,) = judge.find(column.to_frame())
    assert (found.kind, found.in_text) == (kind, True)
    assert found.rows == pytest.approx(0.3 * corpus.ROWS, rel=0.35)


@pytest.mark.parametrize(("name", "make"), corpus.NONE, ids=[name for name, _ in corpus.NONE])
def test_other_columns_are_left_alone_as_text_and_as_numbers(name: str, make: corpus.Maker) -> None:
    text = corpus.column(name, make, 0)
    numbers = text.cast(pl.Int64, strict=False)
    assert [judge.find(one.to_frame()) for one in (text, numbers, numbers.cast(pl.Float64))] == [()] * 3


def test_precision_and_recall_over_the_whole_corpus() -> None:
    right = missed = wrong = 0
    for seed in (1, 2):
        cases = [(corpus.column(name, make, seed, 0.9), {kind}) for name, kind, make in corpus.OWN]
        cases += [(column, {kind}) for at in range(len(corpus.INSIDE)) for column, kind in [corpus.inside(at, seed, 0.1)]]
        cases += [(corpus.column(name, make, seed), set()) for name, make in corpus.NONE]
        for column, expected in cases:
            found = kinds(column.to_frame())
            right, missed, wrong = right + len(found & expected), missed + len(expected - found), wrong + len(found - expected)
    assert right / (right + wrong) >= 0.97
    assert right / (right + missed) >= 0.95


def test_numbers_are_read_as_they_are_written() -> None:
    rng = random.Random(5)
    cards = pl.Series("card_number", [int(corpus.card(rng)) for _ in range(50)])
    assert kinds(cards.to_frame()) == {Kind.CARD}
    assert kinds(cards.cast(pl.Float64).to_frame()) == {Kind.CARD}  # as a column with gaps is read
    phones = pl.Series("phone", [int(corpus.phone("DE", corpus.E164)(rng)[1:]) for _ in range(50)])
    assert kinds(phones.to_frame()) == {Kind.PHONE}
    assert kinds(phones.rename("amount").to_frame()) == set()


def test_counts_are_rows_and_no_value_is_told() -> None:
    table = pl.DataFrame({"contact": ["a.b@mail.example", "a.b@mail.example", None, "-"], "n": [1, 2, 3, 4]})
    (found,) = judge.find(table)
    assert found == PersonalDataFinding("contact", Kind.EMAIL, 2, 4, 4)
    assert found.words() == "contact: email addresses in 2 of 4 rows"
    assert "mail.example" not in repr(found)


def test_of_a_large_table_a_part_is_looked_at_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "ROWS_MOST", 1_000)
    monkeypatch.setattr(judge, "CHECKED_MOST", 100)
    table = pl.DataFrame({"contact": [f"u{i}@mail.example" if i % 2 else None for i in range(5_000)]})
    (found,) = judge.find(table)
    assert (found.of, found.total, found.about) == (1_000, 5_000, True)
    assert found.rows == pytest.approx(500, rel=0.15)
    assert found.words().startswith("contact: email addresses in about ")
    assert found.words().endswith(" of 1,000 rows that were looked at, of 5,000")


def test_a_national_id_names_the_country_whose_check_it_passes() -> None:
    assert judge.find(corpus.column("pesel", corpus.IDS["pesel"], 0).to_frame())[0].countries == ("PL",)


def test_dates_are_dates_of_birth_by_the_name_of_their_column() -> None:
    days = pl.Series("date_of_birth", ["1980-02-01", "1999-12-31"]).str.to_date()
    assert kinds(days.to_frame()) == {Kind.BIRTH_DATE}
    assert kinds(days.rename("departure").to_frame()) == set()


def test_only_the_kinds_that_are_asked_for() -> None:
    table = pl.DataFrame({"email": ["a@mail.example"], "dob": ["1980-02-01"]})
    assert [found.kind for found in judge.find(table, [Kind.BIRTH_DATE])] == [Kind.BIRTH_DATE]


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame(),
        pl.DataFrame({"a": []}),
        pl.DataFrame({"email": [None, None]}),
        pl.DataFrame(
            {"b": [True, None], "f": [1.5, float("nan")], "g": [float("inf"), 1.0], "l": [[1], [2]], "s": [{"x": 1}] * 2}
        ),
        pl.DataFrame({"a": ["", "  ", "\x00", "\ud7ff" * 5000]}),
    ],
)
def test_odd_tables_hold_nothing(table: pl.DataFrame) -> None:
    assert judge.find(table) == ()


@pytest.mark.parametrize(
    ("column", "kind", "named"),
    [
        ("customerEmail", Kind.EMAIL, True),
        ("E-Mail", Kind.EMAIL, True),
        ("phone_model", Kind.PHONE, False),
        ("home_phone_2", Kind.PHONE, True),
        ("ip_address", Kind.ADDRESS, False),
        ("billing_address", Kind.ADDRESS, True),
        ("airline_name", Kind.NAME, False),
        ("LastName", Kind.NAME, True),
        ("card_type", Kind.CARD, False),
        ("tax_id", Kind.NATIONAL_ID, True),
        ("isbn_nin", Kind.NATIONAL_ID, False),
    ],
)
def test_the_name_of_a_column_is_evidence(column: str, kind: Kind, named: bool) -> None:
    assert is_named(kind, column) is named
