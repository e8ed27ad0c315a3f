"""Files that cannot be imported: each is refused with its cause and the way out, and nothing of it is kept."""

from __future__ import annotations

import json
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, (120, 3))
Y = (X[:, 0] > 2).astype(int)
PLANS = pl.DataFrame({"age": X[:, 0], "plan": RNG.choice(["basic", "pro"], 120)})
SAMPLE = ["--sample", "rows.csv", "--label", "churned"]
VALUES = [*SAMPLE, "--task", "regression"]
AGAIN = "Copy or download it again"


def fitted() -> LogisticRegression:
    return LogisticRegression().fit(X, Y)


def graph_bytes() -> bytes:
    content: bytes = to_onnx(fitted(), X[:1].astype(np.float32)).SerializeToString()
    return content


def made_by(package: str, suffix: str, **more: Any) -> bytes:
    """A booster as its library saves it."""
    library = pytest.importorskip(package)
    if package == "xgboost":
        model = getattr(library, more.pop("of", "XGBClassifier"))(n_estimators=2)
        model.fit(X, more.pop("label", Y), **more)
    else:
        data = library.Dataset(X, Y, group=more.pop("group", None))
        model = library.train({"verbose": -1, **more}, data, 2)
    model.save_model(f"made{suffix}")
    return Path(f"made{suffix}").read_bytes()


def zipped(**entries: str) -> bytes:
    with zipfile.ZipFile("made.zip", "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return Path("made.zip").read_bytes()


def dumped(model: Any) -> bytes:
    joblib.dump(model, "made.joblib")
    return Path("made.joblib").read_bytes()


def missing_class() -> bytes:
    module = types.ModuleType("ourcode")
    module.Churn = type("Churn", (), {"__module__": "ourcode", "predict": len})  # type: ignore[attr-defined]
    sys.modules["ourcode"] = module
    try:
        return pickle.dumps(module.Churn())
    finally:
        del sys.modules["ourcode"]


def of_main() -> bytes:
    """As a notebook saves it: the function is one of __main__."""

    def halved(rows: Any) -> Any:
        return rows / 2

    halved.__module__, halved.__qualname__ = "__main__", "halved"
    main = sys.modules["__main__"]
    main.halved = halved  # type: ignore[attr-defined]
    try:
        return dumped(make_pipeline(FunctionTransformer(halved), LogisticRegression()).fit(X, Y))
    finally:
        del main.halved  # type: ignore[attr-defined]


def with_text() -> bytes:
    columns = ColumnTransformer([("plan", OneHotEncoder(), ["plan"]), ("age", "passthrough", ["age"])])
    return dumped(make_pipeline(columns, LinearRegression()).fit(PLANS, X[:, 1]))


def graph(given: Any, out: Any, *nodes: Any, opset: int = 18, more: Any = (), weights: Any = ()) -> bytes:
    inner = helper.make_graph(nodes, "g", [given], [out], list(weights))
    opsets = [helper.make_opsetid("", opset), *more]
    content: bytes = helper.make_model(inner, opset_imports=opsets, ir_version=9).SerializeToString()
    return content


def tensor(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


FLOAT = TensorProto.FLOAT
ROWS = tensor("x", FLOAT, None, 3)
ONE = tensor("y", FLOAT, None, 1)
CAST = helper.make_node("Cast", ["x"], ["y"], to=1)
SAME = helper.make_node("Identity", ["x"], ["y"])


def as_map() -> bytes:
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    out = helper.make_value_info("m", helper.make_sequence_type_proto(kind))
    node = helper.make_node("Magic", ["x"], ["m"], domain="com.acme")
    return graph(ROWS, out, node, more=[helper.make_opsetid("com.acme", 1)])


def as_list() -> bytes:
    out = helper.make_value_info("m", helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None)))
    return graph(ROWS, out, helper.make_node("SequenceConstruct", ["x"], ["m"]))


