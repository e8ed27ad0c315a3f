"""Requests a second beside other model servers: the same model, one worker each, loaded by wrk over loopback.

All servers run during the whole measurement and are asked in turn, so that other work on the machine meets all alike. Each one's
answers are looked at before: they must be the model's. Noria's run with the signature check, routing, metrics and the prediction
log on. wrk, the servers and this program share the machine's cores.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import hop
from benchmarks.clock import BenchError, commit, noria, surroundings
from benchmarks.peers import Peers
from benchmarks.table import Section

TITLE = "The model server"
SERVERS = Path(__file__).parent / "servers"
CONNECTIONS = (1, 16, 64)
SECONDS = 4
READY_S = 90
CALM_S = 90
QUIET_PERCENT = 15
ROW = [0.5, -0.25, 1.0, 0.0, 0.125, -1.5, 0.75, 2.0, -0.5, 0.25]
MANY = 64
BURSTS = ("Noria", "Noria, 64 rows", "an echo on Noria's stack")  # whose first second is looked at
BURST_S = 1  # in a longer load the first request of each connection is less than one in a hundred
PROJECT = """\
project: {name}
data: {{rows: {{source: rows.csv, contract: contract.yaml}}}}
model:
  rows: rows
  key: id
  task: binary
  inputs: [{inputs}]
  label: y
  train: "work:{train}"
  {features}
gates: [roc_auc >= 0.5]
serving: {{workers: 1, port: {port}}}
console: {{port: 0}}
environments: {{production: {{rollout: direct}}}}
"""
WORK = """\
import sys
sys.path.insert(0, {servers!r})
from model import models

def same(rows): return rows
def linear(features, label): return models()["linear"].fit(features.to_numpy(), label.to_numpy())
def boosted(features, label): return models()["boosted"].fit(features.to_numpy(), label.to_numpy())
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk told: answers a second, and the median and 99th percentile of their latency in ms."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Target:
    """A server with a model, and a request for it."""

    name: str
    url: str
    body: bytes


@dataclass(slots=True)
class Measured:
    """Target and connections -> rates, one a round."""

    rates: dict[tuple[str, int], list[Rate]] = field(default_factory=dict)
    bursts: dict[str, list[Rate]] = field(default_factory=dict)

    def add(self, name: str, connections: int, rate: Rate) -> None:
        self.rates.setdefault((name, connections), []).append(rate)

    def rate(self, name: str, connections: int) -> float | None:
        found = self.rates.get((name, connections))
        return statistics.median(r.per_second for r in found) if found else None

    def p99(self, name: str, connections: int) -> float | None:
        found = self.rates.get((name, connections))
        return statistics.median(r.p99_ms for r in found) if found else None

    def tail(self, name: str) -> float | None:
        """The 99th percentile of a burst, in medians of the same load."""
        found = self.bursts.get(name)
        return statistics.median(r.p99_ms / r.p50_ms for r in found) if found else None


@dataclass(frozen=True, slots=True)
class Rates(Section):
    """A table of rates in place of seconds."""

    lines: tuple[str, ...] = ()

    def text(self) -> str:
        head = Section.text(self).split("| work |")[0]
        return head + "\n".join(self.lines) + "\n"


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not installed: apt-get install wrk")
    seconds = 1 if small else SECONDS
    with ExitStack() as stack:
        targets = [target for start in _starters(folder, peers) for target in stack.enter_context(start)]
        for target in targets:
            _check(target)
        _calm()
        measured = Measured()
        for _ in range(rounds):
            for target in targets:
                for connections in CONNECTIONS if "64 rows" not in target.name else CONNECTIONS[1:]:
                    measured.add(target.name, connections, load(target, connections, seconds))
                if target.name in BURSTS:
                    measured.bursts.setdefault(target.name, []).append(load(target, 64, BURST_S))
        memory = _memory(folder)
        hosted = hop.sentence(folder / "hosted" / ".noria")
    versions = ", ".join(peers.version(name) for name in ("mlserver", "litserve", "bentoml", "mlflow") if peers.command(name))
    said = f"{versions}. Answers a second, and the 99th percentile of their latency in ms; each load lasts {seconds} s. {memory}"
    return Rates("serving", TITLE, (), rounds, said, lines=(*_lines([t.name for t in targets], measured), "", hosted))


