"""What a name stands for when two runs are compared: release, turn, run, environment, `latest`; and what is said of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_line import SmallLine, points, small_line

from noria.engine import actions
from noria.kernel.errors import NotFoundError, UsageError
from noria.kernel.trigger import TriggerKind
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.storage.ledger import Ledger
from noria.views import comparison
from noria.views.comparison import Archive
from noria.views.turn_reference import find_turn


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLine]:
    """Turn 1 had no data; v1 and v2 of turns 2 and 3; turn 4 found nothing new; v1 serves again."""
    with small_line(tmp_path_factory.mktemp("named")) as made:
        assert made.turned().run_id is None
        made.deliver("points-01.csv", points(1))
        made.turned()
        made.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.2)")
        made.commit("smaller")
        made.deliver("points-02.csv", points(2))
        made.turned()
        actions.trigger(made.context, "again", "cli:anna")
        again = made.turn()
        assert again is not None
        assert again.outcome is TurnOutcome.NOTHING_CHANGED
        actions.roll_back(made.context, "production", "cli:anna")
        yield made


@pytest.fixture
def archive(line: SmallLine) -> Archive:
    return Archive(line.ledger, line.context.blobs, "p", line.home, line.context.state)


def run_of(line: SmallLine, turn: int) -> str:
    found = TurnStore(line.ledger, "p").find(str(turn))
    assert found is not None
    return found.run_id or ""


@pytest.mark.parametrize(
    ("ref", "turn", "name"),
    [
        ("v1", 2, "v1"),
        ("v2", 3, "v2"),
        ("2", 2, "turn 2"),
        ("3", 3, "turn 3"),
        ("4", 4, "turn 4"),
        ("production", 2, "v1 (serves production)"),
    ],
)
def test_names_stand_for_runs(line: SmallLine, archive: Archive, ref: str, turn: int, name: str) -> None:
    found = comparison.find(archive, ref)
    assert (found.run.id, found.name) == (run_of(line, turn), name)


def test_the_latest_is_the_newest_that_did_something(line: SmallLine, archive: Archive) -> None:
    found = comparison.find(archive, "latest")
    assert (found.run.id, found.name) == (run_of(line, 3), f"{run_of(line, 3)} (latest)")
    assert found.release is not None
    assert found.release.version == "v2"


def test_an_id_and_its_beginning_stand_for_a_run(line: SmallLine, archive: Archive) -> None:
    for turn in (2, 3):
        whole = run_of(line, turn)
        assert comparison.find(archive, whole).run.id == whole
        assert comparison.find(archive, whole[:-1]).run.id == whole
    turn_id = TurnStore(line.ledger, "p").find("2")
    assert turn_id is not None
    assert comparison.find(archive, turn_id.id).name == "turn 2"
    digest = ReleaseStore(line.ledger, "p").get("v1").digest
    assert comparison.find(archive, digest[:12]).name == "v1"


def test_digits_name_a_turn_first_and_a_digest_where_there_is_no_such_turn(tmp_path: Path) -> None:
    """One digest in 300 has no letter among its first 12: `noria show` and `noria diff` took it for a turn's number."""
    with closing(Ledger.open(tmp_path)) as ledger:
        TriggerStore(ledger, "p").add(TriggerKind.MANUAL, "by hand")
        turn = TurnStore(ledger, "p").start()
        assert turn is not None
        ReleaseStore(ledger, "p").seal("385701129135" + "a" * 52, "run-x", None, ServedForm.COMPILED, None, {}, "pins")
        assert find_turn(ledger, "p", "1") == find_turn(ledger, "p", turn.id) == turn
        for other in ("385701", "385701129135", "v1", "latest", "run-1", "production"):
            assert find_turn(ledger, "p", other) is None
        for missing in ("38570", "385702", "9" * 12, "turn-nothing"):
            with pytest.raises(NotFoundError, match=f"^there is no turn {missing}"):
                find_turn(ledger, "p", missing)


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("v9", NotFoundError, "there is no release v9"),
        ("9", NotFoundError, "there is no turn 9"),
        ("1", UsageError, "turn 1 has no run to compare: it ended before (check failed)"),
        ("staging", NotFoundError, "there is no run staging"),
        ("run-", NotFoundError, "run- may be any of "),
        ("", NotFoundError, " may be any of "),
    ],
)
def test_other_names_are_refused_with_what_there_is(archive: Archive, ref: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as told:
        comparison.find(archive, ref)
    assert str(told.value.message).startswith(message)  # type: ignore[attr-defined]  # a NoriaError
    assert told.value.hint  # type: ignore[attr-defined]  # a NoriaError


def test_sides_that_are_not_named_are_what_serves_and_the_latest(line: SmallLine, archive: Archive) -> None:
    serves, latest = run_of(line, 2), run_of(line, 3)
    for first, second, due in [
        (None, None, (serves, latest)),
        ("v2", None, (latest, serves)),
        ("v1", None, (serves, latest)),  # it serves itself: beside the latest
        ("v2", "v1", (latest, serves)),
        ("v1", "v1", (serves, serves)),
    ]:
        before, after = comparison.defaults(archive, first, second)
        assert (before.run.id, after.run.id) == due


def test_what_differs_is_what_was_changed(line: SmallLine, archive: Archive) -> None:
    first, second = comparison.find(archive, "v1"), comparison.find(archive, "v2")
    found = comparison.difference(archive, first, second)
    assert found.code.files is not None
    assert [file.path for file in found.code.files] == ["model.py"]
    same = comparison.difference(archive, first, first)
    assert same.code.files == ()
    side = comparison.side(archive, second)
    assert side.snapshots["points"] is not None
    assert [pin.name for pin in side.snapshots["points"].files] == ["data/points-01.csv", "data/points-02.csv"]
    assert side.evaluation is not None
    assert side.evaluation.champion == "v1"
    assert set(side.steps) >= {"train", "package", "score.candidate"}
