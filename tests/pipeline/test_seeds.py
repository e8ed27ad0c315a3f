"""Every step draws from generators that were seeded, at import and when it runs; torch too, once it was imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from noria.pipeline import function_step

MODULE = """
import random
import numpy as np
AT_IMPORT = random.random()
def draws(): return {"import": AT_IMPORT, "random": random.random(), "numpy": float(np.random.normal())}
"""


def run(folder: Path, seed: int) -> dict[str, float]:
    sys.modules.pop("draws_under_test", None)
    function_step.run({"call": "draws_under_test:draws", "seed": seed, "folder": str(folder)})
    found: dict[str, float] = json.loads((folder / "output").read_bytes())
    return found


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "draws_under_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_same_seed_draws_the_same_and_another_does_not(tmp_path: Path) -> None:
    first, again, other = run(tmp_path, 7), run(tmp_path, 7), run(tmp_path, 8)
    assert first == again
    assert all(first[name] != other[name] for name in ("import", "random", "numpy"))


def test_torch_is_seeded_when_something_imported_it_and_not_imported_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    run(tmp_path, 7)
    assert "torch" not in sys.modules
    seeds: list[int] = []
    fake = ModuleType("torch")
    fake.manual_seed = seeds.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", fake)
    run(tmp_path, 7)
    assert set(seeds) == {7}