def _calm() -> None:
    """Until the processor rests: Noria's daemons start step processes ahead, others load libraries after their first answer."""
    deadline, quiet = time.monotonic() + CALM_S, 0
    while quiet < 3 and time.monotonic() < deadline:
        quiet = quiet + 1 if psutil.cpu_percent(interval=1.0) < QUIET_PERCENT else 0


def load(target: Target, connections: int, seconds: float) -> Rate:
    """One run of wrk. Raises BenchError when an answer was not 200, or none came."""
    script = (
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = {json.dumps(target.body.decode())}\n'
    )
    path = Path(f"/tmp/noria-wrk-{os.getpid()}.lua")
    path.write_text(script)
    try:
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "--timeout",
            "10s",
            "-s",
            str(path),
            target.url,
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60).stdout
    finally:
        path.unlink()
    rate, found = re.search(r"Requests/sec:\s+([\d.]+)", said), re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", said)
    if rate is None or len(found) != 2 or "Non-2xx" in said:
        raise BenchError(f"{target.name} under {connections} connections: {said.strip()[-400:]}")
    median, tail = (float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit] for _, value, unit in found)
    return Rate(float(rate.group(1)), median, tail)


def _check(target: Target) -> None:
    """The answer must be made of the model's probabilities, whatever its form."""
    request = urllib.request.Request(target.url, target.body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        if answer.status != 200 or b"0." not in answer.read():
            raise BenchError(f"{target.name} does not answer with a probability")


def _starters(folder: Path, peers: Peers) -> Iterator[Any]:
    yield _noria(folder / "linear", "Noria", "linear")
    yield _noria(folder / "boosted", "Noria, boosted", "boosted")
    yield _noria(folder / "hosted", "Noria, hosted", "linear", 'features: "work:same"')
    yield _echo()
    models = folder / "models"
    if peers.command("mlserver"):
        train(peers, "mlserver", models / "mlserver")
        yield mlserver(folder / "mlserver", peers, models / "mlserver")
    if peers.command("litserve", "python"):
        train(peers, "litserve", models / "litserve")
        yield _litserve(folder, peers, models / "litserve" / "linear.joblib")
    if peers.command("bentoml"):
        train(peers, "bentoml", models / "bentoml")
        yield _bentoml(folder, peers, models / "bentoml" / "linear.joblib")
    if peers.command("mlflow"):
        train(peers, "mlflow", models / "mlflow")
        yield _mlflow(folder, peers, models / "mlflow")


def train(peers: Peers, name: str, folder: Path) -> None:
    python = peers.command(name, "python")
    subprocess.run([str(python), str(SERVERS / "model.py"), str(folder)], check=True, env=surroundings())


@contextmanager
def _noria(home: Path, name: str, train: str, features: str = "") -> Iterator[list[Target]]:
    home.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", _CSV.format(servers=str(SERVERS), path=str(home / "rows.csv"))], check=True)
    inputs, port = [f"x{i}" for i in range(len(ROW))], free_port()
    project = {"name": home.name, "inputs": ", ".join(inputs), "train": train, "features": features, "port": port}
    (home / "noria.yaml").write_text(PROJECT.format(**project))
    (home / "contract.yaml").write_text("columns: {x0: {type: float}}\n")
    (home / "work.py").write_text(WORK.format(servers=str(SERVERS)))
    commit(home, "rows.csv", "__pycache__")
    done = subprocess.run(noria("run", "--json"), cwd=home, env=surroundings(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{name}: {done.stdout[-500:]}{done.stderr[-500:]}")
    url = f"http://127.0.0.1:{port}/predict"
    row = dict(zip(inputs, ROW, strict=True))
    targets = [Target(name, url, json.dumps(row).encode())]
    if name == "Noria":
        infer = f"http://127.0.0.1:{port}/v2/models/{home.name}/infer"
        targets += [
            Target("Noria, /v2", infer, _v2(1, "probability")),
            Target("Noria, 64 rows", infer, _v2(MANY, "probability")),
            Target("Noria, 64 rows as records", url, json.dumps([row] * MANY).encode()),
        ]
    with process(noria("up"), home, targets[0]):
        yield targets


_CSV = """
import sys; sys.path.insert(0, {servers!r})
from model import rows
table, label = rows()
with open({path!r}, "w") as file:
    file.write("id," + ",".join(f"x{{i}}" for i in range(table.shape[1])) + ",y\\n")
    for number, (row, y) in enumerate(zip(table.tolist(), label.tolist())):
        file.write(f"{{number}}," + ",".join(map(repr, row)) + f",{{y}}\\n")
"""


@contextmanager
def _echo() -> Iterator[list[Target]]:
    port = free_port()
    row = {f"x{i}": value for i, value in enumerate(ROW)}
    target = Target("an echo on Noria's stack", f"http://127.0.0.1:{port}/", json.dumps(row).encode())
    with process([sys.executable, str(SERVERS / "echo.py"), str(port)], SERVERS, target):
        yield [target]


@contextmanager
def mlserver(home: Path, peers: Peers, models: Path) -> Iterator[list[Target]]:
    ports = [free_port() for _ in range(3)]
    for name in ("linear", "boosted"):
        place = home / name
        place.mkdir(parents=True)
        settings = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel"}
        settings["parameters"] = {"uri": str(models / f"{name}.joblib")}  # type: ignore[assignment]
        (place / "model-settings.json").write_text(json.dumps(settings))
    server = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, "use_structured_logging": False}
    server |= dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    (home / "settings.json").write_text(json.dumps(server))
    url = f"http://127.0.0.1:{ports[0]}/v2/models/{{}}/infer"
    targets = [
        Target("MLServer", url.format("linear"), _v2(1)),
        Target("MLServer, 64 rows", url.format("linear"), _v2(MANY)),
        Target("MLServer, boosted", url.format("boosted"), _v2(1)),
    ]
    with process([str(peers.command("mlserver")), "start", str(home)], home, targets[0]):
        yield targets


def _v2(count: int, output: str = "predict_proba") -> bytes:
    """The same request for every server of the protocol, but for the name of the output."""
    data = {"name": "x", "shape": [count, len(ROW)], "datatype": "FP64", "data": ROW * count}
    return json.dumps({"inputs": [data], "outputs": [{"name": output}]}).encode()


@contextmanager
def _litserve(home: Path, peers: Peers, model: Path) -> Iterator[list[Target]]:
    port = free_port()
    target = Target("LitServe", f"http://127.0.0.1:{port}/predict", json.dumps({"rows": [ROW]}).encode())
    command = [str(peers.command("litserve", "python")), str(SERVERS / "litserve_app.py"), str(model), str(port)]
    with process(command, home, target):
        yield [target]


@contextmanager
def _bentoml(home: Path, peers: Peers, model: Path) -> Iterator[list[Target]]:
    port = free_port()
    target = Target("BentoML", f"http://127.0.0.1:{port}/predict", json.dumps({"rows": [ROW]}).encode())
    command = [str(peers.command("bentoml")), "serve", "bento_service:Scorer", "--host", "127.0.0.1", "-p", str(port)]
    more = {"MODEL": str(model), "BENTOML_HOME": str(home / "bento"), "BENTOML_DO_NOT_TRACK": "True"}
    with process(command, SERVERS, target, more):
        yield [target]


@contextmanager
def _mlflow(home: Path, peers: Peers, models: Path) -> Iterator[list[Target]]:
    port, saved = free_port(), home / "mlflow-model"
    code = (
        "import sys, joblib, mlflow.sklearn as s; "
        "s.save_model(joblib.load(sys.argv[1]), sys.argv[2], pyfunc_predict_fn='predict_proba')"
    )
    python = str(peers.command("mlflow", "python"))
    subprocess.run(
        [python, "-c", code, str(models / "linear.joblib"), str(saved)], check=True, env=surroundings(), capture_output=True
    )
    target = Target("mlflow serve", f"http://127.0.0.1:{port}/invocations", json.dumps({"inputs": [ROW]}).encode())
    command = [
        str(peers.command("mlflow")),
        "models",
        "serve",
        "-m",
        str(saved),
        "--env-manager",
        "local",
        "-p",
        str(port),
        "-w",
        "1",
    ]
    bin_folder = str(Path(python).parent)
    with process(command, home, target, {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}):
        yield [target]


@contextmanager
def process(command: Sequence[str], cwd: Path, target: Target, more: dict[str, str] | None = None) -> Iterator[None]:
    """A server from its start until the block is left, ready to answer. Raises BenchError when it does not get ready."""
    log = Path(f"/tmp/noria-bench-{os.getpid()}-{free_port()}.log")
    with log.open("wb") as out:
        server = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=surroundings() | (more or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(server, target, log)
        yield
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(server.pid, how)
            except ProcessLookupError:
                break
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                continue
        log.unlink()


def _await(server: subprocess.Popen[bytes], target: Target, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            _check(target)
            return
        except (urllib.error.URLError, OSError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{target.name} does not get ready: {log.read_text(errors='replace')[-600:]}") from None
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _memory(folder: Path) -> str:
    """Proportional memory of Noria's one worker."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"noria.serving.worker" in words and any(str(folder / "linear").encode() in word for word in words):
                kilobytes = re.search(r"^Pss:\s+(\d+)", (place / "smaps_rollup").read_text(), re.MULTILINE)
                return f"Noria's worker holds {int(kilobytes.group(1)) / 1000:.0f} MB (PSS)." if kilobytes else ""
        except OSError:
            continue
    return ""


# --- the table


GOALS = {1: 8.0, 16: 12.0, 64: 12.0}
TAIL = 4.0


def _lines(names: list[str], measured: Measured) -> Iterator[str]:
    yield "| one row of 10 features | 1 connection | 16 connections | 64 connections |"
    yield "|---|---|---|---|"
    for name in (n for n in names if "64 rows" not in n):
        yield f"| {name} | " + " | ".join(_cell(measured, name, c) for c in CONNECTIONS) + " |"
    yield ""
    yield "| 64 rows a request | 16 connections | 64 connections |"
    yield "|---|---|---|"
    for name in (n for n in names if "64 rows" in n):
        yield f"| {name} | " + " | ".join(_cell(measured, name, c) for c in CONNECTIONS[1:]) + " |"
    yield ""
    yield "| goal | measured | reached |"
    yield "|---|---|---|"
    for connections, goal in GOALS.items():
        yield _goal(
            f"{goal:.0f} times MLServer, {connections} connections", _ratio(measured, "Noria", "MLServer", connections), goal
        )
    for connections in (16, 64):
        found = _ratio(measured, "Noria, /v2", "MLServer", connections)
        yield _goal(f"12 times MLServer by /v2, {connections} connections", found, 12.0)
    yield _goal("12 times MLServer, boosted, 16 connections", _ratio(measured, "Noria, boosted", "MLServer, boosted", 16), 12.0)
    yield _goal("64 rows a request, 6 times MLServer", _ratio(measured, "Noria, 64 rows", "MLServer, 64 rows", 16), 6.0)
    yield _goal("60 % of the echo, 16 connections", _ratio(measured, "Noria", "an echo on Noria's stack", 16), 0.6)
    for connections, most in ((16, 5.0), (64, 50.0)):
        found = measured.p99("Noria", connections)
        if found is not None:
            yield f"| p99 under {most:.0f} ms at {connections} connections | {found:.1f} ms | {'yes' if found < most else 'no'} |"
    for name in BURSTS:
        found = measured.tail(name)
        if found is not None:
            text = f"{name}: p99 at most {TAIL:.0f} times the median in the first second of 64 connections"
            yield f"| {text} | {found:.1f}× | {'yes' if found <= TAIL else 'no'} |"


def _cell(measured: Measured, name: str, connections: int) -> str:
    rate, p99 = measured.rate(name, connections), measured.p99(name, connections)
    return "–" if rate is None or p99 is None else f"{rate:,.0f} (p99 {p99:.1f})"


def _ratio(measured: Measured, name: str, other: str, connections: int) -> float | None:
    ours, theirs = measured.rate(name, connections), measured.rate(other, connections)
    return ours / theirs if ours and theirs else None


def _goal(text: str, found: float | None, wanted: float) -> str:
    if found is None:
        return f"| {text} | not measured | – |"
    return f"| {text} | {found:.2f}× | {'yes' if found >= wanted else 'no'} |"
