"""Parity asks what the signature allows: what a compiled model would answer otherwise is hosted, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from noria.kernel.task import Task
from noria.models import class_rule, columns, conversion, forms, parity_probes, training
from noria.models.signature import Decision, Input, Kind, Signature

RNG = np.random.default_rng(0)
N = 400
TABLE = pl.DataFrame(
    {
        "age": RNG.integers(18, 80, N).astype(float),
        "plan": RNG.choice(["basic", "pro", "gold"], N),
        "code": RNG.integers(0, 4, N).astype(float),
    }
)
LABEL = (TABLE["age"] / 80 + 0.3 * (TABLE["plan"] == "pro") + 0.5 * (TABLE["code"] == 2) + 0.3 * RNG.normal(size=N) > 0.8).cast(
    int
)
KINDS = {"age": Kind.NUMBER, "plan": Kind.STRING, "code": Kind.NUMBER}


def made(
    model: Any, names: list[str], table: pl.DataFrame = TABLE
) -> tuple[conversion.ConversionResult, forms.Original, pl.DataFrame]:
    """What becomes of a model fitted on the first 300 rows, and held out the rest."""
    inputs = tuple(Input(name, KINDS[name]) for name in names)
    rows = columns.frame(table, inputs)
    fitting, held = rows[:300], rows[300:]
    fitted = model.fit(fitting, LABEL[:300].to_numpy())
    signature = training.describe({"task": "binary", "key": None}, inputs, fitting, LABEL[:300], fitted)
    signature = training.with_nulls(signature, fitting, forms.Original(fitted, None, signature))
    tried = [i.name for i in signature.inputs if i.nullable and not fitting[i.name].null_count()]
    signature = class_rule.add_decision(signature, None, fitted, None, None, fitting)
    original = forms.Original(fitted, None, signature)
    return conversion.compile_model(original, None, signature, held, tried), original, held


def test_splits_at_amounts_of_two_decimals_compile() -> None:
    """Number 20, its other side: trees split at values of the data, as 21.87. The nearest number of 32 bits may lie beyond the
    split: asked with that one, which nobody has, a model and its graph differ."""
    rng = np.random.default_rng(1)
    rows = pl.DataFrame({"age": np.round(rng.exponential(40, 4_000), 2), "code": rng.integers(0, 4, 4_000).astype(float)})
    label = (rng.random(rows.height) < 1 / (1 + np.exp((rows["age"].to_numpy() - 40) / 20))).astype(int)
    fitted = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(rows, label)
    nodes = np.concatenate([trees[0].nodes for trees in fitted._predictors])
    splits = np.unique(nodes["num_threshold"][(nodes["is_leaf"] == 0) & (nodes["feature_idx"] == 0)])
    held = rows.filter(pl.col("age").is_in(splits[np.float32(splits) > splits]))
    assert held.height > parity_probes.NULL_BASES
    signature = Signature((Input("age", Kind.NUMBER, low=0.0, high=400.0), Input("code", Kind.NUMBER)), Task.BINARY, ("0", "1"))
    found = conversion.compile_model(forms.Original(fitted, None, signature), None, signature, held)
    assert found.content is not None, found.reason


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(8, random_state=0),
        ExtraTreesClassifier(8, random_state=0),
        DecisionTreeClassifier(max_depth=4, random_state=0),
        BaggingClassifier(DecisionTreeClassifier(max_depth=4), 4, random_state=0),
        CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_forests_that_saw_no_null_refuse_it_and_compile(model: Any) -> None:
    """Number 20: the graph drops where scikit-learn sends nulls, so a null that training never saw is no input."""
    found, _, _ = made(model, ["age", "code"])
    assert found.content is not None, found.reason
    assert [i.nullable for i in found.signature.inputs] == [False, False]
    assert "null is refused in age, code: training saw none there" in found.reason
    assert " = null" in found.reason


def test_a_forest_that_saw_nulls_is_hosted() -> None:
    """Number 20: also where none is held out."""
    rare = TABLE.with_columns(age=pl.when(pl.int_range(N) < 20).then(None).otherwise("age"))
    found, _, held = made(RandomForestClassifier(8, random_state=0), ["age", "code"], rare)
    assert not held["age"].null_count()
    assert found.content is None
    assert found.reason.startswith("hosted: the compiled model differs where age = null: it answers ")
    assert found.signature.inputs[0].nullable


def test_boosting_keeps_its_nulls_and_is_compiled() -> None:
    found, _, _ = made(HistGradientBoostingClassifier(max_iter=10), ["age", "code"])
    assert found.content is not None, found.reason
    assert [i.nullable for i in found.signature.inputs] == [True, True]
    assert found.probes > 30


@pytest.mark.parametrize(
    ("encoder", "compiled"),
    [
        (OneHotEncoder(handle_unknown="ignore"), True),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5), False),
        (OneHotEncoder(handle_unknown="warn"), False),
        (OneHotEncoder(), True),  # both refuse what they never saw
    ],
    ids=lambda value: getattr(value, "handle_unknown", value),
)
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_a_text_that_training_never_saw_is_asked(encoder: Any, compiled: bool) -> None:
    """Number 20: where Python answers an unseen category and the graph does not, the model is hosted."""
    pipeline = make_pipeline(make_column_transformer((encoder, ["plan"]), ("passthrough", ["code"])), LogisticRegression())
    found, _, _ = made(pipeline, ["plan", "code"])
    assert (found.content is not None) is compiled, found.reason
    if not compiled:
        assert "where plan = '': it answers nothing, the model 0." in found.reason


def test_a_missing_text_that_has_a_code_of_its_own_is_asked() -> None:
    """Number 20: nulls rare in training and none held out; in ONNX a missing text is ""."""
    rare = TABLE.with_columns(plan=pl.when(pl.int_range(N) < 20).then(None).otherwise("plan"))
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    pipeline = make_pipeline(
        make_column_transformer((codes, ["plan"]), ("passthrough", ["code"])), HistGradientBoostingClassifier(max_iter=20)
    )
    found, _, held = made(pipeline, ["plan", "code"], rare)
    assert not held["plan"].null_count()
    assert found.content is None
    assert "differs where plan = null" in found.reason


def test_a_fraction_of_a_category_is_asked() -> None:
    """Number 20: LightGBM cuts 2.37 to the category 2, the graph finds no such category."""
    lightgbm = pytest.importorskip("lightgbm", reason="noria[boosters] is not installed")
    pytest.importorskip("onnxmltools", reason="noria[boosters] is not installed")

    class Fitted(lightgbm.LGBMClassifier):  # type: ignore[misc, name-defined]  # no types without the package
        def fit(self, rows: Any, label: Any) -> Any:
            plain = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1, min_child_samples=5)
            return plain.fit(rows.to_numpy(), label, categorical_feature=[1])

    found, _, _ = made(Fitted(), ["age", "code"])
    assert found.content is None
    assert "differs where code = " in found.reason


@pytest.mark.parametrize(
    "model",
    [
        FixedThresholdClassifier(LogisticRegression(), threshold=0.3),
        TunedThresholdClassifierCV(LogisticRegression(), random_state=0),
        make_pipeline(StandardScaler(), FixedThresholdClassifier(LogisticRegression(), threshold=0.7)),
    ],
    ids=["fixed", "tuned", "in a pipeline"],
)  # fmt: skip
def test_a_model_that_chooses_its_threshold_compiles_with_it(model: Any) -> None:
    """Number 28: the compiled form calls each row as the model's own `predict` does."""
    found, original, held = made(model, ["age", "code"])
    assert found.content is not None, found.reason
    assert found.signature.decision is not None
    assert found.signature.decision.threshold not in (None, 0.5)
    own = original.predicted_classes(held)
    assert (own != (original.predict(held) >= 0.5)).any()
    assert (forms.Compiled(found.content, found.signature).called_classes(held) == own).all()


