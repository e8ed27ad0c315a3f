"""200 commands in a row, each copying what the one before it left, and 100 beside each other that each keep a core busy.

Every tool gets the same commands, in a Git repository of its own. Stale means that the first file, which is in Git, has
other content: every step then reads an input that no tool has seen, so that no cache can answer. After each run the last file is
compared with the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.clock import BenchError, Took, commit, cores, in_turn, noria, remove, timed, wall
from benchmarks.peers import Peers, dvc_init
from benchmarks.table import Beside, Row, Section, faster

TITLE = "Steps"
FIRST = "first.txt"
TOOLS = ("noria", "dvc", "pytask", "make")


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    command: str
    dep: str
    out: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool with its project. ``start`` runs the project once."""

    name: str
    folder: Path
    start: Callable[[], Took]


def chain(length: int) -> list[Step]:
    names = [FIRST, *(f"out/{i:03d}.txt" for i in range(1, length + 1))]
    return [Step(f"s{i:03d}", f"cp {dep} {out}", dep, out) for i, (dep, out) in enumerate(pairwise(names), 1)]


def independent(count: int, turns: int) -> list[Step]:
    """Each counts to ``turns`` in the shell."""
    steps = []
    for i in range(1, count + 1):
        out = f"out/{i:03d}.txt"
        steps.append(Step(f"s{i:03d}", f"sh count.sh {turns} {FIRST} {out}", FIRST, out))
    return steps


COUNT = 'i=0\nwhile [ "$i" -lt "$1" ]; do i=$((i + 1)); done\ncp "$2" "$3"\n'


def write(tool: str, folder: Path, steps: Sequence[Step]) -> None:
    """The tool's own way to say the same."""
    (folder / "out").mkdir(parents=True)
    (folder / "count.sh").write_text(COUNT)
    writers = {"noria": _noria, "dvc": _dvc, "pytask": _pytask, "make": _make}
    name, text = writers[tool](steps)
    (folder / name).write_text(text)


def _noria(steps: Sequence[Step]) -> tuple[str, str]:
    lines = [f'  {s.name}: {{cmd: "{s.command}", deps: [{s.dep}], outs: [{s.out}]}}\n' for s in steps]
    return "noria.yaml", "project: chain\nsteps:\n" + "".join(lines)


def _dvc(steps: Sequence[Step]) -> tuple[str, str]:
    lines = [f"  {s.name}:\n    cmd: {s.command}\n    deps: [{s.dep}]\n    outs: [{s.out}]\n" for s in steps]
    return "dvc.yaml", "stages:\n" + "".join(lines)


def _pytask(steps: Sequence[Step]) -> tuple[str, str]:
    head = "import subprocess\nfrom pathlib import Path\n\nfrom pytask import task\n\nROOT = Path(__file__).parent\nSTEPS = [\n"
    listed = "".join(f"    ({s.name!r}, {s.command!r}, {s.dep!r}, {s.out!r}),\n" for s in steps)
    body = (
        "]\n\nfor name, command, dep, out in STEPS:\n\n"
        "    @task(id=name)\n"
        "    def run(command: str = command, dep: Path = ROOT / dep, produces: Path = ROOT / out) -> None:\n"
        "        subprocess.run(command, shell=True, cwd=ROOT, check=True)\n"
    )
    return "task_chain.py", head + listed + body


def _make(steps: Sequence[Step]) -> tuple[str, str]:
    rules = "".join(f"{s.out}: {s.dep}\n\t{s.command}\n" for s in steps)
    return "Makefile", f"all: {' '.join(s.out for s in steps)}\n" + rules


def tools(folder: Path, peers: Peers, names: Sequence[str], steps: Sequence[Step], jobs: int = 1) -> dict[str, Tool]:
    """Those of the tools that are here, each with its project written and committed."""
    found = {}
    for name in names:
        program = peers.command(name) if name != "noria" else None
        if program is None and name != "noria":
            continue
        home = folder / name
        write(name, home, steps)
        change(home, "first")
        commit(home, "out")
        commands: dict[str, list[str | Path]] = {"dvc": [program or "", "repro"], "make": [program or "", f"-j{jobs}"]}
        command = list(noria("run")) if name == "noria" else commands.get(name, [program or ""])
        if name == "dvc":
            (home / ".gitignore").unlink()  # DVC refuses outs that Git ignores by another rule, and writes its own
            dvc_init(home, program or Path())
        found[name] = Tool(name, home, _starter(command, home))
    return found


