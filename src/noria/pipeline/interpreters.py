"""Interpreters with exactly the packages that a record names, made by uv and kept by their digest.

Noria itself is not installed into them: its steps speak one protocol with the process that runs them, so this very Noria is
linked in, whatever version the record names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import noria
from noria.kernel.errors import NoriaError, NotFoundError
from noria.kernel.names import digest_bytes, new_id
from noria.kernel.words import lasting
from noria.pipeline.environment import normal
from noria.storage.disk import whole_path, write_whole

INSTALL_S = 3600.0  # for fetching, building and unpacking all packages
QUICK_S = 300.0
NAMED = 10  # packages that cannot be had; more of them are not looked for
KEPT_S = 30 * 86400.0  # an interpreter that nobody used for this long is deleted
NETWORK = ("client error (Connect)", "dns error", "error sending request", "operation timed out")  # uv's words
_SECRET = re.compile(r"//[^/@\s]+@")
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash[=\s]([a-z0-9]+:[0-9a-f]+)")
_RECORD = "import json, sys; from noria.pipeline import environment; json.dump(environment.record(), sys.stdout)"

Progress = Callable[[str], None]


class Lock(msgspec.Struct, frozen=True):
    """A lock file: the versions of each package that it allows, and the digests of their archives."""

    name: str
    packages: Mapping[str, Mapping[str, tuple[str, ...]]]  # package -> version -> sha256:...

    def against(self, packages: Mapping[str, str]) -> list[str]:
        """What was installed in another version than the lock file says: ``polars 2.0.0, uv.lock says 1.9.0``."""
        return [
            f"{name} {version}, {self.name} says {' or '.join(self.packages[name])}"
            for name, version in packages.items()
            if name in self.packages and version not in self.packages[name]
        ]


class Interpreter(msgspec.Struct, frozen=True):
    """An interpreter that can import this Noria, and what it records of itself."""

    python: Path
    record: dict[str, Any]
    left_out: tuple[str, ...] = ()  # packages that could not be had and are not needed
    made: bool = False  # just now


class _WantedPackages(msgspec.Struct, frozen=True):
    python: str
    lines: dict[str, str] = {}  # package -> requirement with digests

    @property
    def digest(self) -> str:
        return digest_bytes(json.dumps([self.python, sys.platform, sorted(self.lines.values())]).encode())


def find_uv() -> list[str]:
    """How uv is started: from PATH, or as a module of this Python. Raises NotFoundError."""
    found = shutil.which("uv")
    if found:
        return [found]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise NotFoundError("uv, which makes the recorded environment, is not installed", hint="pip install uv")


def make(
    root: Path,
    record: Mapping[str, Any],
    lock: Lock | None,
    needed: frozenset[str],
    progress: Progress,
) -> Interpreter:
    """The interpreter of an environment record (see ``environment.record``) in ``root/DIGEST``; made when it is not there.

    Packages of the same version in ``lock`` must have its digests. One that cannot be had is left out when it is not among
    ``needed``. Raises NotFoundError naming those that are, or the Python that is missing; NoriaError when uv fails otherwise.
    """
    wanted = _wanted_packages(record, lock)
    target = root / wanted.digest
    made = not (target / "bin" / "python").exists()  # its own Python may have been uninstalled
    if made:
        shutil.rmtree(target, ignore_errors=True)
        _create(root, target, wanted, needed, progress)
    os.utime(target)
    _retire(root, target)
    _link_noria(target)
    python = target / "bin" / "python"
    left_out = tuple(json.loads((target / "left-out.json").read_bytes()))
    return Interpreter(python, _record_of(python), left_out, made)


def lock_of(tree: Path) -> Lock | None:
    """The lock file of a project: uv.lock, pylock*.toml, or requirements*.txt with digests; None where there is none.

    Raises NoriaError for one that cannot be read.
    """
    candidates = [tree / "uv.lock", *sorted(tree.glob("pylock*.toml")), *sorted(tree.glob("requirements*.txt"))]
    for path in candidates:
        if path.is_file():
            try:
                packages = _pins(path.read_text()) if path.suffix == ".txt" else _packages(path.read_text())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise NoriaError(f"the lock file cannot be read: {error}", where=path.name) from error
            if packages:
                return Lock(path.name, packages)
    return None


def _packages(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Of uv.lock (``hash``) and of pylock.toml (``hashes``), which are alike in the rest."""
    import tomllib

    document = tomllib.loads(text)
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for package in document.get("package", document.get("packages", [])):
        archives = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        digests = [
            a["hash"] if "hash" in a else f"sha256:{a['hashes']['sha256']}" for a in archives if "hash" in a or "hashes" in a
        ]
        if "version" in package and digests:  # what has no archive is the project itself, or comes from a repository
            found.setdefault(normal(package["name"]), {})[package["version"]] = tuple(sorted(digests))
    return found


