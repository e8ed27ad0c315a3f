"""The harness of `make bench`, without peers: it times what it says, notices work that was not done, and invents no figure."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
HELD = "held = bytearray(200 << 20)"
BURN = "import time\nwhile time.process_time() < 0.4: pass"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT))
    return {name: import_module(f"benchmarks.{name}") for name in ("clock", "table", "chain", "peers", "snapshot")}


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_wall_time_processor_time_and_memory_are_the_commands(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    timed = bench["clock"].timed
    asleep = timed(python("import time; time.sleep(0.3)"), tmp_path)
    assert asleep.wall_s >= 0.3 > asleep.cpu_s
    busy = timed(["sh", "-c", f"{sys.executable} -I -S -c '{BURN}' & {sys.executable} -I -S -c '{BURN}'; wait"], tmp_path)
    assert 0.8 <= busy.cpu_s < 1.6  # both children's
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 200_000:  # in a worker that holds more, a child's peak is hidden
        assert timed(python(HELD), tmp_path).peak_mb > 200 > asleep.peak_mb


def test_a_command_that_fails_or_hangs_is_no_measurement(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    clock = bench["clock"]
    with pytest.raises(clock.BenchError, match=r"ended with 3\nwhy it failed"):
        clock.timed(python("import sys; print('why it failed'); sys.exit(3)"), tmp_path)
    begun = time.monotonic()
    with pytest.raises(clock.BenchError, match="took longer than 1 s"):
        clock.timed(["sh", "-c", "sleep 60 & wait"], tmp_path, limit_s=1.0)
    assert time.monotonic() - begun < 20


def test_what_slows_an_interpreter_down_is_taken_out(bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in bench["clock"].surroundings()


@pytest.mark.parametrize("tool", ["noria", "make", "pytask", "dvc"])
def test_each_tool_gets_the_same_commands(bench: dict[str, ModuleType], tool: str, tmp_path: Path) -> None:
    chain = bench["chain"]
    steps = chain.chain(3)
    assert [s.dep for s in steps[1:]] == [s.out for s in steps[:-1]]
    chain.write(tool, tmp_path / tool, steps)
    text = "".join(p.read_text() for p in (tmp_path / tool).iterdir() if p.is_file())
    assert all(text.count(step.command) == 1 for step in steps)


def test_a_tool_that_does_nothing_is_found_out(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    chain, clock = bench["chain"], bench["clock"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "003.txt").write_text("old\n")
    idle = chain.Tool("idle", tmp_path, lambda: clock.Took(0.1, 0.1, 1.0))
    with pytest.raises(clock.BenchError, match=r"out/003\.txt is not what its step leaves"):
        chain.stale(idle, ["out/003.txt"])(0)


def test_a_no_op_that_works_is_found_out(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    chain, clock = bench["chain"], bench["clock"]
    out = tmp_path / "last.txt"
    out.write_text("as it was\n")

    def eager() -> object:
        os.utime(out, ns=(1, 1))
        return clock.Took(0.1, 0.1, 1.0)

    with pytest.raises(clock.BenchError, match="was written though nothing had changed"):
        chain.unchanged(chain.Tool("eager", tmp_path, eager), "last.txt")(0)


def test_a_store_that_holds_less_than_the_data_is_found_out(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    bench["snapshot"].fill(tmp_path / "files", 150)
    found = [p for p in (tmp_path / "files").rglob("*") if p.is_file()]
    assert len({p.read_bytes() for p in found}) == len(found) == 150
    with pytest.raises(bench["clock"].BenchError, match="holds 614,400 bytes"):
        bench["snapshot"]._holds(tmp_path, 150 * 4096 + 1)


def test_ways_are_measured_in_turn(bench: dict[str, ModuleType]) -> None:
    clock, order = bench["clock"], []

    def way(name: str, seconds: float) -> object:
        def once(number: int) -> object:
            order.append(f"{name}{number}")
            return clock.Took(seconds + number, 0.0, 1.0)

        return once

    a, b = clock.in_turn(3, way("a", 1.0), way("b", 10.0))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert (clock.wall(a), clock.wall(b)) == (2.0, 11.0)


def test_what_was_not_measured_is_said_and_judged_by_nobody(bench: dict[str, ModuleType]) -> None:
    table = bench["table"]
    assert table.faster(1.0, None, 5) is None
    assert table.faster(1.0, 5.0, 5) is True
    assert table.faster(1.0, 4.9, 5) is False
    row = table.Row("w", 1.0, (table.Beside("DVC", None), table.Beside("make", 0.5)), "g", None)
    line = table.Section("n", "T", (row,), 3).text().splitlines()[-1]
    assert line == "| w | 1.00 s | DVC not measured, make 0.50 s (0.50×) | g | – |"


def test_one_section_is_renewed_and_the_others_stay(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    table, page = bench["table"], tmp_path / "page.md"

    def section(title: str, seconds: float) -> object:
        return table.Section(title, title, (table.Row("w", seconds),), 3)

    table.renew(page, [section("B", 1.0), section("A", 2.0)], ["A", "B"])
    first = page.read_text()
    assert first.index("## A") < first.index("## B")
    table.renew(page, [section("B", 3.0)], ["A", "B"])
    assert page.read_text() == first.replace("1.00 s", "3.00 s")
    assert page.read_text().startswith("# Benchmarks\n")


def test_the_peers_are_pinned_with_hashes_and_no_address(bench: dict[str, ModuleType]) -> None:
    for name in bench["peers"].NAMES:
        text = (bench["peers"].PINS / f"{name}.txt").read_text()
        pins = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert f"{name}==" in text
        assert all("==" in line for line in pins)
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text


@pytest.mark.slow
def test_a_small_run_measures_every_row_of_noria(tmp_path: Path) -> None:
    """The real command lines, on small things; the page is made, and no peer's figure is on it."""
    page, command = tmp_path / "page.md", [sys.executable, "-m", "benchmarks.run", "--small", "--no-peers", "--rounds", "1"]
    for name in ("chain", "snapshot", "experiments"):
        paths = ["--folder", str(tmp_path / "bench"), "--page", str(page)]
        done = subprocess.run([*command, "--only", name, *paths], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and not line.startswith("| work")]
    assert len(rows) == 10
    assert all("not measured" not in row.split("|")[2] for row in rows)
    for row in rows:
        if "faster than DVC" in row or "faster than MLflow" in row:
            assert "not measured" in row
            assert row.endswith("| – |")
    assert not (tmp_path / "bench" / "work").exists()


