"""Inputs that failed once, each walked through as the person did who met it.

A folder below ``data/`` or ``serving/`` is one case: the input files, what was seen and what is due (``README.txt``), and
``walk.py`` with ``walk(case)``, which does what the person did and asserts what is due.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from walked_case import Case

CASES = Path(__file__).parent
FOLDERS = sorted(readme.parent for kind in ("data", "serving") for readme in (CASES / kind).glob("*/README.txt"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_case_ends_as_it_should(folder: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"walk_{folder.name}", folder / "walk.py")
    assert spec is not None
    assert spec.loader is not None, f"{folder} has no walk.py"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.walk(Case(folder, tmp_path / "home"))
