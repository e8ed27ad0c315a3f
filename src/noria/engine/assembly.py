"""Builds a project's delivery line from its home folder."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from noria import config
from noria.config import Project
from noria.delivery import champion
from noria.delivery.context import DeliveryContext
from noria.delivery.driver import Embedded
from noria.engine.policy_change import contracts_in_force
from noria.kernel import logs
from noria.kernel.errors import UsageError
from noria.pipeline.executors.task import Executor, Handle, StepTask
from noria.pipeline.places import Places
from noria.releases import signing
from noria.serving.client import Server
from noria.storage.blobs import BlobStore
from noria.storage.context import Progress, silent
from noria.storage.disk import fix_state_folder, state_folder
from noria.storage.ledger import Ledger
from noria.storage.locks import Locks

MOST_WARM = 64  # step processes that wait: each holds up to 270 MB


class OnDemand:
    """An executor that is created when there is work: most commands and many turns have none."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._made: Executor | None = None
        self._lock = threading.Lock()

    def submit(self, task: StepTask) -> Handle:
        return self._executor().submit(task)

    def warm(self) -> None:
        self._executor().warm()

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def _executor(self) -> Executor:
        with self._lock:
            self._made = self._made or self._make()
            return self._made


def _processes(size: int, places: Places) -> Executor:
    from noria.pipeline.executors import local, pool  # psutil: only who runs steps needs it

    return local.LocalExecutor(pool.Pool(size=size), places)


def warm_pool_size(usual: int) -> int:
    """How many step processes are kept warm: NORIA_WARM, for machines with little memory, else ``usual``, at least one.

    Raises UsageError.
    """
    said = os.environ.get("NORIA_WARM")
    if said is None:
        return max(1, usual)
    if not said.isascii() or not said.isdigit():
        raise UsageError(f"NORIA_WARM must be a whole number, got {said!r}", hint="`NORIA_WARM=0` keeps no process ready.")
    if len(said) > len(str(MOST_WARM)) or int(said) > MOST_WARM:
        raise UsageError(f"NORIA_WARM must be a whole number from 0 to {MOST_WARM}, got {said!r}")
    return int(said)


def assemble(
    home: Path, *, actor: str = "engine", progress: Progress = silent, warm: int = 0, state: Path | None = None
) -> DeliveryContext:
    """Builds the delivery line of the project in ``home``.

    Once there is work, ``warm`` step processes (or NORIA_WARM) are kept ready.
    """
    project = config.load(home)
    if state is None:
        fix_state_folder(home)
    folder = state or state_folder(home)
    size = warm_pool_size(warm)
    logs.demand_settings()
    ledger = Ledger.open(folder)
    ledger.head.keep(functools.partial(signing.sign, folder))
    ledger.database.hide = project.masked
    logs.hide(project.masked)
    ledger.projects.ensure(project.name, str(home))
    blobs = BlobStore(folder / "blobs")
    places = Places(project.name, home, folder, ledger, blobs)
    return DeliveryContext(
        name=project.name,
        home=home,
        state=folder,
        ledger=ledger,
        blobs=blobs,
        executor=OnDemand(lambda: _processes(size, places)),
        places=places,
        locks=Locks(folder / "locks"),
        server=(server := Server(folder)),
        driver=Embedded(server),
        served=champion.served_training,
        contracts=contracts_in_force,
        actor=actor,
        progress=progress,
    )


def start_server(
    context: DeliveryContext,
    project: Project,
    *,
    serve: tuple[str, int] | None = None,
    at: Mapping[str, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """Start the model server, or adopt the one that runs; the address of each environment. ``at``: those of before, by name.

    Raises as `Server.start`.
    """
    host, port = serve or (project.serving.host, project.serving.port)
    wanted = {name: (host, port + i if port else 0) for i, name in enumerate(project.environments)}
    if at:
        wanted = {name: ((parts := urlsplit(url)).hostname or host, parts.port or 0) for name, url in at.items()}
    context.server.start(
        wanted,
        workers=project.serving.workers,
        max_body_bytes=project.serving.max_body_bytes,
        max_rows=project.serving.max_rows,
        access=project.serving.access,
        recording=project.serving.log,
        log=context.state / "server.log",
        stopped=stopped,
    )
    return context.server.addresses()
