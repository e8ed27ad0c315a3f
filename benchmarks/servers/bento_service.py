"""BentoML as its guide has it; the model's path comes from MODEL."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Scorer:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        return self.model.predict_proba(np.asarray(rows)).tolist()
