"""`noria data export` and `import`, in real processes; the tars of strangers, in this one."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from place import Place
from test_data_commands import log, rows

from noria.data import exchange, refetch
from noria.data.kept_versions import PinStore
from noria.data.snapshot import FilePin, Snapshot
from noria.data.store import DataStore, manifest_digest
from noria.delivery.context import DeliveryContext
from noria.engine import assembly
from noria.kernel.errors import DataError, NoriaError, RefusedError, UsageError
from noria.kernel.names import digest_bytes
from noria.trust import erasure
from noria.trust.references import gather

PROJECT = """\
project: words
data:
  points: {source: "data/*.csv", contract: contracts/points.yaml}
steps:
  sum: {cmd: "cat $(echo $NORIA_INPUT_POINTS | tr : ' ') | wc -l > made/sum.txt", deps: [points], outs: [made/sum.txt]}
"""
CONTRACT = "columns:\n  id: {type: int, nulls: never}\n  x: {type: float, range: [0, 100]}\n"


def begun(place: Place) -> Place:
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\n*.tar\n")
    place.put("data/a.csv", rows(0, 10)).put("data/b.csv", rows(10, 20)).put("data/same.csv", rows(10, 20)).commit()
    return place


def test_a_version_goes_to_another_project_and_is_one_of_its_own(place: Place, tmp_path: Path) -> None:
    begun(place).noria("run")
    assert "3 files written to points.tar" in place.noria("data", "export", "points", "points.tar")
    (there,) = log(place)
    with tarfile.open(place.home / "points.tar") as tar:  # any program can read it
        assert tar.getnames()[:2] == ["snapshot.json", "files.json"]
        assert len(tar.getnames()) == 2 + 2, "one content is there once, whatever the files that have it"
    assert "exists already" in place.noria("data", "export", "points", "points.tar", code=1)

    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    begun(other).put("data/a.csv", rows(0, 11)).noria("run")
    own = log(other)[0]["digest"]
    shutil.copy(place.home / "points.tar", other.home)
    done = other.json("data", "import", "points.tar", "--as", "theirs", "--into", "old")
    assert (done["name"], done["known"], done["added"]) == ("theirs", False, 1)
    assert done["snapshot"]["digest"] == there["digest"]
    assert other.read("old/data/a.csv") == rows(0, 10)
    versions = {v["digest"]: v for v in log(other)}
    assert (versions[there["digest"]]["pinned"], versions[there["digest"]]["current"]) == (["theirs"], False)
    assert versions[own]["current"], "an import changes nothing that the dataset holds"
    assert versions[there["digest"]]["rows"] == there["rows"]
    (changed,) = other.json("data", "diff", "theirs", "points")["changed"]
    assert (changed["name"], changed["before"]["rows"], changed["after"]["rows"]) == ("data/a.csv", 10, 11)
    assert other.json("run")["outcome"] == "nothing changed"
    other.noria("data", "export", "theirs", "again.tar")
    assert (other.home / "again.tar").read_bytes() == (place.home / "points.tar").read_bytes()


# --- tars of strangers


@pytest.fixture
def context(tmp_path: Path) -> Any:
    home = tmp_path / "home"
    home.mkdir()
    (home / "noria.yaml").write_text('project: words\ndata:\n  points: {source: "data/*.csv"}\n')
    made = assembly.assemble(home)
    yield made
    made.executor.close()
    made.ledger.close()


CONTENTS = {"data/a.csv": b"id\n1\n", "data/b.csv": b"id\n2\n" * 230_000, "data/c.csv": b"", "data/n\xe4me.csv": b"id\n1\n"}


def exported(context: DeliveryContext, path: Path) -> str:
    """A tar of four files; its version's digest."""
    pins = tuple(FilePin(n, context.blobs.put_bytes(c), len(c), c.count(b"\n")) for n, c in sorted(CONTENTS.items()))
    digest = manifest_digest("points", pins)
    DataStore.of(context).put_snapshot(Snapshot("points", digest, pins))
    exchange.export(context, DataStore.of(context).facts(digest), path)
    return digest


