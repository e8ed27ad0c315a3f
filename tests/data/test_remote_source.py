"""Remote sources over real protocols: an HTTP server and an S3 API, each a process of its own on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from noria.config import DataSource
from noria.data import sources
from noria.data.sources import FoundFile, SourceListing
from noria.kernel.errors import DataError

SERVICES = Path(__file__).parents[2] / ".services" / "bin" / "python"
fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")


def connect(address: str, **more: Any) -> SourceListing:
    return sources.connect(DataSource("d", address, **more), Path("/nowhere"))


def look(address: str, **more: Any) -> dict[str, FoundFile]:
    return {found.name: found for found in connect(address, **more).list_files()}


def content(address: str, name: str, folder: Path, **more: Any) -> bytes:
    source = connect(address, **more)
    found = {each.name: each for each in source.list_files()}[name]
    assert source.has_settled(found, 0)
    assert source.problem(found) == ""
    source.fetch(found, folder / "fetched")
    assert source.is_unchanged(found)
    return (folder / "fetched").read_bytes()


@contextmanager
def serving(command: list[str], says: str, folder: Path) -> Iterator[int]:
    """A server process that prints its port; ended when the block is left."""
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(says, log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield int(found.group(1))
    finally:
        process.terminate()
        process.wait(timeout=120)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of an HTTP server, and the folder it serves."""
    folder = tmp_path_factory.mktemp("web")
    with serving([sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"], r"port (\d+)", folder) as port:
        yield f"http://127.0.0.1:{port}", folder


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a bucket behind a real S3 API, and the options that lead there."""
    pytest.importorskip("s3fs", reason="the extra remote is not installed")
    if not SERVICES.is_file():
        pytest.skip("there is no S3 server to test against: `make services` installs one")
    folder = tmp_path_factory.mktemp("s3")
    with serving(
        [str(SERVICES), "-u", "-m", "moto.server", "-p", "0", "-H", "127.0.0.1"], r"http://127.0.0.1:(\d+)", folder
    ) as port:
        options = {"key": "k", "secret": "hush-hush", "endpoint_url": f"http://127.0.0.1:{port}"}
        fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        fs.mkdir("flights")
        yield "s3://flights", options


def put(options: dict[str, Any], path: str, data: bytes) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True, **options).pipe_file(path, data)


def test_a_file_over_http(web: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = web
    (folder / "a.csv").write_text("n\n1\n")
    url = f"{address}/a.csv"
    before = look(f"{url}?token=hush")[url]
    assert before.size_bytes == 4
    assert before.path is None
    assert look(url)[url].mark == before.mark
    assert content(f"{url}?token=hush", url, tmp_path) == b"n\n1\n"
    os.utime(folder / "a.csv", (1e9, 1e9))
    assert look(url)[url].mark != before.mark
    assert look(f"{address}/gone.csv") == {}


def test_a_glob_over_http_and_a_file_that_changes_while_it_is_read(web: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = web
    (folder / "many").mkdir()
    for name in ("x.csv", "y.csv", "z.csv.part", "notes.txt"):
        (folder / "many" / name).write_text(name)
    glob = f"{address}/many/*.csv"
    assert list(look(glob)) == [f"{address}/many/x.csv", f"{address}/many/y.csv"]
    assert content(glob, f"{address}/many/y.csv", tmp_path) == b"y.csv"
    source = connect(glob)
    first = next(iter(source.list_files()))
    source.fetch(first, tmp_path / "x")
    (folder / "many" / "x.csv").write_text("longer now")
    assert not source.is_unchanged(first)
    (folder / "many" / "x.csv").unlink()
    assert not source.is_unchanged(first)
    with pytest.raises(FileNotFoundError):
        source.fetch(first, tmp_path / "x")


def test_a_server_that_tells_no_version_is_read_to_be_known(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("n\n1\n")
    (tmp_path / "plain.py").write_text(
        "import http.server\n"
        "class Plain(http.server.BaseHTTPRequestHandler):\n"
        "    def do_HEAD(self): self.answer(b'')\n"
        "    def do_GET(self): self.answer(open('data', 'rb').read())\n"
        "    def answer(self, body):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(body)\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Plain)\n"
        "print('port', server.server_port)\n"
        "server.serve_forever()\n"
    )
    with serving([sys.executable, "-u", "plain.py"], r"port (\d+)", tmp_path) as port:
        url = f"http://127.0.0.1:{port}/x.csv"
        before = look(url)[url].mark
        assert before.startswith("content:")
        assert look(url)[url].mark == before
        (tmp_path / "data").write_text("n\n2\n")
        assert look(url)[url].mark != before


def test_objects_in_a_bucket(bucket: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    address, options = bucket
    for name in ("2024/a.csv", "2024/b.csv", "2024/deep/c.csv", "2024/.d.csv", "2024/e.csv.tmp", "2024/image.png"):
        put(options, f"flights/{name}", name.encode())
    assert list(look(f"{address}/2024/*.csv", options=options)) == [f"{address}/2024/a.csv", f"{address}/2024/b.csv"]
    assert list(look(f"{address}/2024", options=options)) == [f"{address}/2024/a.csv", f"{address}/2024/b.csv"]
    everything = [f"{address}/2024/{name}" for name in ("a.csv", "b.csv", "deep/c.csv", "image.png")]
    assert list(look(f"{address}/2024", options=options, format="files")) == everything
    assert list(look(f"{address}/**/*.csv", options=options)) == [name for name in everything if name.endswith("csv")]
    assert look(f"{address}/2025/*.csv", options=options) == {}
    assert look(f"{address}/2024/none.csv", options=options) == {}
    assert content(f"{address}/2024/*.csv", f"{address}/2024/b.csv", tmp_path, options=options) == b"2024/b.csv"


def test_the_version_of_an_object_is_its_mark(bucket: tuple[str, dict[str, Any]]) -> None:
    address, options = bucket
    name = f"{address}/one/a.csv"
    put(options, "flights/one/a.csv", b"first")
    marks = [
        found[name].mark
        for source in ("one/a.csv", "one/*.csv", "one")
        if (found := look(f"{address}/{source}", options=options))
    ]
    assert len(marks) == 3
    assert len(set(marks)) == 1, "a listing and a look at the object itself agree"
    source = connect(f"{address}/one/*.csv", options=options)
    found = next(iter(source.list_files()))
    assert source.is_unchanged(found)
    put(options, "flights/one/a.csv", b"other")
    assert not source.is_unchanged(found)
    assert next(iter(source.list_files())).mark != found.mark


def test_no_secret_in_an_error(bucket: tuple[str, dict[str, Any]]) -> None:
    _, options = bucket
    secrets = (("hush-hush", "${SECRET}"), ("no-such-bucket", "${BUCKET}"))
    with pytest.raises(DataError) as caught:
        list(connect("s3://no-such-bucket/*.csv", options={**options, "endpoint_url": "hush-hush"}, secrets=secrets).list_files())
    said = str(caught.value)
    assert "hush" not in said
    assert "no-such-bucket" not in said
    assert "s3://${BUCKET}/*.csv: cannot be read" in said


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9/x.csv", "cannot be read"),
        ("s5://bucket/x.csv", "cannot be read: ValueError: Protocol not known"),
    ],
)
def test_what_cannot_be_reached_is_told(address: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        list(connect(address).list_files())
    assert caught.value.where == address
    assert caught.value.hint


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(DataError, match="needs a package that is not installed") as caught:
        list(connect("gs://bucket/x.csv").list_files())
    assert "gcsfs" in str(caught.value.hint)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DataError, match="needs fsspec") as caught:
        list(connect("s3://bucket/x.csv").list_files())
    assert "fsspec[http]" in str(caught.value.hint)


def test_any_other_file_system_works_too(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/shelf/a.csv", b"1")
    try:
        assert content("memory://shelf/*.csv", "memory://shelf/a.csv", tmp_path) == b"1"
        before = look("memory://shelf/*.csv")["memory://shelf/a.csv"].mark
        fs.pipe_file("/shelf/a.csv", b"2")
        assert look("memory://shelf/*.csv")["memory://shelf/a.csv"].mark != before
    finally:
        fs.rm("/shelf", recursive=True)


def test_the_server_of_these_tests_answers(web: tuple[str, Path]) -> None:
    with urllib.request.urlopen(web[0], timeout=5) as answer:
        assert answer.status == 200
