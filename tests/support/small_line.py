"""A whole delivery line in this process: a real ledger, blobs, Git and stages; steps run here, and the engine is scripted.

``SmallLine`` is one project of a state folder. Nothing of the line itself is replaced: what stands outside it is, the step
processes (`InnerPool`) and the model server (`Scripted`).
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from engine_stub import Scripted
from msgspec.structs import replace

from noria import config
from noria.data.sources import local
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_controller import RolloutController
from noria.engine import assembly, turn_runner
from noria.engine.trigger_watcher import TriggerWatcher
from noria.monitor.judge_retraining import Breach
from noria.monitor.retraining import learn
from noria.monitor.watch import EnvironmentMonitor, watch
from noria.pipeline.executors import child
from noria.pipeline.executors.limits import JobEnd, PoolWork
from noria.pipeline.executors.local import LocalExecutor
from noria.pipeline.executors.pool import Pool
from noria.pipeline.turn_record import Turn
from noria.predictions.records import Feedback, Prediction
from noria.predictions.writer import LogWriter
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore
from noria.storage.ledger import Ledger

DAY_S = 86_400.0
MONDAY = 19_358 * DAY_S + 4 * DAY_S  # midnight, UTC, 2023: before every wall time of these tests
CONFIG = """\
project: NAME
data:
  points: {source: data/points-*.csv, contract: contracts/points.yaml, settle: 1ms}
model:
  rows: points
  key: id
  task: binary
  inputs: [a]
  label: y
  train: "model:train"
  holdout: {fraction: 0.3}
gates: ["roc_auc >= 0.6"]
environments: {production: {rollout: direct}}
monitor: {every: 1d, label_delay: 1h, min_labelled: 50}
"""
CONTRACT = """\
columns:
  id: {type: int, nulls: never}
  a: {type: float, nulls: never, range: [-10, 10]}
  y: {type: int, nulls: never, values: [0, 1]}
unique: [id]
"""
MODEL = """\
from sklearn.linear_model import LogisticRegression


def train(features, label):
    return LogisticRegression().fit(features, label.to_numpy())
"""
_ONE_JOB = threading.RLock()  # this process has one working directory and one list of import paths


@dataclass
class InnerJob:
    """A job of the pool; it runs when it is waited for."""

    work: PoolWork
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def wait(self) -> JobEnd:
        if self.cancelled:
            return JobEnd(False, None, "was cancelled", "cancelled", 0.0, 0.0, 0.0, "")
        began = time.perf_counter()
        with _ONE_JOB:
            done = _command(self.work) if self.work.command is not None else _function(self.work)
        seconds = time.perf_counter() - began
        return JobEnd(done["ok"], done.get("result"), done.get("error"), done["kind"], seconds, seconds, 1.0, "")


def _command(work: PoolWork) -> dict[str, Any]:
    assert work.command is not None
    with work.log.open("ab") as log:
        code = subprocess.run(
            ["/bin/sh", "-c", work.command], cwd=work.cwd, env=work.env, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    return {"ok": True, "kind": "ok", "result": {}} if code == 0 else {
        "ok": False, "kind": "exited", "error": f"ended with exit code {code}"
    }  # fmt: skip


def _function(work: PoolWork) -> dict[str, Any]:
    """As `child` does it in an interpreter of its own; what the project's code imported is forgotten after it."""
    facts = {"target": work.target, "job": work.job, "cwd": str(work.cwd), "paths": [str(path) for path in work.paths]}
    before, path, here = dict(os.environ), list(sys.path), Path.cwd()
    known = set(sys.modules)
    with work.log.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            os.environ.update(work.env)
            os.chdir(work.cwd)
            sys.path[:0] = facts["paths"]
            return child.run(facts)
        finally:
            os.chdir(here)
            sys.path[:] = path
            os.environ.clear()
            os.environ.update(before)
            for name in set(sys.modules) - known:
                if any(str(getattr(sys.modules[name], "__file__", "")).startswith(f"{root}/") for root in work.paths):
                    del sys.modules[name]


class InnerPool:
    """What a LocalExecutor asks of a pool; ``ran`` names the steps in their order."""

    interpreter = Path(sys.executable)

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.before: Callable[[str], None] = lambda step: None  # a test may end the engine here

    def warm(self) -> None:
        pass

    def submit(self, work: PoolWork) -> InnerJob:
        name = work.log.parent.name
        self.before(name)
        self.ran.append(name)
        return InnerJob(work)

    def close(self) -> None:
        pass