@pytest.fixture
def fresh(tmp_path: Path) -> Any:
    home = tmp_path / "fresh"
    home.mkdir()
    (home / "noria.yaml").write_text(
        "project: words\ndata:\n  points: {source: 'data/*.csv'}\n  said: {source: 'log:production'}\n"
    )
    made = assembly.assemble(home)
    yield made
    made.executor.close()
    made.ledger.close()


def kept(context: DeliveryContext) -> list[str]:
    return [blob.digest for blob in context.blobs.each()]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def packed(path: Path, content: dict[str, bytes], also: Callable[[tarfile.TarFile], None] = lambda _: None) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        also(tar)
    trimmed = path.read_bytes().rstrip(b"\0")
    whole = len(trimmed) + -len(trimmed) % 512  # tarfile fills up to 10 kB
    path.write_bytes(path.read_bytes()[: whole if content else 0] + bytes(1024))
    return path


def test_what_was_exported_comes_in_whole_and_once_more_changes_nothing(
    context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path
) -> None:
    digest = exported(context, tmp_path / "x.tar")
    done = exchange.take_in(fresh, tmp_path / "x.tar")
    assert (done.facts.digest, done.facts.files, done.known, done.added) == (digest, 4, False, 3)
    assert done.name == f"imported-{digest[:12]}"
    assert {p.name: fresh.blobs.read(p.digest) for p in DataStore.of(fresh).files_of(digest)} == CONTENTS
    assert [one.digest for one in PinStore.of(fresh).pins()] == [digest]
    again = exchange.take_in(fresh, tmp_path / "x.tar")
    assert (again.known, again.added, again.facts) == (True, 0, done.facts)
    exchange.export(fresh, done.facts, tmp_path / "y.tar")
    assert (tmp_path / "y.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()
    assert not list((fresh.state / "work").iterdir())


def test_no_byte_of_a_tar_can_change_unnoticed(context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path) -> None:
    exported(context, tmp_path / "x.tar")
    good = (tmp_path / "x.tar").read_bytes()
    bad = tmp_path / "bad.tar"
    head = good.index(b"files.json", 600) + 2048  # headers and both lists: every third byte; then some
    harmless = []
    for at in [*range(0, head, 5), *range(head, len(good), len(good) // 50), len(good) - 1]:
        bad.write_bytes(good[:at] + bytes([good[at] ^ 0x11]) + good[at + 1 :])
        try:
            done = exchange.take_in(fresh, bad)
        except (DataError, RefusedError) as error:
            said = str(error)
        else:  # the end of a checksum, which no tar program reads
            harmless.append(at)
            assert {p.name: fresh.blobs.read(p.digest) for p in DataStore.of(fresh).files_of(done.facts.digest)} == CONTENTS
            continue
        assert "bad.tar" in said
        assert harmless or kept(fresh) == [], "nothing of a bad tar is kept"
    assert len(harmless) <= 2
    for size in (0, 100, 512, 600, head, len(good) - 1024, len(good) - 1):
        bad.write_bytes(good[:size])
        with pytest.raises(DataError):
            exchange.take_in(fresh, bad)
    bad.write_bytes(good + b"x")
    with pytest.raises(DataError, match="goes on after its end"):
        exchange.take_in(fresh, bad)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)

    return add


def test_members_that_no_export_holds_are_refused(context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path) -> None:
    exported(context, tmp_path / "x.tar")
    good = members(tmp_path / "x.tar")
    blobs = [name for name in good if name.startswith("blobs/")]
    less = {name: data for name, data in good.items() if name != blobs[0]}
    swapped = {**good, blobs[0]: bytes(len(good[blobs[0]]))}
    cases: dict[str, tuple[dict[str, bytes], Callable[[tarfile.TarFile], None], str]] = {
        "missing": (less, lambda _: None, "is missing"),
        "changed": (swapped, lambda _: None, "changed"),
        "extra": ({**good, "blobs/more": b"x"}, lambda _: None, "does not name"),
        "leaves": ({**good, "../../leaves": b"x"}, lambda _: None, "leaves the folder"),
        "absolute": ({**good, "/etc/leaves": b"x"}, lambda _: None, "leaves the folder"),
        "link": (good, link("blobs/link", "/etc/passwd"), "not a regular file"),
        "hard": (good, link("blobs/hard", "snapshot.json", tarfile.LNKTYPE), "not a regular file"),
        "device": (good, link("blobs/null", "", tarfile.CHRTYPE), "not a regular file"),
        "twice": (good, lambda tar: tar.addfile(tarfile.TarInfo(blobs[1])), "twice"),
        "empty": ({}, lambda _: None, "not an export of a dataset"),
        "no head": ({name: data for name, data in good.items() if name != "snapshot.json"}, lambda _: None, "not an export"),
        "release": ({"release.json": b"{}"}, lambda _: None, "export of a release"),
    }
    for name, (content, also, said) in cases.items():
        with pytest.raises(DataError, match=said):
            exchange.take_in(fresh, packed(tmp_path / f"{name}.tar", content, also))
    assert kept(fresh) == []


def forged(path: Path, good: dict[str, bytes], change: Callable[[list[dict[str, Any]]], None], **head: object) -> Path:
    """As a stranger would write it, with digests that agree with each other."""
    files = msgspec.json.decode(good["files.json"])
    change(files)
    content = msgspec.json.encode(files)
    pins = tuple(FilePin(**one) for one in files)
    facts = {
        **msgspec.json.decode(good["snapshot.json"]),
        "digest": manifest_digest("points", pins),
        "files": len(pins),
        "rows": sum(p.rows for p in pins),
        "size_bytes": sum(p.size_bytes for p in pins),
        "manifest": exchange.names.digest_bytes(content),
        **head,
    }
    rest = {name: data for name, data in good.items() if name.startswith("blobs/")}
    return packed(path, {"snapshot.json": msgspec.json.encode(facts), "files.json": content, **rest})


def test_a_list_that_cannot_be_is_refused_however_well_it_is_forged(
    context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path
) -> None:
    digest = exported(context, tmp_path / "x.tar")
    good = members(tmp_path / "x.tar")
    exchange.take_in(fresh, forged(tmp_path / "same.tar", good, lambda _: None), "same")  # the forger's own test
    cases: list[tuple[Callable[[list[dict[str, Any]]], None], dict[str, object], str]] = [
        (lambda files: files[0].update(name="../a.csv"), {}, "leave its folder"),
        (lambda files: files[0].update(name="a\0.csv"), {}, "leave its folder"),
        (lambda files: files.append(files[-1]), {}, "twice"),
        (lambda files: files.reverse(), {}, "out of order"),
        (lambda files: files[0].update(rows=-1), {}, "is invalid"),
        (lambda files: files[0].update(origin="s3://x"), {}, "is invalid"),
        (lambda files: files[0].update(size_bytes=6), {}, "two sizes"),
        (lambda files: files[0].update(name="data/0.csv"), {"digest": digest}, "does not describe"),
        (lambda files: files.clear(), {}, "does not describe"),
        (lambda _: None, {"dataset": "Not a name"}, "does not describe"),
        (lambda _: None, {"format": 2}, "format 2"),
        (lambda _: None, {"rows": 1}, "does not describe"),
        (lambda _: None, {"manifest": "0" * 64}, "was changed"),
    ]
    for at, (change, head, said) in enumerate(cases):
        with pytest.raises(DataError, match=said):
            exchange.take_in(fresh, forged(tmp_path / f"{at}.tar", good, change, **head), "bad")
    assert [one.name for one in PinStore.of(fresh).pins()] == ["same"]


def test_an_import_that_would_be_refused_at_its_end_keeps_nothing(
    context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path
) -> None:
    digest = exported(context, tmp_path / "x.tar")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    for name, into, error in (
        ("points", None, NoriaError),
        ("cafe", None, UsageError),
        (None, tmp_path / "full", RefusedError),
        (None, fresh.state / "inside", UsageError),
    ):
        with pytest.raises(error):
            exchange.take_in(fresh, tmp_path / "x.tar", name, into)
    assert kept(fresh) == []
    context.blobs.discard(next(DataStore.of(context).files_of(digest)).digest)
    with pytest.raises(RefusedError, match=r"data/a\.csv is no longer in the store"):
        exchange.export(context, DataStore.of(context).facts(digest), tmp_path / "y.tar")
    assert not (tmp_path / "y.tar").exists()


def test_what_was_erased_comes_back_only_when_it_is_asked_for(
    context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path
) -> None:
    digest = exported(context, tmp_path / "x.tar")
    exchange.take_in(fresh, tmp_path / "x.tar")
    gone = erasure.erase(fresh, "data/b.csv")
    (file,) = gone.files
    assert (file.size_bytes, gone.touched.pins) == (len(CONTENTS["data/b.csv"]), (f"imported-{digest[:12]}",))
    with pytest.raises(RefusedError, match=r"was erased here: data/b\.csv"):
        exchange.take_in(fresh, tmp_path / "x.tar")
    with pytest.raises(RefusedError, match=r"data/b\.csv was erased"):
        exchange.export(fresh, DataStore.of(fresh).facts(digest), tmp_path / "y.tar")
    assert exchange.take_in(fresh, tmp_path / "x.tar", erased=True).added == 1
    assert fresh.blobs.read(file.digest) == CONTENTS["data/b.csv"]
    assert file.digest in gather(fresh).blobs


def test_objects_that_stay_at_their_origin_are_fetched_for_an_export_unless_erased(
    context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"n\n1\n"
    pin = FilePin("https://x.example/a.csv", digest_bytes(data), len(data), 1, origin="https://x.example/a.csv")
    version = manifest_digest("points", (pin,))
    DataStore.of(context).put_snapshot(Snapshot("points", version, (pin,)))
    fetched: list[object] = []

    def bring(context: DeliveryContext, _: object, snapshots: list[str]) -> None:
        fetched.extend(snapshots)
        context.blobs.put_bytes(data)

    monkeypatch.setattr(refetch, "bring", bring)
    facts = DataStore.of(context).facts(version)
    exchange.export(context, facts, tmp_path / "x.tar")
    assert fetched == [version]
    done = exchange.take_in(fresh, tmp_path / "x.tar")
    (kept_pin,) = DataStore.of(fresh).files_of(done.facts.digest)
    assert (kept_pin.digest, kept_pin.origin) == (pin.digest, None), "here it is a copy, which nobody collects"
    erasure.erase(context, pin.name)
    with pytest.raises(RefusedError, match="was erased"):
        exchange.export(context, facts, tmp_path / "y.tar")
    assert fetched == [version], "what was erased is not fetched again"


def test_a_version_of_a_log_comes_from_its_environment_alone(
    context: DeliveryContext, fresh: DeliveryContext, tmp_path: Path
) -> None:
    pin = FilePin("log/production.parquet", context.blobs.put_bytes(b"x"), 1, 1)
    digest = exchange.served_predictions.log_digest("said", pin)
    DataStore.of(context).put_snapshot(Snapshot("said", digest, (pin,)))
    exchange.export(context, DataStore.of(context).facts(digest), tmp_path / "x.tar")
    assert exchange.take_in(context, tmp_path / "x.tar").known
    with pytest.raises(RefusedError, match="what production answered"):
        exchange.take_in(fresh, tmp_path / "x.tar")
