import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from noria import track


def train(features: pl.DataFrame, label: pl.Series, *, inverse_penalty: float = 1.0):
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False)
    columns = make_column_transformer((one_hot, ["plan"]), ("passthrough", ["tenure", "fee"]))
    model = make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(features, label.to_numpy())
    asked = pl.DataFrame({"tenure": [5], "plan": ["student"], "fee": [20.0]}).select(features.columns)
    track.metric("python_answer_unseen_plan", float(model.predict_proba(asked)[0, 1]))
    return model
