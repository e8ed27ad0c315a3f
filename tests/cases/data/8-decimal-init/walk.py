"""Decimal columns are numbers for init too."""

from __future__ import annotations

import shutil
from typing import Any


def walk(case: Any) -> None:
    for label in ("churned", "fee"):
        home = case.home / label
        home.mkdir()
        shutil.copy(case.inputs / "decimal.parquet", home)
        case.noria("init", "--data", "decimal.parquet", "--label", label, cwd=home)
        assert "Decimal(" not in (home / "tests" / "test_model.py").read_text()
        said = case.noria("check", cwd=home)
        assert "fee float" in said
        assert "ok    tests" in said