def _starter(command: Sequence[str | Path], home: Path) -> Callable[[], Took]:
    return lambda: timed(command, home)


def change(home: Path, content: str) -> None:
    (home / FIRST).write_text(f"{content}\n")


def stale(tool: Tool, last: Sequence[str]) -> Callable[[int], Took]:
    """Other content, a run, and a look at ``last``: the files that must hold it then."""

    def once(number: int) -> Took:
        change(tool.folder, f"round {number}")
        took = tool.start()
        for path in last:
            if (tool.folder / path).read_text() != f"round {number}\n":
                raise BenchError(f"{tool.name}: {path} is not what its step leaves in round {number}")
        return took

    return once


def unchanged(tool: Tool, last: str) -> Callable[[int], Took]:
    """A run that must not write ``last`` again."""

    def once(number: int) -> Took:
        before = (tool.folder / last).stat().st_mtime_ns
        took = tool.start()
        if (tool.folder / last).stat().st_mtime_ns != before:
            raise BenchError(f"{tool.name}: {last} was written though nothing had changed")
        return took

    return once


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    rows = [*in_a_row(folder / "chain", peers, rounds, 6 if small else 200)]
    rows.append(beside_each_other(folder / "independent", peers, rounds, 6 if small else 100, 2_000 if small else 300_000))
    versions = ", ".join(peers.version(name) for name in ("dvc", "pytask"))
    said = f"{versions}, GNU make. Each tool runs the same commands; DVC's stale runs are measured once, for their length."
    return Section("chain", TITLE, tuple(rows), rounds, said)


def in_a_row(folder: Path, peers: Peers, rounds: int, length: int) -> list[Row]:
    """Stale, and nothing changed."""
    steps = chain(length)
    here = tools(folder, peers, TOOLS, steps)
    last = steps[-1].out
    cold: dict[str, list[Took]] = {}
    if "dvc" in here:
        print("  DVC runs the whole chain, once", flush=True)
        cold["dvc"] = in_turn(1, stale(here["dvc"], [last]))[0]
    others = [tool for name, tool in here.items() if name != "dvc"]
    cold |= dict(zip([t.name for t in others], in_turn(rounds, *[stale(t, [last]) for t in others]), strict=True))
    idle = dict(zip(here, in_turn(rounds, *[unchanged(t, last) for t in here.values()]), strict=True))
    remove(folder)
    return [
        _row(f"{length} steps in a row, nothing changed", idle, ("dvc", "pytask", "make"), "dvc", 15),
        _row(f"{length} commands in a row, all stale", cold, ("dvc", "pytask", "make"), "dvc", 40),
    ]


def beside_each_other(folder: Path, peers: Peers, rounds: int, count: int, turns: int) -> Row:
    """The share of the cores that is busy, from the processors' time of the command and all its descendants."""
    steps = independent(count, turns)
    jobs = os.cpu_count() or 1
    here = tools(folder, peers, ("noria", "dvc", "make"), steps, jobs)
    outs = [s.out for s in steps]
    took: dict[str, list[Took]] = {}
    if "dvc" in here:
        took["dvc"] = in_turn(1, stale(here["dvc"], outs))[0]
    others = [tool for name, tool in here.items() if name != "dvc"]
    took |= dict(zip([t.name for t in others], in_turn(rounds, *[stale(t, outs) for t in others]), strict=True))
    remove(folder)
    ours = took["noria"]
    busy = f"{cores(ours):.1f} of {jobs} cores busy"
    besides = []
    for name, title in (("dvc", "DVC"), ("make", f"make -j{jobs}")):
        found = took.get(name)
        said = f"{cores(found):.1f} cores busy" if found else ""
        besides.append(Beside(title, wall(found) if found else None, said))
    reached = wall(ours) <= 1.2 * wall(took["make"]) if "make" in took else None
    goal = "all cores busy: at most 1.2 times make's time"
    return Row(f"{count} independent commands, cold", wall(ours), tuple(besides), goal, reached, busy)


def _row(work: str, took: dict[str, list[Took]], names: Sequence[str], rival: str, factor: float) -> Row:
    besides = tuple(Beside({"dvc": "DVC"}.get(n, n), wall(took[n]) if n in took else None) for n in names)
    seconds = wall(took["noria"])
    rivals = wall(took[rival]) if rival in took else None
    return Row(work, seconds, besides, f"{factor:g} times faster than DVC", faster(seconds, rivals, factor))
