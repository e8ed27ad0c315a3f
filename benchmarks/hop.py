"""What the Unix socket between a worker and the host of a hosted release costs: the same row asked through it and without it.

``python -m benchmarks.hop STATE BUNDLE``: milliseconds of a call without it, in a process that is made as a host is.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.clock import BenchError
from noria.kernel import threads
from noria.releases.bundle import Bundle, open_bundle
from noria.releases.signing import known_keys
from noria.serving import frames
from noria.serving.client import connect
from noria.serving.host import HostedModel, enter

CALLS = 1000
WARM = 100


def sentence(state: Path) -> str:
    """Of the one hosted release that a running server under ``state`` serves."""
    (socket,) = (state / "serving").glob("host-*.sock")
    (folder,) = (p for p in (state / "releases").iterdir() if p.name.startswith(socket.stem.removeprefix("host-")))
    bundle = open_bundle(folder, known_keys(state))
    command = [sys.executable, "-m", "benchmarks.hop", str(state), str(folder)]
    around = os.environ | dict.fromkeys(threads.ONE_THREAD, "1")
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise BenchError(f"the hosted model alone: {done.stderr[-500:]}")
    through, alone = _through(socket, bundle), float(done.stdout)
    return (
        f"Hosted, one row, one call after the other: {through:.2f} ms from a worker's side of the socket, of which "
        f"{alone:.2f} ms are the project's features and model; the hop itself is {max(0.0, through - alone):.2f} ms."
    )


def _row(bundle: Bundle) -> dict[str, list[Any]]:
    return {entry.name: [0.25] for entry in bundle.signature.inputs}


def _through(socket: Path, bundle: Bundle) -> float:
    """Milliseconds from the question to its answer."""
    question = {"id": 1, "columns": _row(bundle), "n": 1, "until": time.monotonic() + 60}
    with connect(socket, 10.0) as link, link.makefile("rb") as answers:

        def ask() -> None:
            link.sendall(frames.pack(question))
            answer = msgspec.msgpack.decode(answers.read(int.from_bytes(answers.read(4), "big")))
            if not answer["ok"]:
                raise BenchError(f"the host: {answer['error']}")

        return _median_ms(ask)


def _median_ms(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(WARM + CALLS):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(taken[WARM:])


def main(state: Path, folder: Path) -> None:
    bundle = open_bundle(folder, known_keys(state))
    with tempfile.TemporaryDirectory() as place:
        enter(bundle, Path(place) / "code")
        model, row = HostedModel(bundle), _row(bundle)
        print(_median_ms(lambda: model.predict(row, 1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
