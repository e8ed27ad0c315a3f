"""`noria data erase`: what would go is said, then it goes, wherever the store had it; who used it says so."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from place import Place
from test_data_commands import CONTRACT, rows
from test_reproduce import make

from noria.data.kept_versions import erased_files
from noria.data.store import DataStore
from noria.data.versions import BLOBS
from noria.delivery.context import DeliveryContext
from noria.engine import assembly
from noria.kernel import names
from noria.kernel.errors import NotFoundError, RefusedError, StoreError
from noria.releases import bundle, export_reader, signing
from noria.trust import erasure, gc
from noria.trust.keep_store import KeepStore
from noria.trust.references import gather

SECRET = "47.1125"  # of a person
PROJECT = """\
project: words
data:
  points: {source: "data/*.csv", contract: contracts/points.yaml}
  others: {source: "others/*.csv"}
steps:
  copy: {cmd: "cat $(echo $NORIA_INPUT_POINTS | tr : ' ') | tee made/copy.txt", deps: [points], outs: [made/copy.txt]}
  count: {cmd: "wc -l < made/copy.txt > made/count.txt", deps: [made/copy.txt], outs: [made/count.txt]}
  same: {cmd: "cat $(echo $NORIA_INPUT_OTHERS | tr : ' ') | wc -l > made/same.txt", deps: [others], outs: [made/same.txt]}
"""


@contextmanager
def at(place: Place) -> Iterator[DeliveryContext]:
    context = assembly.assemble(place.home, actor="cli:anna")
    try:
        yield context
    finally:
        context.executor.close()
        context.ledger.close()


def holding(place: Place, text: str) -> list[Path]:
    """Every file of the state folder in which these bytes stand."""
    found = [path for path in (place.home / ".noria").rglob("*") if path.is_file()]
    return [path for path in found if text.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A file with a secret, refused and then accepted; one without; and another dataset whose step leaves equal bytes."""
    place = Place(tmp_path_factory.mktemp("begun"))
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\nothers\n")
    place.put("data/a.csv", rows(0, 3)).put("others/o.csv", rows(0, 7)).commit().noria("run")
    place.put("data/b.csv", f"id,x\n1,{SECRET}\n2,500\n").noria("run", code=None)
    place.put("data/b.csv", f"id,x\n1,{SECRET}\n2,50\n3,5\n").noria("run")
    assert place.read("made/count.txt") == place.read("made/same.txt")
    return place


@pytest.fixture
def words(begun: Place, tmp_path: Path) -> Place:
    """A copy of it."""
    shutil.copytree(begun.home, tmp_path / "home", symlinks=True)
    return Place(tmp_path / "home")


def test_a_file_is_erased_wherever_the_store_had_it(words: Place) -> None:
    words.noria("data", "pin", "points", "held")
    before = len(holding(words, SECRET))
    assert before >= 4, "two contents, what a step made of it, its log"
    said = words.json("data", "erase", "data/b.csv")
    assert (said["erased"], said["steps"], said["results"], said["samples"]) == (False, ["copy", "count"], 2, 1)
    assert [file["name"] for file in said["files"]] == ["data/b.csv", "data/b.csv"]
    assert (len(said["runs"]), len(said["snapshots"]), said["pins"], said["releases"]) == (1, 1, ["held"], [])
    assert (said["in_source"], said["beside"]) == (["data/b.csv"], ["made/copy.txt"])
    assert len(holding(words, SECRET)) == before, "nothing is erased unasked"
    told = words.noria("data", "erase", "data/b.csv")
    assert "remove it there, or the next run takes it in again" in told
    assert told.splitlines()[-1] == "nothing was erased; --yes erases it permanently"

    (words.home / "data/b.csv").unlink()
    assert "erased" in words.noria("data", "erase", "data/b.csv", "--yes")
    assert holding(words, SECRET) == []
    verified = words.json("data", "verify")
    assert (verified["ok"], verified["findings"]) == (True, []), "what was erased is not missing"
    assert [v["erased"] for v in words.json("data", "log", "points")["snapshots"]] == [True, False]
    assert "pin held, incomplete: files were erased" in words.noria("data", "log")
    assert "data/b.csv was erased" in words.noria("data", "checkout", "held", "--into", "old", code=1)
    assert "was erased before" in words.noria("data", "erase", "data/b.csv", "--yes")
    (event,) = [e for e in words.json("audit", "log")["events"] if e["kind"] == "data.erased"]
    assert "b.csv" not in event["text"], "names may be personal too"
    words.put("data/d.csv", rows(9, 1))
    states = {name: state for name, (state, _) in words.states().items()}
    assert states == {"copy": "ran", "count": "ran", "same": "reused"}, "equal bytes that came from elsewhere stay"
    assert words.read("made/copy.txt") == rows(0, 3) + rows(9, 1)


def test_what_is_still_in_its_source_comes_in_again_and_is_kept(words: Place) -> None:
    with at(words) as context:
        (digest,) = {f.digest for f in erasure.erase(context, "points").files if f.name == "data/b.csv"}
        assert DataStore.of(context).accepted_files("points") == {}
        assert digest not in gather(context).blobs
    words.noria("run")
    with at(words) as context:
        assert set(DataStore.of(context).accepted_files("points")) == {"data/a.csv", "data/b.csv"}
        assert digest in gather(context).blobs, "no collection takes it for erased"
        with pytest.raises(NotFoundError, match="no snapshot and no file"):
            erasure.plan(context, "data/c.csv")


