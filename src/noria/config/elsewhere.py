"""Projects of other tools in the same folder: what their files say, and what the same would be in noria.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from noria.config import document
from noria.kernel import names
from noria.kernel.errors import ConfigError
from noria.kernel.words import plural

LISTS = ("deps", "outs", "params", "metrics", "plots")
KNOWN = frozenset({*LISTS, "cmd", "wdir", "foreach", "do", "matrix", "frozen", "always_changed", "desc", "meta"})
POINTERS = 10_000  # files of a folder that are looked at for data kept elsewhere


class ForeignProject(msgspec.Struct, frozen=True):
    """A file of another tool. ``steps`` is what noria.yaml would say, as YAML; ``needs`` are sentences."""

    file: str
    says: str
    steps: str
    needs: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        lines = [self.says, *self.needs]
        return "; ".join(lines) + (f". In noria.yaml:\n{self.steps}" if self.steps else "")


def neighbours(home: Path) -> list[ForeignProject]:
    """Finds projects of other tools beside (or instead of) noria.yaml. A file that cannot be read is only reported to exist."""
    found = []
    for name, read in (("dvc.yaml", _dvc), ("MLproject", _mlproject)):
        if not (home / name).is_file():
            continue
        try:
            found.append(read(home, document.read((home / name).read_bytes(), name).plain() or {}))
        except (ConfigError, OSError, AttributeError, TypeError) as error:
            said = error.message if isinstance(error, ConfigError) else "it does not have its tool's format"
            found.append(ForeignProject(name, f"cannot be read: {said}", ""))
    return found


def _dvc(home: Path, facts: Mapping[str, Any]) -> ForeignProject:
    stages: Mapping[str, Any] = facts.get("stages") or {}
    needs = []
    if "vars" in facts or any("${" in json.dumps(stage) for stage in stages.values()):
        needs.append("`vars` and ${...} have no counterpart: write the values, or params with the {item} of a foreach")
    unknown = sorted({key for stage in stages.values() for key in {**stage, **(stage.get("do") or {})} if key not in KNOWN})
    if unknown:
        needs.append(f"{', '.join(unknown)} have no counterpart")
    pointers = sum(1 for _, _ in zip(home.rglob("*.dvc"), range(POINTERS), strict=False))
    if pointers:
        needs.append(f"{plural(pointers, '.dvc file')} name data kept elsewhere: `dvc pull`, then name it under `data:`")
    needs.append("what a step writes and Git does not ignore must be among its outs")
    says = f"{plural(len(stages), 'stage')} of DVC, which Noria runs as steps ({', '.join(list(stages)[:5])})"
    return ForeignProject("dvc.yaml", says, _yaml(_step(name, stage) for name, stage in stages.items()), tuple(needs))


def _step(name: str, stage: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    inner: Mapping[str, Any] = {**stage, **(stage.get("do") or {})}
    made: dict[str, Any] = {"cmd": _commands(inner.get("cmd", ""))}
    for key in LISTS:
        values = list(_names(inner.get(key) or [], files=key == "params"))
        made |= {key: values} if values else {}
    made |= {key: inner[key] for key in ("wdir", "foreach", "matrix", "frozen") if key in inner}
    return _name(name), made | ({"always": True} if inner.get("always_changed") else {})


def _commands(cmd: Any) -> str:
    return "\n".join(map(str, cmd)) if isinstance(cmd, list) else str(cmd)


def _names(given: Any, *, files: bool) -> Iterator[str]:
    """Names in a list or mapping; of parameters by file those of the file."""
    for entry in [given] if isinstance(given, str | dict) else given:
        if isinstance(entry, dict):
            for name, inner in entry.items():
                yield from map(str, inner or ()) if files else (str(name),)
        else:
            yield str(entry)


def _mlproject(home: Path, facts: Mapping[str, Any]) -> ForeignProject:
    points: Mapping[str, Any] = facts.get("entry_points") or {}
    needs = []
    given = {name: _default(value) for point in points.values() for name, value in (point.get("parameters") or {}).items()}
    if given:
        said = ", ".join(f"{name}: {value}" for name, value in given.items())
        needs.append(f"its parameters belong in params.yaml ({said})")
    if "conda_env" in facts or "python_env" in facts or "docker_env" in facts:
        needs.append("its environment is the one in which Noria runs: a lock file in the commit is recorded")
    needs.append("a model that is to be served is trained by a function: model.train")
    says = f"{plural(len(points), 'entry point')} of an MLflow project, which Noria runs as steps"
    return ForeignProject("MLproject", says, _yaml(_entry(name, point) for name, point in points.items()), tuple(needs))


def _entry(name: str, point: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    wanted = list(point.get("parameters") or {})
    variable = re.compile(r"\{(" + "|".join(map(re.escape, wanted)) + r")\}") if wanted else None
    command = str(point.get("command", ""))
    if variable is not None:
        command = variable.sub(lambda match: f"$NORIA_PARAM_{re.sub(r'[^A-Z0-9]', '_', match[1].upper())}", command)
    return _name(name), {"cmd": command} | ({"params": wanted} if wanted else {})


def _default(value: Any) -> Any:
    return value.get("default", "...") if isinstance(value, dict) else "..."


def _name(text: str) -> str:
    """A step's name by Noria's grammar."""
    made = re.sub(r"[^a-z0-9_-]", "-", text.lower())
    return made if names.is_name(made) else f"step-{made}"[:63]


def _yaml(steps: Iterator[tuple[str, dict[str, Any]]]) -> str:
    """Flow mappings: JSON is YAML."""
    lines = [f"  {name}: {json.dumps(step, ensure_ascii=False)}" for name, step in steps]
    return "\n".join(["steps:", *lines]) if lines else ""
