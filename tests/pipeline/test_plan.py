"""When a step runs and what it says; when a whole run is the same work."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.kernel.pins import Pins
from noria.pipeline import judge_staleness
from noria.pipeline.judge_staleness import StepFacts

FACTS = StepFacts(
    code="c1",
    files={"delays/table.py": "f1", "delays/model.py": "f2"},
    inputs={"flights": "s1"},
    params={"learning_rate": "p1", "depth": "p2"},
    command=None,
    environment="e1",
)

CHANGES = [
    ({"code": "c2", "files": {**FACTS.files, "delays/table.py": "x"}}, "code changed: delays/table.py", "step.code_changed"),
    ({"code": "c2"}, "code changed", "step.code_changed"),
    ({"inputs": {"flights": "s2"}}, "input changed: flights", "step.input_changed"),
    ({"params": {"depth": "p2"}}, "parameter changed: learning_rate (gone)", "step.parameter_changed"),
    ({"params": {**FACTS.params, "seed": "p3"}}, "parameter changed: seed (new)", "step.parameter_changed"),
    ({"command": "make"}, "command changed", "step.command_changed"),
    ({"environment": "e2"}, "environment changed", "step.environment_changed"),
    ({"inputs": {"flights": "s2"}, "environment": "e2"}, "input changed: flights; environment changed", "step.input_changed"),
    (
        {"params": dict.fromkeys("abcde", "x")},
        "parameter changed: a (new), b (new), c (new) and 4 more",
        "step.parameter_changed",
    ),
]


@pytest.mark.parametrize(("change", "text", "code"), CHANGES, ids=[c[1] for c in CHANGES])
def test_what_changed_is_named(change: dict[str, object], text: str, code: str) -> None:
    now = replace(FACTS, **change)
    decision = judge_staleness.decide(now, FACTS, cached=False)
    assert (decision.run, decision.reason.text, decision.reason.code) == (True, text, code)
    assert judge_staleness.key(now) != judge_staleness.key(FACTS)


def test_without_a_change() -> None:
    assert judge_staleness.decide(FACTS, None, cached=False).reason.text == "never ran"
    assert judge_staleness.decide(FACTS, FACTS, cached=True) == judge_staleness.StalenessDecision(
        False, judge_staleness.Reason("step.unchanged", "unchanged")
    )
    gone = judge_staleness.decide(FACTS, FACTS, cached=False)
    assert gone.run
    assert gone.reason.text == "its result is gone"


@pytest.mark.parametrize("before", [None, replace(FACTS, code="old")])
def test_a_revert_is_remembered(before: StepFacts | None) -> None:
    decision = judge_staleness.decide(FACTS, before, cached=True)
    assert (decision.run, decision.reason.text) == (False, "the result of an equal run is used")


def test_key_does_not_depend_on_order_but_on_every_field() -> None:
    turned = replace(FACTS, files=dict(reversed(FACTS.files.items())), params=dict(reversed(FACTS.params.items())))
    assert judge_staleness.key(turned) == judge_staleness.key(FACTS)
    moved = replace(FACTS, inputs={}, params={**FACTS.params, "flights": "s1"})  # the same text in another field
    assert judge_staleness.key(moved) != judge_staleness.key(FACTS)
    assert judge_staleness.key(replace(FACTS, command="")) != judge_staleness.key(FACTS)


names = st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3)
facts = st.builds(StepFacts, st.text(max_size=3), names, names, names, st.none() | st.text(max_size=3), st.text(max_size=3))


@given(facts, facts)
def test_equal_keys_mean_equal_facts(a: StepFacts, b: StepFacts) -> None:
    assert (judge_staleness.key(a) == judge_staleness.key(b)) == (a == b)
    assert judge_staleness.decide(a, b, cached=False).reason.text == "its result is gone" or a != b


@given(facts)
def test_facts_survive_the_ledger(a: StepFacts) -> None:
    assert msgspec.convert(msgspec.to_builtins(a), StepFacts) == a


def test_same_work() -> None:
    pins = Pins("ab" * 20, None, {"flights": "s1"}, "p", "c", "e")
    assert judge_staleness.same_work(pins, None) is None
    same = judge_staleness.same_work(pins, replace(pins, snapshots={"flights": "s1"}))
    assert same is not None
    assert same.text == "nothing changed: same commit, data, parameters and environment"
    for change in ({"commit": "x"}, {"dirty": "d"}, {"snapshots": {}}, {"params": "q"}, {"config": "q"}, {"environment": "f"}):
        assert judge_staleness.same_work(replace(pins, **change), pins) is None
