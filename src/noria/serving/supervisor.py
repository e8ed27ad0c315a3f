"""The parent of the server tree: owns the sockets, applies the newest routes, supervises, answers the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec

from noria.kernel import descriptors, logs, names
from noria.kernel.access import MAX_BODY_BYTES, MAX_ROWS, UNGUARDED, Access
from noria.kernel.errors import NoriaError, ServingError, StoreError
from noria.kernel.policy import RECORD_ALL, LogPolicy
from noria.kernel.workers import TWO, Workers
from noria.releases.bundle import read_manifest
from noria.releases.release import ServedForm
from noria.serving import counts, judge_crash, judge_scaling, rate_limits
from noria.serving.api_keys import read_keys
from noria.serving.autoscaler import Decisions, Scaler
from noria.serving.client import FACTS, LOCK, SOCKET, short_path
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.crashes import CrashHistory
from noria.serving.desired_routes import DesiredRoutes
from noria.serving.environment import ServedEnvironment, bind, facts, fit
from noria.serving.host_pool import LOAD_S, Hosts
from noria.serving.judge_scaling import ScalingDecision
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.preflight import Proofs
from noria.serving.route import Route, revision_of
from noria.serving.route_follower import FollowerActions, Key
from noria.serving.shared_files import mend
from noria.serving.usage import WorkerUsage
from noria.serving.worker_pool import WorkerPlan, WorkerPool, route_releases
from noria.serving.worker_start import Start
from noria.storage.disk import clear_unfinished, write_whole
from noria.storage.rotating_files import rotate_inherited

_log = logs.get_logger("noria.serving")

BEAT_S = 1.0
POLL_S = 0.5  # a lost notification is made up for after this long
STOP_S = 12.0  # workers get this long to finish requests
LINE_LIMIT = 65536
GRACE_S = (
    3.0  # at the start, connections queue for so long; then what is ready answers, and for the rest is said what it waits for
)
COLD_S = 600.0  # to load a release where nothing else of its project serves: whatever it takes on a busy machine
RETRY_S = 5.0  # after this long a refused route is tried again where nothing else serves; twice as long each time
RETRY_MOST_S = 60.0


class Options(msgspec.Struct, frozen=True):
    """The command line of `python -m noria.serving`."""

    state: Path
    environments: dict[str, tuple[str, int]]
    workers: Workers = TWO
    max_body_bytes: int = MAX_BODY_BYTES
    max_rows: int = MAX_ROWS
    access: Access = UNGUARDED
    recording: LogPolicy = RECORD_ALL
    log: Path | None = None  # the file that standard error goes to, kept from growing


class Supervisor:
    """Wires the parts of the server tree, which know nothing of each other, and holds the control flow."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._state = options.state
        self._desired = DesiredRoutes(options.state)
        self._hosts = Hosts(options.state, self._bundle, self._host_ended)
        self._oom = OutOfMemory()
        self._suspending: set[asyncio.Task[None]] = set()
        self._proofs = Proofs(options.state, self._bundle)
        self._places: dict[str, ServedEnvironment] = {}
        self._failed: dict[str, str] = {}
        self._decisions = Decisions(options.state / "serving" / "scaling.json")
        self._scaling: list[asyncio.Task[None]] = []
        self._hopeless = ""  # why no worker starts, where nobody brings another release
        self._stumbled = ""  # why the routes could not be read last time
        self._control: asyncio.Server | None = None
        self._trouble = ""  # what is wrong with the ledger at present
        self._following = FollowerActions(self._is_due, self._load, self._flip)
        self._told: dict[str, list[dict[str, str]]] = {}  # by environment: the releases that its workers wait for
        self._stop = asyncio.Event()
        self._started_at = time.time()

    async def run(
        self, ready: Callable[[dict[str, Any]], None], beat: Callable[[dict[str, Any]], None] = lambda facts: None
    ) -> None:
        """Until told to stop; ``ready`` is called when each release was tried once, and once a second before that ``beat``.

        ``ready`` may raise, which ends the server. Raises PortInUseError, ServingError when it cannot come up.
        """
        beating = asyncio.create_task(self._beat(beat))
        try:
            await self._start_all()
            self._control = await self._listen()
            self._write_facts()
            polling = asyncio.create_task(self._poll())
            tried = asyncio.create_task(self._wait_until_tried())
            await asyncio.wait({polling, tried}, return_when=asyncio.FIRST_COMPLETED)
            beating.cancel()
            if tried.done():
                await tried
                ready({"ok": True, "addresses": self._addresses(), "failed": self._failed})
            await polling
            tried.cancel()
            self._control.close()
            if self._hopeless:
                raise ServingError(self._hopeless)
        finally:
            beating.cancel()
            await self._shut_down()

    def stop(self) -> None:
        self._stop.set()

    async def _beat(self, beat: Callable[[dict[str, Any]], None]) -> None:
        """Gives signs of life to the waiting starter."""
        while True:
            beat({"answers": self._control is not None})
            await asyncio.sleep(BEAT_S)

    # -- coming and going

    async def _start_all(self) -> None:
        logged = (self._state / "log" / name for name in self._options.environments)
        clear_unfinished(self._state, self._state / "serving", *logged)
        access = self._options.access
        if access.keys_file is not None:
            read_keys(Path(access.keys_file))  # an error in it is said before anything listens
        for name, (host, port) in self._options.environments.items():
            path = counts_path(self._state, name)
            counts.create(path)
            if access.rate is not None:
                rate_limits.create(rate_limits.rates_path(self._state, name))
            listener = bind(name, host, port, keyed=access.keys_file is not None)
            ended = partial(self._worker_ended, name)
            unserved = partial(self._worker_unserved, name)
            group = WorkerPool(self._starter(name, host), listener, self._options.workers.least, ended, on_unserved=unserved)
            scaler = Scaler(group, self._options.workers, partial(self._note_decision, name))
            group.coming = partial(self._coming_releases, name)
            self._places[name] = ServedEnvironment(listener, group, SharedCounters(path), CrashHistory(path, self._oom), scaler)
        await asyncio.gather(*(place.group.open() for place in self._places.values()))
        self._follow_routes()

    async def _wait_until_tried(self) -> None:
        """Waits until every environment answers and each release of the start was tried."""
        await asyncio.gather(*(self._admit(name, place) for name, place in self._places.items()))
        await self._following.settled()

    async def _admit(self, name: str, place: ServedEnvironment) -> None:
        """The sockets queue connections: nobody hears "no release yet" without need. But who is ready waits for no other."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._following.settled(name), GRACE_S)
        self._tell_waiting()
        await place.group.accept()
        self._scaling.append(asyncio.create_task(place.scaler.run(partial(self._measure, name))))

    def _starter(self, name: str, host: str) -> Callable[[int, int, int], Start]:
        o = self._options

        def start(slot: int, listen_fd: int, channel_fd: int) -> Start:
            limits = (o.max_body_bytes, o.max_rows)
            return Start(str(o.state), name, host, slot, listen_fd, channel_fd, *limits, o.access, o.recording)

        return start

    async def _shut_down(self) -> None:
        for task in self._scaling:
            task.cancel()
        await self._following.close()
        for place in self._places.values():
            place.listener.close()
        await asyncio.gather(*(place.group.close(STOP_S) for place in self._places.values()))
        await self._hosts.keep_only(set())
        for name in (SOCKET, FACTS):
            (self._state / name).unlink(missing_ok=True)

    def _write_facts(self) -> None:
        facts = {"pid": os.getpid(), "started_at": self._started_at, "addresses": self._addresses()}
        facts["socket"] = str(self._state / SOCKET)
        write_whole(self._state / FACTS, json.dumps(facts, indent=1).encode(), fleeting="they describe this process")

    def _addresses(self) -> dict[str, str]:
        return {name: place.address for name, place in self._places.items()}

    def _bundle(self, digest: str) -> Path:
        return self._state / "releases" / digest

    # -- applying routes

    async def _poll(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), POLL_S)
                return
            try:
                self._follow_routes()
                self._tell_waiting()
                self._stumbled = ""
            except Exception as error:  # noqa: BLE001 - whatever it is, the last routes serve on, and it is tried again
                text = f"the routes cannot be applied: {type(error).__name__}: {error}"
                if text != self._stumbled:
                    _log.error(text)
                self._stumbled = text
            with contextlib.suppress(OSError, NoriaError):  # gone, or no room for it: tried again at the next poll
                if self._options.log is not None:
                    rotate_inherited(self._options.log)
                await self._repair()

    async def _repair(self) -> None:
        """Restores what somebody deleted: the control socket, the facts, the files in serving/."""
        said: list[str] = []
        if self._control is not None and not (self._state / SOCKET).exists():
            self._control.close()
            self._control = await self._listen()
            said.append(f"{SOCKET} was deleted: it is restored")
        if not (self._state / FACTS).exists():
            self._write_facts()
        places = {name: (place.group, place.counts) for name, place in self._places.items()}
        for text in (*said, *mend(self._state, places, self._hosts, limited=self._options.access.rate is not None)):
            _log.warning(text)

    def _follow_routes(self, again: bool = False) -> None:
        """Starts applying new routes. ``again`` retries routes that were refused before."""
        if wanted := self._read_routes():
            self._following.aim(wanted, again)

    def _coming_releases(self, name: str) -> set[str]:
        """The releases of an environment that a route is about to name."""
        return {digest for route in self._following.coming(name) for digest in route_releases(route)}

    def _is_due(self, key: Key, route: Route, again: bool) -> bool:
        """Whether to apply a route. A refused one is retried by itself only when nothing of its project serves."""
        place, project = self._places[key[0]], key[1]
        if route == place.applied.get(project):
            return False
        if again or route != place.refused.get(project):
            return True
        return project not in place.applied and time.monotonic() >= place.retries.get(project, (0.0, 0.0))[0]

    def _waiting_projects(self, name: str) -> list[dict[str, str]]:
        """The projects of an environment whose release does not answer yet, and why."""
        place = self._places[name]
        coming = {route.project: route for route in self._following.coming(name)}
        found = []
        for project, route in (place.refused | coming).items():
            if project not in place.applied:
                state = "refused" if project in place.refused else "loading"
                why = "it is being loaded" if project in coming else self._failed.get(route.champion, "it was refused")
                found.append({"project": project, "release": route.champion_version, "state": state, "why": why})
        return found

    def _tell_waiting(self) -> None:
        """The workers say it to who asks: in the health, and to requests for such a project."""
        for name, place in self._places.items():
            waiting = self._waiting_projects(name)
            if waiting or self._told.get(name):
                place.group.tell("waiting", waiting=waiting)
            self._told[name] = waiting

    def _read_routes(self) -> dict[Key, Route]:
        try:
            routes = self._desired.routes(list(self._places))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the ledger, the last routes serve on
            self._log_once(f"the ledger cannot be read: {type(error).__name__}: {error}")
            return {}
        self._log_once("")
        return routes

    def _log_once(self, trouble: str) -> None:
        """Logs a problem once, not at every poll."""
        if trouble and trouble != self._trouble:
            _log.error(trouble)
        self._trouble = trouble

    async def _load(self, key: Key, route: Route) -> tuple[WorkerPlan, dict[str, str]]:
        """Champion and candidate tried and loaded in every worker; and those that cannot be served. No answer changes yet."""
        place = self._places[key[0]]
        patience_s = LOAD_S if route.project in place.applied else COLD_S
        plan, failed = await self._prepare(route, patience_s)
        compiled = [digest for digest, (_, host) in plan.releases.items() if host is None]
        if not place.applied and len(list(self._following.coming(key[0]))) == 1:  # no worker answers yet: nothing is at risk
            tried, loaded = await asyncio.gather(self._proofs.prove(compiled, patience_s), place.group.load(plan))
            return plan, failed | loaded | tried
        failed |= await self._proofs.prove(compiled, patience_s)
        return plan, failed | await place.group.load(plan.without(failed))

    async def _flip(self, key: Key, route: Route, loaded: tuple[WorkerPlan, dict[str, str]]) -> None:
        """All or nothing: every worker, or none when champion or candidate failed."""
        place, (plan, failed) = self._places[key[0]], loaded
        refused = route.champion in failed or (route.candidate or "") in failed
        place.refused.pop(route.project, None)
        if refused:
            place.refused[route.project] = route
            pause = min(RETRY_MOST_S, 2 * place.retries.get(route.project, (0.0, RETRY_S / 2))[1])
            place.retries[route.project] = (time.monotonic() + pause, pause)
        self._remember(route, failed)
        if refused:
            return
        place.retries.pop(route.project, None)
        before = place.group.plan
        routes = (*(r for r in before.routes if r.project != route.project), route)
        place.deaths.forget(routes)
        await place.group.flip(fit(place, WorkerPlan(routes, before.releases | plan.without(failed).releases)))
        place.applied[route.project] = route
        serving = {d for p in self._places.values() for d in p.group.plan.releases}
        await self._hosts.keep_only(serving | {d for other in self._following.routes() for d in route_releases(other)})

    # -- crashes

    def _worker_ended(self, name: str, slot: int, code: int, loading: str | None) -> None:
        place = self._places[name]
        plan = place.group.plan
        compiled = {digest for digest, (_, host) in plan.releases.items() if host is None}
        place.deaths.note_worker_end(slot, code, plan.routes, compiled, loading)
        self._suspend(place)

    def _worker_unserved(self, name: str, slot: int, failed: dict[str, str]) -> None:
        """A worker cannot start with its plan. The engine brings the release before back; who serves alone has none."""
        place = self._places[name]
        self._proofs.forget()  # what was proven may have been lost since
        place.deaths.note_failed_start(slot, failed, place.group.plan.routes)
        self._suspend(place)
        crashes = place.deaths.facts()
        again = any(crashes[digest].burst >= judge_crash.CHAMPION_DEATHS for digest in failed.keys() & crashes.keys())
        if again and self._desired.is_standalone and not place.group.pids():
            self._hopeless = f"{name}: no worker starts: {'; '.join(failed.values())}"
            self.stop()

    def _host_ended(self, digest: str, code: int) -> None:
        for place in self._places.values():
            place.deaths.note_host_end(digest, code, place.group.plan.routes)
            self._suspend(place)

    def _suspend(self, place: ServedEnvironment) -> None:
        """A candidate that crashes again and again gets no more traffic, whether or not the engine is there to roll back."""
        plan = place.group.plan
        if any(place.deaths.is_unfit(route) for route in plan.routes):
            task = asyncio.create_task(self._flip_without_unfit(place))
            self._suspending.add(task)
            task.add_done_callback(self._suspending.discard)

    async def _flip_without_unfit(self, place: ServedEnvironment) -> None:
        """Of the plan at the moment that the task begins: another flip may have come between, and must not be undone."""
        await place.group.flip(fit(place, place.group.plan))

    def _remember(self, route: Route, failed: dict[str, str]) -> None:
        """Keep why releases could not be loaded for as long as a wanted route names them."""
        others = [r for p in self._places.values() for r in (*p.applied.values(), *p.refused.values())]
        kept = {d for r in others for d in route_releases(r)} - set(route_releases(route))
        self._failed = {d: why for d, why in self._failed.items() if d in kept} | failed

    async def _prepare(self, route: Route, patience_s: float) -> tuple[WorkerPlan, dict[str, str]]:
        """Where the route's releases lie, with a host for each hosted one; and those that cannot be served."""
        releases: dict[str, tuple[Path, Path | None]] = {}
        failed: dict[str, str] = {}
        for digest in route_releases(route):
            try:
                folder = self._bundle(digest)
                releases[digest] = (folder, await self._hosts.ensure(digest, patience_s) if _is_hosted(folder) else None)
            except (ServingError, OSError) as error:
                failed[digest] = str(error)
        return WorkerPlan((route,), releases), failed

    async def _try(self, digest: str) -> str:
        """Returns why a release that no route names yet cannot be served, or an empty text."""
        try:
            if not _is_hosted(self._bundle(digest)):
                return (await self._proofs.prove([digest])).get(digest, "")
            await self._hosts.ensure(digest)
        except (ServingError, OSError) as error:
            return str(error)
        return ""

    # -- scaling

    def _note_decision(self, name: str, decision: ScalingDecision) -> None:
        projects = list(self._places[name].applied)
        scaled = self._decisions.add(name, projects[0] if len(projects) == 1 else None, decision)
        _log.info(scaled.text, extra=logs.facts(environment=name))

    async def _measure(self, name: str) -> None:
        """Measure the processes, and tell the workers: any of them answers for all."""
        place = self._places[name]
        sample, slots = place.scaler.newest, place.group.slots()
        pids = {"parent": os.getpid()} | {f"worker-{slot}": pid for slot, pid in sorted(slots.items())}
        pids |= {f"host-{names.short(digest)}": pid for digest, pid in self._hosts.pids().items()}
        processes = await asyncio.to_thread(place.meter.read, pids)
        place.flow.read(place.counts, place.applied.values(), time.monotonic())
        if sample is not None:
            numbers = (sample.load / len(sample.busy), judge_scaling.workers_needed(sample.load), sample.wait_ms / 1000)
            place.usage = WorkerUsage(len(place.group.pids()), *numbers, tuple(processes))
            place.group.tell("usage", usage=msgspec.to_builtins(place.usage))

    # -- the control socket

    async def _listen(self) -> asyncio.Server:
        path = self._state / SOCKET
        path.unlink(missing_ok=True)
        with short_path(path) as name:
            old = os.umask(0o177)
            try:
                return await asyncio.start_unix_server(self._serve_control, name, limit=LINE_LIMIT)
            finally:
                os.umask(old)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            match request["op"]:
                case "ping":
                    return {"pid": os.getpid()}
                case "sync":
                    return await self._sync()
                case "stats":
                    return self._stats(request["environment"], request["project"])
                case "scaling":
                    return {"decisions": msgspec.to_builtins(self._decisions.after(int(request["after"])))}
                case "load":
                    return {"failed": await self._try(request["digest"])}
                case "status":
                    return self._status()
                case "stop":
                    self.stop()
                    return {"pid": os.getpid()}
                case other:
                    return {"error": f"unknown order {other!r}"}
        except (ValueError, KeyError, TypeError, NoriaError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    async def _sync(self) -> dict[str, Any]:
        began = time.monotonic()
        self._follow_routes(again=True)
        await self._following.settled()
        applied = {
            name if len(place.applied) == 1 else f"{name}/{project}": route.revision
            for name, place in self._places.items()
            for project, route in place.applied.items()
        }
        return {"applied": applied, "failed": self._failed, "ms": (time.monotonic() - began) * 1000}

    def _stats(self, environment: str, project: str) -> dict[str, Any]:
        place = self._places.get(environment)
        if place is None:
            return {"error": f"this server has no environment {environment!r}; it has {', '.join(self._places)}"}
        arms = {
            str(revision): {"champion": _numbers(champion), "candidate": _numbers(candidate)}
            for key, (champion, candidate) in place.counts.tallies().items()
            if (revision := revision_of(key, project)) is not None
        }
        return {"revisions": arms}

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "started_at": self._started_at,
            "addresses": self._addresses(),
            "environments": {name: self._facts(name, place) for name, place in self._places.items()},
            "failed": self._failed,
            "hosts": self._hosts.pids(),
        }

    def _facts(self, name: str, place: ServedEnvironment) -> dict[str, Any]:
        scaled = self._decisions.last(name)
        return facts(place) | {
            "waiting": self._waiting_projects(name),
            "bounds": str(self._options.workers),
            "scaled": msgspec.to_builtins(scaled),
            "usage": msgspec.to_builtins(place.usage),
            "rates": msgspec.to_builtins(place.flow.rates(place.counts, place.applied.values(), time.monotonic())),
        }


