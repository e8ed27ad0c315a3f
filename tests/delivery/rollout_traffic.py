"""Clients that ask all the time, over kept connections, and tell the labels of what they were answered."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
from typing import Any

OWN_FAULT = 9.0  # the champion itself fails on such a row: one in a hundred
TEMPTING = 8.0  # on such a row some candidates fail, or take long: four in a hundred


class Clients:
    """Use it as a context manager. ``failed``: requests that got no answer though the champion can answer them."""

    def __init__(self, address: str, threads: int = 4, labels: bool = False) -> None:
        host, _, port = address.rpartition("//")[2].partition(":")
        self._at = (host, int(port))
        self._labels = labels
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]
        self.answered = 0
        self.own_faults = 0
        self.failed: list[tuple[int, Any]] = []
        self.variants: set[tuple[str, str]] = set()

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        chance = random.Random(f"client {seed}")
        link = http.client.HTTPConnection(*self._at, timeout=10)
        said: list[dict[str, Any]] = []
        while not self._stop.is_set():
            number = next(self._numbers)
            a = round(chance.gauss(0, 1.5), 3)
            label = int(a + chance.gauss(0, 1) > 0)
            if number % 100 == 0:
                a = OWN_FAULT
            elif number % 100 in (20, 40, 60, 80):
                a = TEMPTING
            status, answer = self._post(link, "/predict", {"id": number, "a": a, "b": 0.2})
            if status == 200:
                self.answered += 1
                self.variants.add((answer["release"], answer["variant"]))
                said.append({"id": answer["predictions"][0]["id"], "label": label})
            elif a == OWN_FAULT and status == 503:
                self.own_faults += 1
            else:
                self.failed.append((status, answer))
            if self._labels and len(said) >= 50:
                assert self._post(link, "/feedback", said)[0] == 202
                said.clear()
        link.close()

    def _post(self, link: http.client.HTTPConnection, path: str, body: object) -> tuple[int, Any]:
        """One broken connection is tried again, as an HTTP client does."""
        content = json.dumps(body)
        for attempt in (1, 2):
            try:
                link.request("POST", path, content, {"content-type": "application/json"})
                answer = link.getresponse()
                return answer.status, json.loads(answer.read() or b"null")
            except (OSError, http.client.HTTPException) as error:
                link.close()
                if attempt == 2:
                    return 0, repr(error)
        raise AssertionError
