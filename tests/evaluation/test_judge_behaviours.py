"""What a verdict and a report say of behaviours, whatever model they were asked of."""

from __future__ import annotations

import msgspec
import pytest
from report_story import report as told_report

from noria.cli import report_text
from noria.evaluation import judge_behaviours
from noria.evaluation.store import read_evaluation
from noria.kernel.behaviour import Behaviour, BehaviourKind, BehaviourResult
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.views import report_markdown, report_page
from noria.views.report_records import ReportBehaviour


def result(failing: int = 0, rows: int = 100, allow: float = 0.0, **more: object) -> BehaviourResult:
    return msgspec.convert(
        {"name": "b", "words": "own:b holds", "rows": rows, "failing": failing, "allow": allow, **more}, BehaviourResult
    )


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (result(0), Outcome.PASS),
        (result(1), Outcome.FAIL),
        (result(5, allow=0.05), Outcome.PASS),
        (result(6, allow=0.05), Outcome.FAIL),
        (result(100, allow=1.0), Outcome.PASS),
        (result(3, rows=30, allow=0.1), Outcome.PASS),
        (result(1, rows=3, allow=1 / 3), Outcome.PASS),
        (result(0, rows=0), Outcome.NOT_ENOUGH_DATA),
        (result(0, rows=0, few="sex has one value in 3 held-out rows"), Outcome.NOT_ENOUGH_DATA),
        (result(0, rows=0, problem="own:b raised KeyError at own.py:3"), Outcome.FAIL),
        (result(0, rows=0, allow=1.0, problem="own:b raised KeyError at own.py:3"), Outcome.FAIL),
    ],
)
def test_rows_are_counted_and_what_was_not_run_fails(found: BehaviourResult, due: Outcome) -> None:
    assert judge_behaviours.outcome(found) is due
    (reason,) = judge_behaviours.judge([found])
    assert reason.outcome is due
    assert reason.code == "gate.behaviour"
    assert bool(reason.remedy) is (due is Outcome.NOT_ENOUGH_DATA)
    assert found.sentence in reason.text


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (result(0), "0 of 100 rows behave otherwise"),
        (result(6, allow=0.05), "6 of 100 rows (6 %) behave otherwise; 5 % may"),
        (result(1, rows=1), "1 of 1 row (100 %) behave otherwise"),
        (result(0, rows=0, few="sex has one value"), "could not be judged: sex has one value"),
        (result(0, rows=0, problem="there is no input sex"), "could not be run: there is no input sex"),
    ],
)
def test_the_sentence_has_its_numbers(found: BehaviourResult, due: str) -> None:
    assert found.sentence == due


def test_examples_are_named_where_it_fails_alone() -> None:
    shown = {"examples": ("row 4 (0.2 becomes 0.4)", "row 9 (0.1 becomes 0.3)")}
    failed, passed = judge_behaviours.judge([result(2, **shown), result(2, allow=0.5, **shown)])
    assert failed.text.endswith("such as row 4 (0.2 becomes 0.4); row 9 (0.1 becomes 0.3)")
    assert "row 4" not in passed.text
    assert failed.numbers == {"failing": 2.0, "n": 100.0, "allow": 0.0}


@pytest.mark.parametrize(
    ("behaviour", "due"),
    [
        (Behaviour("b", BehaviourKind.IGNORES, "sex"), "another sex changes no prediction"),
        (Behaviour("b", BehaviourKind.IGNORES, "sex", by=0.01), "another sex changes no prediction by more than 0.01"),
        (Behaviour("b", BehaviourKind.RISES_WITH, "delay"), "more delay lowers no prediction"),
        (Behaviour("b", BehaviourKind.FALLS_WITH, "delay", by=2), "more delay raises no prediction by more than 2"),
        (Behaviour("b", BehaviourKind.GIVEN, rows=({"a": 1},), expect="late"), "given rows are called late"),
        (Behaviour("b", BehaviourKind.GIVEN, rows=({"a": 1},), between=(0.5, 1)), "given rows are 0.5 to 1"),
        (Behaviour("b", BehaviourKind.CALL, "own:b"), "own:b holds"),
    ],
)
def test_each_kind_is_said_in_words(behaviour: Behaviour, due: str) -> None:
    assert behaviour.words == due


def test_an_evaluation_keeps_them_and_an_older_one_has_none() -> None:
    evaluation = Evaluation(100, 50, {}, behaviours=(result(2, examples=("row 4",)), result(0, rows=0, problem="why")))
    stored = msgspec.json.decode(msgspec.json.encode(evaluation))
    assert read_evaluation(stored).behaviours == evaluation.behaviours
    del stored["behaviours"]
    assert read_evaluation(stored).behaviours == ()
    assert read_evaluation(stored | {"behaviours": None}).behaviours == ()


def test_a_report_tells_them_as_text_on_each_surface() -> None:
    evil = "<script>alert(1)</script>"
    one = ReportBehaviour("blind", f"another {evil}", Outcome.FAIL, 100, 2, 0.0, "2 of 100 rows behave otherwise", (evil,))
    report = msgspec.structs.replace(told_report(), behaviours=(one,))
    page = report_page.render(report)
    assert "<h2>Behaviours" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert " <script>" not in report_markdown.render(report)
    assert "<summary>Behaviours</summary>" in report_markdown.render(report)
    assert "✗ blind" in report_text.render(report)
    assert report.document()["behaviours"][0]["failing"] == 2


def test_a_report_without_behaviours_has_no_section() -> None:
    report = msgspec.structs.replace(told_report(), behaviours=())
    for told in (report_text.render(report), report_markdown.render(report), report_page.render(report)):
        assert "Behaviours" not in told
