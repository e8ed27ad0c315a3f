import lightgbm as lgb
import numpy as np

r = np.random.default_rng(0)
X = r.normal(size=(400, 2))
y = (X[:, 0] > 0).astype(int)
lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(X, y), 10).save_model("model.txt")
