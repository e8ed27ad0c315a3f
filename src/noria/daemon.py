"""`noria up`, the daemon: each of its parts in a thread, supervised; the model server in processes of its own."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import uvicorn
from msgspec.structs import replace

from noria import config
from noria.console import app as console
from noria.console.idle_connections import IdleTimeoutProtocol
from noria.data import files
from noria.delivery import scaling_events, shadow_retention
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_controller import RolloutController
from noria.engine import assembly, turn_runner
from noria.engine.action import Action, Value
from noria.engine.trigger_watcher import TriggerWatcher
from noria.kernel import descriptors, logs
from noria.kernel.background import Background
from noria.kernel.errors import ConfigError, LeaseLostError, NoriaError, PortInUseError, ServingError, StoppedError, StoreError
from noria.kernel.words import duration
from noria.monitor.retraining import learn
from noria.monitor.watch import EnvironmentMonitor, watch
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore
from noria.predictions import retention
from noria.storage.disk import clear_unfinished, write_whole
from noria.trust.audit import ChainWatch
from noria.views.runtime_status import identity
from noria.views.status import StatusView
from noria.views.totals import TotalStore

_log = logs.get_logger("noria.daemon")

QUIET_S = 0.1  # triggers that arrive together become one turn: wait until none has come for this long
LOOK_S = 0.2  # between two looks at a rollout's evidence
MONITOR_S = 0.5
SCOUT_S = 0.5
SYNC_S = 5.0
CHANGED = (
    "See `noria audit verify`. Restore a copy of the state folder, let `noria audit accept` note it, or start a new one "
    "with NORIA_HOME."
)
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - it is compared with
CHAIN_S = 1.0  # between two looks at the audit log
SERVER_S = 0.2  # between two looks whether the model server is there
NEWS_S = 0.2


class Daemon:
    """Owns the threads.

    Everything they know is in the ledger, so that after a kill the next daemon continues where this one stopped.
    """

    def __init__(
        self, context: DeliveryContext, *, serve: tuple[str, int] | None = None, console_at: tuple[str, int] | None = None
    ) -> None:
        self.context = context
        self.serve = serve
        self.console_at = console_at
        self.stopping = threading.Event()
        self.triggered = threading.Event()
        self.addresses: dict[str, str] = {}
        self.standstill = ""  # why this daemon decides nothing any more: the audit log was changed
        self._working = replace(context, check_lease=self._stop_if_halted)
        self._chain_watch = ChainWatch(context.ledger, context.state)
        self.waiting: dict[str, str] = {}  # by environment: the release of this project that the server is still loading
        self._lock = _lock(context.state)
        clear_unfinished(context.state)
        self._threads: list[Background] = []
        self._console: uvicorn.Server | None = None
        self._showing: Background | None = None
        self._adopted = False  # the model server was there before this daemon
        self._told: set[str] = set()  # problems already reported

    def start(self, stopped: Callable[[], bool] = lambda: False) -> dict[str, str]:
        """Starts everything and returns the addresses by name: `console` and one for each environment. Raises StoppedError when
        told to stop meanwhile, StoreError when the audit log was changed.
        """
        self._adopted = self.context.server.is_running()  # first: a failure must not end a server that ran before
        self._demand_chain()
        project = config.load(self.context.home)
        self.addresses = assembly.start_server(self.context, project, serve=self.serve, stopped=stopped)
        if self._adopted:
            with contextlib.suppress(ServingError):  # retries what it refused; slow releases follow
                self.context.server.sync(timeout_s=SYNC_S)
        self.context.executor.warm()
        self.addresses["console"] = self._open_console()
        self._write_facts()
        loops: list[tuple[str, Callable[[], float]]] = [
            ("chain", self._check_chain),
            ("trigger watcher", self._unless_broken(self._make_trigger_watcher())),
            ("wheel", self._unless_broken(self._turn)),
            ("server", self._make_server_keeper(project)),
            ("rollout controller", self._unless_broken(self._make_rollout_controller())),
            ("scaled", self._record_scaling),
            ("monitor", self._unless_broken(self._make_monitor())),
            ("logbook", self._unless_broken(self._keep_logs)),
        ]
        for name, step in loops:
            self._threads.append(Background(name, partial(self._forever, name, step)).start())
        return self.addresses

    def give_up(self) -> None:
        """Undoes a start that failed. A model server that ran before keeps answering."""
        self.stop(server=not self._adopted)

    def stop(self, *, server: bool) -> None:
        """Finishes current work within seconds and stops; with ``server``, also stops the model server."""
        self.stopping.set()
        self.triggered.set()
        for thread in self._threads:
            thread.stopping.set()
        for thread in self._threads:
            thread.stop()
        if self._showing is not None:
            self._showing.stopping.set()
        if self._console is not None:
            self._console.should_exit = True
        if server:
            self.context.server.stop()
        self.context.executor.close()
        (self.context.state / "daemon.json").unlink(missing_ok=True)
        self._lock.close()

    def _forever(self, name: str, step: Callable[[], float]) -> float:
        """Calls ``step``, which returns the seconds to wait, until the daemon stops.

        A failure does not end the loop: it is recorded, and the step is retried after a pause.
        """
        pause = 1.0
        while not self.stopping.is_set():
            try:
                wait, pause = step(), 1.0
            except (LeaseLostError, StoppedError):
                wait = 1.0  # another engine continues the work, now or at the next start
            except ConfigError:
                wait = 1.0  # the trigger watcher has reported it, once; nothing changes until it is fixed
            except BaseException as error:  # noqa: BLE001 - the loop outlives any failure of one round; a panic is no Exception
                self._complain(name, error)
                wait, pause = pause, min(pause * 2, 60.0)
            self.stopping.wait(wait)
        return 1.0

    def complain_once(self, name: str, error: BaseException) -> None:
        """Records a recurring problem once, until it is `relieved`."""
        if f"{name} {error}" not in self._told:
            self._told.add(f"{name} {error}")
            self._complain(name, error)

    def forget_complaint(self, name: str) -> None:
        self._told = {told for told in self._told if not told.startswith(f"{name} ")}

    def _complain(self, name: str, error: BaseException) -> None:
        """Records a problem. Never raises: no caller could handle it."""
        known = isinstance(error, NoriaError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if known:
            _log.error(f"{name}: {text}", extra=logs.facts(loop=name, error=type(error).__name__))
        else:
            logs.outlive(_log, self.context.state / "daemon.log", name, error)
        with contextlib.suppress(Exception):  # the ledger itself or the disk fails; the log has the error
            self.context.event("daemon.trouble", name, f"{name}: {text}")

    def _demand_chain(self) -> None:
        """Raises StoreError when the audit log was changed: no decision may rest on it."""
        problem = self._chain_watch.begin()
        if problem:
            raise StoreError(f"the audit log was changed: {problem}", where=str(self.context.state), hint=CHANGED)

    def _check_chain(self) -> float:
        """Checks the audit log for changes. After one, the daemon decides nothing; the champion keeps serving."""
        if not self.standstill and (problem := self._chain_watch.look()):
            self.standstill = f"the audit log was changed: {problem}"
            self._write_facts()
            told = f"{self.standstill}; no turn starts and no rollout proceeds; the champion keeps serving"
            self.context.event("audit.broken", "audit", told)
        return CHAIN_S

    def _unless_broken(self, step: Callable[[], float]) -> Callable[[], float]:
        return lambda: CHAIN_S if self.standstill else step()

    def _stop_if_halted(self) -> None:
        """Raises StoppedError, so that work in progress stops before its next change of state."""
        if self.standstill:
            raise StoppedError(f"{self.standstill}; the daemon is halted")

    def act(self, action: Action, values: Mapping[str, Value], actor: str) -> dict[str, Any]:
        """Performs an action of the control API.

        Raises StoreError while the daemon decides nothing: then only rollback, hold, abort and withdrawal are allowed.
        """
        if self.standstill and not action.while_broken:
            raise StoreError(self.standstill, where=str(self.context.state), hint=CHANGED)
        done = action.perform(self.context, actor, values)
        if action.starts_turn:
            self.triggered.set()
        return done

    def _make_server_keeper(self, project: config.Project) -> Callable[[], float]:
        """Restarts the model server whenever it is gone, at the same addresses, by the project file as last read.

        The server takes its routes from the ledger.
        """

        def look() -> float:
            nonlocal project
            if not self.context.server.is_running():
                with contextlib.suppress(NoriaError):  # somebody edits it
                    project = config.load(self.context.home)
                try:
                    self._start_server_again(project)
                except StoppedError:
                    raise
                except NoriaError as error:
                    self.complain_once("server", error)
                    return 1.0
            self.forget_complaint("server")
            self._tell_waiting()
            return SERVER_S

        return look

    def _start_server_again(self, project: config.Project) -> None:
        began = time.monotonic()
        at = {name: url for name, url in self.addresses.items() if name != "console"}
        self.addresses |= assembly.start_server(self.context, project, at=at, stopped=self.stopping.is_set)
        seconds = time.monotonic() - began
        text = f"the model server had ended; a new one serves the last routes since {duration(seconds)} later"
        self.context.event("server.restarted", "server", text, seconds=seconds)
        self._write_facts()

    def _tell_waiting(self) -> None:
        """Reports which releases the server is still loading, and when they answer."""
        try:
            environments = self.context.server.status()["environments"]
        except ServingError:
            return  # busy, or gone: the next check tells
        found = {
            name: one
            for name, facts in environments.items()
            for one in facts.get("waiting", ())
            if one["project"] == self.context.name
        }
        for name in self.waiting.keys() - found.keys():
            self.context.event("server.ready", name, f"{self.waiting[name]} answers in {name} again")
        for name, one in found.items():
            if name not in self.waiting:
                text = f"{one['release']} does not answer in {name} yet: {one['why']}"
                self.context.event("server.waiting", name, text)
        self.waiting = {name: one["release"] for name, one in found.items()}

    def _write_facts(self) -> None:
        own: dict[str, object] = {"pid": os.getpid(), "folder": identity(self.context.state)}
        own |= {"console": self.addresses["console"], "addresses": self.addresses, "standstill": self.standstill}
        write_whole(self.context.state / "daemon.json", json.dumps(own, indent=1).encode(), fleeting="it describes this process")

    def _make_trigger_watcher(self) -> Callable[[], float]:
        trigger_watcher = TriggerWatcher(self._working)
        watcher = files.FileWatcher([self.context.home])

        def look() -> float:
            watcher.changed.wait(SCOUT_S)
            watcher.changed.clear()
            if trigger_watcher.look():
                self.triggered.set()
            return 0.01

        return look

    def _turn(self) -> float:
        self.triggered.wait(1.0)
        while self.triggered.is_set() and not self.stopping.is_set():
            self.triggered.clear()
            self.stopping.wait(QUIET_S)
        pending = TriggerStore.of(self.context).pending() or TurnStore.of(self.context).unfinished()
        if not pending or turn_runner.waiting(self._working) is not None or turn_runner.resting(self._working):
            return 0.0
        turn_runner.turn_once(self._working)
        return 0.0

    def _make_rollout_controller(self) -> Callable[[], float]:
        controller = RolloutController(self._working)

        def look() -> float:
            controller.reconcile()
            return LOOK_S

        return look

    def _record_scaling(self) -> float:
        scaling_events.hear(self.context)
        return scaling_events.EVERY_S

    def _make_monitor(self) -> Callable[[], float]:
        monitors: dict[str, EnvironmentMonitor] = {}

        def look() -> float:
            project = config.load(self.context.home)
            for environment in project.environments:
                monitor = monitors.get(environment)
                if monitor is None or not monitor.fits(project):
                    monitor = monitors[environment] = EnvironmentMonitor(self._working, project, environment)
                if learn(self._working, project, watch(self._working, project, monitor)) is not None:
                    self.triggered.set()
            return MONITOR_S

        return look

    def _keep_logs(self) -> float:
        project = config.load(self.context.home)
        for name in project.environments:
            shadow_retention.tidy_shadows(self.context, name)
        retention.look(self.context, project)
        return retention.EVERY_S

    def _open_console(self) -> str:
        project = config.load(self.context.home)
        host, port = self.console_at or (project.console.host, project.console.port)
        app = console.build(
            lambda: StatusView.read(self.context.ledger, self.context.name, self.context.state, project),
            lambda after: self.context.ledger.events.tail(self.context.name, after=after, limit=200),
            self.act,
            totals=lambda: TotalStore.of(self.context).read(),
            token=token(self.context.state),
            hosts=frozenset({host, "localhost", "127.0.0.1", *project.console.hosts}),
            everywhere=host in EVERYWHERE,
        )
        bound = _bind(host, port)
        served = uvicorn.Config(app, log_level="warning", log_config=None, lifespan="off", http=IdleTimeoutProtocol)
        self._showing = Background("console", partial(self._run_console, served, bound)).start()
        return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"

    def _run_console(self, served: uvicorn.Config, bound: socket.socket) -> float:
        """Runs the console until told to stop; restarts it if it ends by itself."""
        if not self.stopping.is_set():
            self._console = uvicorn.Server(served)
            self._console.run(sockets=[bound.dup()])
        return 1.0


def token(state: Path) -> str:
    """Returns the control API's token: random, created once, readable by its owner only."""
    path = state / "token"
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was first: its token is used
            write_whole(path, secrets.token_urlsafe(24).encode(), 0o600, replace=False)
    try:
        return path.read_text().strip()
    except OSError as error:
        hint = "Move it away: another is made."
        raise StoreError(f"the control API's token cannot be read: {error.strerror}", where=str(path), hint=hint) from error