def _pins(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        match, digests = _PIN.match(line.strip()), _HASH.findall(line)
        if match and digests:
            found.setdefault(normal(match["name"]), {})[match["version"]] = tuple(sorted(digests))
    return found


def _wanted_packages(record: Mapping[str, Any], lock: Lock | None) -> _WantedPackages:
    lines = {}
    for name, version in record["packages"].items():
        if name != "noria":
            digests = lock.packages.get(name, {}).get(version, ()) if lock else ()
            lines[name] = " ".join([f"{name}=={version}", *(f"--hash={digest}" for digest in digests)])
    return _WantedPackages(str(record["python"]), lines)


def _create(root: Path, target: Path, wanted: _WantedPackages, needed: frozenset[str], progress: Progress) -> None:
    """Whole or not at all: a rename makes it visible; of two that make the same, the first one's stays."""
    root.mkdir(parents=True, exist_ok=True)
    fresh = root / f".{target.name[:16]}.{new_id('i')}"
    try:
        _venv(fresh, wanted.python, progress)
        progress(f"installing {len(wanted.lines)} packages, exactly as recorded")
        left_out = _install(fresh, wanted.lines, needed, progress)
        (fresh / "left-out.json").write_text(json.dumps(left_out))
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _venv(fresh: Path, python: str, progress: Progress) -> None:
    """With the Python that is asked for: one that is here, one that uv can fetch, or another of the same minor version."""
    minor = ".".join(python.split(".")[:2])
    for version, here in ((python, True), (python, False), (minor, True)):
        options = ["--no-python-downloads"] if here else []
        if not here:
            progress(f"Python {python} is not on this machine: asking uv for it")
        done = _uv(
            "venv", "--quiet", "--no-project", "--relocatable", "--python", version, *options, str(fresh), timeout_s=QUICK_S
        )
        if done.returncode == 0:
            return
        shutil.rmtree(fresh, ignore_errors=True)
    raise NotFoundError(f"Python {python} is neither installed nor available: {_words(done)}", hint=f"Install Python {minor}.")


def _install(fresh: Path, lines: Mapping[str, str], needed: frozenset[str], progress: Progress) -> list[str]:
    """Install; the names of those that could not be had."""
    done = _pip(fresh, list(lines.values()))
    if done.returncode == 0:
        return []
    if any(word in done.stderr for word in NETWORK):
        raise NoriaError(
            f"the packages cannot be fetched: {_words(done)}", hint="Is there a network, and the right index for uv?"
        )
    progress("not every package is available: finding out which")
    missing = _missing(fresh, dict(lines))
    missed = [name for name in missing if name in needed]
    if missed or not missing:
        named = ", ".join(lines[name].partition(" ")[0] for name in missed)
        what = f"these packages are not available: {named}" if missed else f"uv failed: {_words(done)}"
        raise NotFoundError(
            f"the recorded environment cannot be made again: {what}",
            hint="`--environment same` reproduces in this environment, and says how it differs.",
        )
    done = _pip(fresh, [line for name, line in lines.items() if name not in missing])
    if done.returncode:
        raise NoriaError(f"the recorded environment cannot be made: {_words(done)}")
    return sorted(missing)


def _missing(fresh: Path, lines: dict[str, str]) -> list[str]:
    """Which of the requirements the index does not have, by halves."""
    found: list[str] = []
    waiting = [list(lines)]
    while waiting and len(found) < NAMED:
        part = waiting.pop()
        if _pip(fresh, [lines[name] for name in part], "--dry-run", timeout_s=QUICK_S).returncode == 0:
            continue
        if len(part) == 1:
            found += part
        else:
            waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
    return found


def _pip(fresh: Path, lines: Sequence[str], *options: str, timeout_s: float = INSTALL_S) -> subprocess.CompletedProcess[str]:
    """Install exactly these; bytecode is made now, for step processes write none."""
    listed = fresh / "requirements.txt"
    listed.write_text("".join(f"{line}\n" for line in lines))
    python = str(fresh / "bin" / "python")
    arguments = ["--quiet", "--no-deps", "--compile-bytecode", "--python", python, "--requirements", str(listed)]
    return _uv("pip", "install", *arguments, *options, timeout_s=timeout_s)


def _link_noria(target: Path) -> None:
    """Make the package of this process, and its version, those of the interpreter."""
    (site,) = target.glob("lib/python3*/site-packages")
    package = Path(noria.__file__).resolve().parent
    link = site / "noria"
    if not (link.is_symlink() and Path(os.readlink(link)) == package):
        with whole_path(link) as fresh:
            fresh.symlink_to(package, target_is_directory=True)
    facts = site / f"noria-{noria.__version__}.dist-info"
    for other in site.glob("noria-*.dist-info"):
        if other != facts:
            shutil.rmtree(other, ignore_errors=True)
    facts.mkdir(exist_ok=True)
    said = f"Metadata-Version: 2.1\nName: noria\nVersion: {noria.__version__}\n"
    write_whole(facts / "METADATA", said.encode(), fleeting="the next use writes it again")


def _record_of(python: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-I", "-c", _RECORD], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=QUICK_S, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise NoriaError(f"Noria cannot be imported in the environment that was made: {last}", where=str(python))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _retire(root: Path, used: Path) -> None:
    for other in root.iterdir():
        try:
            if other != used and other.is_dir() and other.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(other, ignore_errors=True)
        except FileNotFoundError:  # another process did it
            continue


def _uv(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    command = [*find_uv(), *arguments]
    kept = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON")
    }
    try:
        return subprocess.run(
            command, env={**kept, "NO_COLOR": "1"}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NoriaError(f"`uv {arguments[0]}` did not end within {lasting(timeout_s)}") from error


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """What uv said, on one line and without passwords."""
    said = " ".join(
        line.strip(" ╰─▶×│├→") for line in done.stderr.splitlines() if line.strip() and not line.startswith("warning")
    )
    return _SECRET.sub("//***@", said)[:600] or f"exit code {done.returncode}"
