"""`noria doctor`: checks this installation and this project's state."""

from __future__ import annotations

import http.client
import os
import platform
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from urllib.parse import urlsplit

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.output import ExitCode, day, emit, json_option, number, plain
from noria.kernel.errors import NoriaError, ServingError
from noria.kernel.event import Event
from noria.kernel.words import size
from noria.releases import signing
from noria.storage.clock import ClockStore
from noria.trust import audit
from noria.views.runtime_status import running_daemon

PYTHON_OLDEST, PYTHON_NEWEST = (3, 11), (3, 13)
TOLD = 1000  # events about damage that are looked at
DAY_S = 86_400.0
DISK_WARN_BYTES, DISK_FAIL_BYTES = 2 * 1024**3, 200 * 1024**2
MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


class DoctorFinding(msgspec.Struct, frozen=True):
    """``state`` is ok, warn or fail; ``advice`` says what to do next."""

    name: str
    state: str
    text: str
    advice: str = ""


@click.command()
@json_option
@pass_home
def command(home: Home, as_json: bool) -> int:
    """Check this installation and this project's state. Exit code 1 when something fails.

    \b
    Example:  noria doctor

    JSON keys: ok, checks [{name, state (ok, warn, fail), text, advice}].
    """
    findings = [finding for check in CHECKS for finding in examine(check, home)]
    ok = all(f.state != "fail" for f in findings)
    emit(as_json, {"ok": ok, "checks": [msgspec.to_builtins(f) for f in findings]}, lambda: render(findings))
    return ExitCode.PASSED if ok else ExitCode.NO


def examine(check: Callable[[Home], Iterator[DoctorFinding]], home: Home) -> list[DoctorFinding]:
    """Runs a check. One that crashes is a finding itself, and the others still run."""
    found: list[DoctorFinding] = []
    try:
        found.extend(check(home))
    except Exception as error:  # noqa: BLE001  the doctor is called when things are broken in ways nobody foresaw
        name = check.__name__.replace("_", " ")
        found.append(DoctorFinding(name, "fail", f"the check itself broke: {type(error).__name__}: {error}"))
    return found


def render(findings: list[DoctorFinding]) -> str:
    """Renders one line for each check, with its advice below it."""
    width = max(len(f.name) for f in findings)
    lines = []
    for finding in findings:
        mark, colour = MARKS[finding.state]
        lines.append(f"{click.style(mark.ljust(4), fg=colour)}  {finding.name.ljust(width)}  {plain(finding.text)}")
        if finding.advice:
            lines.append(f"{' ' * (width + 8)}{plain(finding.advice)}")
    return "\n".join(lines)


def python(_: Home) -> Iterator[DoctorFinding]:
    """The interpreter's version."""
    version = platform.python_version()
    if PYTHON_OLDEST <= sys.version_info[:2] <= PYTHON_NEWEST:
        yield DoctorFinding("python", "ok", version)
    else:
        yield DoctorFinding("python", "fail", version, "Noria needs Python 3.11 to 3.13.")


def git(_: Home) -> Iterator[DoctorFinding]:
    """Git, without which nothing can be released."""
    found = shutil.which("git")
    if found:
        yield DoctorFinding("git", "ok", found)
    else:
        yield DoctorFinding("git", "warn", "not found", "Install git: only a commit can be released.")


def disk(home: Home) -> Iterator[DoctorFinding]:
    """Free space for the state folder."""
    place = home.state if home.state.is_dir() else home.path
    free = shutil.disk_usage(place).free
    state = "ok" if free > DISK_WARN_BYTES else "warn" if free > DISK_FAIL_BYTES else "fail"
    yield DoctorFinding(
        "disk",
        state,
        f"{size(free)} free at {place}",
        "" if state == "ok" else "Free some space: turns stop when the disk is full.",
    )


