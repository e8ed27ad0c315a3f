import polars as pl
from sklearn.ensemble import RandomForestClassifier

from noria import track


def train(features: pl.DataFrame, label: pl.Series, *, inverse_penalty: float = 1.0):
    model = RandomForestClassifier(60, max_depth=6, random_state=0).fit(features, label.to_numpy())
    asked = pl.DataFrame(
        {"age": [30], "spend": [None], "distance": [5.0]}, schema={"age": pl.Int64, "spend": pl.Float64, "distance": pl.Float64}
    )
    track.metric("python_answer_spend_null", float(model.predict_proba(asked.select(features.columns))[0, 1]))
    asked = asked.with_columns(pl.lit(None, dtype=pl.Int64).alias("age"), pl.lit(150.0).alias("spend"))
    track.metric("python_answer_age_null", float(model.predict_proba(asked.select(features.columns))[0, 1]))
    return model
