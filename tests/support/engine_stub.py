"""An engine that serves nothing and says what it was told to: the rollout logic knows no more of a real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from noria.delivery.context import DeliveryContext
from noria.delivery.driver import EngineCounts
from noria.kernel.errors import ServingError
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.client import ArmTallies
from noria.serving.crash_record import Crashes
from noria.serving.route import Route
from noria.serving.tallies import Tally
from noria.storage.ledger import Ledger


@dataclass
class Scripted:
    """A Driver. ``broken`` releases cannot be loaded; ``here`` False: nobody answers."""

    here: bool = True
    broken: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # by a worker, later
    crashes: dict[str, Crashes] = field(default_factory=dict)
    tallies: dict[int, ArmTallies] = field(default_factory=dict)
    told: list[Route] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)

    def load(self, digest: str) -> str:
        self.loaded.append(digest)
        return self.broken.get(digest, "")

    def set_routes(self, route: Route) -> str:
        self.told.append(route)
        return next((self.broken[d] for d in (route.candidate, route.champion) if d in self.broken), "")

    def drain(self, environment: str, digest: str) -> None:
        self.drained.append(digest)

    def stats(self, project: str, environment: str) -> EngineCounts:
        if not self.here:
            raise ServingError("the model server does not answer")
        return EngineCounts(dict(self.tallies), dict(self.refused), dict(self.crashes))

    def see(self, champion: tuple[int, int, int], candidate: tuple[int, int, int]) -> None:
        """These many requests, errors and slow answers more, by the newest route."""
        revision = self.told[-1].revision
        before = self.tallies.get(revision, ArmTallies())
        self.tallies[revision] = ArmTallies(_more(before.champion, champion), _more(before.candidate, candidate))


def _more(tally: Tally, new: tuple[int, int, int]) -> Tally:
    return Tally(tally.requests + new[0], tally.errors + new[1], tally.slow + new[2])


def digest_of(version: str) -> str:
    """``v3`` -> 333..."""
    return version[-1] * 64


def line_of(folder: Path, engine: Scripted, releases: int, yaml: str = "") -> DeliveryContext:
    """A project with that many sealed releases, the bundles of which are there; none serves."""
    ledger = Ledger.open(folder / "state")
    ledger.projects.ensure("p", str(folder))
    for number in range(1, releases + 1):
        digest = digest_of(f"v{number}")
        ReleaseStore(ledger, "p").seal(digest, f"run-{number}", None, ServedForm.COMPILED, "commit", {}, digest)
        bundle = folder / "state" / "releases" / digest
        bundle.mkdir(parents=True)
        (bundle / "manifest.json").write_text('{"signature": {"task": "binary"}}')
    (folder / "noria.yaml").write_text(yaml or "project: p\n")
    none = cast(Any, None)
    return DeliveryContext(
        "p", folder, folder / "state", ledger, none, none, executor=none, places=none, server=none, driver=engine
    )
