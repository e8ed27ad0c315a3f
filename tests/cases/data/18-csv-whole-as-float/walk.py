"""`noria predict --input` reads CSV as training does: 30.0 is whole, a quoted empty cell is missing, commas may be decimal."""

from __future__ import annotations

import random
from typing import Any

MODEL = """\
from sklearn.ensemble import HistGradientBoostingClassifier


def train(features, label):
    return HistGradientBoostingClassifier(max_iter=5).fit(features.to_numpy(), label.to_numpy())
"""
POLICY = """\
project: p
data: {rows: rows.csv}
model: {key: id, inputs: [age, spend], label: y, train: "model:train"}
"""


def walk(case: Any) -> None:
    chance = random.Random(1)
    rows = [(f"k{at}", chance.randint(18, 80), chance.choice(["", f"{chance.uniform(1, 9):.2f}"])) for at in range(200)]
    text = "".join(f"{key},{age},{spend},{int(age > 45)}\n" for key, age, spend in rows)
    case.write("rows.csv", "id,age,spend,y\n" + text)
    case.write("model.py", MODEL)
    case.write("noria.yaml", POLICY)
    case.write(".gitignore", ".noria/\n*.csv\n*.jsonl\n")
    case.commit()
    assert case.noria_json("run")["release"] == "v1"
    asked = {
        "a.csv": 'age,spend,distance\n30.0,1,5\n31,"",6\n32,NA,7\n',
        "b.csv": "age;spend;distance\n30,0;1,0;5\n31;;6\n32;NA;7\n",
        "c.csv": "age,spend,distance\n30,1.0,5\n31,,6\n32,,7\n",
    }
    answers = []
    for name, content in asked.items():
        case.write(name, content)
        case.noria("predict", "--input", name, "--output", f"out-{name}.jsonl", "--release", "v1")
        answers.append([line.partition('"prediction"')[2] for line in (case.home / f"out-{name}.jsonl").read_text().splitlines()])
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 3
