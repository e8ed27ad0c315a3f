"""Where a rollback goes, from any history of champions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.delivery.judge_rollback_target import Refusal, RollbackTarget, target

SOUND = {"v1": None, "v2": None, "v3": None}
HERE = {"v1", "v2", "v3"}


def test_it_goes_to_the_release_before() -> None:
    assert target(["v3", "v2", "v1"], SOUND, "v3", None, HERE) == RollbackTarget("v2", "v2 served before v3")


def test_the_second_time_it_goes_one_further_and_never_to_what_was_rolled_back() -> None:
    """v3 gave way to v2: v3 is barred, and v2 is the newest of the history."""
    releases = SOUND | {"v3": "rolled back: errors"}
    found = target(["v2", "v3", "v2", "v1"], releases, "v2", None, HERE)
    assert found == RollbackTarget("v1", "v1 served before v2 (v3 is barred: rolled back: errors)")


def test_a_release_that_came_back_by_hand_gives_way_to_the_one_that_served_between() -> None:
    found = target(["v2", "v3", "v2", "v1"], SOUND, "v2", None, HERE)
    assert isinstance(found, RollbackTarget)
    assert found.version == "v3"


def test_what_is_passed_over_is_named() -> None:
    releases = {"v1": None, "v3": "withdrawn by cli:anna: wrong labels", "v4": None}
    found = target(["v4", "v3", "v2", "v0", "v1"], releases | {"v2": None}, "v4", None, {"v1", "v4"})
    assert found == RollbackTarget(
        "v1",
        "v1 served before v4 (v3 is barred: withdrawn by cli:anna: wrong labels; "
        "the bundle of v2 is no longer on this machine; v0 is no longer known)",
    )


@pytest.mark.parametrize(
    ("history", "releases", "here", "text", "hint"),
    [
        (["v3"], SOUND, HERE, "no other release served before v3: there is no release to return to", "noria promote VERSION"),
        ([], SOUND, HERE, "no other release served before v3", "noria promote VERSION"),
        (["v3", "v3"], SOUND, HERE, "no other release served before v3", "noria promote VERSION"),
        (["v3", "v2"], SOUND | {"v2": "why"}, HERE, "no release to return to from v3: v2 is barred: why", "noria release lift"),
        (["v3", "v2"], SOUND, {"v3"}, "the bundle of v2 is no longer on this machine", "noria reproduce"),
    ],
)
def test_it_says_why_there_is_nowhere_to_go(
    history: list[str], releases: dict[str, str | None], here: set[str], text: str, hint: str
) -> None:
    found = target(history, releases, "v3", None, here)
    assert isinstance(found, Refusal)
    assert text in found.text
    assert hint in found.hint


@pytest.mark.parametrize(
    ("wanted", "releases", "here", "said"),
    [
        ("v1", SOUND, HERE, RollbackTarget("v1", "v1 was asked for")),
        ("v2", SOUND, HERE, RollbackTarget("v2", "v2 was asked for; it never served here")),
        ("v9", SOUND, HERE, Refusal("there is no release v9", "`noria releases` lists them.")),
        ("v3", SOUND, HERE, Refusal("v3 already serves", "`noria status` shows what serves where.")),
        (
            "v1", SOUND | {"v1": "slow"}, HERE,
            Refusal("v1 is barred: slow", "`noria release lift v1` lifts the bar; `noria promote v1` does both."),
        ),
        (
            "v1", SOUND, {"v3"},
            Refusal(
                "the bundle of v1 is no longer on this machine",
                "It was collected or erased. `noria reproduce v1` rebuilds it from its record.",
            ),
        ),
    ],
)  # fmt: skip
def test_one_that_is_named(wanted: str, releases: dict[str, str | None], here: set[str], said: RollbackTarget | Refusal) -> None:
    assert target(["v3", "v1"], releases, "v3", wanted, here) == said


VERSIONS = st.sampled_from([f"v{i}" for i in range(1, 7)])


@given(
    st.lists(VERSIONS, max_size=12),
    st.dictionaries(VERSIONS, st.one_of(st.none(), st.just("why"))),
    VERSIONS,
    st.sets(VERSIONS),
)
def test_whatever_the_history_what_takes_over_served_before_and_is_fit(
    history: list[str], releases: dict[str, str | None], present: str, here: set[str]
) -> None:
    found = target(history, releases, present, None, here)
    tail = history[history.index(present) + 1 :] if present in history else history
    fit = [v for v in tail if v != present and v in releases and releases[v] is None and v in here]
    assert (found.version if isinstance(found, RollbackTarget) else None) == (fit[0] if fit else None)


@given(st.lists(VERSIONS, min_size=1, max_size=8, unique=True))
def test_rolling_back_again_and_again_visits_each_release_once_and_ends(served: list[str]) -> None:
    releases: dict[str, str | None] = dict.fromkeys(served)
    history, visited = list(served), [served[0]]
    while isinstance(found := target(history, releases, history[0], None, set(served)), RollbackTarget):
        releases[history[0]] = "rolled back"
        history.insert(0, found.version)
        visited.append(found.version)
    assert visited == served
