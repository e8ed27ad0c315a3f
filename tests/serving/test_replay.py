"""The replay, as a process on real releases: what a candidate does to yesterday's requests, whatever it does to its process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from msgspec.structs import replace
from serving_bundles import BINARY, FEATURES, PROJECT, Seal, compiled, hosted, wait_for

from noria.delivery.judge_replay import judge
from noria.delivery.replay_process import replay
from noria.kernel.errors import ServingError
from noria.kernel.policy import Guards, ReplayPolicy
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.models.signature import Input, Kind, Signature
from noria.predictions.records import Predictions
from noria.predictions.writer import LogWriter, Prediction
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.replay import ComparedAnswers, ReplayRun, _scaled_differences, variation
from noria.serving.replay_result import Replayed, ReplayOrder
from noria.serving.runtime import OnnxRuntime, load

ROWS = 60
REGRESSION = Signature(BINARY.inputs, Task.REGRESSION)


def log(seal: Seal, rows: list[dict[str, Any]], project: str = PROJECT) -> None:
    """Each row as a request of its own, but for the last ten, which came together."""
    writer = LogWriter(seal.state / "log" / "production", "production")
    try:
        alone, together = rows[:-10], rows[-10:]
        for i, row in enumerate(alone):
            writer.append(Prediction(f"p-{i:04x}", time.time(), project, "v1", "champion", None, row, {}, None, None, 0.1))
        if together:
            columns = {name: [row[name] for row in together] for name in together[0]}
            facts = (project, "v1", "champion", None, columns, {"prediction": [0] * len(together)}, 0.1)
            writer.append(Predictions("p-f000", len(together), time.time(), *facts))
    finally:
        writer.close()


def rows(n: int = ROWS, odd: str = "UA") -> list[dict[str, Any]]:
    """Every fifth has another carrier."""
    rng = np.random.default_rng(3)
    return [{"carrier": odd if i % 5 == 0 else "AA", "distance": float(rng.normal(3, 1))} for i in range(n)]


def replayed(seal: Seal, champion: str, candidate: str, **more: Any) -> Replayed:
    asked: dict[str, Any] = {"requests": 500, "deadline_ms": 10_000.0, "slow_ms": 500.0, "timeout_s": 30.0}
    return replay(seal.state, PROJECT, "production", champion, candidate, **(asked | more))


def verdict(facts: Replayed) -> Outcome:
    return judge(ReplayPolicy(), Guards(), 0.01, facts).outcome


def probabilities(seal: Seal, digest: str, asked: list[dict[str, Any]]) -> Any:
    runtime = OnnxRuntime(open_bundle(seal.state / "releases" / digest, known_keys(seal.state)))
    columns = {name: [row[name] for row in asked] for name in asked[0]}
    return np.array(asyncio.run(runtime.predict(columns, len(asked), time.monotonic() + 5)))


def test_a_good_candidate_passes_and_its_difference_is_that_of_the_models(seal: Seal, tmp_path: Path) -> None:
    old, new, asked = compiled(seal, tmp_path, 0), compiled(seal, tmp_path, 7), rows()
    log(seal, asked)
    log(seal, rows(30), project="another")
    facts = replayed(seal, old, new)
    p, q = (probabilities(seal, digest, asked)[:, 1] for digest in (old, new))
    assert (facts.requests, facts.wanted, facts.compared) == (ROWS, ROWS, ROWS)
    assert (facts.champion_errors, facts.candidate_errors, facts.unreadable) == (0, 0, 0)
    assert facts.difference == pytest.approx(np.abs(p - q).mean(), rel=1e-4)
    assert facts.changed == pytest.approx(((p >= 0.5) != (q >= 0.5)).mean())
    assert 0 < facts.candidate_median_ms <= facts.candidate_p99_ms < 10_000
    assert verdict(facts) is Outcome.PASS
    few = replayed(seal, old, new, requests=7)
    assert (few.requests, few.compared) == (7, 7)


def test_hosted_ones_that_fail_on_a_fifth_are_stopped_and_leave_no_process(seal: Seal, tmp_path: Path) -> None:
    """The hosted release raises for a carrier that it does not know; the champion is hosted, too."""
    old = hosted(seal, tmp_path, "old", FEATURES.replace('"UA": 1.0', '"UA": 1.0, "B6": 0.0'))
    new = hosted(seal, tmp_path, "new")
    log(seal, rows(odd="B6"))
    before = set(psutil.Process().children(recursive=True))
    facts = replayed(seal, old, new)
    assert (facts.requests, facts.candidate_errors, facts.candidate_only) == (ROWS, ROWS // 5, ROWS // 5)
    assert (facts.champion_errors, facts.champion_only, facts.compared) == (0, 0, ROWS - ROWS // 5)
    assert facts.difference == pytest.approx(0.0)
    assert verdict(facts) is Outcome.FAIL
    assert set(psutil.Process().children(recursive=True)) <= before


def test_one_that_is_slow_at_times_is_told_by_those_where_the_champion_was_not(seal: Seal, tmp_path: Path) -> None:
    """It sleeps 0.8 s for one request of six."""
    old, new = compiled(seal, tmp_path), hosted(seal, tmp_path, features=FEATURES.replace("0.6", "0.8"))
    log(seal, [{"carrier": "slow" if i == 0 else "AA", "distance": 1.0} for i in range(6)])
    slow = replayed(seal, old, new)
    assert (slow.candidate_errors, slow.candidate_slow, slow.candidate_slow_only, slow.champion_slow) == (0, 1, 1, 0)
    assert slow.candidate_p99_ms > 700


def hanging(seal: Seal, old: str, new: str) -> Replayed:
    """With as much time as this machine needs to come to the candidate."""
    for limit in (3.0, 10.0):
        with contextlib.suppress(ServingError):
            return replayed(seal, old, new, timeout_s=limit)
    return replayed(seal, old, new, timeout_s=60.0)


@pytest.mark.parametrize(
    ("features", "outcome"),
    [
        ("import time\n\ntime.sleep(600)\n", "timed out"),
        ("raise RuntimeError('no such lookup')\n", "it cannot be loaded: RuntimeError: no such lookup"),
    ],
)
def test_one_that_hangs_or_raises_as_it_is_loaded(seal: Seal, tmp_path: Path, features: str, outcome: str) -> None:
    old, new = compiled(seal, tmp_path), hosted(seal, tmp_path, features=features)
    log(seal, rows(25))
    facts = replayed(seal, old, new) if outcome != "timed out" else hanging(seal, old, new)
    assert facts.timed_out is (outcome == "timed out")
    assert outcome in (facts.failed or "timed out")
    assert verdict(facts) is Outcome.FAIL


def test_one_whose_every_answer_hangs_holds_nobody_up(seal: Seal, tmp_path: Path) -> None:
    body = FEATURES.replace("def build(frame):", "def build(frame):\n    if frame['distance'][0] > 0:\n        time.sleep(600)")
    new = hosted(seal, tmp_path, features=body)
    log(seal, [{"carrier": "AA", "distance": 1.0}] * 30)
    facts = replayed(seal, compiled(seal, tmp_path), new, deadline_ms=30.0)
    assert facts.candidate_only == facts.requests == 30
    assert verdict(facts) is Outcome.FAIL


def test_it_stops_by_itself_when_its_time_is_up(seal: Seal, tmp_path: Path) -> None:
    bundles = [open_bundle(seal.state / "releases" / compiled(seal, tmp_path, i), known_keys(seal.state)) for i in range(2)]
    order = ReplayOrder("", PROJECT, "production", "", "", 10**6, 1000.0, 200.0, 1.0, "", 1)
    row = Prediction("p", 0.0, PROJECT, "v1", "champion", None, {"carrier": "AA", "distance": 1.0}, {}, None, None, 0.1)
    said: list[str] = []

    async def work() -> Replayed:
        old, new = [await load(bundle, None) for bundle in bundles]
        return await ReplayRun(order, old, new, said.append).run([row] * 10**6, time.monotonic() + 0.6)

    facts = asyncio.run(work())
    assert 0 < facts.requests < facts.wanted == 10**6
    partial = [json.loads(text)["partial"]["requests"] for text in said if text.startswith("{")]
    assert 1 <= len(partial) <= 3
    assert partial == sorted(partial)
    firsts = said[: 2 * 500 : 2]
    assert 180 < firsts.count("champion") < 320  # who comes first is drawn


def test_a_bundle_that_was_changed_is_not_loaded(seal: Seal, tmp_path: Path) -> None:
    old, new = compiled(seal, tmp_path, 0), compiled(seal, tmp_path, 1)
    log(seal, rows(25))
    path = seal.state / "releases" / new / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    assert "does not match its digest" in replayed(seal, old, new).failed
    with pytest.raises(ServingError, match="does not match its digest"):
        replayed(seal, new, old)


def test_an_input_that_nobody_sent_yet_is_the_candidates_failure(seal: Seal, tmp_path: Path) -> None:
    wider = replace(BINARY, inputs=(*BINARY.inputs, Input("weather", Kind.STRING)))
    new = compiled(seal, tmp_path, 1, signature=wider)
    log(seal, rows(25))
    facts = replayed(seal, compiled(seal, tmp_path, 0), new)
    assert (facts.unreadable, facts.candidate_only, facts.compared) == (25, 25, 0)
    assert verdict(facts) is Outcome.FAIL


def test_nothing_logged_and_redacted_logs_say_so(seal: Seal, tmp_path: Path) -> None:
    old, new = compiled(seal, tmp_path, 0), compiled(seal, tmp_path, 1)
    assert replayed(seal, old, new) == Replayed(wanted=500, why="nothing was logged yet")
    log(seal, [{"distance": 1.0}] * 25)
    facts = replayed(seal, old, new)
    assert facts.why == "the logged requests lack inputs (carrier): they are redacted, or were not inputs then"
    assert verdict(facts) is Outcome.NOT_ENOUGH_DATA


def test_numbers_differ_in_standard_deviations(seal: Seal, tmp_path: Path) -> None:
    old, new = (compiled(seal, tmp_path, seed, signature=REGRESSION) for seed in (0, 7))
    asked = rows()
    log(seal, asked)
    facts = replayed(seal, old, new)
    a, b = (probabilities(seal, digest, asked) for digest in (old, new))
    assert facts.difference == pytest.approx(np.minimum(1, np.abs(a - b) / a.std()).mean(), rel=1e-4)
    assert facts.changed is None
    assert _scaled_differences([(1.0, 1.0), (1.0, 2.0)], [1.0, 1.0]) == [0.0, 1.0]
    assert _scaled_differences([(1.0, 90.0), (3.0, 2.0)], [1.0, 3.0]) == [1.0, 1.0]
    assert ComparedAnswers().facts() == {"compared": 0, "difference": 0.0, "changed": None}


def test_classes_are_compared_by_name() -> None:
    assert variation(["a", "b"], [0.25, 0.75], ["b", "a"], [0.75, 0.25]) == 0.0
    assert variation(["a", "b"], [0.5, 0.5], ["a", "b", "c"], [0.25, 0.5, 0.25]) == pytest.approx(0.25)
    assert variation(["a", "b"], [1.0, 0.0], ["c", "d"], [1.0, 0.0]) == 1.0


def test_it_may_be_killed_at_any_time_and_nothing_stays_behind(seal: Seal, tmp_path: Path) -> None:
    """Its host sleeps over a request when the replay is killed."""
    old, new = compiled(seal, tmp_path), hosted(seal, tmp_path, features=FEATURES.replace("0.6", "600"))
    log(seal, [{"carrier": "slow", "distance": 1.0}] * 25)
    before = set(psutil.Process().children(recursive=True))
    said: list[str] = []

    def run() -> None:
        try:
            replayed(seal, old, new, deadline_ms=60_000.0)
        except ServingError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()

    def hosts() -> list[psutil.Process]:
        ours = [c for c in psutil.Process().children(recursive=True) if c not in before]
        return ours if len(ours) == 2 and Path(f"/proc/{ours[1].pid}/fd").exists() else []

    (parent, host) = wait_for(hosts)
    os.kill(parent.pid, signal.SIGKILL)
    thread.join(20)
    assert said == ["the replay of logged requests ended by SIGKILL"]
    wait_for(lambda: not host.is_running())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.write(w, b'candidate\\n')\nos.abort()", "it ended the process that loaded and asked it: SIGABRT"),
        ("os.write(w, b'champion\\n')\nos.abort()", "the replay of logged requests ended by SIGABRT"),
        ("os.write(w, b'candidate\\n')\nos.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ('os.write(w, b\'{"error": "the log is gone"}\\n\')', "cannot be replayed: the log is gone"),
        ("os.close(0)\nprint('oh no')\nsys.exit(3)", "ended by exit code 3"),
        ("time.sleep(60)", "did not end within 2 s"),
        ('os.write(w, b\'{"partial": {"requests": 7}}\\ncandidate\\n\')\ntime.sleep(60)', "timed out after 7 of 500"),
    ],
)
def test_whose_turn_it_was_tells_whose_fault_it_is(seal: Seal, tmp_path: Path, body: str, said: str) -> None:
    """Another program stands for a replay whose model ends it."""
    program = tmp_path / "program.py"
    program.write_text(f"import os, sys, time\nw = int(sys.argv[1])\n{body}\n")
    try:
        limit = 2.0 if "sleep" in body else 30.0
        facts = replayed(seal, "0" * 64, "1" * 64, timeout_s=limit, command=(sys.executable, "-I", "-S", str(program)))
        found = facts.failed or f"timed out after {facts.requests} of {facts.wanted}" * facts.timed_out
    except ServingError as error:
        found = str(error)
    assert said in found


@pytest.mark.parametrize(("turn", "blamed"), [("candidate", True), ("champion", False)])
def test_a_kill_for_want_of_memory_is_of_who_was_asked(seal: Seal, tmp_path: Path, turn: str, blamed: bool) -> None:
    """The kernel's counter tells it from a person's `kill -9`."""
    program, counter = tmp_path / "program.py", tmp_path / "memory.events"
    counter.write_text("oom_kill 4\n")
    text = f"import os, sys\nos.write(int(sys.argv[1]), b'{turn}\\n')\n"
    program.write_text(text + f"open({str(counter)!r}, 'w').write('oom_kill 5\\n')\nos.kill(os.getpid(), 9)\n")
    command, kernel = (sys.executable, "-I", "-S", str(program)), OutOfMemory((counter,))
    try:
        found = replayed(seal, "0" * 64, "1" * 64, timeout_s=30.0, command=command, out_of_memory=kernel).failed
    except ServingError as error:
        found = str(error)
    assert found is not None
    assert ("it ended the process" in found, "SIGKILL because memory ran out" in found) == (blamed, True)
