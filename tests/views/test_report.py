"""The report of a candidate, passed and failed: what it says, in which order, and where it finds it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from small_line import CONFIG, SmallLine, points, small_line

from noria.cli import report_text
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import NotFoundError
from noria.kernel.verdict import Outcome
from noria.releases.decision_store import DecisionKind, DecisionStore
from noria.stats.measures import Measure
from noria.storage.blobs import BlobStore
from noria.views import report as view
from noria.views import report_markdown, report_words
from noria.views.comparison import Archive
from noria.views.report_records import Report, ReportSlice

GATES = 'gates: ["roc_auc >= 0.6", "roc_auc >= champion - 0.05", "accuracy >= 0.5 at 95%"]'


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLine]:
    """Turn 1 released v1; turn 2's candidate knows nothing and fails; turn 3's file was refused."""
    text = CONFIG.replace('gates: ["roc_auc >= 0.6"]', GATES)
    with small_line(tmp_path_factory.mktemp("line"), text=text) as made:
        made.deliver("points-01.csv", points(1, 600))
        made.turned()
        made.edit("model.py", "fit(features, label.to_numpy())", "fit(features * 0, label.to_numpy())")
        made.commit("know nothing")
        made.turned()
        made.deliver("points-03.csv", "id,a,y\n1,99,1\n")
        made.turned()
        yield made


def archive(line: SmallLine) -> Archive:
    state = line.context.state
    return Archive(line.ledger, BlobStore(state / "blobs"), line.name, line.home, state)


@pytest.fixture(scope="module")
def passed(line: SmallLine) -> Report:
    return view.read_report(archive(line), "v1")


@pytest.fixture(scope="module")
def failed(line: SmallLine) -> Report:
    return view.read_report(archive(line), "2")


def test_what_passed(passed: Report) -> None:
    assert passed.outcome is Outcome.PASS
    assert passed.headline == "v1 passed all 3 gates; nothing serves yet that it could be compared with."
    assert [gate.gate for gate in passed.gates] == ["roc_auc >= 0.6", "roc_auc >= champion - 0.05", "accuracy >= 0.5 at 95%"]
    assert (passed.champion, passed.changes, passed.remedies) == (None, None, ())
    assert passed.afterwards.startswith("Turn 1: promoted, v1.")
    assert [d.dataset for d in passed.data] == ["points"]
    assert passed.data[0].rows == 600
    assert {fact.name for fact in passed.lineage} >= {"release", "run", "turn", "commit", "parameters", "environment"}


def test_what_failed_has_its_report_too(failed: Report) -> None:
    assert failed.outcome is Outcome.FAIL
    assert failed.headline.startswith("The candidate of turn 2 failed ")
    assert failed.headline.endswith(f"beside v1 on the same {failed.rows:,} rows.")
    order = [gate.outcome for gate in failed.gates]
    assert order == sorted(order, key=[Outcome.FAIL, Outcome.NOT_ENOUGH_DATA, Outcome.PASS].index)
    assert failed.why
    assert all(gate.remedy for gate in failed.gates if gate.outcome is Outcome.FAIL)
    assert all("roc_auc" in why or "accuracy" in why for why in failed.why)
    auc = failed.metrics[0]
    assert (auc.name, auc.verdict, auc.gated, auc.greater_is_better) == ("roc_auc", "worse", True, True)
    assert auc.difference is not None
    assert auc.difference < 0
    (code,) = [part for part in report_words.changed_parts(failed.changes) if part.part == "code"]
    assert "model.py  +1 -1" in code.lines
    assert failed.curves is not None
    assert failed.curves.champion_name == "v1"


def test_the_newest_is_the_default_and_every_name_leads_there(line: SmallLine, failed: Report) -> None:
    known = archive(line)
    turn = EvaluationStore(line.ledger, line.name).newest()
    assert turn is not None
    assert view.read_report(known, None).document() == failed.document()
    assert view.read_report(known, turn.run_id).document() == failed.document()
    assert view.read_report(known, turn.turn_id).document() == failed.document()
    assert view.read_report(known, "production").name == "v1"


def test_what_a_person_decided_is_shown_with_the_release(line: SmallLine) -> None:
    known = archive(line)
    store = DecisionStore(line.ledger, line.name)
    store.ask("v1", DecisionKind.GATES, "roc_auc is measured on 40 rows")
    store.accept("v1", DecisionKind.GATES, "cli:anna", "the labels come late")
    try:
        decided = ("accepted by cli:anna (the labels come late): roc_auc is measured on 40 rows",)
        assert view.read_report(known, "v1").decisions == decided
    finally:
        line.ledger.database.execute("DELETE FROM release_decisions")


def test_a_turn_that_ended_before_says_how(line: SmallLine) -> None:
    with pytest.raises(NotFoundError, match=r"turn 3 has evaluated no candidate: it ended before .quarantined: "):
        view.read_report(archive(line), "3")
    with pytest.raises(NotFoundError, match="there is no turn 9"):
        view.read_report(archive(line), "9")


def test_a_release_without_its_turn_has_the_report_of_its_evidence(line: SmallLine, passed: Report) -> None:
    line.ledger.database.execute("ALTER TABLE evaluations RENAME TO aside")
    try:
        line.ledger.database.execute("CREATE TABLE evaluations AS SELECT * FROM aside WHERE 0")
        found = view.read_report(archive(line), "v1")
    finally:
        line.ledger.database.execute("DROP TABLE evaluations")
        line.ledger.database.execute("ALTER TABLE aside RENAME TO evaluations")
    assert {m.name: m.candidate for m in found.metrics} == {m.name: m.candidate for m in passed.metrics}
    assert found.curves == passed.curves
    assert found.outcome is Outcome.PASS


def test_an_evaluation_of_before_says_that_curves_were_not_recorded(line: SmallLine) -> None:
    line.ledger.database.execute("ALTER TABLE evaluation_curves RENAME TO aside")
    try:
        line.ledger.database.execute("CREATE TABLE evaluation_curves AS SELECT * FROM aside WHERE 0")
        found = view.read_report(archive(line), "2")
    finally:
        line.ledger.database.execute("DROP TABLE evaluation_curves")
        line.ledger.database.execute("ALTER TABLE aside RENAME TO evaluation_curves")
    assert found.curves is None
    for text in (report_text.render(found), report_markdown.render(found)):
        assert "curves were not recorded" in text


def test_the_document_is_json_with_null_for_what_could_not_be_measured(failed: Report) -> None:
    unmeasured = replace(failed.metrics[0], candidate=Measure(float("nan"), 0.1, 0.2, 3))
    document = replace(failed, metrics=(unmeasured,)).document()
    assert json.loads(json.dumps(document, allow_nan=False))["metrics"][0]["candidate"]["value"] is None


def test_the_order_is_that_of_a_person(failed: Report) -> None:
    for text in (report_text.render(failed), report_markdown.render(failed)):
        places = [text.index(part) for part in (failed.headline, failed.gates[0].gate[-9:], "What changed", "Data", "Lineage")]
        assert places == sorted(places)


def test_slices_stand_by_harm() -> None:
    def one(value: str, behind: float, shown: float) -> ReportSlice:
        return ReportSlice("c", value, "roc_auc", Measure(0.5, 0.4, 0.6, 100), behind, shown)

    assert report_words.behind_words(one("a", 0.1, 0.02)) == "0.1 worse than all rows, beyond its bound"
    assert report_words.behind_words(one("a", 0.1, 0.0)) == "0.1 worse than all rows, within its bound"
    assert report_words.behind_words(one("a", -0.1, 0.0)) == "0.1 better than all rows"


def test_markdown_makes_no_markup_of_what_a_project_names() -> None:
    said = report_markdown.text("<script>alert(1)</script> @team #12 [x](http://e) a|b *b* `c`\x1b[1m\nnext")
    assert said == (
        r"\<script>alert(1)\</script> \@team \#12 \[x\](http://e) a\|b \*b\* \`c\`" + "\N{REPLACEMENT CHARACTER}" + r"\[1m next"
    )
