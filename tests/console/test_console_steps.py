"""A rollout in ten seconds: its steps in every state, one sentence, bars that tell the truth, and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import console_story as story
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.cli import group
from noria.delivery import judge_advance
from noria.delivery.judge_guards import Evidence
from noria.delivery.rollout_record import Analysis, Interval, RolloutState, evidence_words
from noria.engine.offered_actions import offered_actions
from noria.kernel.policy import QualityGuard, RolloutPolicy, RolloutStep, StepKind
from noria.serving.tallies import Tally
from noria.views import rollout_steps

EVERY = {e.name: e.canary or e.probation for e in story.every_state().environments}
POLICY = RolloutPolicy(
    steps=(
        RolloutStep(StepKind.CANARY, 0.1),
        RolloutStep(StepKind.PAUSE, seconds=600),
        RolloutStep(StepKind.APPROVE, approvals=1),
        RolloutStep(StepKind.CANARY, 1.0),
    )
)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("waiting", "next next next"),
        ("replay", "here next next next"),
        ("canary", "done here next"),
        ("held", "done here next"),
        ("probation", "done done done here"),
    ],
)
def test_the_plan_tells_where_it_is(state: str, told: str) -> None:
    canary = EVERY[state]
    assert canary is not None
    assert " ".join(step.where for step in rollout_steps.plan(canary.rollout)) == told


@pytest.mark.parametrize("state", [RolloutState.WAITING, RolloutState.REPLAY])
def test_one_held_early_stands_where_it_was(state: RolloutState) -> None:
    held = replace(story.ROLLOUT, state=RolloutState.HELD, resumes=state, step=0)
    assert rollout_steps.plan(held) == rollout_steps.plan(replace(held, state=state, resumes=None))


def judged(
    step: int, blocks: tuple[Interval, ...], moment: judge_advance.AnalysisMoment, policy: RolloutPolicy = POLICY
) -> Analysis:
    """What the judge itself says: the page must understand its sentences."""
    ruling = judge_advance.judge(policy, step, Evidence(blocks), moment)
    return Analysis(1.0, ruling.reason.text, ruling.stands, ruling.reason.code)


SEEN = (Interval(0.1, Tally(3_700, 2, 5), Tally(412, 1, 1), 1),)


@pytest.mark.parametrize(
    ("step", "moment", "left"),
    [
        (0, judge_advance.AnalysisMoment(), "v4 goes on"),  # nothing but guards: what began the step is told
        (1, judge_advance.AnalysisMoment(step_s=0.0), "paused for 10 min more"),
        (2, judge_advance.AnalysisMoment(), "waits for 1 approval (`noria approve`)"),
    ],
)
def test_the_headline_leaves_out_what_the_bars_show(step: int, moment: judge_advance.AnalysisMoment, left: str) -> None:
    look = judged(step, SEEN, moment)
    assert "for safety" in look.text
    rollout = replace(story.ROLLOUT, step=step, look=look, reason="v4 goes on")
    assert rollout_steps.headline(rollout) == left


def test_a_held_one_tells_why() -> None:
    look = judged(0, SEEN, judge_advance.AnalysisMoment(patient_s=10_000_000))
    assert look.text.startswith("no verdict within")
    held = replace(story.ROLLOUT, state=RolloutState.HELD, reason=f"v4 held at 10 %: {look.text}", look=look)
    assert re.fullmatch(r"v4 held at 10 %: no verdict within [\w ]+", rollout_steps.headline(held))
    asked = replace(held, reason="v4 held by anna: errors look odd; wait for the labels")
    assert rollout_steps.headline(asked) == asked.reason


def test_harm_stays_told_when_nothing_else_is() -> None:
    look = judged(0, (Interval(0.1, Tally(3_700, 0, 0), Tally(412, 60, 0), 1),), judge_advance.AnalysisMoment())
    assert rollout_steps.headline(replace(story.ROLLOUT, look=look, reason="v4 begun")) == "roll back"
    assert rollout_steps.guard_summary(look.stands) == "harm shown by errors"


def test_what_it_says_of_several_guards_leaves_no_marks_behind() -> None:
    """The step that ended was cleared by two guards, and the look since is only of guards: no `: :` stays of them."""
    look = judged(0, SEEN, judge_advance.AnalysisMoment())
    assert {stand.guard for stand in look.stands} >= {"errors", "slow answers"}
    told = "; ".join(f"{stand.guard}: {stand.text}; for safety 4.7 of 2.7, for harm 1 of 400" for stand in look.stands)
    rollout = replace(story.ROLLOUT, look=look, reason=f"v4 goes from 0 % to 10 %: {told}: go on to 10 % of traffic")
    assert rollout_steps.headline(rollout) == "v4 goes from 0 % to 10 %: go on to 10 % of traffic"


def test_probation_tells_how_long() -> None:
    policy = replace(POLICY, probation_s=7_200.0, guards=replace(POLICY.guards, quality=QualityGuard("brier", 0.02, 1.0)))
    ruling = judge_advance.judge_probation(policy, Evidence(SEEN), judge_advance.AnalysisMoment())
    look = Analysis(1.0, ruling.reason.text, ruling.stands)
    rollout = replace(story.ROLLOUT, state=RolloutState.PROBATION, look=look)
    assert re.fullmatch(r"on probation for [\w ]+ more", rollout_steps.headline(rollout))


@pytest.mark.parametrize("state", list(EVERY))
def test_each_way_is_a_command_that_exists(state: str, tmp_path: Path) -> None:
    (tmp_path / "noria.yaml").write_text("project: p\n")
    canary = EVERY[state]
    assert canary is not None
    found = offered_actions(canary)
    assert found
    for way in found:
        program, *words = shlex.split(way.command)
        # Options that a command does not know are refused before it shows its help.
        shown = CliRunner().invoke(group, ["-C", str(tmp_path), *words, "--help"], prog_name="noria")
        assert (program, shown.exit_code) == ("noria", 0), shown.output
        assert shown.output.startswith(f"Usage: noria {' '.join(w for w in words if w not in ('v4', '-e', state))} ")
        assert words[-2:] == ["-e", state]


def test_an_approval_is_offered_where_one_is_asked_for() -> None:
    offered = {name: any("approve" in way.command for way in offered_actions(c)) for name, c in EVERY.items() if c}
    assert offered == {"waiting": True, "replay": False, "canary": False, "held": False, "probation": False}
    asking = replace(story.ROLLOUT, look=judged(2, SEEN, judge_advance.AnalysisMoment()))
    canary = EVERY["canary"]
    assert canary is not None
    assert "noria approve v4 -e production" in [way.command for way in offered_actions(replace(canary, rollout=asking))]


@given(st.floats(0, 1e300), st.floats(0, 1e300), st.floats(1.001, 1e6))
def test_bars_are_in_order_and_pass_the_mark_exactly_when_it_is_enough(one: float, other: float, needed: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= rollout_steps.reach(low, needed) <= rollout_steps.reach(high, needed) <= 100
    if abs(one - needed) > 0.01 * needed:
        assert (rollout_steps.reach(one, needed) >= rollout_steps.MARK) == (one > needed) or needed < 1.2


@pytest.mark.parametrize(("evidence", "needed", "width"), [(1.0, 1.0, 100.0), (0.5, 1.0, 0.0), (10, 100, 40.0), (100, 100, 80.0)])
def test_reach(evidence: float, needed: float, width: float) -> None:
    assert rollout_steps.reach(evidence, needed) == width


@pytest.mark.parametrize(
    ("evidence", "text"),
    [(0.0, "0"), (0.8, "0.8"), (1.0, "1"), (8.44, "8.4"), (99.96, "100"), (212.4, "212"), (2e5, "200,000"), (3e9, ">1,000,000")],
)
def test_told(evidence: float, text: str) -> None:
    assert evidence_words(evidence) == text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("waits (`noria approve v4`)", "waits (<code>noria approve v4</code>)"),
        ("`<b>` & `x`", "<code>&lt;b&gt;</code> &amp; <code>x</code>"),
        ("one ` alone <i>", "one ` alone &lt;i&gt;"),
    ],
)
def test_codes(text: str, html: str) -> None:
    assert str(rollout_steps.codes(text)) == html
