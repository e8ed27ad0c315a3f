"""Models of libraries that are not in Noria's own environment, and graphs that converters make: all answer as their library does.

CatBoost and statsmodels come by `make imports`, PyTorch by `make torch`, each in a folder beside the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import joblib
import numpy as np
import polars as pl
import pytest
from imported import BESIDE, NAMES, ROOT, where
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from noria.serving.client import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, at import and at saving
ASKED = 40
LABEL = ["--label", "churned"]
VOUCH = ["--vouch-for-pickle"]


class Made(NamedTuple):
    """What a library answers to the first rows; the file, and how it is imported; what comes of it."""

    due: Any
    file: str
    arguments: list[str]
    form: str = "compiled"
    inputs: tuple[str, ...] = tuple(NAMES)


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[None]:
    """The folders of libraries behind all else here; the server and its hosts find them by their environment."""
    folders = [str(ROOT / name) for name in dict.fromkeys(BESIDE.values()) if (ROOT / name).is_dir()]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [before]), *folders])
    sys.path.extend(folders)
    yield
    for folder in folders:
        sys.path.remove(folder)
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def numbers(rows: pl.DataFrame) -> Any:
    return rows.select(NAMES).to_numpy()


def first(rows: pl.DataFrame) -> Any:
    return numbers(rows)[:ASKED].astype(np.float32).astype(np.float64)


def boosted(rows: pl.DataFrame, label: str = "churned", *, of: str = "CatBoostClassifier") -> Any:
    where("catboost")
    import catboost

    model = getattr(catboost, of)(iterations=8, depth=3, verbose=0, allow_writing_files=False, thread_count=1)
    return model.fit(numbers(rows), rows[label].to_numpy())


def cbm(rows: pl.DataFrame) -> Made:
    model = boosted(rows)
    model.save_model("m.cbm")
    return Made(model.predict_proba(first(rows))[:, 1], "m.cbm", LABEL)


def cbm_of_three(rows: pl.DataFrame) -> Made:
    model = boosted(rows.with_columns(level=pl.col("level").cast(pl.String)), "level")
    model.save_model("m.cbm")
    return Made(model.predict_proba(first(rows)), "m.cbm", LABEL)


def cbm_regression(rows: pl.DataFrame) -> Made:
    model = boosted(rows, "spend", of="CatBoostRegressor")
    model.save_model("m.json", format="json")
    return Made(model.predict(first(rows)), "m.json", LABEL)


def catboost_joblib(rows: pl.DataFrame) -> Made:
    model = boosted(rows)
    joblib.dump(model, "m.joblib")
    return Made(model.predict_proba(first(rows))[:, 1], "m.joblib", LABEL + VOUCH)


def catboost_graph(rows: pl.DataFrame) -> Made:
    model = boosted(rows)
    model.save_model("m.onnx", format="onnx")
    return Made(model.predict_proba(first(rows))[:, 1], "m.onnx", LABEL)


def catboost_categories(rows: pl.DataFrame) -> Made:
    """CatBoost exports no categories to ONNX: it is hosted, with CatBoost itself."""
    where("catboost")
    import catboost

    table = rows.select("age", "plan").to_pandas()
    model = catboost.CatBoostClassifier(iterations=8, verbose=0, allow_writing_files=False, cat_features=["plan"], thread_count=1)
    model.fit(table, rows["churned"].to_numpy())
    model.save_model("m.cbm")
    return Made(model.predict_proba(table[:ASKED])[:, 1], "m.cbm", LABEL, "hosted", ("age", "plan"))


def logit(rows: pl.DataFrame) -> Made:
    """Its constant is no input."""
    where("statsmodels")
    import statsmodels.api as sm

    found = sm.Logit(rows["churned"].to_numpy(), sm.add_constant(numbers(rows))).fit(disp=0)
    found.save("m.pickle")
    return Made(found.predict(sm.add_constant(first(rows))), "m.pickle", LABEL + VOUCH, "hosted")


def formula(rows: pl.DataFrame) -> Made:
    where("statsmodels")
    import statsmodels.formula.api as smf

    table = rows.select("age", "spend", "plan").to_pandas()
    found = smf.ols("spend ~ np.log(age ** 2 + 1) + C(plan)", table).fit()
    found.save("m.pickle")
    return Made(found.predict(table[:ASKED]), "m.pickle", LABEL + VOUCH, "hosted", ("age", "plan"))


def several(rows: pl.DataFrame) -> Made:
    where("statsmodels")
    import statsmodels.api as sm

    found = sm.MNLogit(rows["level"].to_numpy(), sm.add_constant(numbers(rows)[:, :2])).fit(disp=0, method="bfgs", maxiter=20)
    found.save("m.pickle")
    due = found.predict(sm.add_constant(first(rows)[:, :2]))
    return Made(due, "m.pickle", LABEL + VOUCH, "hosted", tuple(NAMES[:2]))


def exported(rows: pl.DataFrame) -> Made:
    where("torch")
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1), torch.nn.Sigmoid()
    )
    net = net.double().eval()
    free = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, dtype=torch.float64),), dynamic_shapes=free), "m.pt2")
    due = net(torch.from_numpy(first(rows))).detach().numpy().ravel()
    return Made(due, "m.pt2", [*LABEL, *VOUCH, "--task", "binary", "--classes", "0,1"])


def branching(rows: pl.DataFrame) -> Made:
    """What a trace of one call does not tell is hosted."""
    where("torch")
    import torch

    class Branching(torch.nn.Module):
        def forward(self, rows: Any) -> Any:
            return torch.cond(rows.sum() > 1e9, lambda x: x.sum(1), lambda x: x.mean(1), (rows,))

    free = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(Branching().eval(), (torch.zeros(2, 3),), dynamic_shapes=free), "m.pt2")
    return Made(first(rows).mean(axis=1), "m.pt2", [*LABEL, *VOUCH, "--task", "regression"], "hosted")


def of_onnxmltools(package: str, rows: pl.DataFrame) -> Made:
    library = pytest.importorskip(package)
    from onnxmltools.convert import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    more = {"verbose": -1} if package == "lightgbm" else {}
    model = (library.LGBMClassifier if package == "lightgbm" else library.XGBClassifier)(n_estimators=8, **more)
    model.fit(numbers(rows), rows["level"].to_numpy())
    convert = convert_lightgbm if package == "lightgbm" else convert_xgboost
    made = convert(model, initial_types=[("input", FloatTensorType([None, 3]))], target_opset=15)
    Path("m.onnx").write_bytes(made.SerializeToString())
    return Made(model.predict_proba(first(rows)), "m.onnx", LABEL)


def lightgbm_graph(rows: pl.DataFrame) -> Made:
    return of_onnxmltools("lightgbm", rows)


def xgboost_graph(rows: pl.DataFrame) -> Made:
    return of_onnxmltools("xgboost", rows)


def categories(library: str, form: str, rows: pl.DataFrame) -> Made:
    """Fitted on categories of pandas: each text has the code that training gave it, whatever else is in a request."""
    booster = pytest.importorskip(library)
    pytest.importorskip("pandas")
    table = rows.select("age", "plan").to_pandas().astype({"plan": "category"})
    more = {"verbose": -1} if library == "lightgbm" else {"enable_categorical": True}
    of = booster.LGBMClassifier if library == "lightgbm" else booster.XGBClassifier
    label = (rows["plan"] == "pro").to_numpy() ^ (rows["age"].to_numpy() > 2)
    model = of(n_estimators=8, **more).fit(table, label.astype(int))
    file = {"estimator": "m.joblib", "lightgbm": "m.txt", "xgboost": "m.json"}[library if form == "booster" else form]
    if form == "estimator":
        joblib.dump(model, file)
    else:
        (model.booster_ if library == "lightgbm" else model).save_model(file)
    return Made(model.predict_proba(table[:ASKED])[:, 1], file, LABEL + VOUCH, "hosted", ("age", "plan"))


def lightgbm_categories(rows: pl.DataFrame) -> Made:
    return categories("lightgbm", "booster", rows)


def lightgbm_estimator_categories(rows: pl.DataFrame) -> Made:
    return categories("lightgbm", "estimator", rows)


def xgboost_categories(rows: pl.DataFrame) -> Made:
    return categories("xgboost", "booster", rows)


def xgboost_estimator_categories(rows: pl.DataFrame) -> Made:
    return categories("xgboost", "estimator", rows)


def of_skl2onnx(rows: pl.DataFrame, model: Any, zipmap: Any, label: str = "level") -> Made:
    model.fit(numbers(rows), rows[label].to_numpy())
    options = {id(model): {"zipmap": zipmap}}
    Path("m.onnx").write_bytes(to_onnx(model, numbers(rows)[:1].astype(np.float32), options=options).SerializeToString())
    return Made(model.predict_proba(first(rows)), "m.onnx", LABEL)


def with_dictionaries(rows: pl.DataFrame) -> Made:
    return of_skl2onnx(rows, make_pipeline(StandardScaler(), RandomForestClassifier(8, random_state=0)), True)


def without_dictionaries(rows: pl.DataFrame) -> Made:
    return of_skl2onnx(rows, make_pipeline(StandardScaler(), RandomForestClassifier(8, random_state=0)), False)


def of_a_network(rows: pl.DataFrame) -> Made:
    """Its graph has no classifier's node that names the classes: they are said."""
    made = of_skl2onnx(rows, MLPClassifier((4,), max_iter=5, random_state=0), False)
    return made._replace(arguments=[*LABEL, "--task", "multiclass", "--classes", "0,1,2"])


