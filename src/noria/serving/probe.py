"""The probe: `python -m noria.serving.probe STATE BUNDLE DIGEST WORD_FD`. It does what a worker would do with a compiled release,
in a process that may crash safely: verify, load, answer the golden rows, read requests.

On WORD_FD it says what it is about to do, one line each, and at last one JSON document: ``{"ok": true}`` or ``{"error": ...}``.
A probe that ends without that document was ended by the release.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from noria.kernel.errors import ServingError, StoreError
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving import golden_rows
from noria.serving.host import die_with_parent
from noria.serving.rehearsal import rehearse
from noria.serving.runtime import load

ROW_S = 60.0  # the parent's patience ends before
ROWS = 1000  # the most of a request


def try_out(state: Path, folder: Path, digest: str, told: golden_rows.Told) -> None:
    """Raises ServingError, or StoreError, when the release must not be served."""
    told("verifying")
    bundle = open_bundle(folder, known_keys(state), digest)
    with asyncio.Runner() as runner:
        told("loading")
        release = runner.run(load(bundle, None))

        def predict(row: dict[str, list[Any]]) -> list[Any]:
            return runner.run(release.runtime.predict(row, 1, time.monotonic() + ROW_S))

        golden_rows.ask(bundle, predict, told)
    told("reading requests")
    rehearse(release, ROWS)


def be_the_first_to_go() -> None:
    """Makes the kernel end the probe rather than a worker when memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main(arguments: list[str]) -> int:
    state, folder, digest, fd = Path(arguments[0]), Path(arguments[1]), arguments[2], int(arguments[3])
    die_with_parent()
    be_the_first_to_go()
    np.seterr(over="ignore")  # as in a worker

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(fd, text.encode() + b"\n")

    try:
        try_out(state, folder, digest, say)
    except (ServingError, StoreError) as error:
        say(json.dumps({"error": str(error)}))
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever breaks here would break in a worker: it is the answer
        say(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 1
    say(json.dumps({"ok": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