def project(home: Home) -> Iterator[DoctorFinding]:
    """noria.yaml."""
    try:
        name = home.project().name
    except NoriaError as error:
        yield DoctorFinding("project", "fail", str(error).splitlines()[0], error.hint or "Run `noria check` for details.")
    else:
        yield DoctorFinding("project", "ok", f"{name} ({home.path / 'noria.yaml'})")


def state_folder(home: Home) -> Iterator[DoctorFinding]:
    """Owner, permissions, and the modes of the two secrets."""
    if not home.state.is_dir():
        yield DoctorFinding("state", "ok", f"{home.state} is not created yet", "`noria run` creates it.")
        return
    if not os.access(home.state, os.R_OK | os.W_OK | os.X_OK):
        yield DoctorFinding("state", "fail", f"{home.state} cannot be written", "Give this user permission to write there.")
    elif home.state.stat().st_mode & stat.S_IWOTH:
        yield DoctorFinding("state", "warn", f"every user can write {home.state}", f"chmod o-w {home.state}")
    else:
        yield DoctorFinding("state", "ok", str(home.state))
    for name in ("token", "signing.key"):
        yield from _secret(home, name)

    missing = signing.missing(home.state)
    if missing:
        yield DoctorFinding("signing.key", "fail", missing, signing.BACK)


def _secret(home: Home, name: str) -> Iterator[DoctorFinding]:
    path = home.state / name
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield DoctorFinding(name, "fail", f"others can read {path} (mode {mode:04o})", f"chmod 600 {path}")
    else:
        yield DoctorFinding(name, "ok", f"readable by its owner only (mode {mode:04o})")


def ledger(home: Home) -> Iterator[DoctorFinding]:
    """The ledger opens, SQLite finds it whole, the audit chain holds, and the clock it tells."""
    if not home.ledger_file.is_file():
        yield DoctorFinding("ledger", "ok", "not created yet")
        return
    try:
        yield from _check_ledger(home)
    except NoriaError as error:
        yield DoctorFinding(
            "ledger", "fail", error.message, error.hint or "Stop the daemon and look at the disk; restore a copy if there is one."
        )


def _check_ledger(home: Home) -> Iterator[DoctorFinding]:
    problem = _integrity(home)
    yield DoctorFinding("ledger", "fail" if problem else "ok", problem or "opens; SQLite's quick check passes")
    with closing(home.ledger()) as opened:
        found = audit.verify(opened, home.state)
        advice = "" if found.ok else "Someone or something changed the ledger: run `noria audit verify`."
        yield DoctorFinding("audit chain", "ok" if found.ok else "fail", found.text, advice)
        name = home.project_name()
        yield from _log(opened.events.newest(name, TOLD, kind="log.damaged"))
        clock = (
            "wall time"
            if ClockStore(opened, name).read() is None
            else f"set: {day(ClockStore(opened, name).now())} UTC, speed {number(ClockStore(opened, name).speed())}"
        )
    yield DoctorFinding("clock", "ok", clock)


def _log(told: Sequence[Event]) -> Iterator[DoctorFinding]:
    """Damage in the prediction log that the monitor, a compaction or a dataset found."""
    places = {event.subject: event.text for event in reversed(told)}
    if places:
        advice = "The damaged records are skipped wherever the log is read. Restore the segment from a backup."
        more = f" (and {len(places) - 1:,} more)" if len(places) > 1 else ""
        yield DoctorFinding("prediction log", "warn", f"{told[0].text}{more}", advice)


