"""A request whose time is out of range panics in Polars: it fails, and the next one is answered."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from walked_case import Case, wait_for


def walk(case: Case) -> None:
    """Number 9: what ends the thread that predicts is that request's failure, is blamed, and the host is replaced."""
    case.copy("model.py", "noria.yaml", "data")
    case.write(".gitignore", "/.noria/\n/data/\n")
    case.commit()
    with case.up() as up:
        good, bad = {"a": 2.0, "ts": 1700000000000}, {"a": 2.0, "ts": 10000000000000000}
        wait_for(lambda: ask(up["production"], good)[0] == 200)
        hosts = facts(case)["hosts"]
        code, said = ask(up["production"], bad)
        assert code == 503
        assert "could not answer this request" in json.dumps(said)
        assert ask(up["production"], good)[0] == 200
        (digest,) = hosts
        wait_for(lambda: facts(case)["environments"]["production"]["crashes"].get(digest, {}).get("deaths") == 1)
        assert facts(case)["hosts"][digest] != hosts[digest]


def ask(url: str, row: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{url}/predict", json.dumps(row).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def facts(case: Case) -> dict[str, Any]:
    from noria.serving.client import Server

    return Server(case.home / ".noria").status()
