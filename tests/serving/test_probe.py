"""A release is tried in a process of its own before any worker loads it: what kills, hangs or answers otherwise is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from serving_bundles import BINARY, RECORD, Seal, compiled, hosted, wait_for
from serving_world import World

from noria.kernel.errors import ServingError
from noria.models.golden import GOLDEN, Golden, make_golden
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving import preflight
from noria.serving.runtime import OnnxRuntime


def resealed(seal: Seal, scratch: Path, digest: str, change: Callable[[Path], None]) -> str:
    """A copy of a release with something else in it, signed anew."""
    source = seal.state / "releases" / digest
    folder = scratch / f"again-{time.monotonic_ns()}"
    shutil.copytree(source, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name in ("manifest.json", "manifest.sig"):
        (folder / name).unlink()
    change(folder)
    return seal.seal(folder, {k: v for k, v in manifest.items() if k != "files"} | {"made": folder.name})


def golden_of(seal: Seal, digest: str) -> Golden:
    """What a compiled release answers, asked of the runtime itself."""
    runtime = OnnxRuntime(open_bundle(seal.state / "releases" / digest, known_keys(seal.state)))

    def answer(record: dict[str, Any]) -> float:
        answers = asyncio.run(runtime.predict({k: [v] for k, v in record.items()}, 1, time.monotonic() + 5))
        return float(answers[0][1])

    return make_golden(BINARY, answer)


def with_golden(seal: Seal, scratch: Path, digest: str, golden: Golden) -> str:
    return resealed(seal, scratch, digest, lambda folder: _write(folder / GOLDEN, golden))


def _write(path: Path, golden: Golden) -> None:
    path.write_bytes(msgspec.json.encode(golden))


def tried(seal: Seal, digest: str, patience_s: float = 30.0) -> str:
    async def ask() -> dict[str, str]:
        proofs = preflight.Proofs(seal.state, lambda d: seal.state / "releases" / d)
        return await proofs.prove([digest], patience_s)

    return asyncio.run(ask()).get(digest, "")


def test_a_release_that_answers_as_it_did_is_proven_and_one_that_does_not_is_told_by_row(seal: Seal, tmp_path: Path) -> None:
    bare = compiled(seal, tmp_path)
    golden = golden_of(seal, bare)
    assert tried(seal, bare) == ""  # from before golden rows were known
    assert tried(seal, with_golden(seal, tmp_path, bare, golden)) == ""
    off = Golden(golden.columns, [*golden.answers[:2], golden.answers[2] + 0.01, *golden.answers[3:]])
    why = tried(seal, with_golden(seal, tmp_path, bare, off))
    assert "golden row 2 was answered" in why
    assert f"where {off.answers[2]:.7g} was due" in why
    swapped = resealed(seal, tmp_path, with_golden(seal, tmp_path, bare, golden), _other_model(seal, tmp_path))
    assert "its answers differ from those at packaging: golden row 0" in tried(seal, swapped)


def _other_model(seal: Seal, scratch: Path) -> Callable[[Path], None]:
    other = seal.state / "releases" / compiled(seal, scratch, seed=7)
    return lambda folder: shutil.copy(other / "model.onnx", folder / "model.onnx") and None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os.abort()", "ended the process that tried it: SIGABRT at: starting"),
        ("import sys; sys.exit(7)", "exit code 7 at: starting"),
        (
            "import os, signal\nos.write(int(sys.argv[4]), b'loading\\n')\nos.kill(os.getpid(), signal.SIGSEGV)",
            "SIGSEGV at: loading",
        ),
        ("import time\nwhile True: time.sleep(1)", "did not load and answer its golden rows within 1 s"),
    ],
)
def test_a_process_that_dies_or_hangs_is_the_answer(
    seal: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    """Another program stands for a probe whose model kills it."""
    program = tmp_path / "program.py"
    program.write_text(f"import sys\n{body}\n")

    async def spawn(module: str, arguments: list[str], fds: tuple[int, ...]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, str(program), *arguments, pass_fds=fds)

    monkeypatch.setattr(preflight, "spawn", spawn)
    before = set(psutil.Process().children(recursive=True))  # servers of other tests may be ending
    assert said in tried(seal, "0" * 64, patience_s=1.0)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_refused_candidate_is_loaded_by_no_worker_and_the_champion_serves_on(world: World) -> None:
    good = compiled(world.seal, world.scratch)
    world.serve(good)
    golden = golden_of(world.seal, good)
    bad = with_golden(world.seal, world.scratch, good, Golden(golden.columns, [0.5 for _ in golden.answers]))
    world.publish(good, "v1", candidate=bad, candidate_version="v2", share=1.0)
    synced = world.server.sync()
    assert synced.applied == {"production": 1}
    assert "golden row 0" in synced.failed[bad]
    answer = world.client().post("/predict", json=RECORD).json()
    assert (answer["release"], answer["variant"]) == ("v1", "champion")
    for pid in world.workers():
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert bad not in maps
    fine = with_golden(world.seal, world.scratch, good, golden)
    world.serve(good, "v1", candidate=fine, candidate_version="v3", share=1.0)
    assert world.client().post("/predict", json=RECORD).json()["release"] == "v3"


HOSTED_GOLDEN = Golden({"carrier": ["AA", "UA"], "distance": [3.5, 3.5]}, [0.5, 0.5])


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (None, "golden row 0 was answered"),
        ("import os\n\n\ndef build(frame):\n    os.abort()\n", "ended the host process that loaded it: SIGABRT"),
        ("def build(frame):\n    return frame['none']\n", "golden row 0 failed: ColumnNotFoundError"),
    ],
)
def test_a_hosted_release_is_proven_by_its_host(world: World, features: str | None, said: str) -> None:
    world.serve(compiled(world.seal, world.scratch))
    plain = hosted(world.seal, world.scratch, **({"features": features} if features else {}))
    bad = with_golden(world.seal, world.scratch, plain, HOSTED_GOLDEN)
    world.publish(bad, "v2")
    assert said in world.server.sync().failed[bad]
    assert world.server.status()["hosts"] == {}
    assert world.client().post("/predict", json=RECORD).json()["release"] == "v1"


def test_a_rollback_does_not_wait_for_a_candidate_that_hangs(world: World) -> None:
    good = compiled(world.seal, world.scratch)
    world.serve(good)
    hangs = hosted(world.seal, world.scratch, features="import time\n\ntime.sleep(600)\n")
    world.publish(good, "v1", candidate=hangs, candidate_version="v2", share=0.5)
    wait_for(lambda: [c for c in psutil.Process(world.server.status()["pid"]).children() if "noria.serving.host" in c.cmdline()])
    began = time.monotonic()
    world.serve(good, "v1")
    assert time.monotonic() - began < 20
    wait_for(lambda: world.server.status()["hosts"] == {})


def test_flips_and_new_workers_do_not_probe_again(world: World, tmp_path: Path) -> None:
    """Once proven, a bundle is not tried any more: were it, its broken golden rows would be found."""
    releases = [compiled(world.seal, world.scratch, seed=i) for i in range(2)]
    ready = [with_golden(world.seal, world.scratch, d, golden_of(world.seal, d)) for d in releases]
    world.serve(ready[0], "v1")
    world.serve(ready[1], "v2", previous=ready[0], previous_version="v1")
    took = [world.serve(ready[i % 2], f"v{i}", previous=ready[1 - i % 2]).ms for i in range(6)]
    assert sorted(took)[3] < 100  # an interpreter does not start in that time
    before = world.workers()
    psutil.Process(before[0]).send_signal(signal.SIGKILL)
    wait_for(lambda: len(set(world.workers()) - set(before)) == 1)


def test_a_probe_of_a_missing_release_says_so(seal: Seal, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="the release is incomplete"):
        asyncio.run(preflight.probe(seal.state, tmp_path / "nowhere", "0" * 64))