def apart() -> bytes:
    weights = helper.make_tensor("w", FLOAT, [3, 1], np.ones(3, dtype=np.float32).tobytes(), raw=True)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    made = onnx.load_from_string(graph(ROWS, tensor("y", FLOAT, None, 1), node, weights=[weights]))
    onnx.save(made, "made.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    Path("weights.bin").unlink()
    return Path("made.onnx").read_bytes()


def newer(opset: int, version: int) -> bytes:
    made = onnx.load_from_string(graph_bytes())
    made.ir_version = version
    for entry in made.opset_import:
        entry.version = opset if entry.domain == "" else entry.version
    content: bytes = made.SerializeToString()
    return content


class Odd(NamedTuple):
    """A file, what its refusal says, and what its hint says."""

    name: str
    make: Callable[[], bytes]
    words: str
    hint: str
    asked: list[str] = SAMPLE


KERAS = {"metadata.json": '{"keras_version": "3.5.0"}', "config.json": "{}", "model.weights.h5": ""}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TO_ONNX = "torch.onnx.export("
ODD = [
    # cut off, and what is no model
    Odd("cut.onnx", lambda: graph_bytes()[:300], "it may be cut off (300 bytes)", AGAIN),
    Odd("cut.joblib", lambda: dumped(RandomForestClassifier(3).fit(X, Y))[:2000], "is cut off", AGAIN),
    Odd("cut.pkl", lambda: pickle.dumps(fitted())[:200], "is cut off", AGAIN),
    Odd("cut.json", lambda: made_by("xgboost", ".json")[:-200], "is not a whole XGBoost model: Expecting", AGAIN),
    Odd("cut.skops", lambda: zipped(a="x" * 100)[:-20], "an archive that is cut off or damaged", AGAIN),
    Odd("page.onnx", lambda: b"<!DOCTYPE html><html>Sign in</html>", "is a web page, not a model", AGAIN),
    Odd("lfs.joblib", lambda: LFS, "is a pointer of Git LFS", "git lfs pull --include lfs.joblib"),
    Odd("table.txt", lambda: b"a,b\n1,2\n", "its first line is not `tree`", "save_model"),
    Odd("table.json", lambda: b'[{"a": 1}]', "is JSON, and not as XGBoost or CatBoost write a model", "Known: .onnx"),
    Odd("dump.json", lambda: b'[{"nodeid": 0, "leaf": 0.5}]', "a dump of XGBoost's trees", "booster.save_model"),
    Odd("dump2.json", lambda: b'{"name": "tree", "tree_info": []}', "a dump of LightGBM's trees", "booster.save_model"),
    Odd("doc.skops", lambda: zipped(**{"word/document.xml": "<x/>"}), "is a zip archive of 1 file (", "unpack it"),
    Odd("old.bst", lambda: b"binf" + bytes(50), "XGBoost's old binary format", 'save_model("model.ubj")'),
    Odd("model.parquet", lambda: b"PAR1" + bytes(50), "is a table (Parquet), not a model", "--sample"),
    Odd("model.onnx.gz", lambda: b"\x1f\x8b" + bytes(50), "is compressed by gzip", "Unpack it"),
    # other libraries' files
    Odd("m.keras", lambda: zipped(**KERAS), "is a model of Keras 3.5.0, which Noria does not host", '.export("model.onnx"'),
    Odd("m.joblib", lambda: zipped(**KERAS), "is a model of Keras 3.5.0", 'load_model("m.joblib")'),
    Odd("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(50), "is HDF5, as Keras wrote models once", '.export("model.onnx"'),
    Odd("m.pt", lambda: zipped(**{"m/data.pkl": "", "m/code/a.py": ""}), "is a TorchScript program", 'torch.jit.load("m.pt")'),
    Odd("m.pth", lambda: zipped(**{"m/data.pkl": ""}), "is a file of torch.save", TO_ONNX),
    Odd("m.safetensors", lambda: (9).to_bytes(8, "little") + b'{"w":{}}  ', "a file of weights alone", TO_ONNX),
    Odd("m.tflite", lambda: b"\x1c\0\0\0TFL3" + bytes(50), "is a TensorFlow Lite model", "tf2onnx.convert --tflite"),
    Odd("m.pmml", lambda: b'<?xml version="1.0"?><PMML version="4.4"/>', "is PMML", "ONNX"),
    # pickles of something else
    Odd("dict.pkl", lambda: pickle.dumps({"model": fitted(), "cut": 0.3}), "a dict with the keys model, cut", "found['model']"),
    Odd("tuple.pkl", lambda: pickle.dumps((fitted(), 1)), "a tuple of 2 entries", "found[0]"),
    Odd("array.pkl", lambda: pickle.dumps(X), "holds a ndarray (120, 3): data, not a model", ""),
    Odd("function.pkl", lambda: pickle.dumps(np.mean), "holds the function mean", "the object that `fit` returned"),
    Odd("class.pkl", lambda: pickle.dumps(LogisticRegression), "holds the class LogisticRegression itself", "`fit` returned"),
    Odd("module.pkl", missing_class, "it needs the module ourcode, which is not installed", "If it is code of your project"),
    Odd("keras.pkl", lambda: b"ckeras.src.models\nModel\n.", "it needs the module keras", '.export("model.onnx"'),
    Odd("catboost2.pkl", lambda: b"csklearn.lost\nModel\n.", "it needs sklearn.lost, which the", "another version"),
    Odd("main.joblib", of_main, "it needs `halved`, which the script or notebook that saved it defined", "cloudpickle.dump"),
    # estimators that answer no rows, or several things
    Odd("unfitted.joblib", lambda: dumped(LogisticRegression()), "a LogisticRegression that was never fitted", "`fit` returned"),
    Odd("pipe.joblib", lambda: dumped(make_pipeline(StandardScaler(), LogisticRegression())), "never fitted", "`fit` returned"),
    Odd(
        "search.joblib",
        lambda: dumped(GridSearchCV(LogisticRegression(), {"C": [1]}, refit=False).fit(X, Y)),
        "refit=False, so it kept no fitted model",
        "refit=True",
    ),
    Odd("pca.joblib", lambda: dumped(PCA(2).fit(X)), "holds a PCA, which has no `predict`: it transforms rows", "make_pipeline"),
    Odd("many.joblib", lambda: dumped(LinearRegression().fit(X, X[:, :2])), "something else than one answer a row", "one number"),
    Odd(
        "many2.joblib",
        lambda: dumped(MultiOutputClassifier(LogisticRegression()).fit(X, np.c_[Y, 1 - Y])),
        "MultiOutputClassifier predicts 2 labels a row",
        "model.estimators_",
    ),
    Odd("one.joblib", lambda: dumped(RandomForestClassifier(2).fit(X, Y * 0)), "it knows one class alone, 0", "all classes"),
    Odd("text.joblib", with_text, "does not answer rows of this signature", "taken as numbers, as nothing says otherwise", []),
    Odd("frame.joblib", with_text, "the model takes plan, which the sample does not have", "It has: age, "),
    Odd("clusters.joblib", lambda: dumped(KMeans(2).fit(X)), "KMeans numbers clusters", "--task"),
    Odd("outliers.joblib", lambda: dumped(IsolationForest(n_estimators=2).fit(X)), "-1 of an outlier", "--task"),
    # boosters
    Odd("rank.json", lambda: made_by("xgboost", ".json", of="XGBRanker", qid=np.arange(120) // 10), "rank:ndcg scores rows", ""),
    Odd("rank.txt", lambda: made_by("lightgbm", ".txt", objective="lambdarank", group=[10] * 12), "lambdarank scores rows", ""),
    Odd("many.json", lambda: made_by("xgboost", ".json", of="XGBRegressor", label=X[:, :2]), "predicts 2 values", "each value"),
    # graphs
    Odd("map.onnx", as_map, "none fits a regression task", "without them", VALUES),
    Odd("list.onnx", as_list, "none fits a regression task", "without them", VALUES),
    Odd(
        "text.onnx",
        lambda: graph(tensor("x", TensorProto.STRING, None, 3), ONE, CAST),
        "a matrix of text cannot be given",
        "one input [n, 1] a column",
        VALUES,
    ),
    Odd(
        "image.onnx",
        lambda: graph(tensor("x", FLOAT, None, 3, 8, 8), tensor("y", FLOAT, None, 1), SAME),
        "x float[n, 3, 8, 8] has 4 dimensions",
        "flatten it",
        VALUES,
    ),
    Odd(
        "fixed.onnx",
        lambda: graph(tensor("x", FLOAT, 1, 1), tensor("y", FLOAT, 1, 1), SAME),
        "is made for exactly 1 row at a time",
        "dynamic_axes={'x': {0: 'n'}}",
        VALUES,
    ),
    Odd(
        "whole.onnx",
        lambda: graph(tensor("x", TensorProto.INT64, None, 3), ONE, CAST),
        "the model takes age as integer, and the sample has Float64, such as",
        "",
        VALUES,
    ),
    Odd("opset.onnx", lambda: newer(99, 9), "it is written in opset 99, and the installed", "again with opset"),
    Odd("version.onnx", lambda: newer(18, 99), "version 99 of the format", "older onnx"),
    Odd(
        "custom.onnx",
        lambda: graph(ROWS, tensor("y", FLOAT, None, 1), helper.make_node("Magic", ["x"], ["y"], domain="com.acme"),
                      more=[helper.make_opsetid("com.acme", 1)]),
        "it uses com.acme:Magic, which onnxruntime does not have",
        "without them",
        VALUES,
    ),
    Odd("apart.onnx", apart, "its weights lie in weights.bin, which is not there", "beside the model", VALUES),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_it_is_refused_with_the_cause_and_the_way_out(odd: Odd, home: Path, inside: None, noria: Callable[..., Any]) -> None:
    """Number 18: the reason is the true one."""
    Path(odd.name).write_bytes(odd.make())
    asked = ["release", "import", odd.name, *odd.asked, "--vouch-for-pickle"]
    code = 2 if "cannot be told" in odd.words or odd.hint == "--task" or odd.words.endswith("scores rows") else 1
    said = noria(*asked, code=code)
    assert odd.words in said["message"]
    assert odd.hint in (said["hint"] or "")
    assert str(home) not in said["message"], "of this machine nothing is told but the file's name"
    assert noria("releases")["releases"] == []


@pytest.mark.parametrize(
    ("inner", "words", "hint"),
    [
        ("MLmodel", "a folder, a model of MLflow", "it/model.pkl"),
        ("saved_model.pb", "a folder, a SavedModel of TensorFlow", "tf2onnx.convert --saved-model it"),
        ("weights", "it is a folder", "Name the file"),
    ],
)
def test_a_folder_is_refused_with_the_file_to_name(
    inner: str, words: str, hint: str, home: Path, noria: Callable[..., Any]
) -> None:
    """Number 18: a folder that a library wrote is recognised, and the way to go on is told."""
    Path("it").mkdir()
    for name in (inner, "model.pkl"):
        (Path("it") / name).touch()
    said = noria("release", "import", "it", code=2)
    assert words in said["message"]
    assert hint in said["hint"]


@pytest.mark.parametrize(("name", "make"), [("m.onnx", lambda: pickle.dumps(fitted())), ("m.txt", lambda: dumped(fitted()))])
def test_a_pickle_of_another_suffix_is_one(
    name: str, make: Callable[[], bytes], home: Path, inside: None, noria: Callable[..., Any]
) -> None:
    """Number 18: what a file is, its content says: a pickle under any name is loaded only if somebody vouches for it."""
    Path(name).write_bytes(make())
    said = noria("release", "import", name, *SAMPLE, code=1)
    assert "is a pickle: loading it runs the code" in said["message"]
    assert noria("release", "import", name, *SAMPLE, "--vouch-for-pickle")["origin"]["kind"] == "pickle"


def test_weights_under_another_name_come_along(home: Path, inside: None, noria: Callable[..., Any]) -> None:
    """Number 18: which files hold a graph's weights, the graph says, whatever they are called."""
    Path("apart.onnx").write_bytes(apart())
    Path("weights.bin").write_bytes(np.ones(3, dtype=np.float32).tobytes())
    found = noria("release", "import", "apart.onnx", *VALUES)
    assert list(found["origin"]["weights"]) == ["weights.bin"]
    Path("in.jsonl").write_text('{"age": 1, "calls per day": 2, "spend": 4}\n')
    noria("predict", "--input", "in.jsonl", "--output", "out.jsonl", "--release", "v1")
    assert json.loads(Path("out.jsonl").read_text())["prediction"] == 7


def test_a_lambda_that_cloudpickle_saved_is_hosted(home: Path, inside: None, noria: Callable[..., Any]) -> None:
    """Number 18: what was saved with its code is saved with it again."""
    cloudpickle = pytest.importorskip("cloudpickle")
    model = make_pipeline(FunctionTransformer(lambda rows: rows / 2), LogisticRegression()).fit(X, Y)
    Path("m.pkl").write_bytes(cloudpickle.dumps(model))
    found = noria("release", "import", "m.pkl", *SAMPLE, "--vouch-for-pickle")
    assert found["release"]["form"] == "hosted"
    Path("in.jsonl").write_text('{"age": 1, "calls per day": 2, "spend": 4}\n')
    noria("predict", "--input", "in.jsonl", "--output", "out.jsonl", "--release", "v1")
    due = model.predict_proba(np.array([[1.0, 2.0, 4.0]]))[0, 1]
    assert json.loads(Path("out.jsonl").read_text())["probability"] == pytest.approx(due)