def behind_an_encoder(rows: pl.DataFrame) -> Made:
    """The categories of an encoder are no classes."""
    whole = numbers(rows).round().clip(0, 3)
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), RandomForestClassifier(8, random_state=0)).fit(
        whole, rows["level"]
    )
    made = to_onnx(model, whole[:1].astype(np.int64), options={id(model): {"zipmap": False}})
    Path("m.onnx").write_bytes(made.SerializeToString())
    pl.DataFrame(whole.astype(np.int64), schema=NAMES).write_csv("whole.csv")
    return Made(model.predict_proba(whole[:ASKED]), "m.onnx", ["--sample", "whole.csv"])


MAKERS = [
    cbm, cbm_of_three, cbm_regression, catboost_joblib, catboost_graph, catboost_categories, logit, formula, several, exported,
    branching, lightgbm_graph, xgboost_graph, with_dictionaries, without_dictionaries, of_a_network, behind_an_encoder,
    lightgbm_categories, lightgbm_estimator_categories, xgboost_categories, xgboost_estimator_categories,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_it_is_served_with_the_librarys_own_answers(
    make: Callable[[pl.DataFrame], Made],
    rows: pl.DataFrame,
    noria: Callable[..., Any],
    server: Server,
    inside: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Number 18: what these libraries and converters write is imported, promoted and served; the library is the oracle."""
    monkeypatch.chdir(server.state.parent)
    made = make(rows)
    asked = rows.head(ASKED).select(made.inputs)
    if "--sample" in made.arguments:
        asked = pl.read_csv("whole.csv").head(ASKED)
        arguments = made.arguments
    else:
        rows.select(*made.inputs, "churned").write_csv("sample.csv")
        arguments = ["--sample", "sample.csv", *made.arguments]
    found = noria("release", "import", made.file, *arguments)
    assert found["release"]["form"] == made.form, found["origin"]
    noria("promote", found["release"]["version"], "-e", "production")
    response = httpx.post(f"{server.addresses()['production']}/predict", json=asked.to_dicts(), timeout=60).json()
    assert response["release"] == found["release"]["version"]
    got = [
        p.get("probability", list(p["probabilities"].values()) if "probabilities" in p else p["prediction"])
        for p in response["predictions"]
    ]
    due = np.asarray(made.due, dtype=np.float64)
    assert np.array(got) == pytest.approx(due, abs=3e-5 * max(1.0, float(np.abs(due).max())))
    assert due.std() > 0.01, "answers that say something"
