"""A project in a folder, and the command line run on it in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inner_noria

GIT = ["git", "-c", "user.name=Anna", "-c", "user.email=anna@example.org"]


@dataclass(frozen=True, slots=True)
class Place:
    """The home of a project."""

    home: Path

    def write(self, **files: str) -> Place:
        """Files by name; ``__`` stands for '/', and the last ``_`` before the suffix for a dot."""
        for name, text in files.items():
            stem, _, suffix = name.rpartition("_")
            path = self.home / f"{stem.replace('__', '/')}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self

    def put(self, path: str, text: str) -> Place:
        place = self.home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return self

    def read(self, path: str) -> str:
        return (self.home / path).read_text()

    def commit(self, message: str = "work") -> Place:
        if not (self.home / ".git").exists():
            subprocess.run([*GIT, "init", "-q", "-b", "main"], cwd=self.home, check=True)
        subprocess.run([*GIT, "add", "-A"], cwd=self.home, check=True)
        subprocess.run([*GIT, "commit", "-qm", message], cwd=self.home, check=True)
        return self

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "noria", *arguments],
            cwd=self.home,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NORIA_WARM": "0", **(env or {})},  # no step process waits
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def noria(self, *arguments: str, code: int | None = 0) -> str:
        """What a command printed; it must end with ``code``."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=500)
        assert "Traceback" not in err, err
        assert code is None or process.returncode == code, f"{process.returncode}\n{out}\n{err}"
        return out + err

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=500)
        assert code is None or process.returncode == code, f"{process.returncode}\n{out}\n{err}"
        return json.loads(out)

    def states(self, *arguments: str, code: int | None = 0) -> dict[str, tuple[str, str]]:
        """Step -> state and reason, of a run."""
        said = self.json("run", *arguments, code=code)
        return {
            s["name"]: (s["state"], s["reason"]) for s in (said["experiments"][0] if "experiments" in said else said)["steps"]
        }


class InnerPlace(Place):
    """The home of a project whose commands run in this process, and their steps too; ``start`` makes a real one."""

    __slots__ = ()

    def noria(self, *arguments: str, code: int | None = 0) -> str:
        found, out, err = inner_noria.noria(self.home, *arguments)
        assert code is None or found == code, f"{found}\n{out}\n{err}"
        return out + err

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        found, out, err = inner_noria.noria(self.home, *arguments, "--json")
        assert code is None or found == code, f"{found}\n{out}\n{err}"
        return json.loads(out)
