"""Blobs: whole or not at all, verified, never shared with a file that a person can edit."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from noria.kernel.errors import CorruptBlobError, NotFoundError, StoreError
from noria.storage import blobs as blob_store
from noria.storage.blobs import MANY, BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_a_blob_is_found_by_its_content(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(3_000_000))
    digest = blobs.put_file(source)
    assert digest == blake3(source.read_bytes()).hexdigest()
    assert blobs.put_bytes(source.read_bytes()) == digest
    assert blobs.read(digest) == source.read_bytes()
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


def test_editing_the_source_or_a_copy_leaves_the_blob(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one")
    digest = blobs.put_file(source)
    copy = tmp_path / "out" / "a.txt"
    blobs.materialise(digest, copy)
    source.write_text("two")
    copy.write_text("three")
    assert blobs.read(digest) == b"one"


def test_damage_is_found_and_named(blobs: BlobStore) -> None:
    digest = blobs.put_bytes(b"precious" * 1000)
    place = blobs.path(digest)
    place.chmod(0o644)
    data = bytearray(place.read_bytes())
    data[4000] ^= 1
    place.write_bytes(bytes(data))
    with pytest.raises(CorruptBlobError, match=digest[:12]):
        blobs.path(digest)
    with pytest.raises(CorruptBlobError):
        blobs.read(digest)


@pytest.mark.parametrize("wicked", ["../../etc/passwd", "", "AB" * 32, "a" * 63, "/" + "a" * 63])
def test_only_digests_name_blobs(blobs: BlobStore, wicked: str) -> None:
    with pytest.raises(StoreError):
        blobs.path(wicked)


def test_a_blob_that_is_not_there(blobs: BlobStore) -> None:
    with pytest.raises(NotFoundError):
        blobs.read("0" * 64)


FULL = """
import resource, sys
from pathlib import Path
from noria.kernel.errors import DiskFullError
from noria.storage.blobs import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = BlobStore(Path(sys.argv[1]))
for put in (lambda: store.put_bytes(b"x" * 200_000), lambda: store.put_file(Path(sys.argv[2]))):
    try:
        put()
    except DiskFullError as error:
        print("full:", error.message)
"""


def test_a_full_disk_keeps_nothing_half(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"y" * 300_000)
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "b"), str(big)], capture_output=True, text=True, check=True)
    assert done.stdout.count("full: the disk is full") == 2
    assert [p for p in (tmp_path / "b").rglob("*") if p.is_file()] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def filled(folder: Path, sizes: list[int]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{at:04}.bin" for at in range(len(sizes))]
    for path, size_bytes in zip(paths, sizes, strict=True):
        path.write_bytes(os.urandom(size_bytes))
    return paths


def test_many_files_are_kept_in_their_order(blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "BATCH_FILES", 20)
    paths = filled(tmp_path / "in", [0, 1, 4096, blob_store.SMALL, blob_store.SMALL + 1, *range(100, 160)])
    paths.append(tmp_path / "in" / "again.bin")
    paths[-1].write_bytes(paths[7].read_bytes())
    asked: list[Path] = []

    def sources() -> Iterator[Path]:
        for path in paths:
            asked.append(path)
            yield path

    answers = blobs.put_files(sources())
    first = next(answers)
    assert len(asked) == 20  # no more is in hand than one batch
    assert [first, *answers] == [(path, blake3(path.read_bytes()).hexdigest()) for path in paths]
    assert all(blobs.read(blake3(path.read_bytes()).hexdigest()) == path.read_bytes() for path in paths)
    assert {stored.digest for stored in blobs.each()} == {blake3(path.read_bytes()).hexdigest() for path in paths}
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


def test_a_file_that_is_gone_is_passed_over_and_one_that_cannot_be_read_is_told(blobs: BlobStore, tmp_path: Path) -> None:
    paths = filled(tmp_path / "in", [10, 20, 30])
    paths[1].unlink()
    assert [path for path, _ in blobs.put_files(paths)] == [paths[0], paths[2]]
    paths[1].mkdir()
    with pytest.raises(IsADirectoryError):
        list(blobs.put_files(paths))
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


def test_nothing_has_a_name_before_the_barrier(blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of what is asked of the disk: bytes, barrier, names, barrier."""
    paths = filled(tmp_path / "in", [50] * 12)
    named: list[int] = []
    monkeypatch.setattr(blob_store, "sync_all", lambda place: named.append(len(list(BlobStore(place).each()))) or True)
    list(blobs.put_files(paths))
    assert named == [0, 12]

    def broken(_: Path) -> bool:
        raise OSError(5, "the disk failed")

    monkeypatch.setattr(blob_store, "sync_all", broken)
    with pytest.raises(OSError, match="the disk failed"):
        list(blobs.put_files(filled(tmp_path / "more", [51] * 12)))
    assert len(list(blobs.each())) == 12
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from noria.storage import blobs
calls = []
def sync_all(place):
    calls.append(place)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return True
