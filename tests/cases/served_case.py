"""A small compiled release behind `noria serve`, for walks that are about the server and not about a project."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "serving"))
from serving_alone import exported
from serving_bundles import Seal, compiled

RECORD = {"carrier": "AA", "distance": 3.5}


@contextlib.contextmanager
def served(case: Any, limits: tuple[int, int] | None = None) -> Iterator[int]:
    """The port of one worker; ``limits``: the soft and the hard one of its descriptors."""
    file = case.home / "v3.noria.tar"
    if not file.exists():
        seal = Seal(case.home / "origin")
        exported(seal, compiled(seal, case.home), file)
    command = [sys.executable, "-m", "noria", "serve", str(file), "--port", "0", "--workers", "1", "--json"]

    def limit() -> None:
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    server = subprocess.Popen(command, cwd=case.home, stdout=subprocess.PIPE, text=True, preexec_fn=limit)
    try:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.rstrip() == "}":
                break
        yield int(json.loads("".join(lines))["address"].rpartition(":")[2])
    finally:
        server.terminate()
        server.wait(30)
        assert server.stdout is not None
        server.stdout.close()
