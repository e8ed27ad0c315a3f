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
def context(tmp_path: Path) -> Any:
    home, state = tmp_path / "home", tmp_path / "state"
    home.mkdir()
    ledger = Ledger.open(state)
    blobs = BlobStore(state / "blobs")
    places = Places("p", home, state, ledger, blobs)
    yield SimpleNamespace(home=home, state=state, ledger=ledger, blobs=blobs, places=places, progress=lambda _: None)
    ledger.close()


@pytest.mark.parametrize("below", ["made", "made/deep/er"])
def test_a_link_that_leaves_the_project_is_refused_by_name(context: Any, tmp_path: Path, below: str, monkeypatch: Any) -> None:
    """Number 45: `made -> /bigdisk` in a commit had the outs of a step written there, over what stood there."""
    outside = tmp_path / "bigdisk"
    outside.mkdir()
    (outside / "out.txt").write_text("somebody's own")
    link = context.home / below
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    files = {f"{below}/out.txt": context.blobs.put_bytes(b"made")}
    monkeypatch.setattr(orders, "out_files", lambda *_: files)
    for put in (
        lambda: context.places.place(context.home, files),
        lambda: graph.hand_out(context, cast(Any, None), {}),
        lambda: local._forget(context.home, {n: n for n in files}),
    ):
        with pytest.raises(StepError, match=r"is a link that leads out of the project, to .*bigdisk") as refused:
            put()
        assert refused.value.where == below
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"out.txt": "somebody's own"}
    assert not (context.state / "replaced").exists(), "what stands outside is not moved either"


def test_links_inside_the_project_are_followed_and_a_linked_file_is_replaced(context: Any, tmp_path: Path) -> None:
    """Number 45: a link to another folder of the project is the project's own business."""
    (context.home / "real").mkdir()
    (context.home / "made").symlink_to("real")
    (tmp_path / "own.txt").write_text("somebody's own")
    (context.home / "out.txt").symlink_to(tmp_path / "own.txt")
    digest = context.blobs.put_bytes(b"made")
    context.places.place(context.home, {"made/a.txt": digest, "out.txt": digest, "new/b.txt": digest})
    assert [(context.home / name).read_text() for name in ("real/a.txt", "out.txt", "new/b.txt")] == ["made"] * 3
    assert (tmp_path / "own.txt").read_text() == "somebody's own"
