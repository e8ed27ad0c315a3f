"""Other algorithms for the same question, for the search of noria.search.yaml. Each takes raw inputs, nulls among them."""

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler


def linear(features: pl.DataFrame, label: pl.Series, *, c: float = 1.0, min_frequency: int = 200) -> Pipeline:
    """Logistic regression: one column for each frequent text, and numbers in units of their spread."""
    text, numbers = _kinds(features)
    words = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=min_frequency, sparse_output=False)
    columns = make_column_transformer((words, text), (make_pipeline(SimpleImputer(), StandardScaler()), numbers))
    return make_pipeline(columns, LogisticRegression(C=c, max_iter=300)).fit(features, label.to_numpy())


def forest(features: pl.DataFrame, label: pl.Series, *, trees: int = 60, min_samples_leaf: int = 50, seed: int = 0) -> Pipeline:
    """Trees whose splits are drawn at random: each is poor, their mean is smooth."""
    text, numbers = _kinds(features)
    known = [features[name].drop_nulls().unique().sort().to_numpy().astype(object) for name in text]
    codes = OrdinalEncoder(categories=known, handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((codes, text), (SimpleImputer(), numbers))
    trees_of = ExtraTreesClassifier(n_estimators=trees, min_samples_leaf=min_samples_leaf, random_state=seed)
    return make_pipeline(columns, trees_of).fit(features, label.to_numpy())


def _kinds(features: pl.DataFrame) -> tuple[list[str], list[str]]:
    text = [name for name, kind in features.schema.items() if kind == pl.String]
    return text, [name for name in features.columns if name not in text]
