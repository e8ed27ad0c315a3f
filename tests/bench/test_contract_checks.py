"""The benchmark of data contracts: Noria and the bare query hold a file against the same checks."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]


def test_noria_and_the_bare_query_agree_on_a_good_file_and_a_bad_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    contracts, clock, peers = (import_module(f"benchmarks.{name}") for name in ("contracts", "clock", "peers"))
    good = contracts.make(tmp_path / "good.parquet", 100)
    bad = contracts.make(tmp_path / "bad.parquet", 100, wrong=True)
    assert pl.read_parquet(good).width == 10
    ways = contracts.ways_to_check(tmp_path, peers.Peers(None))
    assert list(ways) == ["noria", "polars"]
    for name, command in ways.items():
        clock.timed([*command, good], tmp_path)
        contracts._demand_refusal(name, [*command, bad], tmp_path)
    with pytest.raises(clock.BenchError, match="sleepy ended with 0 on a file in which a value is wrong"):
        contracts._demand_refusal("sleepy", [sys.executable, "-c", "", bad], tmp_path)
