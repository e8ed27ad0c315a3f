"""NaN is a missing value, infinity is said; what init drafts takes its own file."""

from __future__ import annotations

import shutil
from typing import Any

FILES = (
    ("nan.csv", "churned", {}),
    ("nan.parquet", "churned", {}),
    ("nan.parquet", "fee", {}),
    ("inf.csv", "churned", {"fee": "7 infinite values, which no request can carry"}),
    ("nanlabel.parquet", "churned", {}),
)


def walk(case: Any) -> None:
    for at, (name, label, left_out) in enumerate(FILES):
        home = case.home / str(at)
        home.mkdir()
        shutil.copy(case.inputs / name, home)
        made = case.noria("init", "--data", name, "--label", label, cwd=home)
        assert all(f"left out: {column} ({why})" in made for column, why in left_out.items()), made
        assert ("binary" in made) == (label == "churned"), made
        assert "NaN" not in (home / "README.md").read_text()
        assert "nan]" not in (home / "tests" / "test_model.py").read_text()
        assert "champion + nan" not in (home / "noria.yaml").read_text()
        said = case.noria("check", cwd=home)
        assert "ok    tests" in said
        assert f"ok    {name}: " in said
