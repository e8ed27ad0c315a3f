"""A running server tree for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_bundles import Seal
from serving_world import World


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    return Seal(tmp_path / "state")


@pytest.fixture
def world(seal: Seal, tmp_path: Path) -> Iterator[World]:
    """A server without a release, one environment, two workers."""
    made = World(seal, tmp_path / "scratch")
    made.server.start({"production": ("127.0.0.1", 0)}, workers=2)
    try:
        yield made
    finally:
        made.close()
