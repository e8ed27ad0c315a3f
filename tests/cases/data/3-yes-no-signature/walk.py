"""`classes: [no, yes]` of a signature are words, not truth values."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def walk(case: Any) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    case.copy("make.py", "signature.yaml")
    case.run(sys.executable, "make.py")
    case.write("noria.yaml", "project: p\n")
    case.write(".gitignore", ".noria/\n")
    case.commit()
    made = case.noria_json("release", "import", "model.txt", "--signature", "signature.yaml")
    assert made["signature"]["classes"] == ["no", "yes"]
