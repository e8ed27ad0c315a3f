"""Large models: the weights lie beside the graph, verified, mapped once for all workers, and never taken for others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from serving_bundles import Seal, wait_for
from serving_world import World
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from noria.kernel import names
from noria.kernel.errors import ServingError
from noria.kernel.task import Task
from noria.models import forms, weights
from noria.models.golden import GOLDEN, make_golden, one_answer
from noria.models.signature import MATRIX, Input, Kind, Signature
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving.runtime import OnnxRuntime

SIGNATURE = Signature((Input("a", Kind.NUMBER), Input("b", Kind.NUMBER)), Task.BINARY, ("0", "1"))
WIDE = 2600  # two layers of so many units are 27 MB


def network(width: int, seed: int = 0) -> bytes:
    """Three layers of weights as PyTorch and scikit-learn write them: one transposed, one as float_data."""
    draw = np.random.default_rng(seed)
    sizes = [(2, width), (width, width), (2, width)]
    first, second, last = [(draw.standard_normal(s, dtype=np.float32) / np.sqrt(width)).astype(np.float32) for s in sizes]
    tensors = [
        helper.make_tensor("first", TensorProto.FLOAT, first.shape, first.ravel()),
        numpy_helper.from_array(second, "second"),
        numpy_helper.from_array(last, "last"),
    ]
    nodes = [
        helper.make_node("MatMul", [MATRIX, "first"], ["x"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("MatMul", ["y", "second"], ["z"]),
        helper.make_node("Gemm", ["z", "last"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    taken = helper.make_tensor_value_info(MATRIX, TensorProto.FLOAT, [None, 2])
    given = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "noria", [taken], [given], tensors)
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    return content


@pytest.fixture(autouse=True)
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as large, here: 4 MB. A server does not ask: it goes by the manifest."""
    monkeypatch.setattr(weights, "LARGE_BYTES", 4_000_000)


def large(seal: Seal, scratch: Path, width: int = WIDE, seed: int = 0) -> str:
    """A compiled release with its weights apart, as Package lays it out; its digest."""
    folder = scratch / f"large-{width}-{seed}"
    folder.mkdir(parents=True)
    weights.save(network(width, seed), folder / "model.onnx")
    form = forms.Compiled(folder / "model.onnx", SIGNATURE)
    run = form._session.run
    golden = make_golden(SIGNATURE, lambda row: one_answer(run(None, {MATRIX: _row(row)})[0][0, 1:].tolist()))
    (folder / GOLDEN).write_bytes(msgspec.json.encode(golden))
    return seal.seal(folder, {"form": "compiled", "signature": SIGNATURE, "model": {"file": "model.onnx", "runtime": "onnx"}})


def _row(row: dict[str, Any]) -> Any:
    values = [np.nan if row[i.name] is None else row[i.name] for i in SIGNATURE.inputs]
    return np.array([values], dtype=np.float32)


def answers(model: bytes | str) -> Any:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {MATRIX: np.random.default_rng(9).standard_normal((50, 2)).astype(np.float32)})[0]


def test_large_weights_lie_apart_and_the_graph_answers_the_same(tmp_path: Path) -> None:
    model = network(1100)
    size = weights.save(model, tmp_path / "model.onnx")
    assert size == sum(p.stat().st_size for p in tmp_path.iterdir())
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert (tmp_path / "model.onnx").stat().st_size < 4000
    assert np.allclose(answers(str(tmp_path / "model.onnx")), answers(model), atol=1e-6)
    made = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    offsets = [int(e.value) for t in made.graph.initializer for e in t.external_data if e.key == "offset"]
    assert len(offsets) == 3
    assert [o % 4096 for o in offsets] == [0, 0, 0]


def test_the_graphs_digest_stands_for_its_weights(tmp_path: Path) -> None:
    """What compares releases, and runs made again, looks at the digest of the graph."""
    found = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        weights.save(network(1100, seed), tmp_path / name / "model.onnx")
        found.append(names.digest_file(tmp_path / name / "model.onnx"))
    assert found[0] == found[1] != found[2]


