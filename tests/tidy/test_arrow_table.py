"""The table of arrows in tests/README.md: every arrow of the line is in it, and the test that it names is there."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([a-z ]+) \| ([a-z ]+) \| `([a-z_/]+\.py)::(test_\w+)` \|$", re.M)
LINE = ["data", "snapshot", "run", "candidate", "gate", "release", "rollout", "champion"]


def rows() -> list[tuple[str, str, str, str]]:
    return ROW.findall((TESTS / "README.md").read_text())


def test_every_arrow_of_the_line_has_a_test_that_is_there() -> None:
    for start, end, file, test in rows():
        functions = {n.name for n in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert test in functions, f"{start} -> {end}"


def test_no_arrow_is_missing() -> None:
    arrows = {(start, end) for start, end, _, _ in rows()}
    assert {("trigger", "turn"), *pairwise(LINE)} <= arrows
    assert {("prediction", "log"), ("label", "window"), ("breach", "retrain"), ("label", "release")} <= arrows
