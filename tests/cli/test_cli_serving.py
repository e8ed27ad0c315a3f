"""`noria predict` and `noria feedback` against a small HTTP server that records what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from noria.cli import execute
from noria.serving.client import Server

ANSWER = {"predictions": [{"id": "p1", "prediction": 1, "probability": 0.81234567}], "release": "v2", "variant": "champion"}


class Fake:
    """Answers every POST with ``status`` and ``body``."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(ANSWER).encode()
        self.asked: list[tuple[str, Any]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fake.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
                self.send_response(fake.status)
                self.send_header("content-length", str(len(fake.body)))
                self.end_headers()
                self.wfile.write(fake.body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    thread = threading.Thread(target=fake.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(Server, "addresses", lambda self: {"staging": fake.address, "production": fake.address})
    yield fake
    fake.http.shutdown()
    thread.join()
    fake.http.server_close()


@pytest.fixture
def home(tmp_path: Path) -> str:
    (tmp_path / "noria.yaml").write_text("project: hello\n")
    return str(tmp_path)


def test_a_prediction(server: Fake, home: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", home, "predict", '{"hour": 17}']) == 0
    assert server.asked == [("/predict", {"hour": 17})]
    out = capsys.readouterr().out
    assert "0.8123" in out
    assert "p1" in out
    assert "v2" in out
    assert execute(["-C", home, "predict", '{"hour": 17}', "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


def test_predictions_from_a_file(server: Fake, home: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.body = json.dumps({"predictions": [{"id": f"p{i}", "prediction": i} for i in range(3)], "release": "v2"}).encode()
    (tmp_path / "rows.json").write_text('[{"hour": 1}, {"hour": 2}, {"hour": 3}]')
    assert execute(["-C", home, "predict", "--file", str(tmp_path / "rows.json"), "-e", "production"]) == 0
    assert server.asked[0][1] == [{"hour": 1}, {"hour": 2}, {"hour": 3}]
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("p")]) == 3


@pytest.mark.parametrize(
    "said", [{"error": {"message": "hour is missing", "hint": "The inputs are: hour"}}, {"error": "hour is missing", "hint": "x"}]
)
def test_the_servers_words_reach_the_person(
    server: Fake, home: str, capsys: pytest.CaptureFixture[str], said: dict[str, Any]
) -> None:
    server.status, server.body = 422, json.dumps(said).encode()
    assert execute(["-C", home, "predict", "{}"]) == 2
    assert "hour is missing" in capsys.readouterr().err
    server.status = 503
    assert execute(["-C", home, "predict", "{}"]) == 4


@pytest.mark.parametrize(
    "arguments", [["predict"], ["predict", "{'a': 1}"], ["predict", "{}", "-e", "nowhere"], ["feedback", "id"], ["feedback"]]
)
def test_wrong_calls_ask_nothing(server: Fake, home: str, arguments: list[str]) -> None:
    assert execute(["-C", home, *arguments]) == 2
    assert server.asked == []


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["p1", "1"], {"id": "p1", "label": 1}),
        (["p1", "late"], {"id": "p1", "label": "late"}),
        (["p1", "true"], {"id": "p1", "label": True}),
        (["--key", "UA-1", "0.5"], {"key": "UA-1", "label": 0.5}),
        (["p1", "null"], {"id": "p1", "label": "null"}),
    ],
)
def test_feedback(
    server: Fake, home: str, arguments: list[str], sent: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server.body = b'{"recorded": 1}'
    assert execute(["-C", home, "feedback", *arguments]) == 0
    assert server.asked == [("/feedback", [sent])]
    assert capsys.readouterr().out == "recorded: 1 label\n"


def test_no_server(home: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", home, "predict", "{}"]) == 4
    assert "noria up" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["with a space", "with-a-line-end\n", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    home: str, server: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    monkeypatch.setenv("NORIA_API_KEY", key)
    assert execute(["-C", home, "predict", "-e", "staging", '{"a": 1}']) == 2
    said = capsys.readouterr().err
    assert "NORIA_API_KEY must be printable ASCII without spaces" in said
    assert key.strip() not in said
    assert server.asked == []
