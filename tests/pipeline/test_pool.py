"""Step processes: real ones, that end well, badly, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from noria.pipeline.executors.limits import JobEnd, PoolWork
from noria.pipeline.executors.pool import Pool

MODULE = """
import os, subprocess, sys, time, signal
from pathlib import Path
from noria.models.user_time import user_code

def echo(job):
    print("hello", job["word"])
    return {"word": job["word"], "cwd": os.getcwd(), "flag": os.environ.get("FLAG"), "hash": hash("x"), "pid": os.getpid()}

def raises(job):
    with user_code():
        return lookup({})

def lookup(table):
    return table["ANC"]

def hangs(job):
    with user_code():
        Path("started").write_text("")
        time.sleep(60)

def burns(job):
    while True:
        pass

def eats(job):
    hoard = bytearray(os.urandom(1)) * job["bytes"]
    time.sleep(60)

def eats_in_grandchild(job):
    code = f"hoard = bytearray(b'x') * {job['bytes']}; import time; time.sleep(60)"
    subprocess.run([sys.executable, "-c", code])

def exits(job): os._exit(3)
def leaves(job): sys.exit(4)
def leaves_with_words(job): sys.exit("row 7 is Ada's")
def kills_itself(job): os.kill(os.getpid(), signal.SIGKILL)
def not_json(job): return {"x": object()}
def panics(job): raise BaseException("beyond Exception")

def family(job):
    own = subprocess.Popen(["sleep", "61"])
    away = subprocess.Popen(["sleep", "62"], start_new_session=True)
    Path("family").write_text(f"{os.getpid()} {own.pid} {away.pid}")
    if job.get("stay"):
        time.sleep(60)
    return {"pids": [os.getpid(), own.pid, away.pid]}

def forks(job):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return {"pids": [os.getpid(), pid]}

def prints(job):
    for number in range(16):
        print(str(number % 10) * 1_000_000)
    print("the last line")
    return {}

def reads_stdin(job):
    return {"read": sys.stdin.read(), "shell": subprocess.run(["cat"], capture_output=True, text=True).stdout}

def two_spells(job):
    with user_code():
        with user_code():
            time.sleep(0.2)
    time.sleep(0.3)
    return {}

def big(job): return {"text": "x" * 300_000, "got": len(job["text"])}
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "proj.py").write_text(MODULE)
    return folder


@pytest.fixture(scope="module")
def executor() -> Iterator[Pool]:
    with Pool(size=2, preload=()) as made:
        yield made


@pytest.fixture
def work(tree: Path, tmp_path: Path) -> Callable[..., PoolWork]:
    def make(name: str, timeout_s: float = 20, memory_bytes: int | None = None, **job: Any) -> PoolWork:
        environment = {**os.environ, "FLAG": "up"}
        return PoolWork(f"proj:{name}", job, tmp_path, (tree,), environment, timeout_s, memory_bytes, tmp_path / "step.log")

    return make


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_job_gets_its_folder_path_and_environment(executor: Pool, work: Callable[..., PoolWork], tmp_path: Path) -> None:
    done = executor.submit(work("echo", word="Käse")).wait()
    assert done.ok
    assert done.kind == "ok"
    assert done.error is None
    assert done.result is not None
    assert (done.result["word"], done.result["cwd"], done.result["flag"]) == ("Käse", str(tmp_path), "up")
    assert (tmp_path / "step.log").read_text() == "hello Käse\n"
    assert done.log_tail == "hello Käse"
    assert done.peak_rss_mb > 5


def test_each_job_has_an_interpreter_of_its_own_with_equal_hashes(executor: Pool, work: Callable[..., PoolWork]) -> None:
    first, second = (executor.submit(work("echo", word="x")).wait().result for _ in range(2))
    assert first is not None
    assert second is not None
    assert first["pid"] != second["pid"]
    assert first["hash"] == second["hash"]


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("raises", "raised", "raised KeyError at proj.py:15"),
        ("exits", "exited", "ended with exit code 3 without a result"),
        ("leaves", "exited", "ended with exit code 4 without a result"),
        ("leaves_with_words", "exited", "ended with exit code 1 without a result"),
        ("kills_itself", "killed", "was killed by signal 9"),
        ("not_json", "raised", "raised TypeError: Object of type object is not JSON serializable"),
        ("panics", "raised", "raised BaseException at proj.py:"),
        ("missing", "raised", "raised AttributeError: module 'proj' has no attribute 'missing'"),
    ],
)
def test_a_failure_says_what_happened(executor: Pool, work: Callable[..., PoolWork], name: str, kind: str, error: str) -> None:
    done = executor.submit(work(name)).wait()
    assert (done.ok, done.kind, done.result) == (False, kind, None)
    assert done.error is not None
    assert done.error.startswith(error)
    assert "Ada" not in done.error  # number 53: what a step says is in its log


