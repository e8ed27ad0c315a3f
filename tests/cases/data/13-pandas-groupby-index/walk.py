"""What `groupby` put into a pandas index arrives at the next step as a column."""

from __future__ import annotations

from walked_case import Case

STEPS = """
import pandas as pd


def one(p: pd.DataFrame) -> pd.DataFrame:
    return p.groupby("plan").agg({"fee": "mean"})


def two(one: pd.DataFrame) -> dict:
    return {"columns": ", ".join(one.columns)}
"""

PROJECT = """
project: plans
data: {p: {source: "p.csv", settle: 50ms}}
steps:
  one: {call: "table:one"}
  two: {call: "table:two"}
  said: {cmd: 'cat "$NORIA_INPUT_TWO" > said.json', deps: [two], outs: [said.json]}
"""


def walk(case: Case) -> None:
    case.write("p.csv", "plan,fee\na,1\na,2\nb,3\n")
    case.write("table.py", STEPS)
    case.write("noria.yaml", PROJECT)
    case.commit()
    case.noria("run")
    assert "plan, fee" in (case.home / "said.json").read_text()
