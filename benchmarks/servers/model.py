"""Train the two models of the bench on the same rows, in whichever environment runs this: `python model.py FOLDER`."""

import random
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROWS, FEATURES = 4000, 10


def rows() -> tuple[np.ndarray, np.ndarray]:
    chance = random.Random(1)
    table = np.array([[chance.gauss(0, 1) for _ in range(FEATURES)] for _ in range(ROWS)])
    label = (table[:, 0] + 0.5 * table[:, 1] * table[:, 2] + np.array([chance.gauss(0, 1) for _ in range(ROWS)]) > 0).astype(int)
    return table, label


def models() -> dict[str, object]:
    return {
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
        "boosted": HistGradientBoostingClassifier(max_iter=100),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    table, label = rows()
    for name, model in models().items():
        joblib.dump(model.fit(table, label), folder / f"{name}.joblib")
