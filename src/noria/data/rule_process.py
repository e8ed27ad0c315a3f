"""Rules of a contract that may take more time or memory than their rows do: computed in a process of its own, within limits."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from noria.kernel.expression import UncomputedError
from noria.kernel.words import lasting

if TYPE_CHECKING:
    import polars as pl

TIMEOUT_S = 60.0
MEMORY_BYTES = 2 * 1024**3  # and four times the table's own size
LOOK_S = 0.05


def apart(sql: str, table: pl.DataFrame) -> pl.Series:
    """An expression over a table. Raises UncomputedError, also when it takes too long or too much."""
    import polars as pl  # loaded once there is a table

    with tempfile.TemporaryDirectory(prefix="noria-rule-") as name:
        folder = Path(name)
        table.write_ipc(folder / "table.arrow")
        (folder / "rule.sql").write_text(sql, encoding="utf-8")
        _run_process(folder, MEMORY_BYTES + 4 * table.estimated_size())
        answer = json.loads((folder / "answer.json").read_bytes())
        if "error" in answer:
            raise UncomputedError(answer["error"])
        return pl.read_ipc(io.BytesIO((folder / "holds.arrow").read_bytes()))["noria_holds"]


def _run_process(folder: Path, memory_bytes: float) -> None:
    """Run the process to its end, or to that of its limits."""
    from noria.kernel.process_tree import ProcessTree  # psutil: only such a rule needs it

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "noria.data.rule_child", str(folder)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    tree, until = ProcessTree(process.pid, int(memory_bytes)), time.monotonic() + TIMEOUT_S
    try:
        while process.poll() is None:
            if time.monotonic() > until:
                raise UncomputedError(f"it takes longer than {lasting(TIMEOUT_S)}")
            if (outgrown := tree.judge()) is not None:
                raise UncomputedError(f"it {outgrown[1]}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if not (folder / "answer.json").exists():
        raise UncomputedError(f"the process that computes it ended with {process.returncode}")
