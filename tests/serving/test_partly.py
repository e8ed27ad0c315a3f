"""A row that a model cannot answer costs no other its answer: neither of its own request nor of somebody else's."""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served_in_process import one_project
from serving_bundles import BINARY, RECORD, Seal, hosted, logged, training_rows, wait_for
from serving_world import World
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from test_desk import Slow

from noria.serving import failed_rows
from noria.serving.failed_rows import CALLS, MOST_S, SHARE, RetryBudget, tell_apart
from noria.serving.host import HostedModel, HostRequest, ModelThread
from noria.serving.runtime import PartlyError, ReleaseFailed, check_answers, make_partly_error

GOOD, BAD = RECORD, RECORD | {"carrier": "XX"}
WORDS = "release v1 could not answer this row"


@given(st.integers(2, 400).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_rows_are_told_apart_within_bounds(case: tuple[int, set[int]]) -> None:
    """Number 20: no bad row is answered, no good one is blamed, and many bad ones cost no more calls than are allowed."""
    rows, bad = case
    calls: list[int] = []

    def ask(start: int, stop: int) -> list[int]:
        calls.append(stop - start)
        if bad & set(range(start, stop)):
            raise KeyError("XX")
        return list(range(start, stop))

    found = tell_apart(rows, ask, RetryBudget())
    without = {*found.failed, *found.untold}
    assert len(calls) <= CALLS
    assert set(found.failed) <= bad <= without
    assert [row for row in range(rows) if found.answers[row] is not None] == sorted(set(range(rows)) - without)
    assert all(answer in (None, row) for row, answer in enumerate(found.answers))
    if len(bad) <= 3:  # 2 log2(400) calls each
        assert set(found.failed) == bad


def test_a_fifth_of_all_time_at_most_goes_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 20: who sends many bad rows does not keep the model from others; when the time is up, rows stay untold."""
    now = [0.0]
    budget = RetryBudget(lambda: now[0])
    monkeypatch.setattr(failed_rows.time, "monotonic", lambda: now[0])

    def ask(start: int, stop: int) -> list[int]:
        now[0] += 0.3
        raise ValueError

    spent = 0.0
    for turn in range(100):
        before = now[0]
        assert len(tell_apart(1000, ask, budget).untold) == 1000
        spent += now[0] - before
        assert spent <= MOST_S + SHARE * now[0] + 2 * 0.3
        now[0] += turn % 3


@pytest.mark.parametrize("together", [True, False])
def test_a_host_answers_the_good_rows(together: bool) -> None:
    """Number 20: also beside many requests of others; rows that depend on each other are not asked in parts."""
    model, answers = Slow(), queue.Queue[dict[str, Any]]()
    desk = ModelThread(cast(HostedModel, model), Path("/nowhere"), together)
    asked: dict[int, list[float]] = {0: [1.0], 1: [1.0, -1.0, 3.0], 2: [-1.0] * 200, 3: [5.0], 4: [6.0, 7.0], 5: [-1.0]}
    for number, values in asked.items():
        desk.put(HostRequest(number, {"x": values}, len(values), time.monotonic() + 10, answers.put, apart=number != 4))
        assert model.begun.wait(10)
    model.go.set()
    found = {answer["id"]: answer for answer in (answers.get(timeout=10) for _ in asked)}
    assert [found[i]["ok"] for i in range(6)] == [True, False, False, True, True, False]
    assert all("ValueError: negative" in found[i]["error"] for i in (1, 2, 5))
    assert "values" not in found[2]
    assert "values" not in found[5]
    if together:
        assert (found[1]["values"], found[1]["failed"], found[1]["untold"]) == ([2.0, None, 6.0], [1], [])
        assert len(model.calls) <= 2 * CALLS + 20
    else:
        assert "values" not in found[1]
        assert len(model.calls) == len(asked)


def test_only_rows_that_are_not_finite_lack_an_answer() -> None:
    """Number 20: an answer that is no number is that row's trouble, of a compiled release and of a hosted one."""
    with pytest.raises(PartlyError) as caught:
        check_answers(np.array([1.0, np.nan, 3.0]), 3, 0)
    assert (caught.value.answers, list(caught.value.failed)) == ([1.0, None, 3.0], [1])
    with pytest.raises(ReleaseFailed) as whole:
        check_answers(np.array([[np.inf, 0.0]]), 1, 2)
    assert not isinstance(whole.value, PartlyError)
    error = make_partly_error([[0.5, 0.5], None, [np.nan, 1.0], [0.1, 0.9]], [1], [], "KeyError", 2)
    assert (error.answers, list(error.failed)) == ([[0.5, 0.5], None, None, [0.1, 0.9]], [1, 2])
    with pytest.raises(ReleaseFailed, match="KeyError"):
        make_partly_error([None, None], [0], [1], "KeyError", 2)


def picky_release(seal: Seal, scratch: Path) -> str:
    """A compiled release that refuses carriers which training did not see, as `OneHotEncoder` does unless told otherwise."""
    import polars as pl

    x, y = training_rows(0)
    frame = pl.DataFrame({"carrier": x[:, 0].tolist(), "distance": x[:, 1].astype(float).tolist()})
    columns = ColumnTransformer([("c", OneHotEncoder(), ["carrier"]), ("d", "passthrough", ["distance"])])
    model = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    types = [("carrier", StringTensorType([None, 1])), ("distance", FloatTensorType([None, 1]))]
    graph = to_onnx(model, initial_types=types, options={id(model[-1]): {"zipmap": False}}, target_opset=18)
    folder = scratch / "picky"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    facts = {"form": "compiled", "signature": BINARY, "model": {"file": "model.onnx", "runtime": "onnx"}}
    return seal.seal(folder, facts)


def tensors(records: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    n = len(records)
    inputs = [
        {"name": "carrier", "shape": [n], "datatype": "BYTES", "data": [r["carrier"] for r in records]},
        {"name": "distance", "shape": [n], "datatype": "FP64", "data": [r["distance"] for r in records]},
    ]
    return {"inputs": inputs, **more}


def demand_parts(ask: Any) -> None:
    """``ask(path, body)``: the three ways to ask say of the same rows the same."""
    rows = [GOOD, BAD, GOOD | {"distance": 5.0}, BAD]
    alone = [ask("/predict", row).json()["predictions"][0]["probability"] for row in (rows[0], rows[2])]
    answer = ask("/predict", rows)
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert [row["probability"] for row in (found[0], found[2])] == pytest.approx(alone)
    assert found[1] == found[3] == {"error": {"code": "no_answer", "message": WORDS}}
    invoked = ask("/invocations", {"dataframe_records": rows}).json()
    assert invoked == {
        "predictions": [found[0]["prediction"], None, found[2]["prediction"], None],
        "errors": {"1": WORDS, "3": WORDS},
    }
    told = ask("/v2/models/delays/infer", tensors(rows, outputs=[{"name": n} for n in ("prediction", "predict_proba")])).json()
    assert told["parameters"]["failed"] == "1,3"
    ids = told["parameters"]["prediction_ids"].split(",")
    assert [bool(name) for name in ids] == [True, False, True, False]
    assert told["outputs"][0]["data"] == invoked["predictions"]
    assert told["outputs"][1]["data"][2:4] == [None, None]
    assert told["outputs"][1]["data"][5] == pytest.approx(alone[1])
    binary = ask("/v2/models/delays/infer", tensors(rows, parameters={"binary_data_output": True}))
    head = int(binary.headers["inference-header-content-length"])
    assert np.isnan(np.frombuffer(binary.content[head:], np.float64)).tolist() == [False, True, False, True]
    assert b'"data":[%d,null,%d,null]' % (found[0]["prediction"], found[2]["prediction"]) in binary.content[:head]
    for path, body in (
        ("/predict", BAD),
        ("/predict", [BAD, BAD]),
        ("/invocations", {"instances": [BAD]}),
        ("/v2/models/delays/infer", tensors([BAD])),
    ):
        refused = ask(path, body)
        assert refused.status_code == 503
        assert "release v1 could not answer this request" in refused.text


def test_a_compiled_release_answers_the_good_rows(seal: Seal, tmp_path: Path) -> None:
    """Number 20: an unseen category costs the other rows of its request nothing; the log holds those that were answered."""
    with one_project(seal, picky_release(seal, tmp_path)) as served:
        demand_parts(served.post)
        assert served.try_fast("/predict", [GOOD, BAD]).status == 200
        rows = [GOOD] * 300 + [BAD] + [GOOD] * 300
        many = served.post("/predict", rows).json()["predictions"]
        assert [row for row, said in enumerate(many) if "error" in said] == [300]
        metrics = served.ask("GET", "/metrics").text
        assert 'noria_prediction_rows_unanswered_total{environment="production",project="delays"} 15' in metrics
        ids = [row["id"] for row in logged(seal.state, "production")]
        assert {row["id"] for row in many if "id" in row} <= set(ids)
        assert len(ids) == 2 + 4 * 2 + 1 + 600


def test_a_hosted_release_answers_the_good_rows(world: World) -> None:
    """Number 20: the same of one that answers in Python; the reason stands in the server's log, with its line."""
    world.serve(hosted(world.seal, world.scratch))
    client = world.client()
    demand_parts(lambda path, body: client.post(path, json=body))
    wait_for(lambda: "KeyError: 'XX' in delays/features.py" in (world.state / "server.log").read_text())


def test_a_candidate_that_lacks_rows_is_answered_for(world: World) -> None:
    """Number 20: in a rollout that is the candidate's error, and the champion answers all rows."""
    champion = hosted(world.seal, world.scratch)
    candidate = picky_release(world.seal, world.scratch)
    revision = world.publish(
        champion, candidate=candidate, candidate_version="v2", share=1.0, rollout_id="r-1", deadline_ms=5000.0
    )
    world.server.sync()
    answer = world.client().post("/predict", json=[GOOD, GOOD | {"carrier": "slow"}]).json()
    assert answer["variant"] == "fallback"
    assert all("prediction" in row for row in answer["predictions"])
    assert world.tallies(revision).candidate.errors == 1
