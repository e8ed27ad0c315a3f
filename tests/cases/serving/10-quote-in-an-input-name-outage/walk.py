"""A release whose input is called ``size 3.5" disk`` takes over from one that serves, and answers."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import polars as pl

ASK = """
import json, subprocess, sys, urllib.request
command = [sys.executable, "-m", "noria", "serve", "v1", "--port", "0", "--workers", "1", "--state", "alone", "--json"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
lines = []
for line in server.stdout:
    lines.append(line)
    if line.rstrip() == "}":
        break
address = json.loads("".join(lines))["address"]
answer = urllib.request.urlopen(address + "/predict", data=sys.argv[1].encode(), timeout=60)
print(json.dumps([answer.status, json.load(answer)]))
server.terminate()
server.wait(20)
"""


def walk(case: Any) -> None:
    case.copy("model.py", "noria.yaml")
    policy = (case.home / "noria.yaml").read_text().replace("port: 9256, workers: 2", "port: 0, workers: 1")
    (case.home / "noria.yaml").write_text(policy)
    r = random.Random(1)
    a, b, c = ([r.uniform(0, 5) for _ in range(400)] for _ in range(3))
    rows = {"id": [f"k{i}" for i in range(400)], "a": a, "b": b, 'size 3.5" disk': c}
    (case.home / "data").mkdir()
    label = ["yes" if x + z > 5 else "no" for x, z in zip(a, b, strict=True)]
    pl.DataFrame(rows | {"y": label}).write_parquet(case.home / "data" / "a.parquet")
    case.commit()
    assert case.noria_json("run")["outcome"] == "promoted"
    served = case.run(sys.executable, "-c", ASK, json.dumps({"a": 1.0, "b": 2.0, 'size 3.5" disk': 3.0}))
    status, facts = json.loads(served)
    assert status == 200
    assert facts["release"] == "v1"
