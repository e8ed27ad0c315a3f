"""Each arrow of the line on its own, in process: the table in tests/README.md names the test of each.

A test gives an arrow good input and bad, and asks what stands in the ledger behind it; what is compared is recomputed here
(digests from bytes, joins by hand), never read back from the code that made it.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from answering import answering
from blake3 import blake3
from small_line import CONFIG, DAY_S, MONDAY, SmallLine, git, points, small_line

from noria.data.store import DataStore
from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import actions, turn_runner
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import StoreError
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome
from noria.monitor.judge_retraining import Breach
from noria.monitor.retraining import learn
from noria.monitor.store import QualityStore
from noria.pipeline import steps
from noria.pipeline.run_store import RunStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Stage, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.predictions.reader import LogReader
from noria.predictions.records import Feedback, Prediction
from noria.releases.bundle import stored_bundle
from noria.releases.store import ReleaseStore
from noria.storage.lease import HeldJob


@pytest.fixture
def line(tmp_path: Path) -> Iterator[SmallLine]:
    """One commit, no data, nothing serves."""
    with small_line(tmp_path) as made:
        yield made


DATA_ALONE = CONFIG[: CONFIG.index("model:")]


# -- trigger -> turn


def test_what_is_pending_becomes_one_turn_and_starts_no_second(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    line.deliver("points-02.csv", points(2))
    assert line.look() == 3  # the commit, and each file
    assert line.look() == 0  # nothing is told twice
    actions.trigger(line.context, "please", "cli:anna")
    pending = TriggerStore.of(line.context).pending()
    assert [t.kind for t in pending] == [TriggerKind.PUSH, TriggerKind.DATA, TriggerKind.DATA, TriggerKind.MANUAL]

    other = HeldJob.claim(line.ledger, "p", "turn", "p")
    assert other is not None
    with other:
        assert line.turn() is None  # another engine is at it
        assert TriggerStore.of(line.context).pending() == pending
    turn = line.turn()
    assert turn is not None
    assert turn.triggers == tuple(t.id for t in pending)
    assert turn.trigger == "; ".join(f"{t.kind}: {t.reason}" for t in pending)
    assert TriggerStore.of(line.context).of_turn(turn.id) == [msgspec.structs.replace(t, turn_id=turn.id) for t in pending]
    assert line.turn() is None
    assert line.restarted().look() == 0  # nor by an engine that begins now


def test_a_branch_that_goes_back_is_a_trigger_again(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    line.turned()
    line.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.1)")
    second = line.commit("second")
    assert line.look() == 1
    git(line.home, "reset", "-q", "--hard", "HEAD~1")
    assert line.look() == 1
    told = TriggerStore.of(line.context).pending()[-1].reason
    assert told.endswith(f"first (the branch went back to it: it no longer holds {second[:10]}, its former head)")


# -- data -> snapshot


def test_accepted_files_are_the_snapshot_whatever_their_order_and_refused_ones_are_not(tmp_path: Path) -> None:
    found = set()
    for number, order in enumerate(itertools.permutations((1, 2, 3))):
        if number % 3:
            continue
        with small_line(tmp_path / str(number), text=DATA_ALONE) as line:
            line.look()
            for month in order:
                line.deliver(f"points-0{month}.csv", points(month, 20))
                line.deliver(f"points-1{month}.csv", points(month + 10, 20).replace(",1\n", ",7\n"))  # no class
                line.turned()
            head = DataStore.of(line.context).current("points")
            assert [pin.name for pin in head.files] == [f"data/points-0{month}.csv" for month in (1, 2, 3)]
            assert [pin.digest for pin in head.files] == [blake3(points(n, 20).encode()).hexdigest() for n in (1, 2, 3)]
            found.add(head.digest)
            refused = line.events("data.quarantined")
            assert len(refused) == 3
            assert all(text.endswith("rows hold 1 value other than 0, 1") for text in refused)  # and not which: it is a row
    assert len(found) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,a,y\n1,99.5,1\n2,0.5,0\n", "a: 1 of 2 rows lie outside -10 to 10 (0 below, 1 above)"),
        ("id,a,y\n1,-10,1\n2,-10.001,0\n", "a: 1 of 2 rows lie outside -10 to 10 (1 below, 0 above)"),
        ("id,a,y\n1,0.5,1\n1,0.6,0\n", "1 of 2 rows repeat the (id) of a row before them in this file"),
        ("id,a,y\n1,,1\n", "a: 100 % of 1 row are empty; the contract allows 0 %"),
        (
            "id,b,y\n1,2,1\n",
            "has the column b, which the files accepted before have not; listed in contracts/points.yaml, it is taken",
        ),
        ("", "is empty (0 bytes)"),
        ("\x00\x01\x02", "is named .csv but is not text"),
    ],
    ids=["above", "below", "twice", "null", "no column", "empty", "no text"],
)
def test_a_file_that_breaks_its_contract_is_refused_whole(line: SmallLine, content: str, words: str) -> None:
    line.deliver("points-01.csv", points(1, 30))
    line.deliver("points-02.csv", content)
    line.look()
    turn = line.turn()
    assert turn is not None
    (refused,) = line.events("data.quarantined")
    assert refused == f"data/points-02.csv quarantined: {words}"
    assert [pin.name for pin in DataStore.of(line.context).current("points").files] == ["data/points-01.csv"]
    line.deliver("points-03.csv", content.replace("\x00", "\x03"))
    again = line.turned()  # nothing but refused data: the turn says so, and makes nothing
    assert again.outcome is TurnOutcome.QUARANTINED
    assert again.reason.startswith("data/points-03.csv quarantined: ")


# -- snapshot -> run


def test_a_run_is_of_the_data_that_it_pinned_and_equal_pins_are_equal_work(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    first = RunStore.of(line.context).get(line.turned().run_id or "")
    assert first.pins.snapshots == {"points": DataStore.of(line.context).head("points").digest}
    ran = list(line.pool.ran)
    actions.trigger(line.context, "again", "cli:anna")
    again = line.turn()
    assert again is not None
    assert (again.outcome, line.pool.ran) == (TurnOutcome.NOTHING_CHANGED, ran)
    assert RunStore.of(line.context).get(again.run_id or "").pins == first.pins
    line.deliver("points-02.csv", points(2))
    second = RunStore.of(line.context).get(line.turned().run_id or "")
    assert (second.pins.commit, second.pins.params) == (first.pins.commit, first.pins.params)
    assert second.pins.snapshots != first.pins.snapshots
    assert sorted(line.pool.ran[len(ran) :]) == ["package", "score.candidate", "score.champion", "train"]


def test_without_accepted_data_there_is_no_run(line: SmallLine) -> None:
    turn = line.turned()
    assert (turn.outcome, turn.run_id, line.pool.ran) == (TurnOutcome.CHECK_FAILED, None, [])
    assert "dataset points has no accepted file" in turn.reason
    assert "noria status" in turn.reason


# -- run -> candidate


def test_a_candidate_is_the_run_s_model_on_rows_that_training_did_not_see(line: SmallLine) -> None:
    seen = line.home / "seen.txt"
    line.edit(
        "model.py",
        "    return",
        f"    from pathlib import Path\n    Path({str(seen)!r}).write_text(str(features['a'].to_list()))\n    return",
    )
    line.commit("tells what it sees")
    line.deliver("points-01.csv", points(1))
    turn = line.turned()
    bundle = line.context.bundle(ReleaseStore.of(line.context).get(turn.release or "").digest)
    every = pl.read_csv(points(1).encode())
    trained = json.loads(seen.read_text())
    assert 0 < len(trained) < every.height
    evaluated = msgspec.json.decode((bundle / "evidence" / "evaluation.json").read_bytes())
    assert evaluated["rows"] + len(trained) == every.height
    split = msgspec.json.decode((bundle / "evidence" / "training.json").read_bytes())["split"]
    assert split["train_rows"] == len(trained)
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    assert [column["name"] for column in manifest["signature"]["inputs"]] == ["a"]
    assert (bundle / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('a row: 17')", "step train: raised ValueError at model.py:5"),
        ("return None", "train"),
        ("import nothing_of_the_kind", "raised ModuleNotFoundError: No module named 'nothing_of_the_kind' at model.py:5"),
        ("raise SystemExit(3)", "ended with exit code 3 without a result"),
    ],
)
def test_training_that_fails_makes_no_candidate_and_keeps_its_log(line: SmallLine, code: str, words: str) -> None:
    line.edit("model.py", "return LogisticRegression().fit(features, label.to_numpy())", code)
    line.commit("broken")
    line.deliver("points-01.csv", points(1, 50))
    turn = line.turned()
    assert turn.outcome is TurnOutcome.STEP_FAILED
    assert words in turn.reason
    assert "17" not in turn.reason  # what a project's error says may be a row: the log has it, the ledger does not
    assert (turn.stage, turn.release, line.champion) == (Stage.TRAIN, None, None)
    run = RunStore.of(line.context).get(turn.run_id or "")
    assert [record.name for record in run.steps] == ["train"]


# -- candidate -> gate


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Of all pairs of a positive and a negative: the share in the right order, ties half."""
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_a_gate_judges_the_candidate_s_own_answers(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    turn = line.turned()
    found = EvaluationStore.of(line.context).of_turn(turn.id)
    assert found is not None
    assert found.outcome is Outcome.PASS
    run = RunStore.of(line.context).get(turn.run_id or "")
    records = {record.name: record for record in run.steps}
    holdout = pl.read_ipc(line.context.blobs.read(steps.output(line.context, records["train"]).files["holdout"]))
    scores = np.load(line.context.blobs.path(steps.output(line.context, records["score.candidate"]).files["scores"]))
    positive = scores if scores.ndim == 1 else scores[:, -1]
    assert found.evaluation.metrics["roc_auc"].value == pytest.approx(auc(holdout["y"].to_numpy(), positive), abs=1e-9)


@pytest.mark.parametrize(
    ("gate", "outcome", "words"),
    [
        ("roc_auc >= 0.999", TurnOutcome.GATE_FAILED, "roc_auc 0.9"),
        ("log_loss <= 0.0001", TurnOutcome.GATE_FAILED, "log_loss"),
        ("roc_auc >= 0.9 at 99%", TurnOutcome.NOT_ENOUGH_DATA, "roc_auc"),
    ],
)
def test_a_gate_that_is_not_reached_ends_the_turn_with_its_numbers_and_no_release(
    line: SmallLine, gate: str, outcome: TurnOutcome, words: str
) -> None:
    line.edit("noria.yaml", '"roc_auc >= 0.6"', f'"{gate}"')
    line.commit("strict")
    line.deliver("points-01.csv", points(1))
    turn = line.turned()
    assert (turn.outcome, turn.release, line.champion) == (outcome, None, None)
    assert words in turn.reason
    assert ReleaseStore.of(line.context).list() == []
    found = EvaluationStore.of(line.context).of_turn(turn.id)
    assert found is not None
    assert found.outcome is (Outcome.FAIL if outcome is TurnOutcome.GATE_FAILED else Outcome.NOT_ENOUGH_DATA)
    actions.trigger(line.context, "again", "cli:anna")
    again = line.turn()
    assert again is not None
    assert again.outcome is outcome  # to do nothing again does not make it pass
    assert "turn 1 did this work" in again.reason


# -- gate -> release


def test_a_release_holds_what_it_was_made_of_and_any_changed_byte_is_told(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    turn = line.turned()
    release = ReleaseStore.of(line.context).get(turn.release or "")
    run = RunStore.of(line.context).get(turn.run_id or "")
    bundle = line.context.bundle(release.digest)
    manifest = stored_bundle(line.context.state, release).manifest
    assert release.digest == blake3((bundle / "manifest.json").read_bytes()).hexdigest()
    assert manifest.pins == run.pins
    assert manifest.files["model.onnx"] == blake3((bundle / "model.onnx").read_bytes()).hexdigest()
    data = msgspec.json.decode((bundle / "evidence" / "data.json").read_bytes())
    assert [pin["name"] for pin in data["points"]["files"]] == ["data/points-01.csv"]
    verdict = msgspec.json.decode((bundle / "evidence" / "gate.json").read_bytes())
    assert verdict["outcome"] == Outcome.PASS
    for path in sorted(p for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.sig"):
        whole, mode = path.read_bytes(), path.stat().st_mode
        path.chmod(0o600)
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b"x")
        with pytest.raises(StoreError, match="v1 is damaged") as told:
            stored_bundle(line.context.state, release)
        assert path.name in str(told.value) or path.name == "manifest.json"
        path.write_bytes(whole)
        path.chmod(mode)
    assert stored_bundle(line.context.state, release).manifest == manifest


def test_what_differs_from_its_commit_is_measured_and_not_released(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    line.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.1)")
    turn = turn_runner.turn_by_hand(line.context, "by hand")
    assert (turn.outcome, turn.release, line.champion) == (TurnOutcome.NOT_RELEASED, None, None)
    assert "(model.py)" in turn.reason
    assert "Commit the change (git add, git commit), or undo it (git restore), and run again." in turn.reason
    assert RunStore.of(line.context).get(turn.run_id or "").metrics["roc_auc"] > 0.6
    line.commit("now it is one")
    after = turn_runner.turn_by_hand(line.context, "by hand")
    assert (after.outcome, after.release) == (TurnOutcome.PROMOTED, "v1")


# -- release -> rollout -> champion

CANARY = "{rollout: {steps: [20%, 100%], replay: 0}}"


@pytest.fixture
def trying(line: SmallLine) -> SmallLine:
    """v1 serves, v2 takes its first step."""
    line.edit("noria.yaml", "{rollout: direct}", CANARY)
    line.commit("by steps")
    line.deliver("points-01.csv", points(1))
    assert line.turned().outcome is TurnOutcome.PROMOTED  # the first release has nothing to be compared with
    line.deliver("points-02.csv", points(2))
    turn = line.turned()
    assert (turn.outcome, turn.release, turn.ended_at) == (TurnOutcome.ROLLING_OUT, "v2", None)
    return line


def test_a_release_enters_by_its_first_step_beside_the_champion(trying: SmallLine) -> None:
    route, (rollout, *_) = trying.route, RolloutStore(trying.ledger, "p").list()
    assert route is not None
    assert (route.champion_version, route.candidate_version, route.share) == ("v1", "v2", 0.2)
    assert (rollout.release, rollout.state, rollout.step, rollout.plan) == (
        "v2",
        RolloutState.CANARY,
        0,
        ("20 % of traffic", "100 % of traffic"),
    )
    assert trying.engine.told[-1] == route
    assert trying.turn() is None  # the turn waits for traffic, and is not begun anew


def test_a_release_that_cannot_be_loaded_never_gets_traffic(line: SmallLine) -> None:
    line.edit("noria.yaml", "{rollout: direct}", CANARY)
    line.commit("by steps")
    line.deliver("points-01.csv", points(1))
    line.turned()
    line.deliver("points-02.csv", points(2))

    class Refuses(dict[str, str]):
        def __contains__(self, digest: object) -> bool:
            return digest != ReleaseStore.of(line.context).get("v1").digest

        def get(self, digest: str, default: str = "") -> str:  # type: ignore[override]  # of a text
            return "its model is damaged" if digest in self else default

        def __getitem__(self, digest: str) -> str:
            return self.get(digest)

    line.engine.broken = Refuses()
    turn = line.turned()
    assert turn.outcome is TurnOutcome.ROLLED_BACK
    assert turn.reason == "v2 could not be loaded: its model is damaged"
    assert line.champion == "v1"
    assert ReleaseStore.of(line.context).get("v2").barred == turn.reason


@pytest.mark.parametrize(
    ("champion", "candidate", "ends"),
    [
        ((4_000, 1, 0), (1_000, 0, 0), RolloutState.PROMOTED),
        ((4_000, 1, 0), (1_000, 90, 0), RolloutState.ROLLED_BACK),
        ((4_000, 1, 2), (1_000, 0, 400), RolloutState.ROLLED_BACK),
        ((20, 0, 0), (5, 0, 0), RolloutState.CANARY),
    ],
    ids=["good", "errors", "slow", "too little"],
)
def test_evidence_makes_a_champion_or_sends_it_back(
    trying: SmallLine, champion: tuple[int, int, int], candidate: tuple[int, int, int], ends: RolloutState
) -> None:
    trying.engine.see(champion, candidate)
    trying.reconcile()
    rollout = RolloutStore(trying.ledger, "p").list()[0]
    assert rollout.state is ends, rollout.reason
    turn = TurnStore(trying.ledger, "p").list()[0]
    barred = ReleaseStore(trying.ledger, "p").get("v2").barred
    route = trying.route
    assert route is not None
    if ends is RolloutState.PROMOTED:
        assert (route.champion_version, route.previous_version, route.candidate) == ("v2", "v1", None)
        assert (turn.outcome, barred) == (TurnOutcome.PROMOTED, None)
    elif ends is RolloutState.ROLLED_BACK:
        assert (route.champion_version, route.candidate, route.share) == ("v1", None, 0.0)
        assert (turn.outcome, barred) == (TurnOutcome.ROLLED_BACK, rollout.reason)
        actions.trigger(trying.context, "again", "cli:anna")
        again = trying.turn()
        assert again is not None
        assert again.outcome is TurnOutcome.BARRED  # the same pins do not come back by themselves
    else:
        assert (route.champion_version, route.candidate_version) == ("v1", "v2")
        assert (turn.outcome, barred) == (TurnOutcome.ROLLING_OUT, None)
    assert trying.engine.told[-1] == route


# -- prediction -> log


def test_every_answered_row_is_in_the_log_as_it_was_answered_and_refused_ones_are_not(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    line.turned()
    rows = [{"a": round(random.Random(1).gauss(0, 1) + n, 3)} for n in range(5)]
    with answering(line) as answers:
        said = answers.predict("p", rows)
        assert answers.post("/p/predict", [{"a": "no number"}]).status_code == 422
        assert answers.post("/p/predict", [{"b": 1.0}]).status_code == 422
        assert answers.post("/p/feedback", {"id": said[0]["id"], "label": "what?"}).status_code == 422
        answers.feedback("p", {said[1]["id"]: 1})
    logged = LogReader(line.context.state / "log" / "production").poll(1 << 20)
    predictions = [record for record in logged if isinstance(record, Prediction)]
    assert [(p.id, p.inputs, p.outputs["probability"]) for p in predictions] == [
        (one["id"], row, one["probability"]) for one, row in zip(said, rows, strict=True)
    ]
    assert {(p.project, p.release, p.variant, p.rollout) for p in predictions} == {("p", "v1", "champion", None)}
    assert [(f.id, f.label) for f in logged if isinstance(f, Feedback)] == [(said[1]["id"], 1)]


# -- label -> window


def test_a_window_s_value_is_the_mean_loss_of_the_rows_that_got_their_label(line: SmallLine) -> None:
    line.deliver("points-01.csv", points(1))
    line.turned()
    chance = random.Random(7)
    answered, labels = [], []
    for number in range(120):
        at, probability = MONDAY + number * 60, round(chance.random(), 3)
        outputs = {"prediction": int(probability > 0.5), "probability": probability}
        answered.append(Prediction(f"r{number}", at, "p", "v1", "champion", None, {"a": 0.0}, outputs, f"k{number}", None, 1.0))
        if number % 3:
            named = {"id": f"r{number}"} if number % 2 else {"key": f"k{number}"}
            labels.append(Feedback(at + 60, "p", number % 2, **named))
    labels.append(Feedback(MONDAY, "p", 1, "nobody"))  # of no prediction
    labels.append(Feedback(MONDAY, "q", 1, "r0"))  # of another project
    records = [*answered, *labels]
    chance.shuffle(records)  # a label may be read before its prediction
    line.clock(MONDAY + DAY_S)
    line.log(*records)
    line.monitored()
    assert QualityStore.of(line.context).windows() == []  # the labels' delay is not over
    line.monitored(MONDAY + 1.5 * DAY_S)
    (window,) = QualityStore.of(line.context).windows()
    losses = [(one.outputs["probability"] - number % 2) ** 2 for number, one in enumerate(answered) if number % 3]
    assert (window.start, window.end, window.release) == (MONDAY, MONDAY + DAY_S, "v1")
    assert (window.predictions, window.labelled) == (120, 80)
    assert window.value == pytest.approx(sum(losses) / len(losses))


# -- breach -> retrain


def test_a_breach_asks_for_one_turn_and_no_oftener_than_the_policy_lets(tmp_path: Path) -> None:
    with small_line(tmp_path, text=CONFIG + "retrain: {at_most: 2 per 1d}\n") as line:
        line.clock(MONDAY)
        line.deliver("points-01.csv", points(1))
        line.turned()
        first = Breach("quality", "v1", "it sank")
        for breaches in ((), (Breach("quality", "v9", "of a release that does not serve"),)):
            assert learn(line.context, line.project, breaches) is None
        asked = learn(line.context, line.project, (first,))
        assert asked is not None
        assert (asked.kind, asked.reason) == (TriggerKind.BREACH, "v1: it sank")
        assert learn(line.context, line.project, (first,)) is None
        assert line.turn() is not None  # the second of this day
        later = Breach("quality", "v1", "it sank again")
        assert learn(line.context, line.project, (later,)) is None
        (declined,) = line.events("retrain.declined")
        assert declined == (
            "v1: it sank again; no new turn yet: 2 turns started within 1 d, and retrain.at_most allows 2: "
            "the next may start in 1 d"
        )
        line.clock(MONDAY + DAY_S)
        assert learn(line.context, line.project, (later,)) is not None  # the boundary itself is free again
