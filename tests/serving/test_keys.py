"""API keys, rates and host names: who is let in, and who hears why not."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_alone import Alone, exported, refused
from serving_bundles import RECORD, Seal, compiled, wait_for
from serving_world import World

from noria.kernel.access import UNGUARDED, Access, RateLimit, is_loopback
from noria.kernel.errors import ConfigError, ForbiddenError, NoKeyError, ServingError, TooOftenError
from noria.serving import counts, rate_limits
from noria.serving.access_control import AccessControl, allowed_hosts, key_of
from noria.serving.api_keys import ApiKeys, read_keys
from noria.serving.app import App, Settings
from noria.serving.counts import SharedCounters
from noria.serving.rate_limits import RateLimits

ANNA, BOB = "anna-0123456789abcdef", "bob-0123456789abcdef"
LIST = f"# who may ask\nanna:{ANNA}\n\n  bob : {BOB}  \n"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(LIST)
    return file


def _world(seal: Seal, tmp_path: Path, access: Access, host: str = "127.0.0.1", workers: int = 2) -> World:
    made = World(seal, tmp_path / "scratch")
    made.server.start({"production": (host, 0)}, workers=workers, access=access)
    made.serve(compiled(seal, tmp_path / "scratch"))
    return made


def _unchanged(folder: Path, *hosts: str) -> Iterator[World]:
    """A server on every address of this machine, with keys, for tests that only ask it."""
    (folder / "keys").write_text(LIST)
    made = _world(Seal(folder / "state"), folder, Access(str(folder / "keys"), hosts), "0.0.0.0")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from _unchanged(tmp_path_factory.mktemp("guarded"))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from _unchanged(tmp_path_factory.mktemp("named"), "models.example.org")


@pytest.fixture
def keyed(request: pytest.FixtureRequest, seal: Seal, tmp_path: Path, keys_file: Path) -> Iterator[World]:
    """A server on every address of this machine, with keys; a parameter says how many workers."""
    made = _world(seal, tmp_path, Access(keys_file=str(keys_file)), "0.0.0.0", getattr(request, "param", 2))
    try:
        yield made
    finally:
        made.close()


def _outside(world: World) -> str:
    """The server's address as another machine would use it."""
    own = [a.address for every in psutil.net_if_addrs().values() for a in every if a.family is socket.AF_INET]
    found = next((address for address in own if not is_loopback(address)), None)
    if found is None:
        pytest.skip("this machine has no address besides loopback")
    return f"http://{found}:{httpx.URL(world.url).port}"


# -- the server


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {ANNA}"}, {"authorization": f"bearer  {BOB}"}, {"x-api-key": BOB}]
)
def test_a_key_is_let_in_in_either_header(guarded: World, headers: dict[str, str]) -> None:
    base = _outside(guarded)
    assert httpx.post(f"{base}/predict", json=RECORD, headers=headers).status_code == 200
    assert httpx.get(f"{base}/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ANNA},
        {"authorization": f"Basic {ANNA}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {ANNA}x"},
        {"authorization": f"Bearer anna:{ANNA}"},
        {"x-api-key": ANNA[:-1]},
        {"x-api-key": ""},
        {"x-api-key": "x" * 20_000},
        {"x-api-key": b"\xff\xfe\x00"[:2].decode("latin-1")},
        {"x-api-key": "anna"},
    ],
)
def test_anything_else_is_refused_in_words_and_nothing_is_predicted(guarded: World, headers: dict[str, str]) -> None:
    asked = guarded.tallies(1).champion.requests
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for path, shown in (("/predict", dict), ("/v2/models/delays/infer", str)):
        answer = httpx.post(f"{guarded.url}{path}", json=RECORD, headers=raw)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        said = answer.json()["error"]
        assert isinstance(said, shown)
        assert "API key" in (said if isinstance(said, str) else said["message"])
        assert ANNA not in answer.text
    assert guarded.tallies(1).champion.requests == asked
    assert 'code="401"' in httpx.get(f"{guarded.url}/metrics").text


def test_health_and_metrics_are_open_to_this_machine_only(guarded: World) -> None:
    outside = _outside(guarded)
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"):
        assert httpx.get(f"{guarded.url.replace('0.0.0.0', '127.0.0.1')}{path}").status_code == 200
        assert httpx.get(f"{outside}{path}").status_code == 401
        assert httpx.get(f"{outside}{path}", headers={"x-api-key": ANNA}).status_code == 200
    for path in ("/", "/openapi.json"):
        assert httpx.get(f"{guarded.url}{path}").status_code == 401