def test_a_model_whose_classes_follow_no_threshold_is_asked_itself() -> None:
    """Number 28: what `predict` says is what a host passes on, as the place of the class behind the probabilities."""

    class Platt(SVC):
        """Its probabilities are fitted beside its classes, as those of `SVC(probability=True)`."""

        def fit(self, rows: Any, label: Any) -> Any:
            self.beside = LogisticRegression().fit(rows, label)
            return super().fit(rows, label)

        def predict_proba(self, rows: Any) -> Any:
            return self.beside.predict_proba(rows)

    found, original, held = made(Platt(), ["age", "code"])
    assert found.content is None
    assert "`model.decision.threshold` sets one" in found.reason
    assert found.signature.decision == Decision()
    served = original.with_signature(found.signature)
    assert (served.served_answers(held)[:, 2] == original.predicted_classes(held)).all()
    assert (served.called_classes(held) == original.predicted_classes(held)).all()


def test_questions_are_the_same_for_the_same_signature_and_hold_what_is_odd() -> None:
    """Number 20: nulls only where they are granted, ends of ranges and beyond, fractions, negative numbers, odd texts."""
    inputs = (Input("n", Kind.NUMBER, True, 1.0, 5.0), Input("i", Kind.INTEGER, False, 2, 9), Input("t", Kind.STRING, False))
    signature = Signature((*inputs, Input("b", Kind.BOOLEAN)), Task.REGRESSION)
    held = pl.DataFrame({"n": [2.5], "i": [3], "t": ["x"], "b": [True]})
    asked = parity_probes.make_probes(signature, held)
    assert asked.rows.equals(parity_probes.make_probes(signature, held).rows)
    assert set(asked.told) >= {
        "n = null",
        "n = 1",
        "n = 5",
        "n = 0",
        "i = 1",
        "i = 10",
        "i = -1",
        "t = ''",
        "t = 'X'",
        "b = null",
    }
    assert asked.rows["i"].null_count() == asked.rows["t"].null_count() == 0
    assert asked.rows["n"].min() < 0
    wide = Signature(tuple(Input(f"c{i}", Kind.NUMBER) for i in range(900)), Task.REGRESSION)
    many = parity_probes.make_probes(wide, pl.DataFrame({f"c{i}": [1.0, 2.0] for i in range(900)}))
    assert many.rows.height == parity_probes.MOST
    assert {f"c{i} = null" for i in range(900)} <= set(many.told)


class Refuses:
    """A model that raises on a negative number; ``company``: what it says of a row depends on the others."""

    def __init__(self, company: bool = False, exits: bool = False) -> None:
        self.company, self.exits = company, exits

    def predict(self, rows: pl.DataFrame) -> Any:
        age = rows["age"].to_numpy()
        if (age < 0).any():
            raise SystemExit if self.exits else ValueError("no age is negative")
        return age - age.mean() if self.company else age / 100


@pytest.mark.parametrize(
    ("model", "ages", "due"),
    [
        (Refuses(), [30.0, -1.0, 50.0, -2.0], True),
        (Refuses(company=True), [30.0, -1.0, 50.0], False),
        (Refuses(), [-1.0, -2.0], False),
        (Refuses(exits=True), [30.0, -1.0, 50.0], False),
    ],
)
def test_a_held_out_row_that_a_model_refuses_says_nothing_of_the_others(model: Any, ages: list[float], due: bool) -> None:
    """Number 20: of a request to a model that raised on a held-out row, the good rows are answered, too."""
    assert conversion.row_by_row(model, pl.DataFrame({"age": ages})) is due
