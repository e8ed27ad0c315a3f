"""`noria release import`: models that other libraries wrote, served with the answers of those libraries."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import onnx
import polars as pl
import pytest
from imported import NAMES
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from noria import cli
from noria.releases import importing
from noria.serving.client import Server


def matrix(rows: pl.DataFrame) -> Any:
    return rows.select(NAMES).to_numpy()


def records(rows: pl.DataFrame, *names: str) -> list[dict[str, Any]]:
    return rows.head(40).select(*(names or NAMES)).to_dicts()


Maker = Callable[[pl.DataFrame], tuple[Any, list[str]]]  # the due answers, and the arguments of the import


def _onnx(rows: pl.DataFrame) -> tuple[Any, list[str]]:
    """As skl2onnx writes it when nobody thinks of it: label, and dictionaries."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix(rows), rows["churned"])
    Path("m.onnx").write_bytes(to_onnx(model, matrix(rows)[:1].astype(np.float32)).SerializeToString())
    return model.predict_proba(matrix(rows)[:40])[:, 1], ["m.onnx", "--sample", "rows.csv", "--label", "churned"]


def _lightgbm(rows: pl.DataFrame) -> tuple[Any, list[str]]:
    lightgbm = pytest.importorskip("lightgbm")
    data = lightgbm.Dataset(matrix(rows), rows["level"].to_numpy(), feature_name=NAMES)
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, data, 10)
    booster.save_model("m.txt")
    return booster.predict(matrix(rows)[:40]), ["m.txt", "--sample", "rows.csv", "--classes", "low,middle,high"]


def _xgboost(rows: pl.DataFrame) -> tuple[Any, list[str]]:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBRegressor(n_estimators=20, max_depth=3).fit(matrix(rows), rows["spend"] * 3)
    model.save_model("m.json")
    inputs = [{"name": name, "type": "number"} for name in NAMES]
    Path("signature.yaml").write_text(json.dumps({"inputs": inputs, "key": "id"}))
    return model.predict(matrix(rows)[:40]), ["m.json", "--signature", "signature.yaml"]


def _skops(rows: pl.DataFrame) -> tuple[Any, list[str]]:
    skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install skops")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix(rows), rows["churned"])
    skops.dump(model, "m.skops")
    return model.predict_proba(matrix(rows)[:40])[:, 1], ["m.skops", "--sample", "rows.csv", "--label", "churned"]


def _hosted_pickle(rows: pl.DataFrame) -> tuple[Any, list[str]]:
    """A function of NumPy's converts to nothing: it is hosted, without any code of the project."""
    model = make_pipeline(FunctionTransformer(np.cbrt), LinearRegression()).fit(matrix(rows), rows["churned"])
    joblib.dump(model, "m.joblib")
    arguments = ["m.joblib", "--sample", "rows.csv", "--label", "churned", "--vouch-for-pickle"]
    return model.predict(matrix(rows)[:40]), arguments