blobs.sync_all = sync_all
list(blobs.BlobStore(Path(sys.argv[1])).put_files(sorted(Path(sys.argv[2]).iterdir())))
"""


@pytest.mark.parametrize(("barrier", "kept"), [(1, 0), (2, 40)])
def test_a_writer_that_is_killed_leaves_whole_blobs_only(blobs: BlobStore, tmp_path: Path, barrier: int, kept: int) -> None:
    paths = filled(tmp_path / "in", [500] * 40)
    done = subprocess.run([sys.executable, "-c", KILLED, str(blobs.root), str(tmp_path / "in"), str(barrier)], check=False)
    assert done.returncode == -9
    found = list(blobs.each())
    assert len(found) == kept
    assert all(blobs.is_sound(stored.digest) for stored in found)
    assert dict(blobs.put_files(paths)) == {path: blake3(path.read_bytes()).hexdigest() for path in paths}


def test_blobs_whose_bytes_were_lost_are_written_anew(blobs: BlobStore, tmp_path: Path) -> None:
    """As after a loss of power on a disk that does not keep its word: the name is there, the bytes are zeros."""
    paths = filled(tmp_path / "in", [600] * 10)
    digests = dict(blobs.put_files(paths))
    for digest in digests.values():
        place = blobs.root / digest[:2] / digest
        place.chmod(0o644)
        place.write_bytes(bytes(600))
    later = BlobStore(blobs.root)
    assert not any(later.is_sound(digest) for digest in digests.values())
    assert dict(later.put_files(paths)) == digests
    assert all(later.read(digest) == path.read_bytes() for path, digest in digests.items())


def test_the_digest_is_of_the_bytes_that_were_copied(blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "growing.bin"
    source.write_bytes(b"a" * (3 * blob_store.CHUNK))
    written: list[int] = []
    plain = blob_store._write_all

    def while_copying(handle: int, data: bytes) -> None:
        plain(handle, data)
        written.append(len(data))
        if len(written) == 1:
            with source.open("r+b") as file:
                file.write(b"b" * (2 * blob_store.CHUNK))

    monkeypatch.setattr(blob_store, "_write_all", while_copying)
    digest = blobs.put_file(source)
    assert BlobStore(blobs.root).read(digest) == b"a" * blob_store.CHUNK + b"b" * blob_store.CHUNK + b"a" * blob_store.CHUNK


def test_a_reflink_is_hashed_from_the_copy(blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(100_000))

    def clone(target: int, request: int, origin: int) -> int:
        assert request == blob_store.FICLONE
        data = os.pread(origin, 1 << 20, 0)
        source.write_bytes(b"changed right after")
        return os.pwrite(target, data, 0)

    before = source.read_bytes()
    monkeypatch.setattr(blob_store.fcntl, "ioctl", clone)
    assert blobs.read(blobs.put_file(source)) == before


def test_a_stream_is_kept_as_it_was_read(blobs: BlobStore) -> None:
    data = os.urandom(blob_store.FLUSH + 12345)
    digest = blobs.put_stream(io.BytesIO(data))
    assert blobs.read(digest) == data


def aged(blobs: BlobStore, data: bytes, hours: float) -> str:
    digest = blobs.put_bytes(data)
    past = time.time() - hours * 3600
    os.utime(blobs.root / digest[:2] / digest, (past, past))
    return digest


def test_a_sweep_takes_old_blobs_and_spares_what_is_put_again(blobs: BlobStore, tmp_path: Path) -> None:
    old, again, young = aged(blobs, b"old", 3), aged(blobs, b"again", 3), aged(blobs, b"young", 0)
    assert blobs.put_bytes(b"again") == again
    assert list(blobs.sweep([old, again, young, "0" * 64], time.time() - 3600)) == [old]
    assert [blobs.exists(digest) for digest in (old, again, young)] == [False, True, True]
    assert list(blobs.sweep([young], time.time() + 3600)) == []  # what was put in the last hour stays in any case
    source = tmp_path / "old"
    source.write_bytes(b"old")
    assert dict(blobs.put_files([source])) == {source: old}
    assert blobs.read(old) == b"old"


SWEEPER = """
import sys, time
from pathlib import Path
from noria.storage.blobs import BlobStore
store, until = BlobStore(Path(sys.argv[1])), time.time() + float(sys.argv[2])
gone = 0
while time.time() < until:
    gone += len(list(store.sweep([b.digest for b in store.each()], time.time() - 3600)))
