"""Hosted code may write beside itself while it serves: the sealed release stays what was sealed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from serving_bundles import BINARY, FEATURES, Seal, hosted

from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving import host_pool
from noria.serving.runtime import HostedRuntime

WRITES = FEATURES.replace(
    "def build(frame):\n",
    """from pathlib import Path

BESIDE = Path(__file__).with_name("cache")


def build(frame):
    BESIDE.mkdir(exist_ok=True)
    (BESIDE / "rows.txt").open("a").write(f"{len(frame)}\\n")
    Path("left.txt").write_text("where it works")
    Path(__file__).with_name("__init__.py").write_text("changed = True\\n")
""",
)


def test_what_a_host_writes_beside_its_code_spoils_no_release(seal: Seal, tmp_path: Path) -> None:
    """Number 54's kind: the bundle verifies while the host runs, after it was killed, and when it is gone with its copy."""
    digest = hosted(seal, tmp_path / "scratch", features=WRITES)
    bundle = seal.state / "releases" / digest

    def copies() -> list[Path]:
        return list(seal.state.glob("*.code"))

    async def serve() -> None:
        host = host_pool.Host(seal.state, bundle, seal.state / "host.sock")
        await host.start()
        try:
            assert host.process is not None
            for victim in (host.process.pid, None):
                runtime = HostedRuntime(host.socket, BINARY)
                await runtime.connect(time.monotonic() + 60)
                answers = await runtime.predict({"carrier": ["AA"], "distance": [3.5]}, 1, time.monotonic() + 30)
                assert len(answers) == 1
                (copy,) = copies()
                assert (copy / "delays" / "cache" / "rows.txt").exists()
                assert (copy / "left.txt").exists()
                assert open_bundle(bundle, known_keys(seal.state), digest).digest == digest
                await runtime.close()
                if victim is not None:
                    before = host.process
                    os.kill(victim, signal.SIGKILL)
                    while host.process is before or not host.ready:
                        await asyncio.sleep(0.01)
        finally:
            await host.stop()

    asyncio.run(asyncio.wait_for(serve(), 120))
    assert copies() == []
    assert open_bundle(bundle, known_keys(seal.state), digest).digest == digest