@pytest.mark.parametrize("keyed", [1], indirect=True)  # which of two workers answers is chance
def test_a_change_of_the_file_holds_soon_and_a_broken_one_changes_nothing(keyed: World, keys_file: Path) -> None:
    def status(key: str) -> int:
        return httpx.post(f"{keyed.url}/predict", json=RECORD, headers={"x-api-key": key}).status_code

    fresh = "carla-0123456789abcdef"
    other = keys_file.with_name("other")
    other.write_text(f"carla:{fresh}\n")
    other.replace(keys_file)
    wait_for(lambda: status(ANNA) == 401)
    assert status(fresh) == 200
    keys_file.write_text("short\n")
    log = keyed.state / "server.log"
    wait_for(lambda: status(fresh) == 200 and "the keys remain unchanged" in log.read_text())
    assert fresh not in log.read_text()
    keys_file.unlink()
    assert status(fresh) == 200


def test_an_open_address_without_keys_does_not_start(seal: Seal, tmp_path: Path) -> None:
    world = World(seal, tmp_path / "scratch")
    with pytest.raises(ServingError, match="not a loopback address"):
        world.server.start({"production": ("0.0.0.0", 0)})
    with pytest.raises(ServingError, match="the keys cannot be read"):
        world.server.start({"production": ("0.0.0.0", 0)}, access=Access(keys_file=str(tmp_path / "none")))


def test_noria_serve_asks_for_keys_too(seal: Seal, keys_file: Path, tmp_path: Path) -> None:
    file = exported(seal, compiled(seal, tmp_path / "scratch"), tmp_path / "v3.tar")
    code, words = refused(tmp_path, file, "--host", "0.0.0.0", "--port", 0)
    assert (code, "--key-file" in words) == (2, True)
    keys_file.with_name("bad").write_text("anna:short\n")
    code, words = refused(tmp_path, file, "--key-file", "bad", "--port", 0)
    assert (code, "bad:1: the key has 5 characters" in words) == (2, True)
    assert refused(tmp_path, file, "--rate", "many")[0] == 2
    assert refused(tmp_path, file, "--host-name", "a b")[0] == 2
    with Alone(tmp_path, file, "--host", "0.0.0.0", "--port", 0, "--key-file", "keys", "--rate", "3/h") as alone:
        assert httpx.post(f"{alone.url}/predict", json=RECORD).status_code == 401
        for status in (200, 200, 200, 429):
            answer = httpx.post(f"{alone.url}/predict", json=RECORD, headers={"x-api-key": ANNA})
            assert answer.status_code == status
        assert 1000 < int(answer.headers["retry-after"]) <= 1200  # a third of an hour
        assert httpx.post(f"{alone.url}/predict", json=RECORD, headers={"x-api-key": BOB}).status_code == 200


def test_the_rate_holds_over_all_workers_and_not_for_health(seal: Seal, tmp_path: Path) -> None:
    """Without keys callers are told apart by address; each new connection may meet another worker."""
    world = _world(seal, tmp_path, Access(rate=RateLimit(5, 3600.0)))
    try:
        statuses = [httpx.post(f"{world.url}/predict", json=RECORD).status_code for _ in range(12)]
        assert statuses == [200] * 5 + [429] * 7
        answer = httpx.post(f"{world.url}/v2/models/delays/infer", json={})
        assert answer.status_code == 429
        assert isinstance(answer.json()["error"], str)
        assert httpx.get(f"{world.url}/health/ready").status_code == 200
    finally:
        world.close()


@pytest.mark.parametrize(
    ("host", "status"), [("models.example.org", 200), ("Models.Example.org:443", 200), ("localhost:1", 200), ("other.org", 403)]
)
def test_named_hosts_may_be_called(named: World, host: str, status: int) -> None:
    headers = {"host": host, "x-api-key": ANNA}
    assert httpx.post(f"{named.url}/predict", json=RECORD, headers=headers).status_code == status


# -- the parts