def git(home: Path, *arguments: str) -> str:
    """What Git printed; with an identity, and nothing of the developer's own."""
    who = {f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(["git", *arguments], cwd=home, env={**plain, **who}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def points(month: int, count: int = 200, *, inverted: bool = False) -> str:
    """A file of points: ``y`` follows ``a`` with noise, or its opposite; ids never repeat between months."""
    chance = random.Random(f"points {month}")
    lines = ["id,a,y"]
    for number in range(count):
        a = chance.gauss(0, 1.5)
        lines.append(f"{month * 100_000 + number},{a:.3f},{int((a + chance.gauss(0, 0.7) > 0) != inverted)}")
    return "\n".join(lines) + "\n"


@dataclass
class SmallLine:
    """One project; ``context.driver`` is its engine."""

    context: DeliveryContext
    pool: InnerPool
    engine: Scripted
    watcher: TriggerWatcher
    monitor: EnvironmentMonitor | None = None
    written: int = field(default=0)

    @property
    def ledger(self) -> Ledger:
        return self.context.ledger

    @property
    def name(self) -> str:
        return self.context.name

    @property
    def home(self) -> Path:
        return self.context.home

    @property
    def project(self) -> config.Project:
        return config.load(self.home)

    # -- what comes from outside

    def write(self, name: str, text: str) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.home / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def commit(self, subject: str) -> str:
        git(self.home, "add", "-A")
        git(self.home, "commit", "-q", "-m", subject)
        return git(self.home, "rev-parse", "HEAD")

    def deliver(self, name: str, text: str) -> None:
        """A data file that appears whole, by a rename; returns when it counts as arrived, some 20 ms later."""
        partial, whole = self.home / "data" / f".{name}.part", self.home / "data" / name
        partial.parent.mkdir(exist_ok=True)
        partial.write_text(text)
        os.utime(partial, (time.time() - 60,) * 2)
        partial.rename(whole)
        while not local.is_settled(whole, 0.0):
            time.sleep(0.002)

    def clock(self, at: float) -> None:
        ClockStore.of(self).set(at, 0.0)

    # -- the parts of a daemon, one call each

    def look(self) -> int:
        """The trigger watcher's look: the number of new triggers."""
        return self.watcher.look()

    def turn(self) -> Turn | None:
        """The engine's: the pending triggers, or what was left unfinished."""
        return turn_runner.turn_once(self.context)

    def turned(self) -> Turn:
        """A look and a turn, which there must be."""
        self.look()
        ended = self.turn()
        assert ended is not None, "no trigger was pending"
        return ended

    def reconcile(self) -> None:
        """The rollout controller's look, whenever it looked last."""
        RolloutController(self.context).reconcile()

    def monitored(self, at: float | None = None) -> tuple[Breach, ...]:
        """The monitor's look, at a moment of the project clock; what it asks for is a trigger then."""
        if at is not None:
            self.clock(at)
        self.monitor = self.monitor or EnvironmentMonitor(self.context, self.project, "production")
        while not self.monitor.read():
            pass
        breaches = watch(self.context, self.project, self.monitor)
        learn(self.context, self.project, breaches)
        return breaches

    # -- what clients do

    def serve(self, day: int, count: int, *, release: str, follows: bool = True) -> None:
        """Requests of a day of the project clock that ``release`` answered, each labelled an hour later. The model knows
        ``y`` from ``a``; where the world does not follow it any more, it is confident and wrong."""
        chance = random.Random(f"{self.name} {day}")
        records: list[Prediction | Feedback] = []
        for _ in range(count):
            self.written += 1
            a, at = chance.gauss(0, 1.5), MONDAY + day * DAY_S + chance.random() * DAY_S / 2
            said = 0.9 if a > 0 else 0.1
            truth = int((a + chance.gauss(0, 0.7) > 0) == follows)
            name = f"{self.name}-{self.written:06d}"
            outputs = {"prediction": int(said > 0.5), "probability": said}
            records.append(Prediction(name, at, self.name, release, "champion", None, {"a": a}, outputs, name, None, 1.0))
            records.append(Feedback(at + 3_600, self.name, truth, name))
        self.log(*records)

    def log(self, *records: Prediction | Feedback) -> None:
        writer = LogWriter(self.context.state / "log" / "production", "production")
        writer.append(*records)
        writer.close()

    # -- what there is

    @property
    def route(self) -> Route | None:
        return RouteStore.of(self).get("production")

    @property
    def champion(self) -> str | None:
        return self.route.champion_version if self.route else None

    def events(self, *kinds: str) -> list[str]:
        """The texts of all events, or of these kinds, oldest first."""
        every = self.ledger.events.tail(self.name, after=0, limit=10_000)
        return [event.text for event in every if not kinds or event.kind in kinds]

    def restarted(self) -> SmallLine:
        """The same project in a new engine: nothing is in memory any more."""
        made = opened(self.home, self.context.state, self.engine)
        made.written = self.written
        return made


def opened(home: Path, state: Path, engine: Scripted | None = None) -> SmallLine:
    """A project that is there, as `noria up` would put it together, with steps in this process."""
    context = assembly.assemble(home, state=state)
    pool, engine = InnerPool(), engine or Scripted()
    context = replace(context, executor=LocalExecutor(cast(Pool, pool), context.places), driver=engine)
    return SmallLine(context, pool, engine, TriggerWatcher(context))


@contextlib.contextmanager
def small_line(
    folder: Path, name: str = "p", text: str = CONFIG, *, state: Path | None = None, files: Sequence[tuple[str, str]] = ()
) -> Iterator[SmallLine]:
    """A project with one commit and no data yet, in a state folder of its own or in one that it shares."""
    home = folder / name
    home.mkdir(parents=True)
    wanted = {
        "noria.yaml": text.replace("NAME", name),
        "contracts/points.yaml": CONTRACT,
        "model.py": MODEL,
        ".gitignore": "data/\n__pycache__/\n",
        **dict(files),
    }
    for path, content in wanted.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    git(home, "init", "-q", "-b", "main")
    git(home, "add", "-A")
    git(home, "commit", "-q", "-m", "first")
    made = opened(home, state or folder / "state")
    try:
        yield made
    finally:
        made.ledger.close()