def test_small_weights_and_trees_stay_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.save(network(1100), tmp_path / "model.onnx")
    weights.save(network(400), tmp_path / "model.onnx")  # nothing stays behind of what was there before
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    rows = np.random.default_rng(0).standard_normal((4000, 2)).astype(np.float32)
    forest = RandomForestClassifier(100, random_state=0).fit(rows, rows[:, 0] + rows[:, 1] ** 3 % 1 > 0.5)
    trees = to_onnx(forest, rows[:1]).SerializeToString()
    assert len(trees) > 1_000_000
    monkeypatch.setattr(weights, "LARGE_BYTES", len(trees) // 2)
    weights.save(trees, tmp_path / "forest.onnx")
    assert (tmp_path / "forest.onnx").read_bytes() == trees


def _mapped(pid: int) -> dict[str, int]:
    """kB of the mapping of the weights in a process."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    parts = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
    found = [p for p in parts if p.partition("\n")[0].endswith("model.onnx.data")]
    sums: dict[str, int] = {}
    for part in found:
        for key, value in re.findall(r"(?m)^(\w+):\s+(\d+) kB", part):
            sums[key] = sums.get(key, 0) + int(value)
    return sums


def _anonymous(pid: int) -> int:
    """kB of its own."""
    return int(re.findall(r"(?m)^Anonymous:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[0])


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
def test_workers_share_what_they_map(world: World) -> None:
    small = large(world.seal, world.scratch, 300)
    world.serve(small)
    before = {pid: _anonymous(pid) for pid in world.workers()}
    digest = large(world.seal, world.scratch)
    world.serve(digest, "v2")
    answered = world.client().post("/predict", json={"a": 0.5, "b": -1.0}).raise_for_status().json()
    assert answered["release"] == "v2"
    size = (world.state / "releases" / digest / "model.onnx.data").stat().st_size // 1024
    assert size > 25_000
    for pid in world.workers():
        found = wait_for(lambda pid=pid: _mapped(pid))
        assert found["Rss"] > 0.9 * size, found  # it computes with the file's own pages
        assert found["Shared_Clean"] + found["Shared_Dirty"] > 0.9 * size, found  # dirty: not on disk yet
        assert found["Anonymous"] == 0, found
        assert _anonymous(pid) - before[pid] < 0.5 * size  # and has no copy of them


def test_changed_weights_are_refused_and_what_serves_serves_on(world: World) -> None:
    world.serve(large(world.seal, world.scratch, 300))
    digest = large(world.seal, world.scratch, 1100)
    path = world.state / "releases" / digest / "model.onnx.data"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    world.publish(digest, "v2")
    assert "model.onnx.data" in str(world.server.sync().failed)
    assert world.client().post("/predict", json={"a": 0.5, "b": -1.0}).json()["release"] == "v1"


@pytest.mark.parametrize("when", ["before", "while"])
def test_the_file_that_is_mapped_is_the_one_that_was_verified(
    seal: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Between the bundle's verification and the mapping, or in the middle of it, somebody puts another file there."""
    digest = large(seal, tmp_path, 1100)
    folder = seal.state / "releases" / digest
    bundle = open_bundle(folder, known_keys(seal.state), digest)
    other = tmp_path / "other"
    other.write_bytes((folder / "model.onnx.data").read_bytes()[::-1])
    if when == "before":
        os.replace(other, folder / "model.onnx.data")
        words = "does not match its digest"
    else:
        due, words = weights.names.digest_file, "was changed while it was loaded"

        def swapped(path: Path) -> str:
            found = due(path)
            os.replace(other, path)
            return found

        monkeypatch.setattr(weights.names, "digest_file", swapped)
    with pytest.raises(ServingError, match=words):
        OnnxRuntime(bundle)