def test_hosts_are_checked_on_loopback_always_and_elsewhere_where_they_are_named() -> None:
    assert allowed_hosts(UNGUARDED, "127.0.0.1") == {b"127.0.0.1", b"localhost", b"[::1]"}
    assert allowed_hosts(UNGUARDED, "0.0.0.0") is None
    assert allowed_hosts(Access(hosts=("A.org",)), "127.0.0.1") == {b"127.0.0.1", b"localhost", b"[::1]", b"a.org"}
    assert allowed_hosts(Access(hosts=("a.org",)), "0.0.0.0") == {b"0.0.0.0", b"127.0.0.1", b"localhost", b"[::1]", b"a.org"}


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("", "", "it holds 0 keys"),
        ("# nothing\n\n", "", "it holds 0 keys"),
        ("anna:short\n", ":1", "can be guessed"),
        (f"{LIST}carla:{ANNA}\n", ":5", "earlier line"),
        (f"{LIST}anna:carla-0123456789abcdef\n", ":5", "earlier line"),
        (f"Anna B:{ANNA}\n", ":1", "not a valid name"),
        (f":{ANNA}\n", ":1", "not a valid name"),
        (f"anna:{ANNA} and more\n", ":1", "printable ASCII"),
        (f"anna:{ANNA}\u00e9\n", ":1", "printable ASCII"),
    ],
)
def test_a_bad_list_is_named_by_line_and_never_quoted(keys_file: Path, text: str, where: str, words: str) -> None:
    keys_file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_keys(keys_file)
    assert caught.value.where == f"{keys_file}{where}"
    assert ANNA not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/predict", "predict"), ("/delays/predict", "predict"), ("/v2/models/delays/infer", "predict"),
        ("/v2/models/delays/versions/v3/infer", "predict"), ("/feedback", "feedback"), ("/delays/feedback", "feedback"),
        ("/", ""), ("/openapi.json", ""), ("/v2/models/delays", ""),
    ],
)  # fmt: skip
def test_a_key_may_be_for_labels_alone_or_for_predictions(keys_file: Path, path: str, scope: str) -> None:
    """Number 54: whoever could predict could write labels, also for predictions of others."""
    kinds = {"labels": "feedback", "app": "predict", "all": "predict feedback", "old": ""}
    keys_file.write_text("".join(f"{name}:{name}-0123456789abcdef {words}\n" for name, words in kinds.items()))
    door = AccessControl(Access(str(keys_file)), "127.0.0.1")
    for name, words in kinds.items():
        headers = [(b"x-api-key", f"{name}-0123456789abcdef".encode())]
        if not scope or not words or scope in words.split():
            assert door.authorise(headers, path, None) == name
        else:
            with pytest.raises(ForbiddenError, match=f"the key '{name}' is for {words} only"):
                door.authorise(headers, path, None)


def test_a_list_that_is_no_text_is_refused(keys_file: Path) -> None:
    keys_file.write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_keys(keys_file)
    with pytest.raises(ConfigError, match="Is a directory"):
        read_keys(keys_file.parent)


def test_keys_are_known_by_name_and_a_bare_one_by_its_line(keys_file: Path) -> None:
    keys_file.write_text(f"{LIST}just-a-key-0123456789\n")
    keys = ApiKeys(keys_file)
    found = [keys.known(k.encode()) for k in (ANNA, BOB, "just-a-key-0123456789")]
    assert [known and known.name for known in found] == ["anna", "bob", "line-5"]
    held = repr(vars(keys))
    assert ANNA not in held
    assert "just-a-key" not in held