@pytest.mark.parametrize("make", [_onnx, _lightgbm, _xgboost, _skops, _hosted_pickle])
def test_it_is_served_with_the_librarys_own_answers(
    make: Maker,
    rows: pl.DataFrame,
    noria: Callable[..., Any],
    server: Server,
    inside: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(server.state.parent)
    due, arguments = make(rows)
    found = noria("release", "import", *arguments)
    version = found["release"]["version"]
    assert found["release"]["form"] == ("hosted" if make is _hosted_pickle else "compiled")
    assert found["origin"]["sha256"] == hashlib.sha256(Path(arguments[0]).read_bytes()).hexdigest()
    noria("promote", version, "-e", "production")
    answer = httpx.post(f"{server.addresses()['production']}/predict", json=records(rows), timeout=20).json()
    got = [
        p.get("probability", list(p["probabilities"].values()) if "probabilities" in p else p["prediction"])
        for p in answer["predictions"]
    ]
    assert np.array(got) == pytest.approx(due, abs=2e-5 * max(1.0, float(np.abs(due).max())))
    if make is _lightgbm:
        assert {p["prediction"] for p in answer["predictions"]} == {"low", "middle", "high"}
    assert answer["release"] == version


def test_what_is_recorded_listed_shown_and_exported(
    inside: None, home: Path, rows: pl.DataFrame, noria: Callable[..., Any], capsys: Any
) -> None:
    due, arguments = _onnx(rows)
    noria("release", "import", *arguments)
    assert cli.execute(["releases"]) == 0
    assert "imported, not gated" in capsys.readouterr().out
    assert cli.execute(["show", "v1"]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("Imported", "m.onnx", "promoting it by hand is its approval", "rows of the sample"))
    events = {e["kind"]: e for e in noria("audit", "log")["events"]}
    assert events["release.imported"]["facts"]["sha256"] == hashlib.sha256(Path("m.onnx").read_bytes()).hexdigest()
    noria("releases", "export", "v1", "--into", "v1.tar")
    noria("releases", "verify", "v1.tar")
    noria("predict", "--input", "rows.csv", "--output", "out.parquet", "--release", "v1.tar")
    assert pl.read_parquet("out.parquet")["probability"].head(40).to_list() == pytest.approx(due, abs=1e-5)
    assert "imported" in noria("reproduce", "v1", "--into", "again", code=1)["message"]
    assert "imported" in noria("reproduce", "v1.tar", "--into", "again", code=1)["message"]
    noria("gc")
    noria("data", "verify")


def test_a_pickle_is_refused_until_somebody_vouches_and_never_runs_in_this_process(
    home: Path, rows: pl.DataFrame, noria: Callable[..., Any]
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return exec, (f"import os; open({str(home / 'ran')!r}, 'w').write(str(os.getpid())); raise SystemExit(7)",)

    Path("m.pkl").write_bytes(pickle.dumps(Evil()))
    sha256 = hashlib.sha256(Path("m.pkl").read_bytes()).hexdigest()
    refused = noria("release", "import", "m.pkl", "--sample", "rows.csv", code=1)
    assert sha256 in refused["message"]
    assert "--vouch-for-pickle" in refused["hint"]
    assert not (home / "ran").exists()
    noria("release", "import", "m.pkl", "--sample", "rows.csv", "--vouch-for-pickle", code=1)
    assert (home / "ran").read_text() not in ("", str(os.getpid()))
    vouched = [e for e in noria("audit", "log")["events"] if e["kind"] == "pickle.vouched"]
    assert vouched[0]["facts"]["sha256"] == sha256
    assert noria("releases")["releases"] == []


def test_names_are_those_of_the_model_where_it_has_some_and_text_is_text(
    inside: None, home: Path, rows: pl.DataFrame, noria: Callable[..., Any]
) -> None:
    columns = ColumnTransformer([("plan", OneHotEncoder(handle_unknown="ignore"), ["plan"]), ("age", "passthrough", ["age"])])
    table = rows.select("age", "plan")
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(table, rows["churned"]), "m.joblib")
    rows.select("churned", "plan", "age").write_parquet("more.parquet")
    found = noria("release", "import", "m.joblib", "--sample", "more.parquet", "--vouch-for-pickle", "--key", "id")
    assert [(i["name"], i["kind"]) for i in found["signature"]["inputs"]] == [("age", "number"), ("plan", "string")]
    assert found["signature"]["key"] == "id"
    assert found["release"]["form"] == "compiled"


def test_an_onnx_with_an_input_a_column_and_other_types(inside: None, home: Path, noria: Callable[..., Any]) -> None:
    given = [
        helper.make_tensor_value_info("a", TensorProto.INT64, [None, 1]),
        helper.make_tensor_value_info("b", TensorProto.DOUBLE, [None, 1]),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 1])
    nodes = [helper.make_node("Cast", ["a"], ["a2"], to=TensorProto.DOUBLE), helper.make_node("Add", ["a2", "b"], ["y"])]
    graph = helper.make_graph(nodes, "sum", given, [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), "m.onnx")
    asked = noria("release", "import", "m.onnx", code=2)
    assert "--task regression" in asked["hint"]
    found = noria("release", "import", "m.onnx", "--task", "regression")
    assert [i["name"] for i in found["signature"]["inputs"]] == ["a", "b"]
    Path("in.jsonl").write_text('{"a": 3, "b": 0.5}\n')
    noria("predict", "--input", "in.jsonl", "--output", "out.jsonl", "--release", "v1")
    assert json.loads(Path("out.jsonl").read_text())["prediction"] == 3.5