def _numbers(tally: Any) -> list[int]:
    return [tally.requests, tally.errors, tally.slow, tally.both]


def _is_hosted(folder: Path) -> bool:
    """What the manifest claims; nothing is run before its signature verifies. Raises ServingError."""
    try:
        return read_manifest(folder, folder.name).form is ServedForm.HOSTED
    except StoreError as error:
        raise ServingError(error.message, where=error.where) from error


@contextlib.contextmanager
def sole(state: Path) -> Iterator[None]:
    """The lock that makes this the one server of its state folder. Raises ServingError."""
    lock: IO[str]
    with (state / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingError("another model server already runs on this state folder", where=str(state)) from error
        yield


async def main(
    options: Options,
    ready: Callable[[dict[str, Any]], None],
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
    beat: Callable[[dict[str, Any]], None] = lambda facts: None,
) -> None:
    """Serve until one of ``signals``; the caller holds the state folder (``sole``). ``ready`` may raise to end it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started this may ignore it: then nobody hears how a child ended
    descriptors.raise_limit()
    logs.take_all()
    tree = Supervisor(options)
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, tree.stop)
    _log.debug("the server starts", extra=logs.facts(state=str(options.state), environments=sorted(options.environments)))
    await tree.run(ready, beat)
    _log.debug("the server stopped as requested")
