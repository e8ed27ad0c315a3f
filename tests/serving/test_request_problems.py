"""What is said of a request that is wrong in many ways: short, the first few in words, and never dearer than what is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.serving.problems import COUNTED, LISTED, NAME_LENGTH, SHOWN, Problems, nearest, render_names


def of(texts: list[str]) -> Problems:
    made = Problems()
    for text in texts:
        made.add(lambda text=text: text)  # type: ignore[misc]  # a default binds the loop's value
    return made


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, ""),
        (1, "p0"),
        (SHOWN, "p0; p1; p2; p3; p4"),
        (SHOWN + 1, "p0; p1; p2; p3; p4; and 1 more"),
        (COUNTED - 1, f"p0; p1; p2; p3; p4; and {COUNTED - 1 - SHOWN} more"),
        (COUNTED, f"p0; p1; p2; p3; p4; and at least {COUNTED - SHOWN} more"),
    ],
)
def test_the_first_few_are_told_and_the_rest_counted(count: int, said: str) -> None:
    made = of([f"p{n}" for n in range(count)])
    assert (str(made), bool(made), made.is_full) == (said, count > 0, count >= COUNTED)


def test_words_are_made_only_where_they_are_told() -> None:
    made, asked = Problems(), []
    for number in range(50):
        made.add(lambda number=number: asked.append(number) or str(number))  # type: ignore[misc, func-returns-value]  # counts calls
    assert asked == list(range(SHOWN))


@settings(max_examples=40)
@given(st.lists(st.text(max_size=3), max_size=12), st.lists(st.text(max_size=3), max_size=12))
def test_two_lists_are_told_as_one(first: list[str], second: list[str]) -> None:
    assert str(of(first).followed_by(of(second))) == str(of(first + second))
    assert of(first).followed_by(of(second)).count == len(first) + len(second)


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=200), max_size=LISTED * 2))
def test_a_list_of_names_is_bounded(names: list[str]) -> None:
    said = render_names(names)
    assert len(said) <= LISTED * (NAME_LENGTH + 2) + 20
    if len(names) <= LISTED:
        assert said == ", ".join(name[:NAME_LENGTH] for name in names)
    else:
        assert said.endswith(f" and {len(names) - LISTED} more")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("carier", "; did you mean 'carrier'?"),
        ("CARRIER", ""),
        ("distanse", "; did you mean 'distance'?"),
        ("zzz", ""),
        ("carrier" * 100, ""),
    ],
)
def test_the_nearest_name_is_offered_where_there_is_one(name: str, said: str) -> None:
    assert nearest(name, ["carrier", "distance", "origin"]) == said
