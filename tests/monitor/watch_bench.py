"""A project whose prediction log a test writes, and whose monitor it runs: no server, no training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl
from engine_stub import Scripted

from noria import config
from noria.delivery.context import DeliveryContext
from noria.kernel import names
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.monitor.judge_retraining import Breach
from noria.monitor.records import Window
from noria.monitor.store import QualityStore
from noria.monitor.watch import EnvironmentMonitor, watch
from noria.predictions.writer import Feedback, LogWriter, Prediction
from noria.releases.bundle import MANIFEST, Manifest, ModelFacts
from noria.releases.evidence import Reference
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.stats import profile
from noria.stats.profile_records import Profile
from noria.storage.blobs import BlobStore
from noria.storage.clock import ClockStore
from noria.storage.ledger import Ledger

DAY_S = 86_400.0
MONDAY = 20_000 * DAY_S + 4 * DAY_S  # midnight, UTC, 2024
BRIER = Reference("brier", 0.23, 0.01, 14, 5_000)
YAML = """\
project: NAME
environments: {production: {}}
"""


@dataclass
class Bench:
    """One project of a state folder; ``releases`` by version."""

    context: DeliveryContext
    written: int = 0
    monitor: EnvironmentMonitor | None = field(default=None)

    @property
    def log(self) -> Path:
        return self.context.state / "log" / "production"

    @property
    def project(self) -> config.Project:
        return config.load(self.context.home)

    def release(
        self,
        version: str,
        *,
        task: Task = Task.BINARY,
        classes: tuple[str, ...] = ("0", "1"),
        reference: Reference = BRIER,
        trained: pl.DataFrame | None = None,
        event_time: str | None = "time",
    ) -> None:
        """Seal a release with the evidence that the monitor reads, and let it serve."""
        table = pl.DataFrame({"x": [0.0, 1.0]}) if trained is None else trained
        inputs = tuple(Input(n, Kind.STRING) for n in table.columns)
        signature = Signature(inputs, task, classes if task is not Task.REGRESSION else (), "customer", event_time)
        manifest = Manifest(1, self.context.name, ServedForm.COMPILED, signature, ModelFacts("model.onnx"), run=f"run-{version}")
        content = msgspec.json.encode(manifest)
        digest = names.digest_bytes(content)
        ReleaseStore.of(self.context).seal(digest, f"run-{version}", None, ServedForm.COMPILED, "commit", {}, digest)
        evidence = self.context.bundle(digest) / "evidence"
        evidence.mkdir(parents=True)
        (evidence / "reference.json").write_bytes(msgspec.json.encode(reference))
        (evidence / "profile.json").write_bytes(msgspec.json.encode(self.profile_of(trained)))
        (evidence.parent / MANIFEST).write_bytes(content)
        before = RouteStore.of(self.context).get("production")
        revision = before.revision if before is not None else 0
        RouteStore.of(self.context).put(
            Route(self.context.name, "production", revision, champion=digest, champion_version=version)
        )

    @staticmethod
    def profile_of(trained: pl.DataFrame | None) -> Profile:
        return Profile(0) if trained is None else profile.build(trained, trained.columns)

    def write(self, *records: Prediction | Feedback) -> None:
        writer = LogWriter(self.log, "production")
        writer.append(*records)
        writer.close()

    def answered(
        self,
        at: float,
        probability: float | None = None,
        *,
        key: str | None = None,
        event_time: str | None = None,
        outputs: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> Prediction:
        self.written += 1
        said = outputs or {"prediction": int((probability or 0) >= 0.5), "probability": probability}
        name = f"{self.context.name}-{self.written:06d}"
        return Prediction(name, at, self.context.name, "v1", "champion", None, inputs, said, key, event_time, 1.0)

    def said(self, at: float, label: Any, of: Prediction) -> Feedback:
        return Feedback(at, self.context.name, label, of.id)

    def clock(self, at: float) -> None:
        ClockStore.of(self.context).set(at, 0.0)

    def look(self, at: float | None = None) -> tuple[Breach, ...]:
        """One look of the monitor, at a moment of the project clock."""
        if at is not None:
            self.clock(at)
        self.monitor = self.monitor or EnvironmentMonitor(self.context, self.project, "production")
        while not self.monitor.read():  # a look reads for a while only
            pass
        return watch(self.context, self.project, self.monitor)

    def restarted(self) -> None:
        """A new daemon: nothing is in memory any more."""
        self.monitor = None

    def windows(self) -> list[Window]:
        return sorted(QualityStore.of(self.context).windows(1_000), key=lambda w: (w.start, w.release))

    def told(self, kind: str) -> list[str]:
        return [event.text for event in self.context.ledger.events.newest(self.context.name, 1_000, kind=kind)]


def bench(folder: Path, name: str = "p", yaml: str = YAML, ledger: Ledger | None = None) -> Bench:
    """A project; of the state folder and ledger of another one, where that is given."""
    ledger = ledger or Ledger.open(folder / "state")
    ledger.projects.ensure(name, str(folder / name))
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    (home / "noria.yaml").write_text(yaml.replace("NAME", name))
    none, blobs = cast(Any, None), BlobStore(folder / "state" / "blobs")
    return Bench(
        DeliveryContext(
            name, home, folder / "state", ledger, blobs, none, executor=none, places=none, server=none, driver=Scripted()
        )
    )


def days_of(made: Bench, first: int, count: int, rows: int, *, inverted: bool = False, event_times: bool = True) -> Iterable[Any]:
    """Days of predictions, each with its label an hour later: a fair coin that the model knows to 0.3 or 0.7 (Brier 0.21), or
    takes the wrong way round (0.61 on average)."""
    for day in range(first, first + count):
        for row in range(rows):
            at = MONDAY + day * DAY_S + row * DAY_S / (rows + 1)
            truth = int((row * 7 + day) % 10 < 5)
            right = (row * 3 + day) % 10 < 7
            chance = 0.7 if (truth == 1) == right else 0.3
            time = datetime.fromtimestamp(at, UTC).isoformat() if event_times else None
            one = made.answered(at, 1 - chance if inverted else chance, event_time=time, x=0.5)
            yield one
            yield made.said(at + 3_600, truth, one)
