"""The passengers: a process of its own that replays flights as requests, and their outcomes, later, as labels.

    python -m noria.cli.demo.traffic PROJECT DATA ANSWERS URL

It is steered by lines of JSON on standard input, ``{"at": "2013-04-01T00:00:00+00:00", "speed": 50000, "rate": 120}``: from now
on the replay stands at that moment and runs ``speed`` times as fast as the wall clock, at most ``rate`` requests a second (the
flights in between are not asked for). It tells where it stands by lines of JSON on standard output. Every answer becomes one
line in ANSWERS: when it was asked and answered, the flight, the prediction's id, the release and who answered.
"""

from __future__ import annotations

import gc
import http.client
import json
import queue
import sys
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import polars as pl

CLIENTS = 8  # connections, each kept open
BEGIN = datetime(2013, 4, 1, tzinfo=UTC)  # before it there is no release to ask
LABEL_DELAY = timedelta(hours=20)  # from the scheduled departure: the flight has landed and the airline has reported
FEEDBACK_BATCH = 200
CONTENT = {"Content-Type": "application/json"}


def rows(project: Path, data: Path) -> list[dict[str, Any]]:
    """Every scheduled flight of the year as a request, in order of time, with its outcome (None: cancelled or diverted)."""
    sys.path.insert(0, str(project))
    from delays import table  # type: ignore[import-not-found]  # the example's own code: how a client describes a flight

    flights = pl.concat([pl.read_parquet(p) for p in sorted(data.glob("flights-*.parquet"))])
    weather = pl.concat([pl.read_parquet(p) for p in sorted(data.glob("weather-*.parquet"))])
    asked = table.requests(flights, weather).filter(pl.col("time_hour") >= BEGIN)
    # within their hour the flights come in an order that has nothing to do with who flies them
    asked = asked.sort("time_hour", pl.col("flight_id").hash(seed=1))
    found: list[dict[str, Any]] = asked.with_columns(pl.col("time_hour").dt.to_string("iso:strict")).to_dicts()
    return found


class ReplayClock(msgspec.Struct, frozen=True):
    """Where the replay stands: it runs from an anchor at a stated speed."""

    at: datetime
    speed: float
    rate: float
    wall: float

    def now(self) -> datetime:
        return self.at + timedelta(seconds=(time.time() - self.wall) * self.speed)


class Client(threading.Thread):
    """One kept-open connection. A broken one is opened again and the request sent once more, as HTTP clients do."""

    def __init__(self, url: str, work: queue.Queue[tuple[str, Any]], out: TrafficAnswers) -> None:
        super().__init__(daemon=True)
        self.host = urlsplit(url).netloc
        self.work, self.out = work, out
        self.link = http.client.HTTPConnection(self.host, timeout=10)

    def run(self) -> None:
        while True:
            path, body = self.work.get()
            try:
                if path == "/predict":
                    self._predict(body)
                else:
                    self._feedback(body)
            except Exception as error:  # noqa: BLE001 - an answer that says something unheard of must not silence a client
                self.out.refused = f"{type(error).__name__}: {error}"
            finally:
                self.work.task_done()

    def _predict(self, row: dict[str, Any]) -> None:
        late = row.pop("late")
        asked = time.time()
        status, answer, retried = self._post("/predict", row)
        first = answer["predictions"][0] if status == 200 else {}
        self.out.note_answer(
            {
                "asked": asked,
                "answered": time.time(),
                "flight": row["flight_id"],
                "status": status,
                "id": first.get("id"),
                "release": answer.get("release"),
                "variant": answer.get("variant"),
                "retried": retried,
                "error": None if status == 200 else answer.get("error"),
            },
            None if late is None or status != 200 else (row["time_hour"], first["id"], int(late)),
        )

    def _feedback(self, labels: list[dict[str, Any]]) -> None:
        status, answer, _ = self._post("/feedback", {"feedback": labels})
        if status == 202:
            self.out.labelled += len(labels)
        else:
            self.out.refused = f"{status}: {answer}"

    def _post(self, path: str, document: Any) -> tuple[int, dict[str, Any], bool]:
        body = json.dumps(document)
        try:
            return (*self._once(path, body), False)
        except (OSError, http.client.HTTPException, ValueError):  # no answer, or one that is no JSON
            self.link.close()
        try:
            return (*self._once(path, body), True)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.link.close()
            return 0, {"error": f"{type(error).__name__}: {error}"}, True

    def _once(self, path: str, body: str) -> tuple[int, dict[str, Any]]:
        self.link.request("POST", path, body, CONTENT)
        response = self.link.getresponse()
        return response.status, json.loads(response.read())


