"""A category that training never saw is answered as the model answers it in Python, and so are the rows beside it."""

from __future__ import annotations

import json
import re

from walked_case import Case


def walk(case: Case) -> None:
    case.copy("customers.csv", "q.jsonl")
    case.noria("init", "--data", "customers.csv", "--label", "churned")
    case.copy("model.py")  # init wrote one of its own
    settings = (case.home / "noria.yaml").read_text()
    settings = re.sub(r"\nchecks:\n(  .*\n)+", "\n", settings)
    case.write("noria.yaml", re.sub(r"\ngates:.*\n(  .*\n)+", "\ngates: [rows >= 5]\n", settings))  # not what it is about
    case.commit()
    assert "v1 sealed: hosted" in case.noria("run")
    case.noria("predict", "--input", "q.jsonl", "--output", "s.jsonl")
    answers = [json.loads(line) for line in (case.home / "s.jsonl").read_text().splitlines()]
    logged = re.search(r'"train.python_answer_unseen_plan": ([0-9.]+)', json.dumps(case.noria_json("show", "v1")))
    assert logged is not None
    assert abs(answers[0]["probability"] - float(logged.group(1))) < 1e-9  # what training said in Python
    assert len(answers) >= 2
    (said,) = (case.home / ".noria" / "releases").glob("*/evidence/parity.json")
    assert "the compiled model differs where plan = " in said.read_text()