@given(st.binary(max_size=40))
def test_no_other_bytes_are_a_key(tmp_path_factory: pytest.TempPathFactory, key: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "property-keys"
    if not file.exists():
        file.write_text(LIST)
    assert (ApiKeys(file).known(key) is None) is (key not in (ANNA.encode(), BOB.encode()))


def test_an_api_key_header_goes_before_authorization() -> None:
    assert key_of([(b"authorization", b"Bearer one"), (b"x-api-key", b"two")]) == b"two"
    assert key_of([(b"host", b"a")]) is None


# -- rates: compared with the textbook's leaky bucket, in exact numbers


class Bucket:
    """The continuous-state leaky bucket of the same recommendation, in whole nanoseconds."""

    def __init__(self, most: int, per_ns: int) -> None:
        self.step, self.room = per_ns // most, per_ns // most * (most - 1)
        self.level = self.last = 0

    def ask(self, now: int) -> bool:
        level = max(0, self.level - (now - self.last))
        if level > self.room:
            return False
        self.level, self.last = level + self.step, now
        return True


@given(st.integers(1, 20), st.lists(st.integers(0, 400_000_000), min_size=1, max_size=80))
def test_a_rate_lets_in_what_a_leaky_bucket_does(most: int, pauses: list[int]) -> None:
    clock = [10**12]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limits.time, "monotonic_ns", lambda: clock[0])
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"noria-rates-{os.getpid()}"
        rate_limits.create(path)
        table = RateLimits(path, RateLimit(most, 1.0))
        bucket = Bucket(most, 10**9)
        try:
            for pause in pauses:
                clock[0] += pause
                wait_s = table.wait_s("anna")
                assert (wait_s == 0.0) is bucket.ask(clock[0])
                if wait_s:  # what it tells to wait is enough, and a microsecond less is not
                    clock[0] += int(wait_s * 1e9) - 1000
                    assert table.wait_s("anna") > 0
                    clock[0] += 1001
                    assert table.wait_s("anna") == 0.0
                    assert bucket.ask(clock[0])
        finally:
            table.close()
            path.unlink()


def test_many_callers_do_not_share_a_budget_and_take_no_more_room(tmp_path: Path) -> None:
    path = tmp_path / "rates"
    rate_limits.create(path)
    table = RateLimits(path, RateLimit(2, 3600.0))
    for caller in range(300):
        assert [table.wait_s(f"c{caller}") > 0 for _ in range(3)] == [False, False, True]
    assert all(table.wait_s(f"c{caller}") > 0 for caller in range(300))
    for caller in range(40_000):  # more than there are cells: the oldest budgets are forgotten, nobody is refused for others
        assert table.wait_s(f"other{caller}") == 0.0
    table.close()
    assert path.stat().st_size == rate_limits.SIZE_BYTES


def _ask(path: Path, n: int, found: Any) -> None:
    table = RateLimits(path, RateLimit(200, 3600.0))
    found.put(sum(table.wait_s("anna") == 0.0 for _ in range(n)))
    table.close()


def test_processes_share_a_budget(tmp_path: Path) -> None:
    """Without a lock two processes may meet; that costs at most a few requests."""
    path = tmp_path / "rates"
    rate_limits.create(path)
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    workers = [context.Process(target=_ask, args=(path, 300, found)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    let_in = sum(found.get() for _ in workers)
    found.close()
    found.join_thread()
    assert 200 <= let_in <= 220


def test_the_door_tells_who_came(keys_file: Path, tmp_path: Path) -> None:
    rate_limits.create(tmp_path / "r")
    table = RateLimits(tmp_path / "r", RateLimit(1, 3600.0))
    door = AccessControl(Access(keys_file=str(keys_file), rate=RateLimit(1, 3600.0)), "0.0.0.0", table)
    head = [(b"x-api-key", ANNA.encode())]
    assert door.authorise(head, "/predict", ("10.0.0.1", 5)) == "anna"
    with pytest.raises(TooOftenError):
        door.authorise(head, "/predict", ("10.0.0.2", 5))
    assert door.authorise([], "/metrics", ("127.0.0.1", 5)) == ""
    for peer in (("10.0.0.1", 5), None):
        with pytest.raises(NoKeyError):
            door.authorise([], "/metrics", peer)
    table.close()


def test_too_many_requests_in_flight_are_told_to_come_again(tmp_path: Path) -> None:
    """503 with Retry-After; the ones in flight go on."""
    path = tmp_path / "c"
    counts.create(path)
    kept = SharedCounters(path, 0)
    app = App(Settings("production", max_concurrent=2), None, None, kept)  # type: ignore[arg-type]

    async def overload() -> list[Any]:
        gate = asyncio.Event()

        async def slow() -> Any:
            await gate.wait()
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def ask() -> Any:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"host", b"localhost")], "client": None}
            await app(scope, slow, send)
            return sent[0]

        tasks = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        gate.set()
        await asyncio.gather(*tasks)
        return [task.result() for task in done]

    (first,) = asyncio.run(overload())
    kept.close()
    assert first["status"] == 503
    assert (b"retry-after", b"1") in first["headers"]
