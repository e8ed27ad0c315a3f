"""A snapshot of one large file, and of many small ones: for the first time, with nothing changed, and with one file changed.

Noria's is ``noria run`` in a project that has data and no steps; DVC's is ``dvc add``. Everything counts, from the start of the
command line to its end. A first snapshot begins with an empty store, which afterwards must hold as many bytes as the data.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.clock import BenchError, Took, commit, in_turn, noria, output, peak, remove, timed, wall
from benchmarks.peers import Peers, dvc_init
from benchmarks.table import Beside, Row, Section, faster

TITLE = "Snapshots"
PROJECT = "project: snapshot\ndata:\n  files: {source: files/**, format: files, settle: 50ms}\n"
PER_FOLDER = 100
FILE_BYTES = 4096
MEMORY_MB = 512  # "in proportion to the walk, memory bounded", in numbers
AGED_S = 0.1  # longer than `settle`

WALK = """
import os, sys, time

def walk(folder):
    count = 0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            count += walk(entry.path)
        else:
            entry.stat(follow_symlinks=False)
            count += 1
    return count

begun = time.perf_counter()
count = walk(sys.argv[1])
print(count, time.perf_counter() - begun)
"""


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    rows = [large_file(folder / "large", peers, rounds, 4_000_000 if small else 1_000_000_000)]
    rows += many_files(folder / "many", peers, rounds, 200 if small else 20_000)
    rows.append(one_of_many(folder / "most", rounds, 1_000 if small else 200_000))
    said = (
        f"{peers.version('dvc')}. The walk is `os.scandir` and a stat of each file, without an interpreter's start. The start-up "
        "is a run of Noria with one small file and nothing changed; it is part of each of Noria's figures."
    )
    return Section("snapshot", TITLE, tuple(rows), rounds, said)


def project(folder: Path) -> Path:
    """An empty project with an empty folder of data."""
    (folder / "files").mkdir(parents=True)
    (folder / "noria.yaml").write_text(PROJECT)
    commit(folder, "files")
    return folder


def dvc_project(folder: Path, dvc: Path) -> Path:
    folder.mkdir(parents=True)
    commit(folder)
    dvc_init(folder, dvc)
    return folder


def fill(folder: Path, count: int) -> None:
    """``count`` files of 4 KB, no two alike, a hundred to a folder."""
    for start in range(0, count, PER_FOLDER):
        inner = folder / f"{start // PER_FOLDER:05d}"
        inner.mkdir(parents=True)
        noise = random.Random(start)
        for number in range(start, min(start + PER_FOLDER, count)):
            (inner / f"{number:06d}.bin").write_bytes(noise.randbytes(FILE_BYTES))


def large_file(folder: Path, peers: Peers, rounds: int, size: int) -> Row:
    """Beside ``dvc add``, md5sum alone, and a bare copy to the same disk, which no snapshot that copies can beat."""
    home = project(folder / "noria")
    path = home / "files" / "one.bin"
    _noise(path, size)
    ways = {"noria": first_of_noria(home, size), "md5sum": lambda _: timed(["md5sum", path], home)}
    ways["cp"] = _copy(path, folder / "copy.bin")
    dvc = peers.command("dvc")
    if dvc:
        theirs = dvc_project(folder / "dvc", dvc)
        shutil.copyfile(path, theirs / "one.bin")
        ways["dvc"] = first_of_dvc(theirs, dvc, "one.bin", size)
    took = dict(zip(ways, in_turn(rounds, *ways.values()), strict=True))
    remove(folder)
    ours, md5 = wall(took["noria"]), wall(took["md5sum"])
    besides = (
        Beside("dvc add", wall(took["dvc"]) if dvc else None),
        Beside("md5sum alone", md5),
        Beside("cp and fsync alone", wall(took["cp"])),
    )
    return Row(f"{size / 1e9:g} GB in one file, first", ours, besides, "faster than md5 alone", faster(ours, md5, 1))


def _noise(path: Path, size: int) -> None:
    noise = random.Random(1)
    with path.open("wb") as file:
        for start in range(0, size, 1 << 24):
            file.write(noise.randbytes(min(1 << 24, size - start)))


def _copy(path: Path, target: Path) -> Callable[[int], Took]:
    script = f"rm -f '{target}' && cp '{path}' '{target}' && sync '{target}'"
    return lambda _: timed(["sh", "-c", script], path.parent)


def _copies(source: Path, target: Path) -> Callable[[int], Took]:
    """A copy of a folder: as many new files as a store that keeps each file by itself must make."""

    def once(_: int) -> Took:
        remove(target)
        os.sync()
        return timed(["cp", "-r", source, target], source.parent)

    return once


def first_of_noria(home: Path, size: int) -> Callable[[int], Took]:
    def once(_: int) -> Took:
        remove(home / ".noria")
        os.sync()
        time.sleep(AGED_S)
        took = timed(noria("run"), home)
        _holds(home / ".noria", size)
        return took

    return once


def first_of_dvc(home: Path, dvc: Path, name: str, size: int) -> Callable[[int], Took]:
    """Without a cache, and without DVC's memory of files, which lies beside it."""

    def once(_: int) -> Took:
        (home / f"{name}.dvc").unlink(missing_ok=True)
        remove(home / ".dvc" / "cache")
        remove(home / ".dvc" / "tmp")
        remove(home.parent / "dvc-memory")
        os.sync()
        took = timed([dvc, "add", "-q", name], home)
        _holds(home / ".dvc" / "cache", size)
        return took

    return once