print(gone)
"""


def test_what_was_put_is_there_though_a_sweep_goes_on(blobs: BlobStore) -> None:
    """A blob is old and unneeded, a sweep takes it, and at the same time a run puts the same bytes: the run must find them."""
    sweeper = subprocess.Popen([sys.executable, "-c", SWEEPER, str(blobs.root), "2"], stdout=subprocess.PIPE, text=True)
    while sweeper.poll() is None:
        for at in range(20):
            data = b"%d" % at
            digest = blobs.put_bytes(data)
            assert blobs.read(digest) == data
            with contextlib.suppress(FileNotFoundError):
                os.utime(blobs.root / digest[:2] / digest, (1, 1))
    assert int(sweeper.communicate()[0]) > 0


def test_a_hard_link_is_the_blob_and_read_only(blobs: BlobStore, tmp_path: Path) -> None:
    digest = blobs.put_bytes(b"as it was")
    blobs.link(digest, tmp_path / "out" / "a.txt")
    assert (tmp_path / "out" / "a.txt").samefile(blobs.path(digest))
    assert (tmp_path / "out" / "a.txt").stat().st_mode & 0o222 == 0


def test_a_process_remembers_a_bounded_number_of_verifications(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "VERIFIED_MOST", 5)
    for at in range(20):
        blobs.path(blobs.put_bytes(b"%d" % at))
    assert len(blobs._verified) == 5


# --- many small ones share a file


@pytest.fixture
def packed(blobs: BlobStore, tmp_path: Path) -> dict[str, bytes]:
    """Digest -> bytes of as many small files as are packed together."""
    contents = [f"{number}\n".encode() * 50 for number in range(MANY + 10)]
    return dict(zip(_kept(blobs, tmp_path, contents), contents, strict=True))


def _kept(blobs: BlobStore, folder: Path, contents: list[bytes]) -> list[str]:
    paths = [folder / f"{number}.bin" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return [digest for _, digest in blobs.put_files(paths)]


def test_many_small_files_are_kept_in_one(blobs: BlobStore, packed: dict[str, bytes], tmp_path: Path) -> None:
    assert not list(blobs.root.glob("??/*"))
    again = BlobStore(blobs.root)
    for digest, content in packed.items():
        assert digest == blake3(content).hexdigest()
        assert again.exists(digest)
        assert again.read(digest) == content
        assert again.verified_size(digest) == len(content)
    assert {stored.digest: stored.size_bytes for stored in again.each()} == {d: len(c) for d, c in packed.items()}


def test_a_packed_blob_has_a_path_when_one_is_asked_for(blobs: BlobStore, packed: dict[str, bytes], tmp_path: Path) -> None:
    digest, content = next(iter(packed.items()))
    blobs.materialise(digest, tmp_path / "out" / "copy")
    blobs.lend(digest, tmp_path / "lent")
    assert not list(blobs.root.glob("??/*"))
    assert (tmp_path / "out" / "copy").read_bytes() == (tmp_path / "lent").read_bytes() == content
    assert os.access(tmp_path / "out" / "copy", os.W_OK)
    assert (tmp_path / "lent").stat().st_mode & 0o222 == 0
    assert blobs.path(digest).read_bytes() == content
    assert [path.name for path in blobs.root.glob("??/*")] == [digest]
    assert len([stored for stored in blobs.each() if stored.digest == digest]) == 1


def test_few_small_files_have_one_each(blobs: BlobStore, tmp_path: Path) -> None:
    kept = _kept(blobs, tmp_path, [f"{number}".encode() for number in range(MANY - 1)])
    assert sorted(path.name for path in blobs.root.glob("??/*")) == sorted(kept)
    assert not (blobs.root / "small.db").exists()


def test_a_damaged_packed_blob_is_found_put_aside_and_written_anew(
    blobs: BlobStore, packed: dict[str, bytes], tmp_path: Path
) -> None:
    digest, content = list(packed.items())[5]
    _damage_packed(blobs, digest)
    for use in (blobs.read, blobs.path, blobs.verified_size):
        with pytest.raises(CorruptBlobError):
            use(digest)
    assert blobs.put_bytes(content) == digest
    assert blobs.read(digest) == content

    other, held = list(packed.items())[6]
    _damage_packed(blobs, other)
    blobs.put_aside(other, tmp_path / "aside")
    assert (tmp_path / "aside").read_bytes() == b"damaged"
    assert not blobs.exists(other)
    assert _kept(blobs, tmp_path, list(packed.values())) == list(packed)
    assert blobs.read(other) == held


def _damage_packed(blobs: BlobStore, digest: str) -> None:
    link = sqlite3.connect(blobs.root / "small.db")
    with link:
        assert link.execute("UPDATE small SET bytes = CAST('damaged' AS BLOB) WHERE digest = ?", (digest,)).rowcount == 1
    link.close()


def test_a_sweep_takes_packed_blobs_and_spares_what_was_put_again(
    blobs: BlobStore, packed: dict[str, bytes], tmp_path: Path
) -> None:
    first, second, *rest = packed
    assert list(blobs.sweep([first, second], time.time())) == [], "they are young"
    link = sqlite3.connect(blobs.root / "small.db")
    with link:
        link.execute("UPDATE small SET at = at - 7200")
    link.close()
    blobs.put_bytes(packed[second])
    gone = set(blobs.sweep([first, second, *rest[:20]], time.time()))
    assert gone == {first, *rest[:20]}
    assert not blobs.exists(first)
    assert blobs.read(second) == packed[second]
    blobs.discard(rest[30])
    assert not blobs.exists(rest[30])
    bytes_on_disk = b"".join(path.read_bytes() for path in blobs.root.glob("small.db*"))
    assert packed[rest[30]] not in bytes_on_disk, "what is erased is overwritten"
    assert packed[rest[31]] in bytes_on_disk


def test_a_writer_that_is_killed_while_it_packs_leaves_whole_blobs_only(blobs: BlobStore, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from noria.storage import blobs, small_blobs\n"
        "blobs.HELD_BYTES = 20_000\n"
        "put, count = small_blobs.SmallBlobs.put, []\n"
        "def counted(self, held):\n"
        "    put(self, held); count.append(1)\n"
        "    if len(count) == 2: os.kill(os.getpid(), 9)\n"
        "small_blobs.SmallBlobs.put = counted\n"
        "list(blobs.BlobStore(Path(sys.argv[1])).put_files(sorted(Path(sys.argv[2]).iterdir())))\n"
    )
    files = tmp_path / "files"
    files.mkdir()
    for number in range(400):
        (files / f"{number:03d}").write_bytes(f"{number}\n".encode() * 100)
    killed = subprocess.run([sys.executable, "-c", code, str(blobs.root), str(files)], check=False)
    assert killed.returncode == -9
    kept = [stored.digest for stored in blobs.each()]
    assert 100 < len(kept) < 400
    assert all(blobs.is_sound(digest) for digest in kept)
    assert len(list(blobs.put_files(sorted(files.iterdir())))) == 400
    assert len(list(blobs.each())) == 400
