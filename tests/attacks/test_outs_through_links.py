"""What steps left is put back inside the project only, whatever links a commit holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria.kernel.errors import StepError
from noria.pipeline import graph, orders
from noria.pipeline.executors import local
from noria.pipeline.places import Places
from noria.storage.blobs import BlobStore
from noria.storage.ledger import Ledger


@pytest.fixture
def line(tmp_path: Path) -> Any:
    home, state = tmp_path / "home", tmp_path / "state"
    home.mkdir()
    ledger = Ledger.open(state)
    blobs = BlobStore(state / "blobs")
    places = Places("p", home, state, ledger, blobs)
    yield SimpleNamespace(home=home, state=state, ledger=ledger, blobs=blobs, places=places, progress=lambda _: None)
    ledger.close()


@pytest.mark.parametrize("below", ["made", "made/deep/er"])
def test_a_link_that_leaves_the_project_is_refused_by_name(line: Any, tmp_path: Path, below: str, monkeypatch: Any) -> None:
    """Number 45: `made -> /bigdisk` in a commit had the outs of a step written there, over what stood there."""
    outside = tmp_path / "bigdisk"
    outside.mkdir()
    (outside / "out.txt").write_text("somebody's own")
    link = line.home / below
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    files = {f"{below}/out.txt": line.blobs.put_bytes(b"made")}
    monkeypatch.setattr(orders, "out_files", lambda *_: files)
    for put in (
        lambda: line.places.place(line.home, files),
        lambda: graph.hand_out(line, cast(Any, None), {}),
        lambda: local._forget(line.home, {n: n for n in files}),
    ):
        with pytest.raises(StepError, match=r"is a link that leaves the project, to .*bigdisk") as refused:
            put()
        assert refused.value.where == below
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"out.txt": "somebody's own"}
    assert not (line.state / "replaced").exists(), "what stands outside is not moved either"


def test_links_inside_the_project_are_followed_and_a_linked_file_is_replaced(line: Any, tmp_path: Path) -> None:
    """Number 45: a link to another folder of the project is the project's own business."""
    (line.home / "real").mkdir()
    (line.home / "made").symlink_to("real")
    (tmp_path / "own.txt").write_text("somebody's own")
    (line.home / "out.txt").symlink_to(tmp_path / "own.txt")
    digest = line.blobs.put_bytes(b"made")
    line.places.place(line.home, {"made/a.txt": digest, "out.txt": digest, "new/b.txt": digest})
    assert [(line.home / name).read_text() for name in ("real/a.txt", "out.txt", "new/b.txt")] == ["made"] * 3
    assert (tmp_path / "own.txt").read_text() == "somebody's own"