def test_an_erasure_waits_for_nobody_and_is_finished_by_doing_it_again(words: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "PATIENCE_S", 0.05)
    with at(words) as context, at(words) as other:
        kept = {blob.digest for blob in context.blobs.each()}
        with other.locks.hold_shared(BLOBS), pytest.raises(RefusedError, match="is using this store"):
            erasure.erase(context, "data/b.csv")
        assert {blob.digest for blob in context.blobs.each()} == kept

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(erasure, "_record", killed)
            with pytest.raises(KeyboardInterrupt):
                erasure.erase(context, "data/b.csv")
        assert erased_files(context.ledger) == {}
        done = erasure.erase(context, "data/b.csv")
        assert (done.touched.steps, done.touched.count) == (("copy", "count"), 2)
        assert set(DataStore.of(context).accepted_files("points")) == {"data/a.csv"}
        assert not {result.name for result in KeepStore.of(context).results()} - {"same", "copy", "count"}
    assert holding(words, SECRET) == []


def as_sealed_before(place: Place, left: dict[str, str]) -> str:
    """Make the bundle of v1 one of before: sealed with what steps had left in the checkout. Its digest."""
    state = place.home / ".noria"
    (folder,) = (state / "releases").iterdir()
    manifest = msgspec.json.decode((folder / bundle.MANIFEST).read_bytes())
    for name, text in left.items():
        (folder / "code" / name).parent.mkdir(exist_ok=True)
        (folder / "code" / name).write_text(text)
        manifest["files"][f"code/{name}"] = names.digest_bytes(text.encode())
    content = msgspec.json.encode(manifest)
    (folder / bundle.MANIFEST).write_bytes(content)
    (folder / bundle.SEAL).write_bytes(signing.sign(state, content))
    digest = names.digest_bytes(content)
    with closing(sqlite3.connect(state / "ledger.db")) as database, database:
        database.execute("UPDATE releases SET digest = ?", (digest,))
        database.execute("UPDATE routes SET champion = ?", (digest,))
    folder.rename(folder.with_name(digest))
    return digest


def test_a_release_says_that_what_it_was_made_of_was_erased(tmp_path: Path) -> None:
    """Number 1: bundles of before hold what steps left in the checkout, checkouts do: it is erased there, and the release, which
    says so itself, stays whole, is exported and serves."""
    place = make(tmp_path / "home")
    state = place.home / ".noria"
    digest = as_sealed_before(place, {"made/cache.csv": "id,name\n1,Zebra\n", "copy.csv": place.read("data/points-1.csv")})
    (tree,) = (state / "worktrees").iterdir()
    (tree / "cache.csv").write_text("id,name\n1,Zebra\n")
    said = place.json("data", "erase", "data/points-1.csv")
    assert (said["sealed"], said["checkouts"]) == ({"again v1": ["code/copy.csv", "code/made/cache.csv"]}, 1)
    with at(place) as context:
        steps = {result.name for result in KeepStore.of(context).results()}
        found = erasure.plan(context, "points@v1")
        assert found.touched.releases == ("v1",)
        assert set(found.touched.steps) == steps, "all of them came from it"
        assert place.json("show", "v1")["not_reproducible"] is None
        erasure.erase(context, "points@v1")
        left = {blob.digest for blob in context.blobs.each()}
        assert left.isdisjoint(found.roots | found.left | found.manifests)
        sealed = bundle.open_bundle(context.bundle(digest), signing.known_keys(state))
        assert sealed.erased == ("code/copy.csv", "code/made/cache.csv")
        (context.bundle(digest) / "code/made/cache.csv").write_text("id,name\n1,Zebra\n2,Yak\n")
        with pytest.raises(StoreError, match="was changed"):
            bundle.open_bundle(context.bundle(digest), signing.known_keys(state))
        (context.bundle(digest) / "code/made/cache.csv").unlink()
    assert holding(place, "Zebra") == []
    place.noria("releases", "export", "v1", "--into", str(tmp_path / "v1.tar"), "--without-data")
    assert b"Zebra" not in (tmp_path / "v1.tar").read_bytes()
    unpacked = export_reader.unpack(tmp_path / "v1.tar", tmp_path / "unpacked")
    assert not (unpacked.bundle.folder / "code/copy.csv").exists()
    assert place.json("show", "v1")["not_reproducible"] == "erased: data/points-1.csv of points"
    shown = next(line for line in place.noria("show", "v1").splitlines() if "not reproducible" in line)
    assert "erased: data/points-1.csv of points" in shown
    said = place.noria("reproduce", "v1", "--into", str(tmp_path / "again"), code=1)
    assert "v1 is not reproducible: data/points-1.csv of points was erased" in said
    with at(place) as context:
        context.blobs.put_file(place.home / "data/points-1.csv")  # as the next look at its source would
    assert place.json("show", "v1")["not_reproducible"] is None
