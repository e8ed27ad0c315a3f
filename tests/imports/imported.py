"""What tests of imports share: the inputs, and the folders of libraries that are not in Noria's own environment."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

NAMES = ["age", "calls per day", "spend"]
PROJECT = "project: churn\nserving:\n  port: 0\n  workers: 1\n"
ROOT = Path(__file__).resolve().parents[2]
BESIDE = {"catboost": ".imports", "statsmodels": ".imports", "torch": ".torch"}  # library -> the folder that `make` fills with it


def where(library: str) -> Path | None:
    """The folder that a library lies in; None where it is in the environment. Skips the test where it is nowhere."""
    if importlib.util.find_spec(library) is not None:
        return None
    folder = ROOT / BESIDE[library]
    if not (folder / library).is_dir():
        pytest.skip(f"{library} is not installed: `make {folder.name[1:]}`")
    return folder