def test_the_soak_tells_growth_from_noise(bench: dict[str, ModuleType]) -> None:
    soak = import_module("benchmarks.soak")
    times = [10.0 * n for n in range(30)]
    noise = [0.05 * (-1) ** n for n in range(30)]
    level = soak.slope(times, [40.0 + e for e in noise])
    assert level.flat
    assert abs(level.mb_an_hour) < level.give_or_take < 5
    grown = soak.slope(times, [40.0 + 20 / 3600 * t + e for t, e in zip(times, noise, strict=True)])
    assert grown.mb_an_hour == pytest.approx(20 + level.mb_an_hour)
    assert not grown.flat


def test_the_kills_tell_who_was_in_flight(bench: dict[str, ModuleType]) -> None:
    survival, load = import_module("benchmarks.survival"), import_module("benchmarks.load")

    def call(sent: float, status: int, *ids: str) -> object:
        return load.Call("predict", sent, sent, sent + 0.1, status, "v1", "champion", ids)

    account = survival.Account(kills=[survival.Kill("worker", 5.05), survival.Kill("host", 8.05)])
    hit, by_the_host, refused = call(5.0, load.INTERRUPTED), call(8.0, load.INTERRUPTED), call(5.0, 503)
    account.told.calls = [call(1.0, 200, "p-1"), call(2.0, 200, "p-2"), call(3.0, 200, "p-2"), hit, by_the_host, refused]
    account.logged.update(["p-2", "p-3", "p-4", "p-4"])
    assert account.unexplained() == [by_the_host, refused]
    assert account.missing() == ["p-1"]
    assert account.doubled() == ["p-4", "p-2"]
    assert account.unheard() == 2