def test_the_traceback_is_in_the_log(executor: Pool, work: Callable[..., PoolWork], tmp_path: Path) -> None:
    done = executor.submit(work("raises")).wait()
    log = (tmp_path / "step.log").read_text()
    assert "Traceback" in log
    assert 'return table["ANC"]' in log
    assert done.log_tail.endswith("KeyError: 'ANC'")


@pytest.mark.parametrize("name", ["hangs", "burns"])
def test_a_job_that_hangs_is_ended(executor: Pool, work: Callable[..., PoolWork], name: str) -> None:
    begun = time.monotonic()
    done = executor.submit(work(name, timeout_s=1)).wait()
    assert (done.kind, done.error) == ("timeout", "timed out after 1 s")
    assert 1 <= time.monotonic() - begun < 15
    if name == "hangs":
        assert 0.9 < done.user_s < 15  # known although it could not report it itself


@pytest.mark.parametrize("name", ["eats", "eats_in_grandchild"])
def test_a_job_that_outgrows_its_memory_is_ended(executor: Pool, work: Callable[..., PoolWork], name: str) -> None:
    done = executor.submit(work(name, memory_bytes=200 << 20, bytes=300_000_000)).wait()
    assert (done.kind, done.error) == ("memory", "used more than 200 MB of memory")
    assert done.peak_rss_mb > 200


def test_a_job_within_its_memory_is_left_alone(executor: Pool, work: Callable[..., PoolWork]) -> None:
    done = executor.submit(work("eats", timeout_s=1, memory_bytes=400_000_000, bytes=100_000_000)).wait()
    assert done.kind == "timeout"
    assert 100 < done.peak_rss_mb < 400


@pytest.mark.parametrize("name", ["family", "forks"])
def test_what_a_job_started_ends_with_it(executor: Pool, work: Callable[..., PoolWork], name: str) -> None:
    done = executor.submit(work(name)).wait()
    assert done.result is not None
    for pid in done.result["pids"]:
        until(lambda pid=pid: gone(pid))


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_grandchildren_end_when_a_job_is_ended(executor: Pool, work: Callable[..., PoolWork], tmp_path: Path, how: str) -> None:
    job = executor.submit(work("family", timeout_s=1 if how == "timeout" else 60, stay=True))
    family = tmp_path / "family"
    until(lambda: family.exists() and len(family.read_text().split()) == 3)
    if how == "cancel":
        job.cancel()
    done = job.wait()
    assert done.kind == ("timeout" if how == "timeout" else "cancelled")
    for pid in map(int, family.read_text().split()):
        until(lambda pid=pid: gone(pid))


def test_a_job_killed_from_outside_is_noticed(executor: Pool, work: Callable[..., PoolWork], tmp_path: Path) -> None:
    job = executor.submit(work("family", stay=True))
    family = tmp_path / "family"
    until(lambda: family.exists() and len(family.read_text().split()) == 3)
    pid, own, _ = map(int, family.read_text().split())
    os.kill(pid, signal.SIGKILL)
    done = job.wait()
    assert (done.kind, done.error) == ("killed", "was killed by signal 9")
    until(lambda: gone(own))


def test_a_flood_of_output_is_bounded_with_both_ends_kept(executor: Pool, work: Callable[..., PoolWork], tmp_path: Path) -> None:
    done = executor.submit(work("prints")).wait()
    log = (tmp_path / "step.log").read_bytes()
    assert done.ok
    assert len(log) < 10_200_000
    assert log.startswith(b"0000")
    assert log.endswith(b"the last line\n")
    assert b"bytes left out ..." in log
    assert done.log_tail.endswith("the last line")


def test_standard_input_is_empty_and_large_messages_pass(executor: Pool, work: Callable[..., PoolWork]) -> None:
    assert executor.submit(work("reads_stdin")).wait().result == {"read": "", "shell": ""}
    done = executor.submit(work("big", text="y" * 500_000)).wait()
    assert done.result == {"text": "x" * 300_000, "got": 500_000}


def test_the_projects_share_of_the_time_is_told(executor: Pool, work: Callable[..., PoolWork]) -> None:
    done = executor.submit(work("two_spells")).wait()
    assert 0.2 <= done.user_s <= done.seconds - 0.3


