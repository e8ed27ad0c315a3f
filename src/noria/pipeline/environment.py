"""The environment of a run: interpreter, platform and every installed package, read from where they are installed."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.kernel.names import digest_bytes

DISTRIBUTION = "noria-cd"  # as it is installed; a record says `noria`
_DIST_INFO = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.dist-info")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SYSTEM = frozenset({"python", "implementation", "system", "machine", "libc"})
WORKING = (
    "joblib",
    "numpy",
    "onnxruntime",
    "polars",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skl2onnx",
)  # Noria's steps compute with these
NOT_IDENTITY = frozenset({"cpus"})  # recorded, but the same work on more cores is the same work


def record() -> dict[str, object]:
    """``python``, ``implementation``, ``system``, ``machine``, ``libc``, ``cpus``, ``noria`` and ``packages`` (name -> version).

    The kernel's version is left out: a security update must not make every step stale.
    """
    packages = dict(sorted(_packages()))
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": _libc(),
        "cpus": os.cpu_count() or 1,
        "noria": packages.get("noria", "not installed"),
        "packages": packages,
    }


def digest(record: Mapping[str, object]) -> str:
    """The identity of an environment: everything that can change a result."""
    identity = {name: value for name, value in record.items() if name not in NOT_IDENTITY}
    return digest_bytes(json.dumps(identity, sort_keys=True).encode())


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One phrase for each difference in identity: ``polars 2.0.0 -> 2.1.0``; empty when the digests agree."""
    names = sorted((before.keys() | after.keys()) - NOT_IDENTITY - {"packages", "noria"})
    found = [f"{name} {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)]
    old, new = before.get("packages", {}), after.get("packages", {})
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found.append(f"{name} {old[name]} is gone")
        elif name not in old:
            found.append(f"{name} {new[name]} is new")
        elif old[name] != new[name]:
            found.append(f"{name} {old[name]} -> {new[name]}")
    return found


def required_distributions(roots: Iterable[str], modules: Iterable[str] = ()) -> frozenset[str]:
    """Names of the distributions ``roots``, of those that these top-level modules belong to, and of all that they require.

    As far as what is installed here tells: a module that is not is taken to belong to a distribution of its own name.
    """
    from importlib import metadata

    owners = metadata.packages_distributions()
    waiting = [*roots, *(owner for module in modules for owner in owners.get(module, [module]))]
    found: set[str] = set()
    while waiting:
        name = normal(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in requirements:
            match = _REQUIREMENT.match(requirement)
            if match and "extra ==" not in requirement.partition(";")[2]:
                waiting.append(match[0])
    return frozenset(found)


def that_matter(differences: Iterable[str], packages: frozenset[str]) -> list[str]:
    """Those of ``differences`` that concern the interpreter, the platform or one of these packages."""
    return [text for text in differences if text.partition(" ")[0] in SYSTEM | packages]


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages() -> Iterator[tuple[str, str]]:
    """Name and version of every distribution, from the names of its folders: 1 ms where reading the metadata takes 30.

    The first on the path wins, as in an import.
    """
    seen: set[str] = set()
    for entry in dict.fromkeys(map(os.path.abspath, filter(None, sys.path))):
        for name, version in _distributions(Path(entry)):
            if name not in seen:
                seen.add(name)
                yield name, version


def _distributions(folder: Path) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            matches = [_DIST_INFO.fullmatch(entry.name) for entry in entries]
    except OSError:
        return []
    found = [(normal(m["name"]), m["version"]) for m in matches if m is not None]
    return [("noria" if name == DISTRIBUTION else name, version) for name, version in found]


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""
