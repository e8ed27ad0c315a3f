"""LitServe as its guide has it: `python litserve_app.py MODEL PORT`."""

import sys

import joblib
import litserve as ls
import numpy as np


class Api(ls.LitAPI):
    def setup(self, device):
        self.model = joblib.load(sys.argv[1])

    def decode_request(self, request):
        return np.asarray(request["rows"], dtype=np.float64)

    def predict(self, rows):
        return self.model.predict_proba(rows)

    def encode_response(self, answers):
        return {"probabilities": answers.tolist()}


if __name__ == "__main__":
    ls.LitServer(Api(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False
    )
