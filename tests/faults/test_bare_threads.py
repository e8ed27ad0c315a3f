"""When the body of a thread raises that nobody supervises, whoever waits for it hears of it (tests/tidy/test_tidy_threads)."""

from __future__ import annotations

import io
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from noria.cli.demo import traffic
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_controller import RolloutController, in_background
from noria.pipeline.executors import child, pool
from noria.pipeline.executors.limits import PoolWork
from noria.pipeline.executors.pool import Pool
from noria.serving import __main__ as server

BROKEN = "the body of a thread raises"


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What threads ended with."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda about: found.append(str(about.exc_value)))
    return found


@pytest.fixture
def executor() -> Iterator[Pool]:
    with Pool(size=0, preload=()) as made:
        yield made


def _work(folder: Path) -> PoolWork:
    return PoolWork("os:getcwd", {}, folder, (folder,), dict(os.environ), 20, None, folder / "step.log")


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError(BROKEN)


def closed_fd() -> int:
    ours, theirs = os.pipe()
    os.close(ours)
    os.close(theirs)
    return ours


def test_nobody_waits_for_a_job_for_ever_whatever_comes_after_it(
    executor: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unhandled: list[str]
) -> None:
    """What fills the pool up again broke, and who waited for the job hung."""
    with monkeypatch.context() as patched:
        patched.setattr(executor, "refill_later", broken)
        job = executor.submit(_work(tmp_path))
        done: list[object] = []
        waiting = threading.Thread(target=lambda: done.append(job.wait()), daemon=True)
        waiting.start()
        waiting.join(60)
    assert len(done) == 1
    job.join()
    assert unhandled == [BROKEN]


def test_a_job_without_a_thread_ends_and_says_so(executor: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: broken())
        end = executor.submit(_work(tmp_path)).wait()
    assert (end.ok, end.kind, end.error) == (False, "exited", f"could not be run: {BROKEN}")
    assert executor._jobs == set()


def test_a_pool_that_cannot_be_filled_up_says_so(capfd: pytest.CaptureFixture[str], unhandled: list[str]) -> None:
    pool._timer(0.0, broken).join()
    assert f"the warm step processes are left as they are: RuntimeError: {BROKEN}" in capfd.readouterr().err
    assert unhandled == []


def test_a_pool_goes_on_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda _: broken())
    pool._timer(0.0, lambda: None).cancel()


def test_a_replay_that_breaks_is_the_rollout_controllers_error_and_begins_anew_later() -> None:
    controller = RolloutController(cast(DeliveryContext, None))
    replay: Future[None] = in_background(broken)
    controller._replays["r"] = replay
    assert str(replay.exception(60)) == BROKEN
    with pytest.raises(RuntimeError, match=BROKEN):
        controller._collect_replays()
    assert controller._replays == {}
    assert controller._rests.keys() == {"replay r"}


def test_a_server_that_cannot_hear_its_starter_ends(unhandled: list[str]) -> None:
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        server.end_with(closed_fd())
        assert told.wait(60)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(unhandled) <= 1  # it is raised as the signal is sent


def test_a_step_that_cannot_hear_of_its_engine_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda *about: killed.append(about))
    with pytest.raises(OSError, match="Bad file descriptor"):
        child._kill_at_end(closed_fd())
    assert killed == [(0, signal.SIGKILL)]


def test_traffic_that_is_steered_in_no_words_it_knows_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"speed": 2}\nnonsense\n'))
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    with pytest.raises(ValueError, match="Expecting value"):
        traffic._listen(orders)
    assert [orders.get_nowait(), orders.get_nowait()] == [{"speed": 2}, {"stop": True}]


@pytest.mark.parametrize("method", ["_predict", "_once"])
def test_a_client_goes_on_whatever_it_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def unheard_of(*_: object) -> Any:
        raise ValueError(BROKEN)

    monkeypatch.setattr(traffic.Client, method, unheard_of)
    answers = traffic.TrafficAnswers(tmp_path / "answers")
    work: queue.Queue[tuple[str, Any]] = queue.Queue()
    for _ in range(2):
        work.put(("/predict", {"late": None, "flight_id": "UA-1", "time_hour": "2013-01-01T00:00:00Z"}))
    traffic.Client("http://127.0.0.1:9", work, answers).start()
    _joined(work.join)
    said = answers.refused or (tmp_path / "answers").read_text()
    answers.file.close()
    assert f"ValueError: {BROKEN}" in said


def _joined(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it hangs"