def test_warm_processes_that_died_are_replaced(work: Callable[..., PoolWork]) -> None:
    with Pool(size=1, preload=()) as executor:
        executor.warm()
        [child] = executor._warm
        until(lambda: psutil.Process(child.process.pid).num_threads() >= 1)
        os.kill(child.process.pid, signal.SIGKILL)
        done = executor.submit(work("echo", word="x")).wait()
        assert done.ok


def test_without_work_most_warm_processes_are_let_go(work: Callable[..., PoolWork], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.pipeline.executors.pool.REST_S", 0.3)
    with Pool(size=4, preload=()) as executor:
        executor.warm()
        before = [child.process.pid for child in executor._warm]
        assert len(before) == 4
        until(lambda: all(gone(pid) for pid in before[2:]))
        assert [child.process.pid for child in executor._warm] == before[:2]
        assert executor.submit(work("echo", word="x")).wait().ok
        until(lambda: len(executor._warm) == 2 and executor._warm[1].process.pid not in before)  # filled up, and let go again
        assert gone(before[0])


def test_no_warm_process_is_let_go_while_a_job_runs(
    work: Callable[..., PoolWork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.pipeline.executors.pool.REST_S", 0.2)
    with Pool(size=4, preload=()) as executor:
        job = executor.submit(work("hangs", timeout_s=60))
        until((tmp_path / "started").exists)
        executor.warm()
        rest = executor._rest
        until(lambda: executor._rest is not rest)  # it was time, and there was work
        assert len(executor._warm) == 4
        job.cancel()
        until(lambda: len(executor._warm) == 2)


def test_jobs_run_side_by_side_up_to_the_limit(work: Callable[..., PoolWork], tmp_path: Path) -> None:
    with Pool(size=0, preload=(), running=1) as executor:
        first = executor.submit(work("hangs", timeout_s=60))
        until((tmp_path / "started").exists)
        second = executor.submit(work("echo", word="x"))
        waiting = threading.Thread(target=second.wait, daemon=True)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        first.cancel()
        assert second.wait().ok


def test_closing_ends_everything(work: Callable[..., PoolWork], tmp_path: Path) -> None:
    executor = Pool(size=1, preload=())
    executor.warm()
    warm = executor._warm[0].process.pid
    job = executor.submit(work("hangs"))
    until((tmp_path / "started").exists)
    executor.close()
    assert job.wait().kind == "cancelled"
    assert gone(warm)


PARENT = """
import os, sys, time
from pathlib import Path
from noria.pipeline.executors.limits import PoolWork
from noria.pipeline.executors.pool import Pool
folder, tree = Path(sys.argv[1]), Path(sys.argv[2])
executor = Pool(size=2, preload=())
executor.warm()
job = PoolWork(sys.argv[3], {"stay": True}, folder, (tree,), dict(os.environ), 60, None, folder / "step.log")
idle = [child.process.pid for child in executor._warm]
executor.submit(job)
(folder / "idle").write_text(" ".join(map(str, idle)))
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["family", "burns"])
def test_children_end_when_their_parent_is_killed(tree: Path, tmp_path: Path, name: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), str(tree), f"proj:{name}"])
    try:
        idle, family = tmp_path / "idle", tmp_path / "family"
        until(lambda: idle.exists() and len(idle.read_text().split()) == 2)
        pids = [int(pid) for pid in idle.read_text().split()]
        if name == "family":
            until(lambda: family.exists() and len(family.read_text().split()) == 3)
            pids += [int(pid) for pid in family.read_text().split()[:2]]
        else:
            until(lambda: any(sum(psutil.Process(pid).cpu_times()[:2]) > 0.4 for pid in pids))
    finally:
        parent.kill()
        parent.wait()
    for pid in pids:
        until(lambda pid=pid: gone(pid))
    if name == "family":  # the one in a session of its own is out of the kernel's reach: end it here
        os.kill(int(family.read_text().split()[2]), signal.SIGKILL)


def test_the_overhead_of_a_warm_process_is_small(work: Callable[..., PoolWork]) -> None:
    with Pool(size=5, preload=()) as executor:
        executor.warm()
        until(lambda: all(_ready(child.process.pid) for child in executor._warm))
        times: list[float] = []
        done: JobEnd | None = None
        for _ in range(5):
            begun = time.perf_counter()
            done = executor.submit(work("echo", word="x")).wait()
            times.append(time.perf_counter() - begun)
        assert done is not None
        assert done.ok
        assert sorted(times)[2] < 0.05


def _ready(pid: int) -> bool:
    """Blocked in the read of its job: no processor time is used any more."""
    before = sum(psutil.Process(pid).cpu_times()[:2])
    time.sleep(0.1)
    return before > 0 and sum(psutil.Process(pid).cpu_times()[:2]) == before
