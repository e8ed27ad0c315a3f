"""The model: gradient boosted trees on the raw inputs, with the text columns as ordinal codes."""

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def train(
    features: pl.DataFrame,
    label: pl.Series,
    *,
    learning_rate: float = 0.05,
    max_iter: int = 100,
    max_leaf_nodes: int = 31,
    min_samples_leaf: int = 100,
    l2_regularization: float = 0.0,
    seed: int = 0,
) -> Pipeline:
    """Fits the model on the training rows.

    Nothing is imputed: a missing number stays missing, and the trees learn which way it goes. A missing or
    never seen text gets the code -1, in training as in a request; so a null, an empty text and an unknown
    airport are all the same to the model, here and in its ONNX form.
    """
    text = [name for name, kind in features.schema.items() if kind == pl.String]
    numbers = [name for name in features.columns if name not in text]
    known = [features[name].drop_nulls().unique().sort().to_numpy().astype(object) for name in text]
    codes = OrdinalEncoder(categories=known, handle_unknown="use_encoded_value", unknown_value=-1)
    trees = HistGradientBoostingClassifier(
        learning_rate=learning_rate,
        max_iter=max_iter,
        max_leaf_nodes=max_leaf_nodes,
        min_samples_leaf=min_samples_leaf,
        l2_regularization=l2_regularization,
        early_stopping=False,
        random_state=seed,
    )
    model = make_pipeline(make_column_transformer((codes, text), ("passthrough", numbers)), trees)
    return model.fit(features, label.to_numpy())