def test_weights_that_lie_beside_a_graph_come_along(
    inside: None, home: Path, rows: pl.DataFrame, noria: Callable[..., Any]
) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 1], np.array([1, 2, 3], dtype=np.float32).tobytes(), raw=True)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [given], [out], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    asked = ["release", "import", "m.onnx", "--sample", "rows.csv", "--label", "churned", "--task", "regression"]
    found = noria(*asked)
    assert found["origin"]["weights"] == {"m.onnx.data": hashlib.sha256(Path("m.onnx.data").read_bytes()).hexdigest()}
    noria("predict", "--input", "rows.csv", "--output", "out.parquet", "--release", "v1")
    due = matrix(rows) @ [1, 2, 3]
    assert pl.read_parquet("out.parquet")["prediction"].to_list() == pytest.approx(due.tolist(), rel=1e-4, abs=1e-4)
    Path("m.onnx.data").unlink()
    assert "weights" in noria(*asked, code=1)["hint"]


def _graph(outputs: list[Any], path: str = "m.onnx") -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    nodes = [helper.make_node("Identity", ["x"], [o.name]) for o in outputs]
    graph = helper.make_graph(nodes, "g", [given], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def test_what_does_not_fit_is_said_and_nothing_is_kept(
    inside: None, home: Path, rows: pl.DataFrame, noria: Callable[..., Any]
) -> None:
    sample = ["--sample", "rows.csv", "--label", "churned"]
    _onnx(rows)
    Path("cut.onnx").write_bytes(Path("m.onnx").read_bytes()[:300])
    for name in ("empty.onnx", "empty.pkl", "empty.txt", "empty.skops"):
        Path(name).touch()
    for name in ("noise.onnx", "noise.json", "noise.txt"):
        Path(name).write_bytes(b"\x00garbage")
    assert "is not a whole ONNX model" in noria("release", "import", "cut.onnx", *sample, code=1)["message"]
    for name in ("empty.onnx", "empty.pkl", "empty.txt", "empty.skops"):
        assert "is empty" in noria("release", "import", name, *sample, code=1)["message"]
    for name in ("noise.onnx", "noise.json", "noise.txt"):
        assert "is not a whole" in noria("release", "import", name, *sample, code=1)["message"]
    assert "is a folder" in noria("release", "import", ".", code=2)["message"]
    assert "not a model file" in noria("release", "import", "noria.yaml", code=2)["message"]
    noria("release", "import", "nowhere.onnx", code=2)
    # names and counts
    assert "the names of its 3 inputs are not in the model" in noria("release", "import", "m.onnx", code=2)["message"]
    assert (
        "takes 3 inputs, and the sample has 4 columns"
        in noria("release", "import", "m.onnx", "--sample", "rows.csv", code=1)["message"]
    )
    Path("s.yaml").write_text("inputs: [{name: a}, {name: b}]\n")
    assert "takes 3 inputs, and 2 are named" in noria("release", "import", "m.onnx", "--signature", "s.yaml", code=1)["message"]
    Path("s.yaml").write_text("inputs: [{name: a, kind: number}]\n")
    assert "is no signature" in noria("release", "import", "m.onnx", "--signature", "s.yaml", code=2)["message"]
    assert "classes" in noria("release", "import", "m.onnx", *sample, "--classes", "a,b,c", code=2)["message"]
    rows.select("age", "plan", "spend").write_csv("text.csv")  # a column of text for a model of numbers
    assert (
        "does not answer rows of this signature"
        in noria("release", "import", "m.onnx", "--sample", "text.csv", code=1)["message"]
    )
    # outputs
    _graph([helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 3]) for n in ("left", "right")])
    asked = ["release", "import", "m.onnx", *sample, "--task", "regression"]
    assert "left float[n, 3], right float[n, 3]" in noria(*asked, code=1)["message"]
    _graph([helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 3])])
    asked = ["release", "import", "m.onnx", *sample, "--task", "multiclass", "--classes", "a,b,c"]
    assert "no probabilities" in noria(*asked, code=1)["message"]
    # a pickle of something that predicts no class, and of something else
    joblib.dump(IsolationForest(n_estimators=3).fit(matrix(rows)), "m.joblib")
    said = noria("release", "import", "m.joblib", *sample, "--vouch-for-pickle", code=2)["message"]
    assert "does not say what its answers mean" in said
    joblib.dump({"a": 1}, "m.joblib")
    assert "has no `predict`" in noria("release", "import", "m.joblib", *sample, "--vouch-for-pickle", code=1)["message"]
    assert noria("releases")["releases"] == []
    assert not list((home / ".noria" / "releases").glob("*")) if (home / ".noria" / "releases").exists() else True
    assert list((home / ".noria" / "work").iterdir()) == []


