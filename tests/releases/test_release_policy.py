"""Which pins may be released, and which were barred."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from noria.kernel.pins import Pins
from noria.kernel.verdict import Outcome
from noria.releases import judge_release

PINS = Pins("ab" * 20, None, {"flights": "s1", "airports": "s2"}, "p", "c", "e")


def test_a_clean_commit_may_be_released() -> None:
    assert judge_release.may_release(PINS).sentence() == "commit ababababab is clean"
    assert judge_release.may_release(PINS).passed


@pytest.mark.parametrize(
    ("pins", "text"),
    [
        (replace(PINS, dirty="d"), "the tree has uncommitted changes: measured, not released"),
        (replace(PINS, commit=None), "there is no commit that identifies the code: measured, not released"),
    ],
)
def test_anything_else_is_only_measured(pins: Pins, text: str) -> None:
    verdict = judge_release.may_release(pins)
    assert (verdict.outcome, verdict.sentence()) == (Outcome.FAIL, text)


def test_identity_is_of_everything_but_the_environment() -> None:
    identity = judge_release.pins_identity(PINS)
    assert judge_release.pins_identity(replace(PINS, environment="other")) == identity
    assert judge_release.pins_identity(replace(PINS, snapshots=dict(reversed(PINS.snapshots.items())))) == identity
    changes = ({"commit": "x"}, {"dirty": "d"}, {"snapshots": {"flights": "s1"}}, {"params": "q"}, {"config": "q"})
    assert len({judge_release.pins_identity(replace(PINS, **change)) for change in changes} | {identity}) == 6


def test_barred_pins_are_recognised_in_any_environment() -> None:
    known = {judge_release.pins_identity(PINS): ("v7", "errors: 7 of 9 events on the canary")}
    found = judge_release.bar_reason(replace(PINS, environment="patched"), known)
    assert found is not None
    assert found.text == ("the same commit, data and parameters made v7, which is barred: errors: 7 of 9 events on the canary")
    assert judge_release.bar_reason(replace(PINS, params="q"), known) is None