def _holds(folder: Path, size: int) -> None:
    """Raises BenchError when there are fewer bytes below the folder."""
    held = sum(file.stat().st_size for file in _files(folder))
    if held < size:
        raise BenchError(f"{folder} holds {held:,} bytes after a snapshot of {size:,}")


def _files(folder: Path) -> Iterator[Path]:
    return (Path(inner) / name for inner, _, names in os.walk(folder) for name in names)


def small_one(folder: Path) -> Callable[[int], Took]:
    """A run with nothing changed in a project whose data is one small file: what a start of Noria takes."""
    home = project(folder)
    (home / "files" / "one.bin").write_bytes(b"one")
    time.sleep(AGED_S)
    timed(noria("run"), home)
    return lambda _: timed(noria("run"), home)


def walk_s(folder: Path, count: int) -> Took:
    """Only the walk: the interpreter's start is not in it."""
    found, seconds = output([sys.executable, "-I", "-S", "-c", WALK, folder], folder).split()
    if int(found) != count:
        raise BenchError(f"the walk found {found} files of {count}")
    return Took(float(seconds), float(seconds), 0.0)


def many_files(folder: Path, peers: Peers, rounds: int, count: int) -> list[Row]:
    home, size = project(folder / "noria"), count * FILE_BYTES
    fill(home / "files", count)
    dvc = peers.command("dvc")
    ways = {"noria": first_of_noria(home, size), "cp": _copies(home / "files", folder / "copies")}
    if dvc:
        theirs = dvc_project(folder / "dvc", dvc)
        shutil.copytree(home / "files", theirs / "files")
        ways["dvc"] = first_of_dvc(theirs, dvc, "files", size)
    first = dict(zip(ways, in_turn(rounds, *ways.values()), strict=True))
    again = {"noria": lambda _: timed(noria("run"), home), "walk": lambda _: walk_s(home / "files", count)}
    again["start"] = small_one(folder / "start")
    if dvc:
        again["status"] = lambda _: timed([dvc, "status", "-q"], theirs)
        again["add"] = lambda _: timed([dvc, "add", "-q", "files"], theirs)
    idle = dict(zip(again, in_turn(rounds, *again.values()), strict=True))
    remove(folder)
    ours, added = wall(first["noria"]), wall(first["dvc"]) if dvc else None
    besides = (Beside("dvc add", added), Beside("cp -r alone", wall(first["cp"])))
    cold = Row(f"{count:,} files of 4 KB, first", ours, besides, "8 times faster than DVC", faster(ours, added, 8))
    same = {name: wall(idle[name]) if name in idle else None for name in ("noria", "walk", "start", "status", "add")}
    return [cold, _nothing_changed(count, same)]


def _nothing_changed(count: int, same: dict[str, float | None]) -> Row:
    ours, walk, start_s = (same[name] or 0.0 for name in ("noria", "walk", "start"))
    besides = (Beside("dvc status", same["status"]), Beside("dvc add", same["add"]), Beside("a walk", walk))
    reached = ours - start_s <= 2 * walk
    said = f"{(ours - start_s) / walk:.1f} walks and a start-up of {start_s:.2f} s"
    return Row(f"{count:,} files, nothing changed", ours, besides, "2 walks and the start-up", reached, said)


def one_of_many(folder: Path, rounds: int, count: int) -> Row:
    home = project(folder)
    fill(home / "files", count)
    first = first_of_noria(home, count * FILE_BYTES)(0)
    print(f"  {count:,} files for the first time: {first.wall_s:.1f} s, {first.peak_mb:.0f} MB", flush=True)
    changed = home / "files" / "00000" / "000000.bin"

    def once(number: int) -> Took:
        before = sum(file.stat().st_size for file in _files(home / ".noria" / "blobs"))
        changed.write_bytes(random.Random(-1 - number).randbytes(FILE_BYTES))
        time.sleep(AGED_S)
        took = timed(noria("run"), home)
        if sum(file.stat().st_size for file in _files(home / ".noria" / "blobs")) < before + FILE_BYTES:
            raise BenchError("the changed file did not come into the store")
        return took

    took, walks, starts = in_turn(rounds, once, lambda _: walk_s(home / "files", count), small_one(folder.with_name("start")))
    remove(folder)
    remove(folder.with_name("start"))
    ours, walk, start_s = wall(took), wall(walks), wall(starts)
    said = f"{(ours - start_s) / walk:.1f} walks and a start-up of {start_s:.2f} s; peak memory {peak(took):.0f} MB"
    goal, reached = f"3 walks and the start-up, within {MEMORY_MB} MB", ours - start_s <= 3 * walk and peak(took) <= MEMORY_MB
    cold = f"first snapshot {first.wall_s:.1f} s, peak memory {first.peak_mb:.0f} MB"
    return Row(f"{count:,} files, one changed", ours, (Beside("a walk", walk),), goal, reached, f"{said}; {cold}")