def _lock(state: Path) -> TextIO:
    """Takes `daemon.lock` for the life of this process. Raises StoreError when another daemon holds it."""
    file = (state / "daemon.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise StoreError(
            f"a daemon already runs on this store (process {holder})",
            where=str(state),
            hint="`noria status` shows it; stop it first, or name another store with NORIA_HOME.",
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortInUseError(
            f"the console cannot listen on {host}:{port}: {error.strerror}",
            hint="Set `console: {port: ...}` in noria.yaml, or `noria up --console 127.0.0.1:0` for any free port.",
        ) from None
    return bound


class EndSignal:
    """Notes whether a signal told this process to end. Its handler takes no lock, which could deadlock."""

    def __init__(self) -> None:
        self.noted = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        return self.noted

    def ignore_further(self) -> None:
        """Ignores further signals: this process is already ending."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _note(self, *_: object) -> None:
        self.noted = True


def run(daemon: Daemon, started: Callable[[dict[str, str]], None], heard: Callable[[], None]) -> None:
    """Runs until a signal. ``started`` gets the addresses; ``heard`` is called every 0.2 s to print events. A failure of either
    does not end the daemon, and only a signal also ends the model server.
    """
    descriptors.raise_limit()
    logs.take_all()
    with contextlib.suppress(ValueError, OSError, RuntimeError):  # where there is no standard error
        faulthandler.enable()  # a crash in a library's native code ends the process: its threads' stacks are all that is told
    told = EndSignal()
    try:
        found = daemon.start(told)
    except BaseException as error:  # nothing half-started stays behind
        daemon.give_up()
        if isinstance(error, StoppedError) and told():
            return
        raise
    try:
        _safely(daemon, lambda: started(found))
        while not told() and not daemon.stopping.is_set():
            _safely(daemon, heard)
            time.sleep(NEWS_S)
    finally:
        daemon.stop(server=told())
        _safely(daemon, heard)
        told.ignore_further()


def _safely(daemon: Daemon, tell: Callable[[], None]) -> None:
    """Calls a function that prints to people, and survives any failure of it: a closed pipe, a full disk, a busy ledger."""
    try:
        tell()
    except Exception as error:  # noqa: BLE001 - the daemon goes on, and writes down why it is silent
        daemon.complain_once("news", error)