def _integrity(home: Home) -> str:
    import sqlite3  # the one place that opens the file without the store

    try:
        link = sqlite3.connect(f"file:{home.ledger_file}?mode=ro", uri=True, timeout=5.0)
        try:
            answer = str(link.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            link.close()
    except sqlite3.DatabaseError as error:
        return f"{home.ledger_file}: {error}"
    return "" if answer == "ok" else answer


def processes(home: Home) -> Iterator[DoctorFinding]:
    """Whether daemon and server run and answer."""
    daemon = running_daemon(home.state)
    if daemon is None:
        yield DoctorFinding("daemon", "ok", "stopped", "`noria up` starts it.")
    else:
        still = daemon.standstill
        text = f"runs (pid {daemon.pid}){still and f' and is halted: {still}'}"
        yield DoctorFinding("daemon", "fail" if still else "ok", text, "No turn starts and no rollout proceeds." if still else "")
        yield from _reachable("console", daemon.console)
    yield from _server(home, daemon is not None)


def _server(home: Home, kept: bool) -> Iterator[DoctorFinding]:
    """Checks the model server. ``kept``: a daemon runs, which restarts the model server."""
    log = home.state / "server.log"
    try:
        status = home.server().status()
    except ServingError:
        if home.server().is_running():
            yield DoctorFinding("server", "fail", "a model server runs and does not answer", f"{log} may say why.")
        elif kept:
            yield DoctorFinding(
                "server", "fail", "none runs, although the daemon runs and should start one", f"{log} may say why."
            )
        else:
            yield DoctorFinding("server", "ok", "stopped")
        return
    restarts = _restarts(home)
    often = {0: "", 1: "; restarted once in the last day"}.get(restarts, f"; restarted {restarts} times in the last day")
    advice = f"Something ends it; {log} and the kernel's log may say what." if restarts else ""
    yield DoctorFinding("server", "warn" if restarts else "ok", f"runs (pid {status['pid']}){often}", advice)
    for name, address in status["addresses"].items():
        yield from _reachable(f"server {name}", address)
        for one in status["environments"][name].get("waiting", ()):
            text = f"{one['project']} {one['release']} does not answer: {one['why']}"
            yield DoctorFinding(f"server {name}", "warn" if one["state"] == "loading" else "fail", text, f"{log} may say more.")


def _restarts(home: Home) -> int:
    """How often the daemon restarted the model server in the last day."""
    if not home.ledger_file.is_file():
        return 0
    with closing(home.ledger()) as opened:
        found = opened.events.newest(home.project_name(), 100, kind="server.restarted")
    return sum(event.at > time.time() - DAY_S for event in found)


def _reachable(name: str, address: str | None) -> Iterator[DoctorFinding]:
    if not address:
        return
    parts = urlsplit(address)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=3.0)
    try:
        link.request("GET", "/v2/health/live")
        status = link.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield DoctorFinding(
            name,
            "fail",
            f"{address} does not answer: {error}",
            "Look at the logs in the state folder; `noria up` starts it again.",
        )
    else:
        yield DoctorFinding(name, "ok", f"{address} answers ({status})")
    finally:
        link.close()


def ports(home: Home) -> Iterator[DoctorFinding]:
    """Whether the addresses of `noria up` are free, or Noria's already."""
    try:
        project = home.project()
    except NoriaError:
        return  # said above
    ours = {urlsplit(a).port for a in home.server().addresses().values()}
    daemon = running_daemon(home.state)
    ours |= {urlsplit(daemon.console).port} if daemon and daemon.console else set()
    wanted: dict[int, tuple[str, str]] = {project.console.port: (project.console.host, "console")}
    wanted |= {project.serving.port + i: (project.serving.host, name) for i, name in enumerate(project.environments)}
    taken = [f"{port} ({name})" for port, (host, name) in wanted.items() if port and port not in ours and not _free(host, port)]
    if taken:
        yield DoctorFinding(
            "ports",
            "warn",
            f"taken by another program: {', '.join(taken)}",
            "Set other ports in noria.yaml, or stop that program.",
        )
    else:
        yield DoctorFinding("ports", "ok", f"{', '.join(map(str, wanted))}: free, or in use by Noria")


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


CHECKS: tuple[Callable[[Home], Iterator[DoctorFinding]], ...] = (
    python,
    git,
    disk,
    project,
    state_folder,
    ledger,
    processes,
    ports,
)
