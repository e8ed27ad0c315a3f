"""A forest that saw no null refuses one by name, or answers as Python does: never with another number."""

from __future__ import annotations

import json
import re
import sys

from walked_case import Case


def walk(case: Case) -> None:
    case.copy("make.py", "q.jsonl")
    case.run(sys.executable, "make.py")
    case.noria("init", "--data", "visits.csv", "--label", "returned")
    case.copy("model.py")  # init wrote one of its own
    settings = (case.home / "noria.yaml").read_text()
    case.write("noria.yaml", re.sub(r"\nchecks:\n(  .*\n)+", "\n", settings))
    case.commit()
    case.noria("run")
    case.noria("predict", "--input", "q.jsonl", "--output", "s.jsonl", code=1)
    refused = [json.loads(line) for line in (case.home / "s.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in refused] == [1, 2]
    assert ["spend" in refused[0]["reason"], "age" in refused[1]["reason"]] == [True, True]
    assert all("null" in entry["reason"] for entry in refused)
    (said,) = (case.home / ".noria" / "releases").glob("*/evidence/parity.json")
    assert "null is refused in age, distance, spend: training saw none there" in said.read_text()
