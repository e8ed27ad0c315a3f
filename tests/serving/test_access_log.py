"""The access log of a real server, and log files that do not grow without bound."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_alone import Alone, exported
from serving_bundles import RECORD, Seal, compiled, wait_for
from serving_world import World

from noria.kernel.access import Access
from noria.serving.access_log import NAME, WAITING_MOST, AccessLog
from noria.serving.http import json_reply
from noria.storage.rotating_files import RotatingFile, rotate_inherited

ANNA = "anna-0123456789abcdef"


def _lines(folder: Path) -> list[dict[str, Any]]:
    """In the order in which they were answered; each worker writes its own batches."""
    files = sorted(folder.glob(f"{NAME}*"))
    return sorted((json.loads(line) for file in files for line in file.read_text().splitlines()), key=lambda line: line["at"])


def test_each_request_is_one_line_and_no_line_holds_a_key_or_a_row(seal: Seal, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"anna:{ANNA}\n")
    file = exported(seal, compiled(seal, tmp_path / "scratch"), tmp_path / "v3.tar")
    head = {"x-api-key": ANNA}
    before = time.time()
    with Alone(tmp_path, file, "--port", 0, "--key-file", "keys", "--access-log") as alone:
        httpx.post(f"{alone.url}/predict", json=RECORD, headers=head)
        httpx.post(f"{alone.url}/predict?carrier=secret", json=[RECORD] * 3, headers=head)
        httpx.post(f"{alone.url}/predict", json=[RECORD] * 70, headers=head)  # not the short way
        body = {"inputs": [{"name": n, "shape": [1], "datatype": t, "data": [RECORD[n]]} for n, t in _TYPES]}
        assert httpx.post(f"{alone.url}/v2/models/delays/infer", json=body, headers=head).status_code == 200
        httpx.post(f"{alone.url}/predict", json={"carrier": "secret"}, headers=head)
        httpx.post(f"{alone.url}/predict", json=RECORD, headers={"x-api-key": "wrong-0123456789abcdef"})
        httpx.get(f"{alone.url}/{'long' * 200}%0A%22", headers=head)
        httpx.get(f"{alone.url}/metrics")
        assert alone.stop(signal.SIGTERM) == 0
    folder = tmp_path / "noria-serve" / "log" / "production"
    found = _lines(folder)
    shown = [(x["method"], x["path"], x["status"], x.get("rows"), x.get("release"), x.get("key")) for x in found]
    long = ("/" + "long" * 200)[:200]
    assert shown == [
        ("POST", "/predict", 200, 1, "v3", "anna"),
        ("POST", "/predict", 200, 3, "v3", "anna"),
        ("POST", "/predict", 200, 70, "v3", "anna"),
        ("POST", "/v2/models/delays/infer", 200, 1, "v3", "anna"),
        ("POST", "/predict", 422, None, None, "anna"),
        ("POST", "/predict", 401, None, None, None),
        ("GET", long, 404, None, None, "anna"),
        ("GET", "/metrics", 200, None, None, None),
    ]
    assert all(before < x["at"] < time.time() and 0 <= x["ms"] < 5000 for x in found)
    assert {x["variant"] for x in found if "variant" in x} == {"champion"}
    text = "".join(f.read_text() for f in folder.glob(f"{NAME}*"))
    assert [word for word in (ANNA, "wrong-", "secret") if word in text] == []
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600


_TYPES = (("carrier", "BYTES"), ("distance", "FP64"))


def test_it_is_off_unless_asked_for(seal: Seal, tmp_path: Path) -> None:
    for wanted in (False, True):
        world = World(seal, tmp_path / f"scratch{wanted}")
        world.server.start({"production": ("127.0.0.1", 0)}, access=Access(log=wanted))
        try:
            world.serve(compiled(seal, tmp_path / f"scratch{wanted}", seed=int(wanted)))
            httpx.post(f"{world.url}/predict", json=RECORD)
            folder = world.state / "log" / "production"
            if wanted:
                wait_for(lambda folder=folder: [x["status"] for x in _lines(folder)] == [200])
        finally:
            world.close()
        assert (folder / NAME).exists() is wanted


def test_more_than_can_be_written_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AccessLog(tmp_path)
    monkeypatch.setattr(log, "_flush", lambda: 0.1)
    for _ in range(WAITING_MOST + 7):
        log.note("GET", "/", json_reply({}), 0.0, "")
    monkeypatch.undo()
    log.close()
    found = _lines(tmp_path)
    assert len(found) == WAITING_MOST + 1
    assert [x["dropped"] for x in found if "dropped" in x] == [7]


def test_a_disk_that_takes_no_more_costs_lines_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = AccessLog(tmp_path)

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._file, "append", full)
    for _ in range(3):
        log.note("GET", "/", json_reply({}), 0.0, "")
        wait_for(lambda: not log._waiting)
    log.close()
    assert capsys.readouterr().err.count("the access log cannot be written") == 1


# -- rotation


def _numbers(folder: Path) -> list[int]:
    return [int(line) for file in folder.iterdir() for line in file.read_text().split()]


def test_a_full_file_is_moved_aside_and_five_are_kept(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log", limit_bytes=100)
    for number in range(100):
        file.append(b"%09d\n" % number)
    file.close()
    assert {f.name for f in tmp_path.iterdir()} == {"a.log", *(f"a.log.{n}" for n in range(1, 6))}
    assert [f.stat().st_size for f in sorted(tmp_path.iterdir())] == [100] * 6
    assert sorted(_numbers(tmp_path)) == list(range(40, 100))
    assert (tmp_path / "a.log").read_text().split()[-1] == "000000099"
    assert (tmp_path / "a.log.5").read_text().split()[0] == "000000040"


def test_a_file_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log")
    file.append(b"1\n")
    (tmp_path / "a.log").rename(tmp_path / "elsewhere")
    file.append(b"2\n")
    file.close()
    assert (tmp_path / "a.log").read_text() == "2\n"


def _append(path: Path, first: int, count: int) -> None:
    file = RotatingFile(path, limit_bytes=4000, kept=1000)
    for number in range(first, first + count):
        file.append(b"%09d\n" % number)
    file.close()


def test_processes_share_a_file_and_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(tmp_path / "a.log", n * 5000, 5000)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(_numbers(tmp_path)) == list(range(15_000))
    assert max(f.stat().st_size for f in tmp_path.iterdir()) <= 4000 + 3 * 10  # who had just looked may write once more


def test_a_file_that_a_process_holds_as_its_standard_error_is_emptied_under_it(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with path.open("ab", buffering=0) as held:
        for round_ in range(8):
            held.write(b"%d" % round_ * 200)
            rotate_inherited(path, limit_bytes=300)
    assert path.stat().st_size < 300
    files = sorted(tmp_path.iterdir())
    assert all(b"\0" not in f.read_bytes() for f in files)
    assert "".join(f.read_text() for f in reversed(files)) == "".join(str(n) * 200 for n in range(8))


def test_the_servers_own_log_is_kept_small(seal: Seal, tmp_path: Path) -> None:
    """Whoever fills it, the tree moves it aside at its next poll and goes on writing."""
    world = World(seal, tmp_path / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=1)
    try:
        log = world.state / "server.log"
        with log.open("ab") as file:
            file.write(b"x" * (17 << 20))
        wait_for(lambda: log.stat().st_size < 1 << 20 and (world.state / "server.log.1").exists())
        os.kill(world.workers()[0], signal.SIGKILL)
        wait_for(lambda: b"ended with -9" in log.read_bytes())
        assert log.stat().st_size < 10_000
    finally:
        world.close()