class TrafficAnswers:
    """What came back: a line a request, and the labels that wait for their day."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", buffering=1)
        self.lock = threading.Lock()
        self.sent = self.failed = self.labelled = 0
        self.refused = ""
        self.waiting: deque[tuple[datetime, str, int]] = deque()

    def note_answer(self, line: dict[str, Any], label: tuple[str, str, int] | None) -> None:
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.sent += 1
            self.failed += line["status"] != 200
            if label is not None:
                self.waiting.append((datetime.fromisoformat(label[0]) + LABEL_DELAY, label[1], label[2]))

    def due(self, now: datetime) -> list[dict[str, Any]]:
        """Labels whose flights have landed by ``now``. Flights are asked for in order: the front of the queue is due first."""
        found: list[dict[str, Any]] = []
        with self.lock:
            while self.waiting and self.waiting[0][0] <= now and len(found) < FEEDBACK_BATCH:
                _, prediction, late = self.waiting.popleft()
                found.append({"id": prediction, "label": late})
        return found


def spread(hours: list[datetime]) -> list[datetime]:
    """When each flight is asked for: those of one hour spread evenly over it."""
    count = Counter(hours)
    rank: Counter[datetime] = Counter()
    times = []
    for hour in hours:
        times.append(hour + timedelta(hours=rank[hour] / count[hour]))
        rank[hour] += 1
    return times


class TrafficReplay:
    """Walks through the year as the clock says, and hands out requests and labels."""

    def __init__(self, flights: list[dict[str, Any]], answers: TrafficAnswers, work: queue.Queue[tuple[str, Any]]) -> None:
        self.flights, self.answers, self.work = flights, answers, work
        self.times = spread([datetime.fromisoformat(f["time_hour"]) for f in flights])
        self.next = 0
        self.clock: ReplayClock | None = None

    def steer(self, order: dict[str, Any]) -> None:
        self.clock = ReplayClock(datetime.fromisoformat(order["at"]), order["speed"], order["rate"], time.time())
        while self.next < len(self.times) and self.times[self.next] < self.clock.at:
            self.next += 1

    def step(self) -> float:
        """Send what is due; the seconds to wait."""
        clock = self.clock
        if clock is None:
            return 0.02
        now = clock.now()
        while labels := self.answers.due(now):
            self.work.put(("/feedback", labels))
        if clock.rate <= 0 or self.next >= len(self.times) or self.times[self.next] > now:
            return 0.005
        self.work.put(("/predict", self.flights[self.next]))
        self._skip(clock, now)
        return 1.0 / clock.rate

    def _skip(self, clock: ReplayClock, now: datetime) -> None:
        """Go on to the next flight that keeps up with the clock at this rate."""
        self.next += 1
        behind = now - timedelta(seconds=clock.speed / clock.rate)
        while self.next < len(self.times) and self.times[self.next] < behind:
            self.next += 1


def main() -> None:
    project, data, out, url = sys.argv[1:5]
    answers = TrafficAnswers(Path(out))
    work: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=64)
    for _ in range(CLIENTS):
        Client(url, work, answers).start()
    replay = TrafficReplay(rows(Path(project), Path(data)), answers, work)
    gc.collect()
    gc.freeze()  # a quarter of a million flights: not to be looked through again and again
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    _say(replay, work)
    told = time.time()
    due = time.perf_counter()
    while True:
        with_order = None if orders.empty() else orders.get()
        if with_order is not None:
            if with_order.get("stop"):
                break
            replay.steer(with_order)
        due = max(due, time.perf_counter() - 0.05) + replay.step()  # catch up at most 50 ms
        time.sleep(max(0.0, due - time.perf_counter()))
        if time.time() - told > 0.1:
            told = time.time()
            _say(replay, work)
    work.join()
    _say(replay, work)


def _listen(orders: queue.Queue[dict[str, Any] | None]) -> None:
    try:
        for line in sys.stdin:
            orders.put(json.loads(line))
    finally:  # nobody steers it any more, or not in a way that is understood
        orders.put({"stop": True})


def _say(replay: TrafficReplay, work: queue.Queue[tuple[str, Any]]) -> None:
    clock = replay.clock
    facts = {
        "now": (clock.now() if clock else datetime(2013, 1, 1, tzinfo=UTC)).isoformat(),
        "sent": replay.answers.sent,
        "failed": replay.answers.failed,
        "labelled": replay.answers.labelled,
        "refused": replay.answers.refused,
        "queued": work.qsize(),
    }
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
