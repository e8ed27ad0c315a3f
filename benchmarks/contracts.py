"""A data file held against a contract of 20 checks: beside libraries for such checks, and beside a bare query of the same.

Each is a whole process, from its start to its end. Before it is measured, each must accept the file, and refuse one in which a
single value is wrong. A large file is judged once: what counts is the memory of that.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.clock import BenchError, Took, in_turn, noria, peak, remove, surroundings, timed, wall
from benchmarks.peers import Peers
from benchmarks.table import Beside, Row, Section

TITLE = "Data contracts"
CHECKS = Path(__file__).parent / "checks"
TIMES = 1.3  # a bare query
MEMORY_MB = 500  # of a file of 4 GB
ROWS_OF_4_GB = 60_000_000
GROUP = 1_000_000
CONTRACT = """\
columns:
  id: {type: int, nulls: never, range: [0, 1099511627776]}
  at: {type: datetime, nulls: never}
  carrier: {type: string, nulls: never, values: [AA, BB, CC, DD, EE]}
  origin: {type: string, nulls: never, pattern: "[A-Z]{3}"}
  amount: {type: float, nulls: never, range: [0, 1000000]}
  paid: {type: float, nulls: never, range: [0, 1000000]}
  count: {type: int, nulls: never, range: [0, 1000]}
  code: {type: string, nulls: never, length: [6, 6]}
  share: {type: float, nulls: never, range: [0, 1]}
  flag: {type: bool, nulls: never}
unique: [[id]]
rules:
  - {name: paid, expr: "amount >= paid"}
"""
# Made by a process of its own: a child begins with the memory of its parent, and would be measured with it.
MAKE = """
import sys
import numpy as np, polars as pl, pyarrow.parquet as pq

path, rows, group, wrong = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "wrong"
chance = np.random.default_rng(7)
size = min(rows, group)
amount = chance.gamma(2, 50, size)
table = pl.DataFrame({
    "id": np.arange(size),
    "at": np.datetime64("2026-01-01", "us") + np.arange(size) * np.timedelta64(1, "s"),
    "carrier": chance.choice(["AA", "BB", "CC", "DD", "EE"], size),
    "origin": chance.choice([f"{chr(65 + n % 26)}{chr(65 + n // 26)}X" for n in range(300)], size),
    "amount": amount,
    "paid": amount * chance.random(size),
    "count": chance.integers(0, 500, size),
    "code": np.char.add("C", chance.integers(10_000, 99_999, size).astype(str)),
    "share": chance.random(size),
    "flag": chance.random(size) < 0.3,
})
if wrong:
    table = table.with_columns(share=pl.when(pl.int_range(pl.len()) == size // 2).then(1.5).otherwise("share"))
writer = None
for first in range(0, rows, size):
    number = (pl.col("id") + first) * 2_654_435_761 % (1 << 32)  # all differ, and do not rise
    part = table.with_columns(id=number).to_arrow()
    writer = writer or pq.ParquetWriter(path, part.schema, compression="none", use_dictionary=False)
    writer.write_table(part)
writer.close()
"""


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    rows = [
        many_checks(folder / "checks", peers, rounds, 20_000 if small else 1_000_000),
        a_small_file(folder / "start", rounds),
        a_large_file(folder / "large", 3_000_000 if small else ROWS_OF_4_GB),
    ]
    names = ("pandera", "great-expectations", "pointblank")
    said = (
        f"{', '.join(peers.version(name) for name in names)}. Each is a whole process; the checks are 20: nulls of 10 columns, 5 "
        "ranges, a key, a set, a pattern, a length, and a rule of two columns. The query of bare Polars says only how many rows "
        "break each check."
    )
    return Section("contracts", TITLE, tuple(rows), rounds, said)


def make(path: Path, rows: int, *, wrong: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    timed([sys.executable, "-c", MAKE, path, str(rows), str(GROUP), "wrong" if wrong else "right"], path.parent)
    (path.parent / "contract.yaml").write_text(CONTRACT)
    return path


def ways_to_check(folder: Path, peers: Peers) -> dict[str, list[str | Path]]:
    """A command for each, to which the file is added."""
    found: dict[str, list[str | Path]] = {
        "noria": [*noria("data", "check", "--contract", str(folder / "contract.yaml"))],
        "polars": [sys.executable, CHECKS / "bare_polars.py"],
    }
    for name in ("pandera", "great-expectations", "pointblank"):
        python = peers.command(name, "python")
        if python is not None:
            found[name] = [python, CHECKS / f"{name.replace('-', '_')}_checks.py"]
    return found


def many_checks(folder: Path, peers: Peers, rounds: int, rows: int) -> Row:
    good, bad = make(folder / "good.parquet", rows), make(folder / "bad.parquet", rows, wrong=True)
    ways = ways_to_check(folder, peers)
    for name, command in ways.items():
        timed([*command, good], folder)
        _demand_refusal(name, [*command, bad], folder)
    took = dict(zip(ways, in_turn(rounds, *(_once([*command, good], folder) for command in ways.values())), strict=True))
    remove(folder)
    ours, bare = wall(took["noria"]), wall(took["polars"])
    besides = [
        Beside(title, wall(took[name]) if name in took else None, f"{peak(took[name]):.0f} MB" if name in took else "")
        for name, title in (
            ("polars", "bare Polars"),
            ("pandera", "Pandera"),
            ("great-expectations", "Great Expectations"),
            ("pointblank", "pointblank"),
        )
    ]
    said = f"{ours / bare:.2f} times bare Polars; {peak(took['noria']):.0f} MB"
    work = f"20 checks of {rows:,} rows and 10 columns"
    return Row(work, ours, tuple(besides), f"at most {TIMES} times bare Polars", ours <= TIMES * bare, said)


def _once(command: list[str | Path], folder: Path) -> Callable[[int], Took]:
    return lambda _: timed(command, folder)


def _demand_refusal(name: str, command: list[str | Path], folder: Path) -> None:
    """Whoever accepts a file with a wrong value has not checked it."""
    done = subprocess.run([str(each) for each in command], cwd=folder, env=surroundings(), capture_output=True, check=False)
    if done.returncode != 1:
        raise BenchError(f"{name} ended with {done.returncode} on a file in which a value is wrong")


def a_small_file(folder: Path, rounds: int) -> Row:
    """What a check takes before it does anything."""
    path = make(folder / "four.parquet", 4)
    command = [*noria("data", "check", str(path), "--contract", str(folder / "contract.yaml"))]
    bare: list[str | Path] = [sys.executable, CHECKS / "bare_polars.py", path]
    took, other = in_turn(rounds, lambda _: timed(command, folder), lambda _: timed(bare, folder))
    remove(folder)
    return Row("20 checks of 4 rows", wall(took), (Beside("bare Polars", wall(other)),))


def a_large_file(folder: Path, rows: int) -> Row:
    path = make(folder / "large.parquet", rows)
    size = path.stat().st_size / 1e9
    took = timed(noria("data", "check", str(path), "--contract", str(folder / "contract.yaml")), folder)
    bare = timed([sys.executable, CHECKS / "bare_polars.py", path], folder)
    remove(folder)
    beside = (Beside("bare Polars", bare.wall_s, f"{bare.peak_mb:,.0f} MB"),)
    said = f"{took.peak_mb:.0f} MB"
    work = f"20 checks of {size:.1f} GB, {rows:,} rows, one key"
    return Row(work, took.wall_s, beside, f"within {MEMORY_MB} MB", took.peak_mb <= MEMORY_MB, said)