def test_a_damaged_booster_ends_its_reader_and_not_the_command(home: Path, rows: pl.DataFrame, noria: Callable[..., Any]) -> None:
    _lightgbm(rows)
    whole = Path("m.txt").read_text()
    Path("cut.txt").write_text(whole[: len(whole) // 2])
    assert noria("release", "import", "cut.txt", "--sample", "rows.csv", code=1)["kind"] == "DataError"


def test_names_that_the_sample_lacks_are_named(inside: None, home: Path, rows: pl.DataFrame, noria: Callable[..., Any]) -> None:
    _lightgbm(rows)
    rows.select("age", "spend").write_csv("less.csv")
    found = noria("release", "import", "m.txt", "--sample", "less.csv", code=1)
    assert "takes calls_per_day, which the sample does not have" in found["message"]


def test_types_that_skops_does_not_know_are_named(
    inside: None, home: Path, rows: pl.DataFrame, noria: Callable[..., Any]
) -> None:
    skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install skops")
    model = make_pipeline(FunctionTransformer(os.path.join), LogisticRegression())
    skops.dump(model, "m.skops")
    found = noria("release", "import", "m.skops", "--sample", "rows.csv", code=1)
    assert "posixpath.join" in found["message"]
    assert "--trust posixpath.join" in found["hint"]


def test_weights_that_are_a_link_to_another_folder_are_refused(
    home: Path, tmp_path: Path, noria: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 45: a folder from elsewhere may link any file of this machine as weights; the release would carry it away. A cache
    that links the model and its weights into one folder is as good as that folder."""
    (tmp_path / "cache").mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        (tmp_path / "cache" / name).write_bytes(b"made up")
        (home / name).symlink_to(tmp_path / "cache" / name)
    read = []
    monkeypatch.setattr(importing, "apart", lambda job, _: (read.append(job), (1, "read"))[1])
    noria("release", "import", "model.onnx", code=1)
    assert len(read) == 1
    (home / "model.onnx.data").unlink()
    (home / "model.onnx.data").symlink_to(home / "noria.yaml")
    said = noria("release", "import", "model.onnx", code=1)
    assert said["message"] == f"model.onnx.data is a link that leads to {home / 'noria.yaml'}, not to a file beside the model"
    assert len(read) == 1, "nothing of it was read"
